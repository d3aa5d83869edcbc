"""Networks: the image autoencoder, the CCELLA denoiser and its adapter, text encoders, classifiers."""
