"""Preprocessed volumes in files that are mapped into memory."""
