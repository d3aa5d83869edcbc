"""What happens to voxels: intensities, moves of a volume and augmentation of a batch."""
