"""A whole study: run, taken up from Python, its report made again from its folder."""
