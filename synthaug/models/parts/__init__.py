"""Parts of the denoiser."""
