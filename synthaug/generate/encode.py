"""What is computed once before the LDM is trained: latents of the images, hidden states of the reports."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, content_hash
from synthaug.ground.seeding import torch_generator
from synthaug.metrics.volumes import Volumes
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.pretrained import weights_hash
from synthaug.models.text_encoder import encode_tokens, tokenize


class TensorCache:
    """Tensors on disk, each under the hash of everything that it depends on, so that none is ever stale.

    Args:
        folder: Where they are kept; None = nothing is kept.

    Example:
        >>> import tempfile
        >>> cache = TensorCache(Path(tempfile.mkdtemp()))
        >>> cache.get("k") is None, cache.put("k", torch.ones(2)), cache.get("k")
        (True, None, tensor([1., 1.]))
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> torch.Tensor | None:
        """The tensor, mapped from its file and not read before it is used; None = not there.

        Where the file cannot be mapped it is read. What is written to the tensor never reaches the file.

        Raises:
            InputError: The file is broken.
        """
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            try:
                return load_file(path)["value"]
            except (OSError, RuntimeError):  # it cannot be mapped, or the process has as many maps as it may have
                return load(path.read_bytes())["value"]
        except (SafetensorError, KeyError) as error:
            raise InputError(f"{path}: broken cache file; delete it to have it made again ({error}).") from error

    def put(self, key: str, value: torch.Tensor) -> None:
        """Keep a tensor; written whole or not at all, so that processes can share a folder."""
        path = self._path(key)
        if path is not None:
            with atomic_path(path) as temporary:
                save_file({"value": value.contiguous()}, temporary)

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.safetensors"


NO_CACHE = TensorCache(None)


def encode_volumes(
    autoencoder: ImageAutoencoder, volumes: Volumes, *, batch_size: int = 8, cache: TensorCache = NO_CACHE
) -> torch.Tensor:
    """Scaled latents (N, c, x, y, z) on the CPU of volumes (C, X, Y, Z): :func:`encode_each`, in one tensor."""
    return torch.stack(encode_each(autoencoder, volumes, batch_size=batch_size, cache=cache))


@torch.no_grad()
def encode_each(
    autoencoder: ImageAutoencoder, volumes: Volumes, *, batch_size: int = 8, cache: TensorCache = NO_CACHE
) -> list[torch.Tensor]:
    """Scaled latents (c, x, y, z) on the CPU of volumes (C, X, Y, Z), mapped from the cache where there is one.

    Every batch is padded to ``batch_size``, so that a latent's bits do not depend on which others were in the cache.
    """
    device, keys = autoencoder.device, [""] * len(volumes)
    if cache.folder is not None:
        owner = [weights_hash(autoencoder), autoencoder.settings, batch_size, device.type]
        owner += ["in tiles"] if autoencoder.config.tile else []
        keys = [content_hash(["latent", owner, tensor_hash(volumes[row])]) for row in range(len(volumes))]
    found = [cache.get(key) if key else None for key in keys]
    missing = [row for row, latent in enumerate(found) if latent is None]
    for start in range(0, len(missing), batch_size):
        rows = missing[start : start + batch_size]
        padded = rows + rows[-1:] * (batch_size - len(rows))
        latents = autoencoder.encode(torch.stack([volumes[row] for row in padded]).to(device)).cpu()
        for row, latent in zip(rows, latents, strict=False):
            cache.put(keys[row], latent)
            found[row] = cache.get(keys[row]) if keys[row] else latent
    return found  # type: ignore[return-value]


@torch.no_grad()
def encode_reports(
    text_encoder, tokenizer, reports: Sequence[str], *, cache: TensorCache = NO_CACHE
) -> dict[str, torch.Tensor]:
    """Hidden states (L, width) of each distinct report, one at a time so that neighbours cannot change a bit."""
    device = text_encoder.device

    states, owner = {}, ""
    if cache.folder is not None:
        owner = content_hash([weights_hash(text_encoder), type(tokenizer).__name__, device.type])
    for report in dict.fromkeys(reports):
        tokens = tokenize(tokenizer, [report])
        key = content_hash(["text", owner, tokens.tolist()])
        state = cache.get(key)
        if state is None:
            state = encode_tokens(text_encoder, tokens.to(device))[0]
            cache.put(key, state)
        states[report] = state.to(device)
    return states


def tensor_hash(value: torch.Tensor) -> str:
    """SHA-256 of a tensor's shape, type and bytes."""
    digest = hashlib.sha256(f"{tuple(value.shape)} {value.dtype}".encode())
    digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
