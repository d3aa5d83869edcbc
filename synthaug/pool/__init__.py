"""Pools of synthetic volumes: built, checked, audited, exported."""
