"""Sentences of the report: captions, methods, provenance."""
