"""Fréchet distance: the singular values of the cross-product against MONAI's matrix square root, in one run.

    python benchmarks/speed/frechet.py [--quick]

MONAI's ``FIDMetric`` takes (synthetic, real) and, up to its 1.6, needs scipy < 1.18. The last line printed is JSON.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import scipy
import torch
from monai.metrics.fid import FIDMetric

from synthaug.metrics.distances.estimates import distance_report
from synthaug.metrics.frechet import frechet

ROWS = 100
"""Volumes a side."""
TARGET = 500.0
"""Times quicker than MONAI."""
QUICK_TARGET = 10.0
"""The same with 512 features, where MONAI's cubic cost is 64 times less."""
AGREEMENT = 1e-3
"""Largest relative difference between the two distances."""
RESAMPLES, RESAMPLED_ROWS, RESAMPLED_SECONDS = 200, 200, 10.0
"""Resamples behind an interval, volumes a side, and the most seconds that they may take, floor included."""


def timed(compute: Callable[[], float], *, repeats: int) -> tuple[float, float]:
    """The value and the median wall time in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = compute()
        seconds.append(time.perf_counter() - start)
    return value, float(np.median(seconds))


def interval_seconds(width: int) -> float:
    """Wall time of a distance with its interval and floor."""
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=(RESAMPLED_ROWS, width)), rng.normal(0.1, 1.2, size=(RESAMPLED_ROWS, width))
    start = time.perf_counter()
    distance_report(real, synthetic, metrics=["fid"], resamples=RESAMPLES)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="512 features instead of 2048: seconds, not a minute")
    quick = parser.parse_args().quick
    width, target = (512, QUICK_TARGET) if quick else (2048, TARGET)
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(ROWS, width)), rng.normal(0.1, 1.2, size=(ROWS, width))

    ours, our_seconds = timed(lambda: frechet(real, synthetic), repeats=5)
    tensors = torch.from_numpy(synthetic), torch.from_numpy(real)
    reference, reference_seconds = timed(lambda: float(FIDMetric()(*tensors)), repeats=1)
    difference = abs(ours - reference) / reference
    ratio = reference_seconds / our_seconds
    resampled = interval_seconds(width)
    print(f"synthaug {ours:.6f} in {our_seconds:.4f} s; MONAI {reference:.6f} in {reference_seconds:.2f} s")
    print(
        json.dumps(
            {
                "claim": f"Fréchet distance of {ROWS} + {ROWS} rows of {width} features, seconds",
                "ours": our_seconds,
                "reference": reference_seconds,
                "ratio": ratio,
                "target": target,
                "holds": bool(ratio >= target and difference <= AGREEMENT and resampled <= RESAMPLED_SECONDS),
                "relative_difference": difference,
                f"seconds_of_{RESAMPLES}_resamples_at_n_{RESAMPLED_ROWS}": resampled,
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, scipy {scipy.__version__}",
            },
            ensure_ascii=False,
        )
    )


if __name__ == "__main__":
    main()
