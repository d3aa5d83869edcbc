"""PyTorch Lightning: the sampler's loader goes into ``fit``; checkpoints resume in the middle of an epoch."""

import pytorch_lightning as lightning
import torch

import synthaug as sa


class Classifier(lightning.LightningModule):
    """Any network with a cross-entropy loss."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def training_step(self, batch, index):
        """Loss of a batch."""
        return torch.nn.functional.cross_entropy(self.network(batch["t2w"]["data"]), batch["label"])

    def configure_optimizers(self):
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


def train(subjects, pool, network, *, batch_size=8, epochs=10):
    """Train a classifier of (N, 1, X, Y, Z) on preprocessed subjects and a pool."""
    sampler = sa.SyntheticSampler(subjects, pool, batch_size=batch_size, synthetic_fraction=0.25)
    # In several processes the sampler deals its batches out by itself: use_distributed_sampler=False.
    trainer = lightning.Trainer(
        accelerator="auto",
        max_epochs=epochs,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(network), sampler.loader())
    return network
