"""``synthaug check FOLDER|CSV``: read everything, tell the problems, propose a config."""

import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from tqdm import tqdm

from synthaug.bench.single.findings import SHOWN, describe, tell_problems, tell_rows, tell_texts, too_few
from synthaug.bench.single.proposal import as_yaml, place_for, sealed
from synthaug.config import DataConfig, MeasurementConfig, PreprocessConfig
from synthaug.data.duplicates import image_hash
from synthaug.data.near_copies import find_near_copies
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.folders import draft_manifest
from synthaug.data.reading.plan import GridPlan, plan_grid, propose_grid
from synthaug.data.reading.survey import Problem, Survey, survey_manifest
from synthaug.data.reading.tables import read_table
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_text
from synthaug.models.training.training_log import peak_memory_mb
from synthaug.statistics.detectable import POWER, planned_difference

VOXELS = {"cpu": 2**16, "small-gpu": 2**19}
"""Voxels of a volume that the networks of a preset train on in reasonable time."""
COMPARED = 2**15
"""Voxels at which images are compared with each other."""
GUIDED = "After a short training volumes hardly follow their reports without guidance; see docs/generators.md."
ENOUGH_REPORTS = 0.8
USUAL = 0.75
"""AUROC for which it is told what can be shown."""
FEW = 40
"""Training patients below which a generator from nothing learns its patients by heart."""


def check(
    source: str,
    images: list[str] | None = None,
    label: str = "label",
    classes: list[str] | None = None,
    report: str | None = None,
    measurements: list[str] | None = None,
    subject: str = "subject_id",
    patient: str = "patient_id",
    out: str = "config.yaml",
    quick: bool = False,
) -> int:
    """Read every file of a folder or CSV, tell the problems, and write a config to begin with.

    Args:
        source: Folder of images, with a manifest.csv or without (one is then drafted there), or a CSV.
        images: Image columns; none = those that name images.
        label: Column of the class.
        classes: Names of the classes in the order that numbers them; none = sorted.
        report: Column of the reports; none = report, where there is one.
        measurements: Columns of numbers, or of left and right, that reports are written from where there are none.
        subject: Column that names the subject.
        patient: Column that names the patient.
        out: Config to write.
        quick: Leave the timing of the study on this machine out.

    Returns:
        0, or 2 where a row cannot be used; then no config is written.
    """
    target = place_for(Path(out))
    manifest = _manifest_of(Path(source))
    found = _survey(
        manifest,
        images=images or (),
        label=label,
        classes=classes or (),
        report=report,
        measurements=measurements or (),
        subject=subject,
        patient=patient,
    )
    if not images:
        found.images = tuple(sorted(found.images, key=lambda name: _voxel_size(found, name)))
    found.remarks += tell_texts(found)
    print("\n".join(describe(found)))
    plan = None
    if found.subjects:
        preset = "small-gpu" if torch.cuda.is_available() else "cpu"
        plan = propose_grid(found.looks[found.images[0]], voxels=VOXELS[preset])
        for line in tell_copies(found):
            print(line)
    problems = [*found.problems, *too_few(found)]
    print("\n".join(tell_problems(problems)))
    if problems or plan is None:
        print("No config was written: mend these, then run the same again.")
        return 2
    columns = {"label": label, "subject": subject, "patient": patient}
    write_text(target, config_text(found, plan, columns))
    print("\n".join(advise(found, plan)))
    if target != Path(out):
        print(f"{out} was changed since check wrote it and stays as it is; the new proposal stands beside it")
    print(f"config: {target}\nnext: synthaug bench --preset {preset} --config {target} --out runs/mine")
    if not quick:
        print(_time_and_memory(preset, target, found, plan))
    return 0


def _voxel_size(found: Survey, name: str) -> float:
    """Median volume of a voxel: the finest image comes first, on whose grid the others are brought."""
    sizes = [float(np.prod(look.spacing_mm)) for look in found.looks[name]]
    return float(np.median(sizes)) if sizes else float("inf")


def check_data(config: DataConfig) -> list[Problem]:
    """Read all that a study's data section names, with a bar, and print what is there; the problems are returned."""
    found = _survey(
        Path(str(config.root)) / config.manifest,
        images=config.images,
        label=config.label,
        classes=config.classes,
        report=config.report,
        measurements=config.measurements,
        style=config.style,
        subject=config.subject,
        patient=config.patient,
        affine=config.affine,
    )
    print("\n".join(describe(found)))
    if found.unlabelled and config.unlabelled == "refuse":
        rows = tell_rows(found.unlabelled)
        found.problems.append(Problem(config.manifest, None, f"{config.label} is empty in {rows}."))
    print("\n".join(tell_problems(found.problems)))
    return found.problems


def tell_copies(found: Survey) -> list[str]:
    """Subjects of two patients with the same image, or nearly the same."""
    grid = plan_grid(found.looks[found.images[0]], voxels=COMPARED)
    config = PreprocessConfig(shape=grid.shape, spacing_mm=grid.spacing_mm)
    ready = []
    for subject in tqdm(found.subjects, desc="comparing", file=sys.stderr, unit="subject", mininterval=0.5):
        try:
            ready += preprocess([subject], config, found.images)
        except InputError as error:
            found.problems.append(Problem(subject["subject_id"], None, str(error)))
    lines: list[str] = []
    first: dict[tuple[str, str], tio.Subject] = {}
    for name in found.images:
        for subject in ready:
            other = first.setdefault((name, image_hash(subject[name].data)), subject)
            if other["patient_id"] != subject["patient_id"]:
                lines.append(f"  {other['subject_id']} and {subject['subject_id']}: {name} is the same, voxel by voxel")
    same = set(lines)
    for copy in find_near_copies(ready, found.images):
        line = f"  {copy.one['subject_id']} and {copy.other['subject_id']}: {copy.image}"
        if f"{line} is the same, voxel by voxel" not in same:
            lines.append(f"{line} is nearly the same, correlation {copy.likeness:.2f}")
    mend = "give both one patient_id if they are one person, or take one out"
    return [f"two patients with one image: {len(lines)} pairs; {mend}", *lines[:SHOWN]] if lines else []


def config_text(found: Survey, plan: GridPlan, columns: dict[str, str]) -> str:
    """The config as YAML, each choice under its reason."""
    told, usual, measured = found.manifest, DataConfig(), bool(found.measurements)
    data: dict[str, Any] = {"root": str(told.parent)}
    data |= {"manifest": told.name} if told.name != usual.manifest else {}
    data |= {"images": list(found.images)}
    data |= {name: column for name, column in columns.items() if column != getattr(usual, name)}
    data |= {"classes": list(found.classes)} if found.classes else {}
    data |= {"unlabelled": "leave_out"} if found.unlabelled else {}
    data |= {"report": found.report} if found.report else {}
    data |= {"measurements": {name: _given(each) for name, each in found.measurements.items()}} if measured else {}
    data |= {"unreported": "keep"} if found.unreported else {}
    variant, why = choose_variant(found)
    grid = {"shape": list(plan.shape), "spacing_mm": list(plan.spacing_mm)}
    reason = f"{plan.reason} {_told_whole(plan)}".strip()
    left_out = f"Without a class, and left out: {tell_rows(found.unlabelled)}." if found.unlabelled else ""
    sections = [(left_out, {"data": data}), (reason, {"preprocess": grid}), (why, {"generator": {"variant": variant}})]
    sections.append(("", {"study": {"name": told.parent.resolve().name}}))
    if variant == "ccella":
        sections.append((GUIDED, {"pool": {"sampling": {"guidance": 2.0, "guided_levels": 1}}}))
    parts = []
    for reason, section in sections:
        comment = textwrap.fill(reason, 110, initial_indent="# ", subsequent_indent="# ") + "\n" if reason else ""
        parts.append(comment + as_yaml(section))
    return sealed("".join(parts))


def choose_variant(found: Survey) -> tuple[str, str]:
    """A generator for the data, with its reason."""
    have = len(found.subjects) - found.unreported if found.report or found.measurements else 0
    if found.measurements and have >= ENOUGH_REPORTS * len(found.subjects):
        return "ccella", f"reports are written from {', '.join(found.measurements)}: CCELLA reads them."
    if have >= ENOUGH_REPORTS * len(found.subjects):
        return "ccella", f"{have} of {len(found.subjects)} subjects have a report: CCELLA reads them."
    return "radmaisi", f"{have} of {len(found.subjects)} subjects have a report: RADMAISI is told the class instead."


def advise(found: Survey, plan: GridPlan) -> list[str]:
    """The proposal in words, and what a study of so many patients can show."""
    variant, why = choose_variant(found)
    patients = found.patients
    tested = {number: max(round(0.3 * count), 1) for number, count in patients.items()}
    rare = min(tested.values())
    rest = sum(tested.values()) - rare
    training = round(0.55 * sum(patients.values()))
    lines = [
        f"grid: {' x '.join(map(str, plan.shape))} voxels of {' x '.join(map(str, plan.spacing_mm))} mm: {plan.reason}",
        f"generator: {variant}. {why}",
        f"about {sum(tested.values())} patients are tested, {rare} of the rarest class: {_reach(rare, rest)}; "
        "folds test every patient: --split.folds 5.",
    ]
    lines += [_told_whole(plan)] if plan.whole else []
    if found.measurable and not (found.report or found.measurements):
        lines.append(
            f"columns of measurements: {', '.join(found.measurable)}; reports can be written from them, for ccella: "
            f'--measurements "[{found.measurable[0]}]".'
        )
    if found.wordy and not (found.report or found.measurements):
        lines.append(
            f"columns of texts: {', '.join(found.wordy)}; one that holds radiology reports is read, for ccella: "
            f'--report "{found.wordy[0]}".'
        )
    if training < FEW:
        lines.append(
            f"about {training} patients train: a generator from nothing learns so few by heart. Go on from one "
            "of other patients (generator.pretrained), or read the study's share of copies first."
        )
    return lines


def _told_whole(plan: GridPlan) -> str:
    """The grid that crops nothing, where the proposed one crops."""
    if plan.whole is None:
        return ""
    return f"The whole field of view would be shape {list(plan.whole.shape)}, spacing_mm {list(plan.whole.spacing_mm)}."


def _given(measurement: MeasurementConfig) -> dict[str, Any]:
    """Its settings that are not the usual ones."""
    usual = asdict(MeasurementConfig(measurement.name))
    return {name: value for name, value in asdict(measurement).items() if name == "name" or value != usual[name]}


def _reach(rare: int, rest: int) -> str:
    difference = planned_difference(rare, rest, auroc=USUAL)
    if difference > 1 - USUAL:
        return "too few for any difference in AUROC to come out clear"
    return (
        f"a difference in AUROC of {difference:.2f} or more comes out clear with {100 * POWER:.0f} % chance "
        f"(95 % interval, one comparison, AUROC about {USUAL})"
    )


def _time_and_memory(preset: str, target: Path, found: Survey, plan: GridPlan) -> str:
    from synthaug.bench.options.parsing import read_config
    from synthaug.study.grid import describe_cells
    from synthaug.study.outlook.estimate import describe_time

    told = describe_time(describe_cells(read_config(["--preset", preset, "--config", str(target)], exits=False)))
    held = len(found.subjects) * len(found.images) * int(np.prod(plan.shape)) * 4 / 2**30
    peak = peak_memory_mb() / 1024
    return f"time: {told}\nmemory: about {peak + held:.1f} GiB, of which the volumes are {held:.2f}"


def _survey(path: Path, **options: Any) -> Survey:
    rows = len(read_table(path, what="manifest", mend="name a folder or a CSV").rows)
    with tqdm(total=rows, desc="reading", file=sys.stderr, unit="row", mininterval=0.5) as bar:
        return survey_manifest(path, on_row=bar.update, **options)


def _manifest_of(source: Path) -> Path:
    """The CSV, found or drafted."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder.")
    if (source / "manifest.csv").is_file():
        return source / "manifest.csv"
    tables = sorted(source.glob("*.csv"))
    if len(tables) > 1:
        raise InputError(f"{source}: holds {len(tables)} CSV files; name the one that is meant.")
    if tables:
        return tables[0]
    drafted = draft_manifest(source)
    print(f"{drafted}: drafted from the names of files and folders; read it before you go on")
    table = read_table(drafted, what="manifest", mend="")
    labels = {row["label"] for row in table.rows.values()} - {""}
    if labels:
        print(f"label: from the top folders {', '.join(sorted(labels))}; if these are no classes, empty the column")
    if sequences := [name for name in table.columns[2:-1] if (source / name).is_dir()]:
        print(
            f"images: the top folders {', '.join(sequences)} hold files of the same names and are taken as sequences. "
            f"If they are classes, give each file a row of its own in {drafted.name}, and the class in its column label"
        )
    return drafted
