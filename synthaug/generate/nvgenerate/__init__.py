"""NVIDIA's NV-Generate as a generator to begin with: import, rectified flow, growth by a report, field of view."""
