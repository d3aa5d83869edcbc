"""Published networks that read images: TAPS and the backbones of image metrics."""
