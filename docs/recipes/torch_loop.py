"""A plain PyTorch loop over batches that hold equally many subjects of each class, real and synthetic."""

import torch

import synthaug as sa


def train(subjects, pool, network, *, batch_size=8, epochs=10):
    """Train a classifier of (N, 1, X, Y, Z) on preprocessed subjects and a pool."""
    sampler = sa.SyntheticSampler(subjects, pool, batch_size=batch_size, synthetic_fraction=0.25)
    loader = sampler.loader(num_workers=0)  # the batches do not depend on the number of workers
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    for _ in range(epochs):  # each pass is the next epoch
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(network(batch["t2w"]["data"]), batch["label"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network
