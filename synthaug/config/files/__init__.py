"""Settings from files: presets, and keys that stand twice."""
