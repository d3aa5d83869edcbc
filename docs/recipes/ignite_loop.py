"""PyTorch Ignite: a supervised trainer over the sampler's loader."""

import torch
from ignite.engine import create_supervised_trainer

import synthaug as sa


def train(subjects, pool, network, *, batch_size=8, epochs=10):
    """Train a classifier of (N, 1, X, Y, Z) on preprocessed subjects and a pool."""
    sampler = sa.SyntheticSampler(subjects, pool, batch_size=batch_size, synthetic_fraction=0.25)
    trainer = create_supervised_trainer(
        network,
        torch.optim.AdamW(network.parameters(), lr=1e-4),
        torch.nn.CrossEntropyLoss(),
        prepare_batch=lambda batch, device, non_blocking: (batch["t2w"]["data"], batch["label"]),
    )
    trainer.run(sampler.loader(), max_epochs=epochs)
    return network
