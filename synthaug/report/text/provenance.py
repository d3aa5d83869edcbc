"""How to make a study again: the command, the digest of its settings, the versions and the machine behind it."""

import platform
import shlex
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from synthaug.config import Config
from synthaug.generate.stored.record import git_commit, versions
from synthaug.ground.files import content_hash

STATISTICAL = ("torchio", "scikit-learn", "scipy", "numpy", "nibabel", "mlflow")
"""Libraries that a study's figures hang on beside those of a generator."""


def tell_provenance(config: Config, out: Path) -> dict[str, str]:
    """Rows of the report's table, name and value.

    Args:
        config: The study's.
        out: The study's folder, as the command named it.

    Example:
        >>> rows = tell_provenance(Config(), Path("runs/my study"))
        >>> rows["command"]
        "python -m synthaug.bench --config 'runs/my study/config.yaml' --out 'runs/my study'"
    """
    known = versions() | {name: version(name) for name in STATISTICAL}
    folder = shlex.quote(str(out))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "command": f"python -m synthaug.bench --config {shlex.quote(str(out / 'config.yaml'))} --out {folder}",
        "digest of the settings": content_hash(asdict(config)),
        "versions": ", ".join(f"{name} {number}" for name, number in known.items()),
        "commit of synthaug": git_commit(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, {gpu}",
    }
