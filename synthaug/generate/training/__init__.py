"""Training of a generator: its examples, its losses, its levels one after another, the weights kept."""
