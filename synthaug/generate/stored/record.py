"""What a checkpoint knows of its own making, for machines (``training.json``) and for people (the model card)."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torchio as tio
import yaml

from synthaug import __version__
from synthaug.config import GeneratorConfig, PreprocessConfig
from synthaug.data.reading.manifest import class_counts, stack_images
from synthaug.generate.encode import tensor_hash
from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash
from synthaug.ground.people import patient_hash, public_sets

PUBLIC_SETS, ALIASES = "public_data_sets", "aliases"
"""Keys of a record: public data sets of the training patients, and hashes of other names that the patients, or their
images, have there."""
LIBRARIES = ("torch", "monai", "diffusers", "transformers")


def subjects_hash(subjects: Sequence[tio.Subject], images: Sequence[str]) -> str:
    """Hash of identities, labels, reports and voxels."""
    fields = ("subject_id", "patient_id", "label", "report")
    rows = [[*(subject[key] for key in fields), tensor_hash(stack_images(subject, images))] for subject in subjects]
    return content_hash(rows)


def training_record(
    subjects: Sequence[tio.Subject],
    config: GeneratorConfig,
    preprocessing: PreprocessConfig,
    *,
    images: Sequence[str],
    begun: Any = None,
) -> dict[str, Any]:
    """What a checkpoint knows of its own training: patients and data by hash, config, versions, commit, day.

    Args:
        subjects: Training subjects, preprocessed.
        config: Of the training.
        preprocessing: What the subjects went through.
        images: Image names.
        begun: The pipeline that the training went on from: its patients are this one's too.
    """
    before = {} if begun is None else begun.record
    known = {} if begun is None or patients_known(before) else {"patients_known": False}
    sets = sorted({*public_sets(subject["patient_id"] for subject in subjects), *before.get(PUBLIC_SETS, [])})
    named = {key: value for key, value in ((PUBLIC_SETS, sets), (ALIASES, before.get(ALIASES))) if value}
    licence = {"license": before["license"]} if before.get("license") else {}  # of weights that these derive from
    nv_generate = {"nv_generate": before["nv_generate"]} if before.get("nv_generate") else {}
    earlier = {} if begun is None else {"begun_from": {"fingerprint": begun.fingerprint, **_without_patients(before)}}
    return (
        earlier
        | known
        | named
        | licence
        | nv_generate
        | {
            "patients": sorted(
                {patient_hash(subject["patient_id"]) for subject in subjects} | {*before.get("patients", [])}
            ),
            "class_counts": {str(label): count for label, count in class_counts(subjects).items()},
            "data": subjects_hash(subjects, images),
            "generator": asdict(config) | {"prediction": config.process},
            "preprocessing": preprocessing.recorded(),
            "git_commit": git_commit(),
            "versions": versions(),
            "date": date.today().isoformat(),
        }
    )


def provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a pool's header repeats of whom its generator was trained on, beside the patients.

    Example:
        >>> provenance({"patients": ["a"], "public_data_sets": ["prostatex"], "patients_known": False})
        {'patients_known': False, 'public_data_sets': ['prostatex']}
    """
    known = {} if record.get("patients_known", True) else {"patients_known": False}
    return known | {key: record[key] for key in (PUBLIC_SETS, ALIASES) if record.get(key)}


def patients_known(record: Mapping[str, Any]) -> bool:
    """Whether a generator's record or a pool's header names everybody that the generator was trained on.

    A released generator names nobody, and one that began from it may have seen anybody.

    Example:
        >>> patients_known({"patients": ["a"]}), patients_known({}), patients_known({"trained_on_patients": ["a"]})
        (True, False, True)
    """
    return bool(patients_of(record)) and record.get("patients_known", True)


def patients_of(record: Mapping[str, Any]) -> list[str]:
    """Hashes of the patients that a generator's record, or a pool's header, names.

    Example:
        >>> patients_of({"patients": ["a"]}), patients_of({"trained_on_patients": ["b"]}), patients_of({})
        (['a'], ['b'], [])
    """
    return record.get("patients") or record.get("trained_on_patients") or []


def preprocessing_of_record(born: Any) -> PreprocessConfig:
    """The preprocessing that a generator's record or a pool's header tells.

    Raises:
        InputError: It tells none.

    Example:
        >>> preprocessing_of_record({"shape": [8, 8, 4], "spacing_mm": [1, 1, 2]}).shape
        (8, 8, 4)
    """
    try:
        told: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in born.items()}
        config = PreprocessConfig(**told)
        if len(config.shape) != 3 or len(config.spacing_mm) != 3:
            raise ValueError("three axes")
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"preprocessing: {born!r:.200} is none.") from error
    return config


def _without_patients(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("patients", ALIASES, "recipe", "evaluation")}


def versions() -> dict[str, str]:
    """Of Python, this package and the libraries that its figures hang on."""
    ours = {"python": platform.python_version(), "synthaug": __version__}
    return ours | {name: version(name) for name in LIBRARIES}


def git_commit() -> str:
    """The commit of the code that runs, with "+" if it was changed since; "" outside a git checkout."""
    folder = Path(__file__).parent
    try:
        commit = _git("rev-parse", "HEAD", folder=folder)
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no", folder=folder) else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str, folder: Path) -> str:
    found = subprocess.run(["git", *words], cwd=folder, capture_output=True, encoding="utf-8", check=True, timeout=30)
    return found.stdout.strip()


def model_card(record: Mapping[str, Any], *, fingerprint: str) -> str:
    """The model card (Markdown) of a saved pipeline, from its record.

    Example:
        >>> "| Training volumes of each class | 0: 3, 1: 2 |" in model_card(
        ...     {"class_counts": {"0": 3, "1": 2}, "patients": ["a"]}, fingerprint="f0"
        ... )
        True
    """
    head = {"library_name": "synthaug", "tags": ["ccella", "3d", "mri", "synthetic-data"]}
    if record.get("license"):
        head["license_name"] = record["license"]
    facts = {
        "Fingerprint": fingerprint,
        "Variant": record.get("generator", {}).get("variant", record.get("variant", "")),
        "Objective": record.get("generator", {}).get("prediction", ""),
        "Begun from": record.get("begun_from", {}).get("fingerprint", ""),
        "Training patients": f"{len(record.get('patients', []))}, as hashes in `training.json` or `patients.json.gz`",
        "Training volumes of each class": ", ".join(f"{k}: {v}" for k, v in record.get("class_counts", {}).items()),
        "Training data (hash)": record.get("data", ""),
        "Code": record.get("git_commit", ""),
        "Versions": ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items()),
        "Trained on": record.get("date", ""),
        "Licence": record.get("license", ""),
        "Source of the training data": record.get("source", ""),
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value]
    measured = record.get("evaluation") or {}
    settings = {name: record[name] for name in ("generator", "preprocessing") if name in record}
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        "# A CCELLA generator",
        "Report text and class to 3D MRI, after Grabke et al. (arXiv 2506.10230). Load it with "
        "`synthaug.CCELLAPipeline.from_pretrained(FOLDER)`.",
        "\n".join(["| | |", "|---|---|", *rows]),
        "Not for diagnosis. A classifier must not be tested on patients whose hashes are kept here.",
    ]
    if record.get("notes"):
        parts += ["## To know", "\n".join(f"- {note}" for note in record["notes"])]
    if measured:
        parts += ["## Measured", measured["summary"]]
    if record.get("recipe"):
        parts += ["## Recipe", f"```yaml\n{record['recipe']}```"]
    if settings:
        parts += ["## Settings", f"```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```"]
    return "\n\n".join(parts) + "\n"
