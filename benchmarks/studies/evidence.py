"""Write docs/evidence.md: every figure of the page comes from the committed JSON of a study.

    python benchmarks/studies/evidence.py

The words stand in evidence.md.j2, without figures. A study whose folder holds no results is named as not run.
``tests/benchmarks/test_evidence.py`` holds the page to what this script writes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "evidence.md"
GOALS = {
    "fid": 1.1,
    "statistics": 0.65,
    "network": 0.85,
    "size": 0.9,
    "side": 0.05,
    "gain": 0.05,
    "of_maisi": 0.36,
    "gland": 0.6,
    "copies": 0.01,
}
"""What was asked before a study was run: of a generator, of classifiers (AUROC), of the comparison on prostates."""
FOLDS = "generator/prostate-t2.json"
"""The folds of T2 prostates, judged together."""
PLANNED = {
    "imbalance/difficulties": "gain by imbalance and size at other difficulties",
    "filtering": "filtered pools, and how many synthetic volumes a real one",
    "privacy/hippocampus": "membership inference on people",
    "same_cohort/summary": "hippocampus, same cohort, with the present generator",
}
"""Studies that are configured, by where their results will stand."""


def read(path: str) -> Any:
    """A committed JSON file of a study."""
    return json.loads((HERE / path).read_text(encoding="utf-8"))


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A figure as the page prints it.

    Example:
        >>> number(0.98765), number(-0.035, 3, sign=True)
        ('0.99', '−0.035')
    """
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def interval(row: Mapping[str, float], digits: int = 2, *, sign: bool = False) -> str:
    """Value and 95 % interval of a record, whatever it calls them."""
    value = next(row[name] for name in ("value", "difference", "ratio", "pearson") if name in row)
    low, high = (row[name] if name in row else row[f"ci_{name}"] for name in ("low", "high"))
    ends = f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"
    return f"{number(value, digits, sign=sign)} ({ends})"


def goal_of(summary: Mapping[str, Any], kind: str, people: int) -> Mapping[str, Any]:
    """The row of a goal at a number of training people."""
    [row] = [each for each in summary["goals"] if (each["kind"], each["people"]) == (kind, people)]
    return row


def kept(summary: Mapping[str, Any]) -> str:
    """How many goals of a study hold."""
    held = sum(bool(row["holds"]) for row in summary["goals"])
    return f"{held} of {len(summary['goals'])}"


def tested(summary: Mapping[str, Any]) -> str:
    """On how many people, in how many splits."""
    row = summary["contrasts"][0]
    return f"{row['n_test']} people, {row['repeats']} splits"


def pays(summary: Mapping[str, Any]) -> int:
    """In how many cohorts of the phantom study mixed data clearly helps."""
    return sum(each["arm"] == "mixed" and each["verdict"] == "pays" for each in summary["grid"])


def not_run(folder: Path = HERE) -> list[str]:
    """The planned studies that have left no results."""
    return [words for place, words in PLANNED.items() if not has_results(folder / place)]


def has_results(place: Path) -> bool:
    """Whether a folder, or files of that beginning, hold figures."""
    found = [*place.parent.glob(f"{place.name}*.json"), *place.glob("*.json"), *place.glob("*.csv")]
    return bool(found)


def seeds_of(quickstart: Mapping[str, Any]) -> dict[str, Any]:
    """What the demonstration found over its seeds."""
    gains = [run["gains"]["mixed"]["difference"] for run in quickstart["runs"]]
    helped = sum(run["verdict"] == "helped" for run in quickstart["runs"])
    return {"runs": len(gains), "helped": helped, "least": min(gains), "most": max(gains), "date": quickstart["date"]}


def person(rows: Sequence[Mapping[str, Any]], question: str) -> Mapping[str, Any]:
    """How often the reports' own people are drawn before others."""
    [row] = [
        each
        for each in rows
        if (each["question"], each.get("source"), each["measure"]) == (question, "minilm", "own_before_others")
    ]
    return row


def held_out(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a generator and labelled augmentation add to few people."""
    told = {name: summary[name] for name in ("date", "repeats", "test_people", "goals")}
    return {"few": gains_of(summary["differences"], 16), "more": gains_of(summary["differences"], 32), **told}


def sizes_read(steps: int, guidance: float) -> list[float]:
    """How sizes asked of the same-cohort generators of so many steps are read, in the order of their training sets."""
    rows = [row for row in read("same_cohort/chain.json")["rows"] if row["steps"][0] == steps]
    return [each["read"] for row in rows for each in row["synthetic"] if each["guidance"] == guidance]


def gains_of(differences: Sequence[Mapping[str, Any]], people: int) -> dict[str, Any]:
    """Gains in AUROC with so many people: of mixed data, of synthetic data, of labelled augmentation."""
    rows = {(row["arm"], row["augment"], row["less_real"]): row for row in differences if row["people"] == people}
    plain, both = (rows["mixed", kind, kind] for kind in ("classical", "labelled"))
    labelled, alone = rows["real", "labelled", "classical"], rows["synthetic", "classical", "classical"]
    return {"mixed": plain, "synthetic": alone, "beside_labelled": both, "labelled": labelled}


def filled(positives: float, patients: int) -> dict[str, float]:
    """What batches filled to balance with synthetic volumes add in a cohort of the phantom map, at difficulty 0.5."""
    [row] = [
        each
        for each in read("imbalance/map.json")["rows"]
        if (each["difficulty"], each["positive_fraction"], each["n"]) == (0.5, positives, patients)
    ]
    return {"value": row["gain"], "low": row["low"], "high": row["high"]}


def filters() -> dict[str, Any] | None:
    """The filter and the dose that validation chose beside the whole pool; None = not run."""
    if not has_results(HERE / "filtering"):
        return None
    by = {name: read(f"filtering/{name}.json") for name in ("filter", "dose")}
    [chosen], [dosed] = ([row for row in by[name]["rows"] if row["chosen"]] for name in by)
    [none] = [row for row in by["filter"]["rows"] if row["filter"] == "none"]
    return {"date": by["filter"]["date"], "chosen": chosen, "none": none, "dosed": dosed, "dose": dosed["dose"]}


def attacks(people: int) -> dict[str, Any]:
    """What membership inference finds of so many members, by attack."""
    return {row["attack"]: row for row in read("privacy/phantoms.json")["attacks"] if row["n"] == people}


def render() -> str:
    """The page."""
    page = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page.filters |= {"number": number, "interval": interval}
    own = read("same_cohort/summary.json")
    return page.get_template("evidence.md.j2").render(
        goals=GOALS,
        generator=read("generator/ccella-hippocampus.json"),
        folds=read(FOLDS),
        three=read("three_sequences/summary.json"),
        written=read("handwritten/hippocampus.json"),
        other=read("hippocampus/summary.json"),
        same=read("hippocampus/same-cohort/summary.json"),
        held_out=held_out(read("held_out/summary.json")),
        own=held_out(own),
        own_splits=" and ".join(map(str, own["repeats_by_people"].values())),
        sizes_read=sizes_read,
        imbalance=read("imbalance/map.json"),
        filled=filled,
        filters=filters(),
        privacy=read("privacy/phantoms.json"),
        attacks=attacks,
        phantom=read("phantom/summary.json"),
        prostate=read("prostate_t2/summary.json"),
        reports=read("real_reports/summary.json"),
        full=read("full_size/summary.json"),
        metrics=read("metrics/summary.json"),
        seeds=seeds_of(json.loads((ROOT / "benchmarks" / "quickstart.json").read_text(encoding="utf-8"))),
        goal_of=goal_of,
        kept=kept,
        tested=tested,
        pays=pays,
        person=person,
        not_run=not_run(),
    )


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
