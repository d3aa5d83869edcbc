"""Readers of images that know no generator: what do volumes show of EPE and SVI?

Trained on the real images of a fold's training people, they read left-out real images (the ceiling: what so few images
let anybody see) and the volumes drawn from the left-out reports.
"""

from collections.abc import Callable

import numpy as np
from following import rows_of, traits_of
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

COMPONENTS = 10
"""Principal components of the training images."""
Features = Callable[[np.ndarray], np.ndarray]
"""Volumes (n, X, Y, Z) to rows (n, d)."""


def auditors(spacing_mm: tuple[float, float, float]) -> dict[str, tuple[Features, Callable[[], Pipeline]]]:
    """What each auditor looks at, and its untrained reader, by name."""

    def regression() -> LogisticRegression:
        return LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)

    return {
        "components": (rows_of, lambda: make_pipeline(PCA(COMPONENTS, whiten=True, random_state=0), regression())),
        "size and brightness": (
            lambda volumes: traits_of(volumes, spacing_mm),
            lambda: make_pipeline(StandardScaler(), regression()),
        ),
    }


def audit(
    auditor: tuple[Features, Callable[[], Pipeline]],
    train: np.ndarray,
    extents: np.ndarray,
    shown: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Class probabilities (n, K) of each set of volumes, the mean over seeds where there are any.

    Args:
        auditor: One of :func:`auditors`.
        train: Real volumes (m, X, Y, Z) to train on.
        extents: Their classes (m,).
        shown: Volumes (n, X, Y, Z) or (n, seeds, X, Y, Z) by name.
    """
    features, untrained = auditor
    reader = untrained().fit(features(train), extents)
    found = {}
    for name, volumes in shown.items():
        flat = volumes.reshape(-1, *volumes.shape[-3:])
        read = reader.predict_proba(features(flat))
        found[name] = read.reshape(len(volumes), -1, read.shape[1]).mean(axis=1)
    return found


def images_from_words(reports: list[str], rows: np.ndarray, unseen: list[str]) -> np.ndarray:
    """The rows that a ridge regression on words expects for unseen reports: what a generator is to better.

    Args:
        reports: Of the training people (m).
        rows: Their images as rows (m, d).
        unseen: Reports of others (n).
    """
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return make_pipeline(words, Ridge(alpha=1.0)).fit(reports, rows).predict(unseen)
