"""What a folder holds of other revisions: it stays and can be reported, but no study goes on from it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from synthaug.config import Config
from synthaug.ground.errors import InputError
from synthaug.ground.files import canonical, read_json, read_record
from synthaug.study.folder.results import CONFIG, EARLIER
from synthaug.study.grid import DATA, STAGES, Cell
from synthaug.study.identity import Identity, classifier_settings, revisions_of, same_but_revisions, told
from synthaug.study.introduced import AUTOENCODER, CELL, GENERATOR, POOL, Fields
from synthaug.study.records import CellRecord

IDENTITY = "identity.json"
"""In the folder of a stage: what its id is the hash of."""
FIELDS: Mapping[str, Fields] = {
    "autoencoder": AUTOENCODER.fields,
    "generator": GENERATOR.fields,
    "pool": POOL.fields,
    "classifier": CELL.fields,
}


def tell_other_revision(folder: Path, identity: Identity) -> None:
    """Say that a stage, which is missing, stands beside ``folder`` as another revision made it.

    Args:
        folder: Of the stage: its name, a hyphen and its id.
        identity: Of the stage.
    """
    stage = folder.name.split("-")[0]
    for path in sorted(folder.parent.glob(f"{stage}-*/{IDENTITY}")):
        found = read_json(path)
        if same_but_revisions(found, identity):
            _say(f"{path.parent}: {_words(found)}, this is {_words(identity)}; it stays, and another one is made.")
            return


def earlier_cells(out: Path, cells: Sequence[Cell]) -> dict[str, CellRecord]:
    """Finished cells in a folder that were asked for as these are, but of another revision, by the id of these.

    Cells of versions that recorded no identity are matched by the config that the folder records.
    """
    missing = [cell for cell in cells if not (out / "cells" / f"{cell.id}.json").is_file()]
    records = _other_records(out, cells) if missing else []
    configs = _recorded_configs(out) if records else []
    return {
        cell.id: record
        for cell in missing
        for record in records
        if _is_of(record, cell) or (not record.identity and any(_matches(record, each, cell) for each in configs))
    }


def tell_earlier_cells(out: Path, cells: Sequence[Cell]) -> None:
    """Say in one line that a folder has cells of other revisions, which are not continued."""
    found = earlier_cells(out, cells)
    if found:
        record = next(iter(found.values()))
        _say(
            f"{out}: {len(found)} of {len(cells)} cells were finished by {_words(record.identity)}, this is "
            f"{_words(cells[0].identity)}; they stay, are not mixed with new ones, and are run again."
        )


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _words(identity: Any) -> str:
    revisions = revisions_of(identity)
    return (
        "revision " + ", ".join(f"{name} {number}" for name, number in revisions.items())
        if revisions
        else ("a version without revisions")
    )


def _other_records(out: Path, cells: Sequence[Cell]) -> list[CellRecord]:
    ours = {cell.id for cell in cells}
    # Not what begins with a point: a bench that was killed, or is at it, has not written that to its end.
    paths = (path for path in sorted((out / "cells").glob("[!.]*.json")) if path.stem not in ours)
    return [read_record(path, CellRecord.from_json) for path in paths]


def _is_of(record: CellRecord, cell: Cell) -> bool:
    return bool(record.identity) and same_but_revisions(record.identity, cell.identity)


def _recorded_configs(out: Path) -> list[dict[str, Any]]:
    """The settings of every study that had the folder's place, as its version wrote them."""
    found = []
    for path in (out / CONFIG, *sorted((out / EARLIER).glob(f"*/{CONFIG}"))):
        if path.is_file():
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(settings, dict):
                raise InputError(f"{path}: holds no settings; delete it.")
            found.append(settings)
    return found


def _matches(record: CellRecord, recorded: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a record's study asked for what the cell is."""
    same = ("regime", "seed", "synthetic_fraction")
    if any(getattr(record, name) != getattr(cell, name) for name in same):
        return False
    theirs, ours = _with_axes(recorded, record.settings), _settings_of(cell.config)
    sections = ["classifier", *(STAGES if cell.synthetic_fraction is not None else ())]
    if any(told(theirs.get(name, {}), FIELDS[name]) != told(ours[name], FIELDS[name]) for name in sections):
        return False
    return all(_agrees(theirs.get(name, {}), ours[name]) for name in DATA)


def _settings_of(config: Config) -> dict[str, Any]:
    return {**asdict(config), "classifier": classifier_settings(config.classifier)}


def _with_axes(recorded: Mapping[str, Any], axes: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings with a cell's values of the axes, and without moves that are not made."""
    settings: dict[str, Any] = {name: _copied(value) for name, value in recorded.items()}
    for key, value in axes.items():
        place = settings
        *sections, name = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    classifier = settings.get("classifier", {})
    return (
        settings
        if classifier.get("augment") == "labelled"
        else {**settings, "classifier": {**classifier, "geometry": {}}}
    )


def _copied(value: Any) -> Any:
    return {name: _copied(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def _agrees(theirs: Any, ours: Any) -> bool:
    """Whether both have the same values, as far as both have them: later versions know more settings."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        return all(_agrees(theirs[name], ours[name]) for name in theirs.keys() & ours.keys())
    return canonical(theirs) == canonical(ours)
