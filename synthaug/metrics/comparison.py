"""Image metrics of synthetic against real volumes, overall and by class."""

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torchio as tio

from synthaug.ground.errors import InputError
from synthaug.metrics.class_shown import ClassShown, class_shown
from synthaug.metrics.copies.diversity import Similarity, checked_pairs, pair_similarity
from synthaug.metrics.copies.memorisation import CopyAudit, CopyDetector
from synthaug.metrics.distances.estimates import METRICS, DistanceResult, compare, distance_report, metrics_for
from synthaug.metrics.extractors import build_extractor
from synthaug.metrics.features import Extractor
from synthaug.metrics.realism.judgement import ENOUGH, RealismReport, judge_realism
from synthaug.metrics.volumes import VolumeSet, volume_sets
from synthaug.statistics.intervals import checked_confidence

FAR = 3
"""Times the distance between halves of the real volumes, beyond which synthetic ones are told to be far from them."""
ALL = "all"
"""Name of the group of all volumes; other groups are named after their class."""


@dataclass(frozen=True)
class ImageReport:
    """Result of :func:`compare_images`.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> real, synthetic = ([torch.rand(1, 16, 16, 8, generator=draw) for _ in range(12)] for _ in range(2))
        >>> report = compare_images(real, synthetic, resamples=20)
        >>> report.to_frame()["metric"].tolist()
        ['fid', 'kid', 'mmd', 'precision', 'recall', 'density', 'coverage']
    """

    extractor: str
    """Name of the feature extractor."""
    fingerprint: str
    """Fingerprint of the extractor."""
    distances: dict[str, dict[str, DistanceResult]]
    """By group, then by metric."""
    similarities: dict[str, dict[str, Similarity]]
    """By group: mean MS-SSIM of pairs within "real", within "synthetic", and from "real to synthetic"."""
    left_out: dict[str, list[str]]
    """Metrics of each group that need more volumes."""
    copies: CopyAudit | None = None
    """Copies of training volumes, where these were given."""
    realism: RealismReport | None = None
    """AUROC of synthetic against real volumes, where asked for."""
    classes: ClassShown | None = None
    """How well volumes show their class, where training volumes of two classes were given."""
    confidence: float = 0.95
    """Coverage of the intervals, that of the copies' share too."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        plain = asdict(replace(self, copies=None, realism=None))
        return plain | {
            "copies": self.copies.to_dict() if self.copies else None,
            "realism": self.realism.to_dict() if self.realism else None,
        }

    def to_frame(self) -> pd.DataFrame:
        """The distances and AUROCs of realism, one row a group and metric."""
        rows = [
            {"group": group, **asdict(result)} for group, found in self.distances.items() for result in found.values()
        ]
        rows += [{"group": ALL, **row} for row in (self.realism.to_rows() if self.realism else [])]
        return pd.DataFrame(rows)

    def to_metrics(self) -> dict[str, float]:
        """Flat names and numbers, as MLflow logs them.

        Names are ``GROUP/METRIC``, with ``_floor``, ``_ci_low`` and ``_ci_high`` beside each, ``all/copies``,
        ``all/class_shown`` and ``all/realism_statistics``.
        """
        flat = {}
        for group, found in self.distances.items():
            for name, result in found.items():
                flat[f"{group}/{name}"] = result.value
                for part in ("floor", "value_at_floor_n", "ci_low", "ci_high"):
                    flat[f"{group}/{name}_{part}"] = getattr(result, part)
        for group, pairs in self.similarities.items():
            for name, similarity in pairs.items():
                flat[f"{group}/ms_ssim_{name.replace(' ', '_')}"] = similarity.value
        if self.copies:
            flat[f"{ALL}/copies"] = self.copies.share()[0]
        if self.classes:
            flat[f"{ALL}/class_shown"] = self.classes.synthetic.value
        if self.realism:
            flat |= {f"{ALL}/{name}": value for name, value in self.realism.to_metrics().items()}
        return flat

    def to_html(self) -> str:
        """A table as one HTML fragment: value and interval, the same at the floor's size, the floor."""
        rows = [
            {
                "volumes": _words(group),
                "metric": result.metric,
                "better": "higher" if result.larger_is_better else "lower",
                "value (interval)": f"{result.value:.4g} ({result.ci_low:.4g} to {result.ci_high:.4g})",
                f"with {result.n_floor} a side": f"{result.value_at_floor_n:.4g}",
                "real to real": f"{result.floor:.4g}",
            }
            for group, found in self.distances.items()
            for result in found.values()
        ]
        table = pd.DataFrame(rows).fillna("").to_html(index=False, border=0, classes="image-metrics")
        return table + "".join(f"<p>{html.escape(line)}</p>" for line in self.remarks())

    def remarks(self) -> list[str]:
        """What the table does not hold, in sentences: realism, diversity, copies, what is left out, the extractor."""
        lines = [self.realism.sentence()] if self.realism else []
        if self.classes:
            lines.append(self.classes.sentence())
        for group, distances in self.distances.items():
            fid = distances.get("fid")
            if fid and fid.ci_low > FAR * fid.floor:
                lines.append(
                    f"Far from real, {_words(group)}: FID {fid.value:.3g} ({fid.ci_low:.3g} to {fid.ci_high:.3g}), "
                    f"between halves of the real volumes {fid.floor:.3g}."
                )
        for group, found in self.similarities.items():
            shown = [f"{name} {one.value:.3f} ({one.ci_low:.3f} to {one.ci_high:.3f})" for name, one in found.items()]
            lines.append(f"MS-SSIM of pairs, {_words(group)}: {'; '.join(shown)}. Lower is more diverse.")
        if self.copies:
            share, low, high = self.copies.share(self.confidence)
            found, total = self.copies.copies.sum(), len(self.copies.copies)
            lines.append(
                f"Copies of the volumes given as training: {found} of {total}, {share:.1%} "
                f"({low:.1%} to {high:.1%}), with about {self.copies.expected_false_alarms:.1%} false alarms, at most "
                f"{self.copies.false_alarms:.1%}."
            )
        lines += [
            f"Too few volumes ({_words(group)}) for {', '.join(names)}." for group, names in self.left_out.items()
        ]
        return [*lines, f"Extractor {self.extractor}, fingerprint {self.fingerprint}."]

    def ratio(self, other: "ImageReport", metric: str = "fid", group: str = ALL) -> float:
        """A distance of this report over that of another, refused unless both were measured alike.

        Raises:
            InputError: No such metric in one of them, another extractor, or other numbers of volumes.
        """
        one, two = (report.distances.get(group, {}).get(metric) for report in (self, other))
        if one is None or two is None:
            raise InputError(f"{metric!r} of {group!r} is not in both reports.")
        return compare(one, two)


def _words(group: str) -> str:
    return "all" if group == ALL else f"class {group}"


def compare_images(
    real: Sequence[tio.Subject] | Sequence[torch.Tensor],
    synthetic: Sequence[tio.Subject] | Sequence[torch.Tensor],
    extractor: Extractor | str | None = None,
    *,
    weights: str | None = None,
    images: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 500,
    confidence: float = 0.95,
    pairs: int = 200,
    training: Sequence[tio.Subject] | Sequence[torch.Tensor] | None = None,
    false_alarms: float = 0.01,
    realism: Literal["statistics", "network", "off"] = "statistics",
) -> ImageReport:
    """Compare preprocessed real and synthetic volumes: distances, coverage, diversity, copies; overall and by class.

    Volumes are read batch by batch. Pass real volumes that the generator was not trained on, one per patient, because a
    generator that copies its training volumes is close to those.

    Args:
        real: Subjects, or volumes (C, X, Y, Z) in [0, 1]; any lazily read sequence.
        synthetic: Likewise, preprocessed alike.
        extractor: Feature extractor or its name (:func:`~synthaug.metrics.extractors.build_extractor`); None =
            the seeded random network.
        weights: File of published weights, for extractors that need one.
        images: Image names in channel order, for subjects; None = all images of the first real one.
        seed: Seed of halves, floors and pairs.
        resamples: Half-samples per interval.
        confidence: Coverage of the intervals, in (0, 1).
        pairs: Pairs of volumes per similarity.
        training: Training volumes of the generator, to find copies.
        false_alarms: Share of unseen real patients that may be called copies.
        realism: Classifier of real against synthetic volumes: texture statistics, a 3D network too, or none. From 40
            volumes of each on.

    Raises:
        InputError: Too few volumes, different shapes or voxel sizes, constant volumes, or values outside [0, 1].
            Features that are not finite, or a set compared with itself. No weights of an extractor. Unusable settings.
    """
    checked_confidence(confidence)
    checked_pairs(pairs)
    real_set, synthetic_set, known = volume_sets(real, synthetic, training, images)
    channels, spacing_mm = _common_form(real_set, synthetic_set)
    if extractor is None or isinstance(extractor, str):
        extractor = build_extractor(extractor or "seeded", channels=channels, spacing_mm=spacing_mm, weights=weights)
    features = [extractor.features(each) for each in (real_set, synthetic_set)]
    groups = _groups(real_set, synthetic_set)
    metrics = {group: metrics_for(min(map(len, rows))) for group, rows in groups.items()}
    distances = {
        group: distance_report(
            *(part[chosen] for part, chosen in zip(features, rows, strict=True)),
            metrics=metrics[group],
            seed=seed,
            resamples=resamples,
            confidence=confidence,
            fingerprint=extractor.fingerprint,
        )
        for group, rows in groups.items()
        if metrics[group]
    }
    if ALL not in distances:
        raise InputError(f"{len(real_set)} real and {len(synthetic_set)} synthetic volumes are too few to compare.")
    similar = {
        group: _similarities(real_set.part(a), synthetic_set.part(b), pairs=pairs, seed=seed, confidence=confidence)
        for group, (a, b) in groups.items()
    }
    detector = CopyDetector(known, real_set, extractor, false_alarms=false_alarms) if known else None
    return ImageReport(
        extractor=extractor.name,
        fingerprint=extractor.fingerprint,
        distances=distances,
        similarities={group: found for group, found in similar.items() if found},
        left_out={group: few for group, found in metrics.items() if (few := [n for n in METRICS if n not in found])},
        copies=detector.audit(synthetic_set) if detector else None,
        realism=_realism(real_set, synthetic_set, known, judge=realism, seed=seed, confidence=confidence),
        classes=_classes(real_set, synthetic_set, known, seed=seed, confidence=confidence),
        confidence=confidence,
    )


def _groups(real: VolumeSet, synthetic: VolumeSet) -> dict[str, list[Any]]:
    """Rows of both sets: of all volumes, and of each class that both have."""
    classes = sorted(set(real.groups) & set(synthetic.groups) - {""})
    sets = (real, synthetic)
    return {group: [each.of_group(None if group == ALL else group) for each in sets] for group in (ALL, *classes)}


def _classes(
    real: VolumeSet, synthetic: VolumeSet, training: VolumeSet | None, *, seed: int, confidence: float
) -> ClassShown | None:
    """None where nobody can learn the classes, or there are too few volumes of one."""
    if training is None or "" in {*training.groups, *real.groups, *synthetic.groups}:
        return None
    try:
        return class_shown(training, real, synthetic, seed=seed, confidence=confidence)
    except InputError:
        return None


def _realism(
    real: VolumeSet, synthetic: VolumeSet, training: VolumeSet | None, *, judge: str, seed: int, confidence: float
) -> RealismReport | None:
    """The judgement on realism; None where none is asked for, without figures where there are too few volumes."""
    if judge == "off":
        return None
    if min(len(real), len(synthetic)) < ENOUGH:
        return RealismReport.too_few(len(real), len(synthetic))
    return judge_realism(real, synthetic, training=training, seed=seed, cnn=judge == "network", confidence=confidence)


def _common_form(real: VolumeSet, synthetic: VolumeSet) -> tuple[int, tuple[float, ...] | None]:
    """Channels and voxel size (None of tensors, which do not tell it) of both; InputError where they are unlike."""
    shapes = [tuple(each[0].shape) for each in (real, synthetic)]
    if shapes[0] != shapes[1]:
        raise InputError(f"Real volumes have shape {shapes[0]}, synthetic ones {shapes[1]}: preprocess both alike.")
    one, other = real.spacing_mm, synthetic.spacing_mm
    if one and other and not np.allclose(one, other, rtol=1e-3):
        raise InputError(f"Real voxels measure {one} mm, synthetic ones {other} mm: preprocess both alike.")
    return shapes[0][0], one or other


def _similarities(
    real: VolumeSet, synthetic: VolumeSet, *, pairs: int, seed: int, confidence: float
) -> dict[str, Similarity]:
    """Of pairs within both sets and between them, where there are enough volumes."""
    wanted = {"real": (real, None), "synthetic": (synthetic, None), "real to synthetic": (real, synthetic)}
    return {
        name: pair_similarity(one, other, pairs=pairs, seed=seed, confidence=confidence)
        for name, (one, other) in wanted.items()
        if (len(one) // 2 if other is None else min(len(one), len(other))) >= 2
    }
