"""Where classifiers logged before tracking was a room of its own look for their loader."""
