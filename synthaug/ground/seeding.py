"""Seeds derived from names, so that no random draw depends on what was drawn before it."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.ground.files import as_plain, canonical

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: Any) -> int:
    """A 63-bit seed that is a pure function of ``parts`` (anything JSON can write); equal numbers give one seed.

    PyTorch's generator on a CPU reads the last 32 bits: seeds that are equal modulo 2**32 draw the same noise.

    Example:
        >>> derive_seed("pool", 0, 1) == derive_seed("pool", np.int64(0), 1.0) != derive_seed("pool", 1, 0)
        True
    """
    digest = hashlib.sha256(json.dumps(canonical(parts), sort_keys=True, default=as_plain).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(*parts: Any) -> "torch.Generator":
    """A CPU generator seeded by ``parts``. Noise is drawn on the CPU so that every device gets the same."""
    import torch  # late: names of cells are seeds too, and a study is refused by its settings before torch is loaded

    return torch.Generator().manual_seed(derive_seed(*parts))


def numpy_generator(*parts: Any) -> np.random.Generator:
    """A NumPy generator seeded by ``parts``."""
    return np.random.default_rng(derive_seed(*parts))
