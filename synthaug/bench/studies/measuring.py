"""The image metrics of a study's pool against its held-out patients."""

from dataclasses import replace
from typing import Any

from synthaug.metrics.distances.estimates import metrics_for
from synthaug.metrics.volumes import one_per_patient
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.audit import find_obstacle, measure_copies
from synthaug.study.records import ImageComparison
from synthaug.study.stages.preparation import Study
from synthaug.study.summary.aggregate import class_metrics, image_metrics, realism_metrics, variety_metrics


def measure_images(study: Study, pool: SyntheticPool) -> tuple[list[ImageComparison], list[dict[str, Any]]]:
    """Image metrics of the pool, and the reason for each metric that could not be measured."""
    split, config = study.split, study.config
    held_out = [*split.val, *split.test]
    people = one_per_patient(held_out)
    rows, left_out = [], []
    if metrics_for(min(len(people), len(pool))):
        rows = image_metrics(people, pool, config.data.images, config.metrics)
    else:
        reason = f"{len(people)} held-out and {len(pool)} synthetic volumes are too few for any distance."
        left_out.append({"metric": "distances", "reason": reason})
    varied, reason = variety_metrics(people, pool, config.data.images, config.metrics)
    rows += varied
    if further := len(held_out) - len(people):
        rows = [replace(row, more={**row.more, "n_further_of_patients": further}) for row in rows]
    if reason:
        left_out.append({"metric": "ms_ssim", "reason": reason})
    shown, reason = class_metrics(held_out, pool, split.train, config.data.images, config.metrics)
    rows += shown
    if reason:
        left_out.append({"metric": "class_shown", "reason": reason})
    if config.metrics.realism != "off":
        judged, reason = realism_metrics(held_out, pool, split.train, config.data.images, config.metrics)
        rows += judged
        if reason:
            left_out.append({"metric": "realism", "reason": reason})
    if config.metrics.copies:
        obstacle = find_obstacle(pool, split.train, held_out)
        if obstacle:
            left_out.append({"metric": "copies", "reason": obstacle})
        else:
            rows.append(ImageComparison.from_json(measure_copies(pool, split.train, held_out, config.metrics)))
    return rows, left_out
