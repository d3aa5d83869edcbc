"""The one optimisation loop and what it writes down."""
