"""Downstream classifiers: training and prediction."""
