"""NVIDIA's NV-Generate (MAISI-v2, arXiv 2508.05772): its U-Net, what CCELLA adds to it, and its checkpoints."""
