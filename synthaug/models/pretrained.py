"""Saving and loading that never leaves a weight to chance."""

import contextlib
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from synthaug.ground.errors import InputError
from synthaug.ground.files import COPIED, read_json

PARTS = re.compile("layers|blocks")
"""In the names of settings that say how often a part of a network is repeated."""
ALIGNMENT = 64
"""Bytes at whose multiples PyTorch allocates tensors on a CPU."""


def load_strictly(module: nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Load ``state`` into ``module``, or refuse it whole.

    Args:
        module: Receives the weights.
        state: Parameter name to tensor.
        source: Names the file in the error.

    Raises:
        InputError: Keys are missing, unexpected or misshapen, or a value is not finite.
    """
    expected = module.state_dict()
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "misshapen": sorted(k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape),
        "not finite": sorted(k for k, value in state.items() if not torch.isfinite(value).all()),
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:5])}{', ...' * (len(keys) > 5)})"
        for kind, keys in faults.items()
        if keys
    ]
    if found:
        raise InputError(f"{source}: weights do not fit {type(module).__name__}: {'; '.join(found)}.")
    module.load_state_dict(state)


def align(module: nn.Module) -> None:
    """Move weights that begin between the addresses at which PyTorch allocates memory.

    A file of safetensors may be mapped at any multiple of eight bytes. Some matrix products round by their operands'
    addresses: the same weights would give other bits.
    """
    for weights in module.parameters():
        if weights.data_ptr() % ALIGNMENT:
            weights.data = weights.data.clone()


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, mapped from it; InputError where it is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}).") from error


def require_plausible(settings: Any, state: Mapping[str, torch.Tensor]) -> None:
    """ValueError where a config asks for what its weights cannot be: building it would never end, or fill the memory.

    Args:
        settings: Of a network, nested; numbers under names such as ``layers`` and ``blocks`` count parts of it.
        state: Its weights.

    Example:
        >>> require_plausible({"num_layers": 2**63}, {"bias": torch.zeros(3)})
        Traceback (most recent call last):
        ...
        ValueError: num_layers is 9223372036854775808, and there are 1 weights
    """
    largest = max(10**6, sum(value.numel() for value in state.values()))
    for name, number in _whole_numbers(settings):
        counts_parts = PARTS.search(name) is not None
        if abs(number) > (len(state) if counts_parts else largest):
            raise ValueError(f"{name} is {number}, and there are {len(state)} weights")


def _whole_numbers(settings: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _whole_numbers(value, str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _whole_numbers(value, name)
    elif isinstance(settings, int) and not isinstance(settings, bool):
        yield name, settings


class PretrainedModel(ModelMixin, ConfigMixin):
    """A diffusers model whose ``from_pretrained`` refuses weights that do not fit exactly.

    diffusers logs missing weights and goes on with random ones; a generator must not.
    """

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, variant: str | None = None) -> Self:
        """Load ``config.json`` and the safetensors file (of the variant) of ``folder``; keys must match exactly.

        Raises:
            InputError: A file is missing or broken, or a setting or weight does not fit.
        """
        stem, suffix = SAFETENSORS_WEIGHTS_NAME.rsplit(".", 1)
        path = Path(folder) / (f"{stem}.{variant}.{suffix}" if variant else SAFETENSORS_WEIGHTS_NAME)
        if not path.is_file():
            raise InputError(f"{path}: no such weights file.")
        config = Path(folder) / cls.config_name
        if not config.is_file():
            raise InputError(f"{config}: no such file; every saved model has one.")
        state = read_weights(path)
        try:
            with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced below
                # diffusers' own from_config would pass over keys that do not belong.
                settings = _public(read_json(config, mend=COPIED))
                for name, parameter in inspect.signature(cls.__init__).parameters.items():
                    if parameter.annotation is int and type(settings.get(name, 0)) is not int:
                        raise TypeError(f"{name} is {settings[name]!r:.100}, no whole number")
                require_plausible(settings, state)
                with torch.device("meta"):  # without room for weights
                    asked = sum(value.numel() for value in cls(**settings).state_dict().values())
                held = sum(value.numel() for value in state.values())
                if asked > 2 * held + 10**6:
                    raise ValueError(f"asks for {asked} weights, and {path.name} has {held}")
                model = cls(**settings)
        except Exception as error:  # of MONAI and torch, whatever a size that cannot be makes them raise
            if isinstance(error, InputError) and str(config) in str(error):
                raise
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{config}: does not describe a {cls.__name__} ({reason}).") from error
        load_strictly(model, state, source=str(path))
        return model.eval()

    def autocast(self) -> contextlib.AbstractContextManager:
        """For the forward passes of a model in half precision: MONAI's norms and upcast attention mix in float32.

        A model in float32 computes in what its caller chose.
        """
        first = next(self.parameters())
        if first.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(first.device.type, dtype=first.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, all of one type; diffusers' own walks through every module, at every step of a drawing."""
        first = next(self.parameters(), None)
        return super().dtype if first is None else first.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights; diffusers' own looks for hooks in every module."""
        first = next(self.parameters(), None)
        return super().device if first is None else first.device

    @property
    def settings(self) -> dict[str, Any]:
        """What the constructor was given."""
        return _public(self.config)


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a config, without what diffusers notes for itself."""
    return {name: value for name, value in config.items() if not name.startswith("_")}
