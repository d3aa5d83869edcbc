"""Classes that lie apart: the outer thirds of the people by a continuous trait, where a label is that trait's median.

The two sides of a median touch, so that two such classes hold nearly the same volumes, and a metric of which volumes
there are (precision, recall) rightly sees no difference. Between the outer thirds lies a third of the people.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from cohorts import Cohort, Sample

LABEL = "label"
"""Name of the classes that the manifest states."""


def classings(cohort: Cohort, sample: Sample, data: Path) -> dict[str, Sample]:
    """The ways to class a sample, by name: by its label, and where the cohort has a trait by its outer thirds."""
    choices = {LABEL: sample}
    if cohort.trait:
        manifest = pd.read_csv(data / cohort.name / "manifest.csv")
        trait = manifest[cohort.trait].to_numpy(float)[sample.places]
        choices[f"outer thirds of {cohort.trait}"] = outer_thirds(sample, trait)
    return choices


def outer_thirds(sample: Sample, trait: np.ndarray) -> Sample:
    """The volumes of the third of the people with the largest trait (class 0) and with the smallest (class 1).

    ``trait`` is one number a volume (n,); a person has the mean of theirs, so that both sides are of one class.
    """
    names, which = np.unique(sample.people, return_inverse=True)
    of_person = np.bincount(which, trait) / np.bincount(which)
    # Stable: of equal people the first in number is the smaller, whatever the machine.
    order, size = np.argsort(of_person, kind="stable"), len(names) // 3
    class_of_person = np.full(len(names), -1)
    class_of_person[order[:size]] = 1
    class_of_person[order[len(names) - size :]] = 0
    labels = class_of_person[which]
    places = np.flatnonzero(labels >= 0)
    part = sample.at(places)
    return Sample(part.volumes, labels[places], part.people, part.places)
