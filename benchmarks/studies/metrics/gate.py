"""The memorisation gate on real patients: are planted copies found, and are other patients left alone?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from cohorts import Cohort
from versions import PLANTED

from synthaug.ground.seeding import numpy_generator
from synthaug.metrics.copies.memorisation import CopyDetector
from synthaug.metrics.features import Extractor

FALSE_ALARMS = 0.01


def try_gate(
    cohort: Cohort, volumes: Sequence[torch.Tensor], extractor: Extractor, *, splits: int, seed: int
) -> list[dict[str, Any]]:
    """One row a split: the share of each kind of copy that is found and traced, the false alarms among others."""
    rows = []
    for split in range(splits):
        order = numpy_generator("gate", cohort.name, seed, split).permutation(len(volumes))
        training, held_out, others = np.split(order, np.cumsum([cohort.gate_training, cohort.gate_held_out]))
        known = [volumes[place] for place in training]
        detector = CopyDetector(known, [volumes[place] for place in held_out], extractor, false_alarms=FALSE_ALARMS)
        real = detector.audit([volumes[place] for place in others])
        row = {
            "cohort": cohort.name,
            "extractor": extractor.name,
            "split": split,
            "training": len(training),
            "held_out": len(held_out),
            "promised_false_alarms": detector.false_alarms,
            "others": len(others),
            "false_alarms": int(real.copies.sum()),
            "correlation_limit": detector.correlation_limit,
            "largest_correlation_of_real": float(real.correlation.max()),
        }
        lowest = []
        for kind, plant in PLANTED.items():
            audit = detector.audit([plant(volumes[place], int(place)) for place in training])
            row[f"found_{kind}"] = float(audit.copies.mean())
            row[f"traced_{kind}"] = float((audit.nearest == np.arange(len(known))).mean())
            lowest.append(audit.correlation.min())
        rows.append({**row, "smallest_correlation_of_copies": float(min(lowest))})
    return rows
