"""What a killed training of a generator goes on from beside its checkpoint: the levels that it finished."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from synthaug.config import GeneratorConfig, LevelConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, content_hash
from synthaug.models.pretrained import load_strictly
from synthaug.models.training.optimisation import PACE, Part
from synthaug.models.training.processes import processes

SETTINGS = "settings"
"""In the metadata of a finished level: hash of what it was trained with."""


def settings_hash(record: Mapping[str, Any]) -> str:
    """Hash of the settings and subjects in a training's record; where the pretrained generator lies is none of them."""
    generator = {name: value for name, value in record["generator"].items() if name != "pretrained"}
    generator["training"] = {name: value for name, value in generator["training"].items() if name not in PACE}
    begun = record.get("begun_from", {}).get("fingerprint")
    return content_hash(
        [changed_settings(generator, asdict(GeneratorConfig())), record["preprocessing"], record["data"], begun]
    )


def changed_settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those at their default, lest a version that has one more refuse what an older one began.

    Example:
        >>> changed_settings({"steps": 5, "loop": {"ema": 0.9, "seed": 0}}, {"steps": 5, "loop": {"ema": 0, "seed": 0}})
        {'loop': {'ema': 0.9}}
    """
    told = {}
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            value = changed_settings(value, default) or default
        elif name == "levels":
            value = [changed_settings(level, asdict(LevelConfig())) for level in value]
        if value != default:
            told[name] = value
    return told


@dataclass(frozen=True)
class Resumption:
    """The files of one training.

    Args:
        checkpoint: That of its loops, one level after another; None = nothing is kept.
        settings: Hash of what it is trained with.
    """

    checkpoint: Path | None
    settings: str

    def part(self, level: int) -> Part:
        """What the checkpoint of a level's loop is told by."""
        return Part(f"level {level}", self.settings)

    def take_up(self, level: int, module: nn.Module) -> bool:
        """Give ``module`` the weights of a level that was finished before; False = it was not.

        Raises:
            InputError: The file is damaged, or of a training with other settings.
        """
        path = self._path(level)
        if path is None or not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as stored:
                settings = (stored.metadata() or {}).get(SETTINGS, self.settings)  # older files do not tell
                state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no dictionary
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: cannot be read ({error}); delete it to train the level again.") from error
        if settings != self.settings:
            raise InputError(f"{path}: begun with other settings or subjects; train as then, or delete it.")
        load_strictly(module, state, source=str(path))
        return True

    def keep(self, level: int, module: nn.Module) -> None:
        """Store a level that is finished; only then remove the checkpoint of its loop."""
        path = self._path(level)
        if path is not None and self.checkpoint is not None and processes().is_main_process:
            state = {name: value.clone() for name, value in module.state_dict().items()}  # tied weights too
            with atomic_path(path) as temporary:
                save_file(state, temporary, metadata={SETTINGS: self.settings})
            self.checkpoint.unlink(missing_ok=True)

    def _path(self, level: int) -> Path | None:
        return self.checkpoint and self.checkpoint.with_suffix(f".level{level}")


def forget(checkpoint: Path | None) -> None:
    """Remove what a killed training would have gone on from, once its result is stored."""
    if checkpoint and processes().is_main_process:
        for path in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
            if path == checkpoint or path.suffix.startswith((".level", ".precision")):
                path.unlink(missing_ok=True)
