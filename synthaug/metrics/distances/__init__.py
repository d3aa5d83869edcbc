"""Distances between two sets of images, each with its floor and its interval."""
