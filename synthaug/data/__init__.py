"""Subjects: manifests, splits, the one preprocessing, phantoms and reports."""
