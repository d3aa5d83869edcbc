"""The CCELLA generator: training, sampling, saving and loading."""
