"""Filling a pool: what it is to hold, who makes which volume, with which arithmetic."""
