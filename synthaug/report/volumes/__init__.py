"""Pictures of volumes: slices, and the viewer of whole volumes."""
