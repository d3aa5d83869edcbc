"""Cells and grids, run here or on Ray."""
