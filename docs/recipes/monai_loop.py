"""MONAI: dictionaries, ``Compose`` and ``SupervisedTrainer``; half of the subjects are replaced by synthetic ones."""

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandFlipd

import synthaug as sa


def train(subjects, pool, network, *, batch_size=8, epochs=10):
    """Train a classifier of (N, 1, X, Y, Z) on preprocessed subjects and a pool."""
    rows = [{"image": subject["t2w"].data, "label": subject["label"]} for subject in subjects]
    transform = Compose(
        [
            # Before random transforms: synthetic volumes go through them too.
            sa.SyntheticAugmentd("image", pool, images=["t2w"], prob=0.5, target="same"),
            RandFlipd("image", prob=0.5, spatial_axis=0),
        ]
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(rows, transform), batch_size=batch_size, shuffle=True),
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-4),
        loss_function=torch.nn.CrossEntropyLoss(),
    )
    trainer.run()
    return network
