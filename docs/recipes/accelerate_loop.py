"""Hugging Face accelerate: ``prepare`` deals the same batches out to all processes."""

import torch
from accelerate import Accelerator

import synthaug as sa


def train(subjects, pool, network, *, batch_size=8, epochs=10):
    """Train a classifier of (N, 1, X, Y, Z) on preprocessed subjects and a pool."""
    accelerator = Accelerator()
    sampler = sa.SyntheticSampler(subjects, pool, batch_size=batch_size, synthetic_fraction=0.25)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    network, optimiser, loader = accelerator.prepare(network, optimiser, sampler.loader())
    for _ in range(epochs):
        for batch in loader:
            images, labels = (each.to(accelerator.device) for each in (batch["t2w"]["data"], batch["label"]))
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimiser.zero_grad()
            accelerator.backward(loss)
            optimiser.step()
    return accelerator.unwrap_model(network)
