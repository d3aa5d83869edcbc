"""Intervals, resampling and the weighted metrics under them."""
