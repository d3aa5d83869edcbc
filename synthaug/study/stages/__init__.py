"""The stages before the classifiers: read, split, preprocess; make autoencoder, generator and pool."""
