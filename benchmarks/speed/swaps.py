"""p-values of paired differences: all swaps of a study by linear terms and one count, against each swap by itself.

    python benchmarks/speed/swaps.py [--quick]

Made-up classifiers, all tested on the same patients; both sides see the same swaps in the same run, by turns. The
reference weights every prediction with 0 or 1 and measures each swap anew, as the bench did before. Then the statistics
of a whole study: 270 arms and contrasts with intervals and as many swaps as Holm's correction asks for. Where the time
goes is told by function. Seconds are CPU seconds of one thread. The last line printed is JSON.
"""

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from machine import machine
from resampling import PATIENTS, STUDY, made_records
from scipy.stats import rankdata

from synthaug.config import MetricsConfig
from synthaug.statistics.ranks import ClassOrder
from synthaug.statistics.resampling import DIGITS, draw_swaps, paired_permutation
from synthaug.statistics.weighted import STATISTICS, ScoredRows
from synthaug.study.records import CellRecord
from synthaug.study.summary.aggregate import count_statistics, summarise
from synthaug.study.summary.arms import arms_of, baselines_of, stack_scores

TARGET = 20.0
"""CPU seconds of the whole study."""
AGREEMENT = 1e-12
"""Largest difference between two p-values."""
BLOCK = 2**17
"""Weights that the reference goes through at a time."""


def each_swap(
    *, patient_ids: Sequence[str], labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, resamples: int
) -> dict[str, float]:
    """p of each statistic, every swap measured as a weighting of both classifiers' rows; one row a patient."""
    order = [rankdata(scores[:, 1]) for scores in (ours, theirs)]
    twice = np.tile(labels, 2)
    sums = ScoredRows.of(twice, np.concatenate([ours, theirs])).sums
    rows = ScoredRows(sums, [ClassOrder.of(twice == 1, np.concatenate(order))])

    def difference(swapped: np.ndarray) -> np.ndarray:
        return rows.measure(np.hstack([~swapped, swapped])) - rows.measure(np.hstack([swapped, ~swapped]))

    places = np.unique(patient_ids, return_inverse=True)[1]
    bits = draw_swaps(len(labels), resamples)
    found = [difference(np.zeros((1, len(labels)), dtype=bool))]
    size = max(BLOCK // (2 * len(labels)) // 8, 1) * 8
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        block = np.unpackbits(bits[:, start // 8 : (start + size) // 8], axis=1, count=count)
        found.append(difference(block[places].T.astype(bool)))
    observed, null = np.split(np.concatenate(found).round(DIGITS), [1])
    sides = [(each.sum(axis=0) + 1) / (resamples + 1) for each in (null <= observed, null >= observed)]
    return dict(zip(STATISTICS, np.minimum(2 * np.minimum(*sides), 1).tolist(), strict=True))


def paired(records: Sequence[CellRecord], contrasts: int, swaps: int) -> dict[str, Any]:
    """Both sides on the first contrasts of a study, by turns."""
    arms = arms_of(records)
    pairs = [(ours, theirs) for ours in arms for theirs in baselines_of(ours, arms)][:contrasts]
    seconds, largest = {"ours": 0.0, "reference": 0.0}, 0.0
    draw_swaps(PATIENTS, swaps)  # both sides share the swaps
    for ours, theirs in pairs:
        patients, labels, [first, second] = stack_scores([ours.records[0], theirs.records[0]])
        known = {"patient_ids": patients, "labels": labels, "resamples": swaps}
        calls: dict[str, Callable[[], dict[str, float]]] = {
            "ours": lambda: paired_permutation(**known, scores=[first], baseline=[second]),  # noqa: B023
            "reference": lambda: each_swap(**known, ours=first, theirs=second),  # noqa: B023
        }
        found = {}
        for side, call in calls.items():
            started = time.process_time()
            found[side] = call()
            seconds[side] += time.process_time() - started
        largest = max(largest, *(abs(found["ours"][name] - found["reference"][name]) for name in STATISTICS))
    return {"seconds": seconds, "largest_difference": largest, "contrasts": len(pairs), "swaps": swaps}


def whole(records: Sequence[CellRecord]) -> dict[str, Any]:
    """CPU seconds of a study's statistics."""
    started = time.process_time()
    summary = summarise(records, [], MetricsConfig())
    return {
        "seconds": time.process_time() - started,
        "arms": len(summary.arms),
        "arms_and_contrasts": count_statistics(records),
        "patients": PATIENTS,
        "swaps": summary.permutations,
    }


def where(records: Sequence[CellRecord]) -> dict[str, float]:
    """Share of the time of a study's statistics in each of the functions that take most of it."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(summarise, records, [], MetricsConfig(permutations=32_399))
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = sorted(((times[2], name[2]) for name, times in table.items()), reverse=True)
    total = sum(spent for spent, _ in own)
    return {name: round(spent / total, 2) for spent, name in own[:6]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few contrasts and swaps: within seconds")
    quick = parser.parse_args(arguments).quick
    few = made_records({"classifier.balance": ["a", "b"]})
    both = paired(few, *((2, 500) if quick else (8, 32_399)))
    study = {} if quick else whole(made_records(STUDY))
    ratio = both["seconds"]["reference"] / both["seconds"]["ours"]
    print(
        json.dumps(
            {
                "claim": "CPU seconds of all statistics of a study of 270 arms and contrasts",
                "paired": both,
                "ratio": ratio,
                "study": study,
                "where": {} if quick else where(few),
                "target": TARGET,
                "holds": both["largest_difference"] <= AGREEMENT and study.get("seconds", 0.0) <= TARGET,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
