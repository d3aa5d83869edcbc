"""What is computed once before the LDM is trained: latents of the images, hidden states of the reports."""

import torch

from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.text_encoder import encode_tokens, tokenize
from synthaug.seeding import torch_generator


@torch.no_grad()
def encode_volumes(autoencoder: ImageAutoencoder, volumes: torch.Tensor, *, batch_size: int = 8) -> torch.Tensor:
    """Scaled latents (N, c, x, y, z) on the CPU of volumes (N, C, X, Y, Z)."""
    device = autoencoder.device
    return torch.cat([autoencoder.encode(part.to(device)).cpu() for part in volumes.split(batch_size)])


@torch.no_grad()
def encode_reports(text_encoder, tokenizer, reports: list[str]) -> dict[str, torch.Tensor]:
    """Hidden states (L, width) of each distinct report, one at a time so that neighbours cannot change a bit."""
    device = text_encoder.device
    return {
        report: encode_tokens(text_encoder, tokenize(tokenizer, [report]).to(device))[0]
        for report in dict.fromkeys(reports)
    }


def jitter(volumes: torch.Tensor, *, shift: int, flip: bool, seed_parts: tuple) -> torch.Tensor:
    """Move each volume by up to ``shift`` voxels (edges repeated) and, if asked, mirror it left-right.

    Args:
        volumes: (N, C, X, Y, Z); axis X runs left to right.
        shift: Largest shift along each axis, in voxels.
        flip: Whether half of the volumes are mirrored. Not for reports that name a side.
        seed_parts: What the draws are a function of.
    """
    generator = torch_generator("jitter", *seed_parts)
    padded = torch.nn.functional.pad(volumes, (shift,) * 6, mode="replicate")
    starts = torch.randint(0, 2 * shift + 1, (len(volumes), 3), generator=generator)
    mirrored = torch.rand(len(volumes), generator=generator) < (0.5 if flip else 0.0)
    moved = []
    for volume, (x, y, z), mirror in zip(padded, starts.tolist(), mirrored.tolist(), strict=True):
        sides = volumes.shape[2:]
        part = volume[:, x : x + sides[0], y : y + sides[1], z : z + sides[2]]
        moved.append(part.flip(1) if mirror else part)
    return torch.stack(moved)
