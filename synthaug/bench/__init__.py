"""The command line: a whole study, its stages one by one, and pools and images without a study around them."""
