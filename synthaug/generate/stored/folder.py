"""What a generator's folder holds beside its weights, read with suspicion: whatever is wrong there is named."""

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers import SchedulerMixin
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from synthaug.config.latents import LATENT_DESIGNS
from synthaug.generate.diffusion import SCHEDULERS, prediction_of
from synthaug.generate.edm import EDMScheduler
from synthaug.generate.nvgenerate.flow import MaisiFlowScheduler
from synthaug.generate.stored.patients import with_patients
from synthaug.generate.stored.record import ALIASES, PUBLIC_SETS, preprocessing_of_record
from synthaug.generate.trial import try_steps
from synthaug.ground.errors import InputError
from synthaug.ground.files import COPIED, read_json
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.latent_space import LatentSpace, space_class
from synthaug.models.nvgenerate.growth import can_grow
from synthaug.models.text_encoder import load_encoder, load_tokenizer
from synthaug.models.variants import VARIANTS

BUILTIN = "builtin/"
"""What names of generators that come with the package begin with."""
INDEX = "model_index.json"
RECORD = "training.json"
MODELS = "synthaug.models."
"""Where latent spaces may be that a folder names."""


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """InputError that names ``path`` in place of what libraries raise for a damaged file, each its own."""
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: cannot be used ({type(error).__name__}: {reason}).") from error


def locate(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a saved pipeline by path, builtin name or hub id, there at a branch, tag or commit.

    Raises:
        InputError: There is none, or a revision is asked of what is no hub id.
    """
    local = str(name).startswith(BUILTIN) or Path(name).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name))
    if local and revision is not None:
        raise InputError(f"{name}: is no hub id, and only those have revisions; leave revision={revision} out.")
    if str(name).startswith(BUILTIN):
        shelf = Path(__file__).parents[2] / "builtin"
        known = sorted(f"{BUILTIN}{index.parent.name}" for index in shelf.glob("*/model_index.json"))
        if str(name) not in known:
            raise InputError(f"{name}: no such builtin generator; there are {', '.join(known) or 'none'}.")
        return shelf / str(name).removeprefix(BUILTIN)
    if local:
        return Path(name)
    try:
        patterns = ["*.json", "*.json.gz", "*.txt", "*.model", "*.safetensors"]
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        asked = f"at revision {revision} " if revision else ""
        reason = type(error).__name__
        raise InputError(f"{name}: neither a folder nor a generator on the hub {asked}({reason}).") from error


def read_parts(folder: Path, *, variant: str | None = None) -> dict[str, Any]:
    """The arguments of a :class:`CCELLAPipeline` whose folder this is, weights under the variant's names.

    Raises:
        InputError: A part is missing, damaged, or does not fit the others.
    """
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder}: no saved pipeline there ({INDEX} is missing).")
    config = read_json(index, mend=COPIED)
    with named(index):
        settings = _settings(config)
        space, scheduler = _space_kind(config), _scheduler_kind(config)
        encoder = getattr(transformers, _class_name(config, "text_encoder"))
    for part in ("text_encoder", "tokenizer", "scheduler"):
        if not (folder / part).is_dir():
            raise InputError(f"{folder}: the saved pipeline lacks its folder {part!r}.")
    parts: dict[str, Any] = {}
    for part, load in (
        ("autoencoder", lambda place: space.from_pretrained(place, variant=variant)),
        ("denoiser", lambda place: CCELLADenoiser.from_pretrained(place, variant=variant)),
        ("text_encoder", lambda place: load_encoder(place, encoder, variant=variant)),
        ("tokenizer", load_tokenizer),
        ("scheduler", lambda place: _scheduler(scheduler, place)),
    ):
        with named(folder / part):
            parts[part] = load(folder / part)
    with named(index):
        _require_fit(parts["autoencoder"], parts["denoiser"], settings)
    return {**parts, **settings}


def read_record(folder: Path) -> dict[str, Any]:
    """What a generator remembers of its training; {} where it has no record.

    Raises:
        InputError: The record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    record = with_patients(folder, read_json(path, mend=COPIED))
    patients = record.get("patients", [])
    if not isinstance(patients, list) or not all(isinstance(each, str) for each in patients):
        raise InputError(f"{path}: patients is {patients!r:.100}, no list of hashes; nobody can tell whom it has seen.")
    for key in (PUBLIC_SETS, ALIASES):
        texts = record.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise InputError(f"{path}: {key} is {texts!r:.100}, no list of texts; nobody can tell whom it has seen.")
    if not isinstance(record.get("patients_known", True), bool):
        raise InputError(f"{path}: patients_known is {record['patients_known']!r:.100}; it is true or false.")
    for key in ("generator", "versions", "class_counts", "begun_from", "evaluation"):
        if not isinstance(record.get(key) or {}, dict):
            raise InputError(f"{path}: {key} is {record[key]!r:.100}, where an object belongs.")
    if record.get("preprocessing"):
        with named(path):
            preprocessing_of_record(record["preprocessing"])
    return record


def read_design(folder: Path) -> dict[str, Any]:
    """Settings of the section ``generator`` that a trained generator has made its own, without reading its weights.

    NV-Generate's networks may become those of any variant.

    Raises:
        InputError: There is no generator, or its folder is damaged.
    """
    index = folder / INDEX
    if not index.is_file():
        raise InputError(
            f"{folder}: no saved pipeline there ({INDEX} is missing); train one, or make it by synthaug import."
        )
    with named(index):
        config = read_json(index, mend=COPIED)
        space, kind = _space_kind(config), _scheduler_kind(config)
    with named(folder / "scheduler"):
        prediction = prediction_of(_scheduler(kind, folder / "scheduler"))
    with named(folder / "denoiser"):
        sizes = read_json(folder / "denoiser" / "config.json", mend=COPIED)
        variant = sizes["variant"]
        if variant not in VARIANTS:
            raise InputError(f"unknown variant {variant!r:.100}")
    design = {"latents": space.facts.name, "prediction": prediction}
    return design if can_grow(sizes) else design | {"variant": variant}


def _space_kind(config: dict[str, Any]) -> type[LatentSpace]:
    """The class of its latent space. A folder names no module to import but one of the models here."""
    name, module = _class_name(config, "autoencoder"), config["autoencoder"][0]
    for design in LATENT_DESIGNS.values():
        if design.space.endswith(f".{name}"):
            return space_class(design)
    if str(module).startswith(MODELS):
        importlib.import_module(module)
    kind = getattr(sys.modules.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, LatentSpace)):
        raise InputError(f"its latent space is {module}.{name}; import that first, if you trust it.")
    return kind


def _scheduler_kind(config: dict[str, Any]) -> type[SchedulerMixin]:
    name = _class_name(config, "scheduler")
    known = {kind.__name__: kind for kind in (*SCHEDULERS.values(), EDMScheduler, MaisiFlowScheduler)}
    return known.get(name) or getattr(diffusers, name)


def _class_name(config: dict[str, Any], part: str) -> str:
    library, name = config[part]
    if not isinstance(name, str):
        raise TypeError(f"{part} of {library} is {name!r}")
    return name


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    settings = {name: config[name] for name in ("images", "spacing_mm", "shape", "micro_batch")}
    settings |= {name: config.get(name, []) for name in ("latent_deviations", "level_gains")}
    settings["precision"] = config.get("precision", "float32")
    images, micro_batch = settings["images"], settings["micro_batch"]
    checks = {
        "images": isinstance(images, list) and all(isinstance(each, str) and each for each in images),
        "spacing_mm": _numbers(settings["spacing_mm"], 3) and min(settings["spacing_mm"]) > 0,
        "shape": _numbers(settings["shape"], 3) and all(isinstance(side, int) for side in settings["shape"]),
        "micro_batch": isinstance(micro_batch, int) and 1 <= micro_batch <= 4096,
        "latent_deviations": _numbers(settings["latent_deviations"], None),
        "level_gains": _numbers(settings["level_gains"], None) and min(settings["level_gains"], default=1) > 0,
        "precision": settings["precision"] in ("float32", "bf16"),
    }
    for name, holds in checks.items():
        if not holds:
            raise InputError(f"{name} cannot be {settings[name]!r:.100}.")
    return settings


def _numbers(value: Any, count: int | None) -> bool:
    if not isinstance(value, list) or count not in (None, len(value)):
        return False
    return all(isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e9 for each in value)


def _scheduler(kind: type[SchedulerMixin], place: Path) -> SchedulerMixin:
    """The scheduler, which has been seen to make two steps."""
    scheduler = kind.from_pretrained(place)
    try_steps(scheduler, 2)
    return scheduler


def _require_fit(space: LatentSpace, denoiser: CCELLADenoiser, settings: dict[str, Any]) -> None:
    """InputError where the networks were not made for each other or for the images."""
    if len(settings["images"]) != space.sequences:
        raise InputError(f"images {settings['images']} do not fit an autoencoder of {space.sequences} sequences.")
    levels = denoiser.config.levels
    channels = [level["latent_channels"] for level in levels] if levels else [denoiser.config.latent_channels]
    found = [space.latent_shape(level, settings["shape"])[0] for level in range(space.levels)]
    if channels != found:
        raise InputError(f"the denoiser takes latents of {channels} channels, and the autoencoder has {found}.")
    if not all(_numbers([level["sigma_max"]], 1) and level["sigma_max"] > 0 for level in levels or ()):
        raise InputError("sigma_max of each of the denoiser's levels must be positive.")
    space.require_possible()
