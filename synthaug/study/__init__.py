"""A study: its grid of cells, what they need, running them, and what their records say together."""
