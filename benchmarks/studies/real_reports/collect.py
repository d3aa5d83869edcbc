"""The draws of all generators become results.csv, summary.json, the figure and the table of the README.

    python benchmarks/studies/real_reports/collect.py --out runs/real-reports

Everything is said of left-out people, each tested by the one generator of each encoder that has not seen them. Writes
beside this script: figures only.
"""

import argparse
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchio as tio
from auditors import audit, auditors, images_from_words
from detectable import detectable
from draw import ENCODERS, FOLDS, Draws, config_of, draws_file, load_draws
from figures import study_plot
from findings import FINDINGS, RESAMPLES, difference, judge, probability_of
from following import TRAITS, follow_trait, judge_likeness, likeness, rows_of, shares_of_variance, traits_of
from text_alone import BYTES, read_left_out, readers

from synthaug.bench.studies.progress import Bars
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, read_json, write_json
from synthaug.metrics.comparison import compare_images
from synthaug.study.stages.preparation import Study

HERE = Path(__file__).parent
IMAGE = "t2w"
FEWER = 5
"""Times fewer half-samples behind the interval of an image metric."""
Row = dict[str, Any]


@dataclass
class Fold:
    """One fold's people and what was drawn for them."""

    number: int
    train: list[tio.Subject]
    test: list[tio.Subject]
    others: list[tio.Subject]
    """Validation people: neither trained on nor tested."""
    draws: dict[str, dict[str, Draws]]
    """By encoder, then by part."""

    @classmethod
    def read(cls, number: int, out: Path, *, changes: Sequence[str] = ()) -> "Fold":
        """A fold with the draws of every encoder.

        Raises:
            InputError: Draws are of other people.
        """
        study = Study.read(config_of(ENCODERS[0], number, changes=changes), out, Bars().stage)
        draws = {}
        for encoder in ENCODERS:
            path = draws_file(out, encoder, number)
            draws[encoder] = load_draws(path)
            for part in ("train", "test"):
                wanted = [subject["subject_id"] for subject in getattr(study.split, part)]
                if draws[encoder][part].subjects != wanted:
                    raise InputError(f"{path}: drawn for other people than this fold's; delete it and run draw.py.")
        return cls(number, study.split.train, study.split.test, study.split.val, draws)

    @cached_property
    def real(self) -> dict[str, np.ndarray]:
        """Real volumes (n, X, Y, Z) of a part."""
        parts = {"train": self.train, "test": self.test}
        return {name: np.stack([each[IMAGE].data[0].numpy() for each in part]) for name, part in parts.items()}

    def extents(self, part: str = "test") -> np.ndarray:
        """Classes (n,) of a part."""
        return np.array([subject["label"] for subject in getattr(self, part)])

    def reports(self, part: str) -> list[str]:
        """Reports of a part."""
        return [subject["report"] for subject in getattr(self, part)]


@dataclass
class Everyone:
    """The left-out people of all folds, in one order."""

    folds: list[Fold]
    resamples: int = RESAMPLES
    """Behind each interval."""

    @cached_property
    def extents(self) -> np.ndarray:
        """Classes (n,)."""
        return np.concatenate([fold.extents() for fold in self.folds])

    @cached_property
    def numbers(self) -> np.ndarray:
        """Fold of each (n,)."""
        return np.concatenate([np.full(len(fold.test), fold.number) for fold in self.folds])

    def judge(self, probabilities: Sequence[np.ndarray], *, calls: bool, **names: str) -> Iterator[Row]:
        """Rows of a reader for each finding, from its class probabilities (n, K) in each fold."""
        joined = np.concatenate(probabilities)
        for finding in FINDINGS:
            found = judge(
                probability_of(joined, finding),
                self.extents,
                self.numbers,
                finding,
                calls=calls,
                resamples=self.resamples,
            )
            yield from _long(found, finding=finding, **names)


def _long(found: Row, **names: str) -> Iterator[Row]:
    """A row for each measure that has an interval."""
    counts = {key: found[key] for key in ("n", "positives")}
    for measure in [key.removesuffix("_low") for key in found if key.endswith("_low")]:
        ends = {end: found[f"{measure}_{end}"] for end in ("low", "high")}
        p = {"p": found["p"]} if measure == "auroc" and "p" in found else {}
        yield {**names, "measure": measure, **counts, "value": found[measure], **ends, **p}


def text_rows(everyone: Everyone, max_tokens: int, *, pretrained: bool = True) -> Iterator[Row]:
    """What is told from the left-out reports alone: the networks' class heads and plain readers; encoders compared."""
    told = {f"network, {encoder}": [fold.draws[encoder]["test"].probabilities for fold in everyone.folds]
            for encoder in ENCODERS}  # fmt: skip
    for name, untrained in readers(max_tokens, pretrained=pretrained).items():
        told[name] = [read_left_out(untrained(), fold.train, fold.test) for fold in everyone.folds]
    for name, probabilities in told.items():
        yield from everyone.judge(probabilities, calls=True, question="text", reader=name)
    yield from _compared(everyone, {encoder: told[f"network, {encoder}"] for encoder in ENCODERS}, question="text")
    for encoder in ENCODERS:
        seen = [
            fold.draws[encoder]["train"].probabilities.argmax(1) == fold.extents("train") for fold in everyone.folds
        ]
        rows = np.concatenate(seen)
        yield {"question": "text, seen reports", "reader": f"network, {encoder}", "measure": "three-class accuracy",
               "n": len(rows), "value": float(rows.mean())}  # fmt: skip


def _compared(everyone: Everyone, told: dict[str, list[np.ndarray]], **names: str) -> Iterator[Row]:
    """The pre-trained encoder minus the byte-level one."""
    ours, theirs = (np.concatenate(told[encoder]) for encoder in ("minilm", "bytes"))
    for finding in FINDINGS:
        one, other = (probability_of(each, finding) for each in (ours, theirs))
        gap = difference(one, other, everyone.extents, everyone.numbers, finding, resamples=everyone.resamples)
        yield from _long(gap, finding=finding, reader="network, minilm - bytes", **names)


def image_rows(everyone: Everyone, spacing_mm: tuple[float, float, float]) -> Iterator[Row]:
    """What auditors see in left-out real images, and in what was drawn from left-out and from training reports."""
    for name, auditor in auditors(spacing_mm).items():
        told: dict[str, list[np.ndarray]] = {}
        for fold in everyone.folds:
            shown = {"real": fold.real["test"]}
            shown |= {f"drawn, {encoder}": fold.draws[encoder]["test"].volumes for encoder in ENCODERS}
            for source, read in audit(auditor, fold.real["train"], fold.extents("train"), shown).items():
                told.setdefault(source, []).append(read)
        for source, probabilities in told.items():
            yield from everyone.judge(probabilities, calls=False, question="image", reader=name, source=source)
        drawn = {encoder: told[f"drawn, {encoder}"] for encoder in ENCODERS}
        yield from _compared(everyone, drawn, question="image", source=name)


def likeness_of(fold: Fold, source: str, part: str = "test") -> np.ndarray:
    """Likenesses (n, n) of what a source makes of a part's reports to that part's real images."""
    shared = rows_of(fold.real["train"]).mean(0)
    if source == "words":
        made = images_from_words(fold.reports("train"), rows_of(fold.real["train"]), fold.reports(part))
    else:
        made = rows_of(fold.draws[source][part].volumes.mean(1))
    return likeness(made, rows_of(fold.real[part]), shared)


def person_rows(everyone: Everyone) -> Iterator[Row]:
    """Is a drawn volume nearer to the person whose report it is drawn from than to others?"""
    for source in ("words", *ENCODERS):
        found = judge_likeness([likeness_of(fold, source) for fold in everyone.folds], resamples=everyone.resamples)
        for measure, values in found.items():
            yield {"question": "person", "source": source, "measure": measure, "n": len(everyone.extents), **values}
    for encoder in ENCODERS:
        alike = [likeness_of(fold, encoder, "train") for fold in everyone.folds]
        found = judge_likeness(alike, resamples=everyone.resamples)
        n = sum(len(fold.train) for fold in everyone.folds)
        for measure, values in found.items():
            yield {"question": "person, seen reports", "source": encoder, "measure": measure, "n": n, **values}


def trait_rows(everyone: Everyone, spacing_mm: tuple[float, float, float]) -> Iterator[Row]:
    """Do size, brightness and texture of drawn vesicles follow those of the person's own?"""
    real = np.concatenate([traits_of(fold.real["test"], spacing_mm) for fold in everyone.folds])
    for encoder in ENCODERS:
        drawn = []
        for fold in everyone.folds:
            volumes = fold.draws[encoder]["test"].volumes
            flat = traits_of(volumes.reshape(-1, *volumes.shape[2:]), spacing_mm)
            drawn.append(flat.reshape(*volumes.shape[:2], -1).mean(1))
        joined = np.concatenate(drawn)
        for place, trait in enumerate(TRAITS):
            found = follow_trait(
                joined[:, place], real[:, place], everyone.numbers, trait, resamples=everyone.resamples
            )
            yield {"question": "trait", "source": encoder, "measure": trait, "n": len(real), **found}
            means = {"real": real[:, place].mean(), "drawn": joined[:, place].mean()}
            for source, mean in means.items():
                yield {"question": "trait, mean", "source": f"{source}, {encoder}", "measure": trait,
                       "n": len(real), "value": float(mean)}  # fmt: skip


def variance_rows(everyone: Everyone) -> Iterator[Row]:
    """Where the variation between drawn volumes comes from, and how large it is beside that of real ones."""
    for encoder in ENCODERS:
        for part in ("test", "train"):
            for fold in everyone.folds:
                volumes = fold.draws[encoder][part].volumes
                names = {"question": f"variance, {part} reports", "source": encoder, "fold": fold.number}
                for measure, value in shares_of_variance(volumes).items():
                    yield {**names, "measure": measure, "n": len(volumes), "value": value}
                drawn, real = volumes[:, 0].var(0).mean(), fold.real[part].var(0).mean()
                yield {**names, "measure": "drawn to real", "n": len(volumes), "value": float(drawn / real)}


def metric_rows(everyone: Everyone) -> Iterator[Row]:
    """Distances of each fold's draws to its left-out images, with floors, and copies of its training images."""
    for encoder in ENCODERS:
        for fold in everyone.folds:
            drawn = torch.from_numpy(fold.draws[encoder]["test"].volumes.reshape(-1, 1, *fold.real["test"].shape[1:]))
            held_out = [each[IMAGE].data for each in (*fold.test, *fold.others)]
            training = [each[IMAGE].data for each in fold.train]
            report = compare_images(held_out, list(drawn), training=training, resamples=everyone.resamples // FEWER)
            names = {"source": encoder, "fold": fold.number, "n": len(drawn)}
            for result in report.distances["all"].values():
                yield {"question": "image metric", **names, "measure": result.metric, "value": result.value,
                       "low": result.ci_low, "high": result.ci_high, "floor": result.floor,
                       "at_floor_n": result.value_at_floor_n, "n_floor": result.n_floor}  # fmt: skip
            share, low, high = report.copies.share()
            yield {"question": "copies", **names, "measure": "share", "value": share, "low": low, "high": high,
                   "floor": report.copies.expected_false_alarms}  # fmt: skip


def kept_characters(everyone: Everyone) -> Row:
    """How much of a report the byte-level encoder sees, and in how many reports it sees each finding spoken of."""
    reports = [report for fold in everyone.folds for report in fold.reports("test")]
    tails = [report.encode()[-BYTES:].decode(errors="ignore").lower() for report in reports]
    words = {"impression": ("impression",), "SVI": ("seminal ves",), "EPE": ("extraprost", "extracaps", "capsul")}
    return {
        "reports": len(reports),
        "characters": np.quantile([len(report) for report in reports], [0, 0.5, 1]).tolist(),
        "mean_share_of_characters": float(np.mean([min(BYTES / len(report.encode()), 1) for report in reports])),
        "spoken_of_in_the_tail": {k: sum(any(w in tail for w in some) for tail in tails) for k, some in words.items()},
        "spoken_of_at_all": {k: sum(any(w in report.lower() for w in some) for report in reports)
                             for k, some in words.items()},
    }  # fmt: skip


def finished_folds(out: Path) -> list[int]:
    """Folds for which every encoder has drawn: of the others' people nothing is said.

    Raises:
        InputError: There is none.
    """
    finished = [fold for fold in FOLDS if all(draws_file(out, encoder, fold).is_file() for encoder in ENCODERS)]
    if not finished:
        raise InputError(f"{out}: no fold there has draws of every encoder; run draw.py first.")
    return finished


def collect(
    out: Path, *, changes: Sequence[str] = (), resamples: int = RESAMPLES, pretrained: bool = True
) -> tuple[list[Row], Row]:
    """All rows, and the summary around them; ``pretrained`` as in ``text_alone.readers``."""
    config = config_of(ENCODERS[0], 0, changes=changes)
    everyone = Everyone([Fold.read(number, out, changes=changes) for number in finished_folds(out)], resamples)
    spacing_mm = tuple(config.preprocess.spacing_mm)
    rows = [
        *text_rows(everyone, config.generator.text_encoder.max_tokens, pretrained=pretrained),
        *image_rows(everyone, spacing_mm),
        *person_rows(everyone),
        *trait_rows(everyone, spacing_mm),
        *variance_rows(everyone),
        *metric_rows(everyone),
    ]
    counts = {finding: int((everyone.extents >= least).sum()) for finding, least in FINDINGS.items()}
    files = sorted(out.glob("seconds-*.json"))
    summary = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, one thread of a machine with two busy cores",
        "folds": [fold.number for fold in everyone.folds],
        "people": {"left out": len(everyone.extents), "training": [len(fold.train) for fold in everyone.folds]},
        "byte_level_encoder": kept_characters(everyone),
        "detectable": {name: detectable(count, len(everyone.extents)) for name, count in counts.items()},
        "seconds": {file.stem.removeprefix("seconds-"): read_json(file) for file in files},
        "rows": rows,
    }
    return rows, summary


def table(rows: Sequence[Row]) -> str:
    """Markdown: what is told of both findings by each reader of texts and images."""
    aurocs = [row for row in rows if row["measure"] == "auroc" and row["question"] in ("text", "image")]
    counts = {row["finding"]: f"{row['finding']} ({row['positives']} of {row['n']})" for row in aurocs}
    lines = [f"| read by | from | {' | '.join(counts[name] for name in FINDINGS)} |", "|---|---|---|---|"]
    for place in dict.fromkeys((row["reader"], row.get("source", "report")) for row in aurocs):
        found = {row["finding"]: row for row in aurocs if (row["reader"], row.get("source", "report")) == place}
        sign = "+" if " - " in place[0] else ""
        cells = [f"{row['value']:{sign}.2f} ({row['low']:{sign}.2f} to {row['high']:{sign}.2f})"
                 for row in (found[name] for name in FINDINGS)]  # fmt: skip
        lines.append(f"| {place[0]} | {place[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reckon, write the files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real-reports"), help="folder of draw.py")
    parser.add_argument("--to", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="resamples behind each interval")
    parser.add_argument("--words-only", action="store_true", help="leave out the reader that needs MiniLM's weights")
    options, changes = parser.parse_known_args(arguments)
    rows, summary = collect(
        options.out, changes=changes, resamples=options.resamples, pretrained=not options.words_only
    )
    write_json(options.to / "summary.json", summary)
    with atomic_path(options.to / "results.csv") as temporary:
        pd.DataFrame(rows).round(4).to_csv(temporary, index=False)
    with atomic_path(options.to / "reports.svg") as temporary:
        study_plot(rows).savefig(temporary, format="svg", metadata={"Date": None})
    print(table(rows))


if __name__ == "__main__":
    main()
