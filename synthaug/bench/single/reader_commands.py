"""``synthaug reader-study POOL`` and ``synthaug reader-study score``."""

import contextlib
import itertools
from pathlib import Path
from typing import Literal

import pandas as pd

from synthaug.config import DataConfig, SplitConfig
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import class_counts
from synthaug.ground.errors import InputError
from synthaug.ground.files import read_json, write_json, write_text
from synthaug.models.extractors.taps import crop_centre
from synthaug.pool.pool import SyntheticPool, require_preprocessing
from synthaug.reader_study.cases import Case, arranged, choose_real, choose_synthetic
from synthaug.reader_study.key import Key, read_answers
from synthaug.reader_study.leaks import telling_traits
from synthaug.reader_study.page import Shown, page_of
from synthaug.reader_study.scores import ReaderScores, score_readers
from synthaug.study.stages.cohort import draw_split, load_subjects
from synthaug.study.stages.leaks import refuse_generator_leaks
from synthaug.study.stages.pools import preprocessing_of, require_images


def make(
    pools: list[str],
    out: str,
    data: DataConfig,
    split: SplitConfig,
    key: str | None = None,
    per_class: int = 10,
    part: Literal["test", "all"] = "test",
    seed: int = 0,
) -> None:
    """Write a reader study: a page of shuffled real and synthetic volumes, and a key file.

    Args:
        pools: Folders of pools; each is a generator of its own in the scores.
        out: Page for the readers, .html.
        data: Data settings of the real subjects.
        split: Split of the study; its test patients are shown.
        key: Key file, .json, not for the readers. None = beside the page, as .key.json.
        per_class: Real volumes per class, and as many synthetic ones, spread evenly over the pools.
        part: Patients to show: test, or all, which includes training patients of a generator.
        seed: Seed of the choice of volumes.
    """
    page = Path(out)
    if page.suffix != ".html" or (key and not key.endswith(".json")):
        raise InputError(f"{out}: the page must end in .html, and the key, {key or 'by default beside it'}, in .json.")
    if per_class < len(pools):
        raise InputError(f"per_class={per_class} is less than one volume for each of {len(pools)} pools.")
    opened = _open(pools)
    first = next(iter(opened.values()))
    require_images(first, data.images)
    parts = draw_split(split, load_subjects(data), data)
    if part == "test":
        for pool in opened.values():
            refuse_generator_leaks(pool, parts)
    everyone = parts.test if part == "test" else [*parts.train, *parts.val, *parts.test]
    labels = sorted(class_counts(everyone))
    synthetic = choose_synthetic(opened, labels, per_class=per_class, seed=seed)
    born = preprocessing_of(first)
    chosen = choose_real(everyone, per_class=per_class, seed=seed)
    real = preprocess(chosen, born, first.images, centre=crop_centre(born))
    cases = arranged(
        [
            *(Case.of(subject, first.images) for subject in real),
            *(Case.of(subject, first.images, generator=name) for name, subject in synthetic),
        ],
        seed=seed,
    )
    classes = data.classes or [str(label) for label in range(max(labels) + 1)]
    shown = Shown([case.volume for case in cases], born.spacing_mm, first.images, classes)
    traits = telling_traits(cases)
    target = Path(key) if key else page.with_suffix(".key.json")
    text = page_of(shown)
    Key.of(shown.study, cases, classes=classes, traits=traits).write(target)
    write_text(page, text)
    print(f"page: {page}: {len(cases)} volumes, {len(text) / 1e6:.1f} MB; for the readers\nkey: {target}: not for them")
    for trait, p in traits.items():
        print(f"Real and synthetic volumes differ in {trait} (p = {p:.1g}): readers may go by it.")


def _open(folders: list[str]) -> dict[str, SyntheticPool]:
    """The pools by the names that the key gives them: their folders' names where these differ, else their paths."""
    paths = [Path(folder) for folder in folders]
    short = {path.resolve().name for path in paths}
    names = [path.resolve().name for path in paths] if len(short) == len(paths) else folders
    opened = {name: SyntheticPool.open(path) for name, path in zip(names, paths, strict=True)}
    if len(opened) < len(folders):
        raise InputError(f"the pools {', '.join(folders)} are not all different; name each once.")
    for one, other in itertools.pairwise(opened.values()):
        require_images(other, one.images)
        require_preprocessing(other.header, preprocessing_of(one), source=str(other.path))
    return opened


def score(
    answers: list[str], key: str, out: str | None = None, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> None:
    """Score the answers of a reader study: real or synthetic, class, agreement, each with its interval.

    Args:
        answers: Answer files of the readers.
        key: Key file of the study.
        out: JSON with all scores and every case; scores that are there are replaced, and nothing else.
        confidence: Coverage of the intervals, in (0, 1).
        resamples: Bootstrap resamples of cases and readers.
        seed: Seed of the resamples.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise InputError(f"confidence={confidence} must lie in (0, 1), and resamples={resamples} be at least 1.")
    if out is not None:
        _require_no_other(Path(out))
    known = Key.read(Path(key))
    found = score_readers(
        known,
        read_answers([Path(path) for path in answers], known),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    _print(found)
    if out is not None:
        write_json(Path(out), found.to_json())
        print(f"scores: {out}")


def _require_no_other(out: Path) -> None:
    """InputError where scores would be written over something else, such as the key or a reader's answers."""
    with contextlib.suppress(InputError):
        if not out.exists() or "by_case" in read_json(out):
            return
    raise InputError(f"{out}: is there and holds no scores; choose another --out.")


def _print(found: ReaderScores) -> None:
    def table(rows: pd.DataFrame) -> str:
        return rows.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="")

    print(table(found.to_frame()))
    print("\nAgreement (Fleiss' kappa):\n" + table(pd.DataFrame([vars(row) for row in found.agreement])))
    print("\n".join(["", *found.remarks()]))
