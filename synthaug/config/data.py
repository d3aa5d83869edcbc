"""Settings of the data: where subjects come from, how they are dealt out, the one preprocessing."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from synthaug.config.checks import require, require_ranges


@dataclass
class PhantomConfig:
    """Generated prostates, for trying the product without data."""

    n: int = 96
    """Number of phantom patients."""
    positive_fraction: float = 0.5
    """Share with a PI-RADS >= 3 lesion, in (0, 1)."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels."""
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size."""
    difficulty: float = 0.5
    """0: lesions stand out; 1: lesions are faint and small among benign mimics."""
    seed: int = 0
    """Another seed, other patients."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "data.phantom",
            n="[1, 1e7]",
            positive_fraction="(0, 1)",
            shape="[4, 4096]",
            spacing_mm="(0, 1000]",
            difficulty="[0, 1]",
        )


ReportStyle = Literal[
    "template",
    "any",
    "structured",
    "prose",
    "impression",
    "telegraphic",
    "negations",
    "hedged",
    "shuffled",
    "entries",
    "list",
    "letter",
    "wordy",
    "hurried",
]
"""How a written report is worded: template: findings in a fixed order, the impression last; any: one of the others,
drawn for each report."""


UNIT_POWERS = {
    **dict.fromkeys(("mm", "cm"), 1),
    **dict.fromkeys(("mm2", "cm2", "mm²", "cm²"), 2),
    **dict.fromkeys(("mm3", "cm3", "mm³", "cm³", "ml", "cc"), 3),
    **dict.fromkeys(("%", "years", "ng/ml"), 0),
}
"""Power of a zoom by which a value in the unit grows."""


@dataclass
class MeasurementConfig:
    """One manifest column that the report writer puts into words."""

    name: str
    """What is measured, as a report would say it: "hippocampal volume"."""
    unit: str = ""
    """Unit written behind the number."""
    bands: dict[str, float] = field(default_factory=dict)
    """Upper bound of each word, rising: {"small": 2800, "average": 3400}; larger values get ``above``."""
    above: str = "large"
    """Word for values beyond the last band."""
    synonyms: list[str] = field(default_factory=list)
    """Other names for it, which styles other than the template use too: ["volume", "hippocampal vol."]."""
    several: Literal["refuse", "largest"] = "refuse"
    """What is done about a cell such as "5,2" (one number a lesion): it is refused, or its largest number counts."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """What is done about an empty cell: the manifest is refused, or that report leaves the measurement out."""
    power: int | None = None
    """How the value grows with a zoom: 3 = volume, 2 = area, 1 = length, 0 = not at all; none = as its unit says: mm
    and cm 1, mm2 and cm2 2, mm3, cm3, cc and ml 3, %, years and ng/ml 0. Of another unit it is not known, and volumes
    so measured are not zoomed."""
    side: Literal["swaps", "stays"] | None = None
    """Set where the column holds left or right in place of a number. swaps: a mirrored volume shows the other side, as
    scans do; stays: a mirrored volume shows the same side, as where all crops were turned to look alike beforehand."""

    def __post_init__(self) -> None:
        require_ranges(self, "data.measurements", power="[0, 3]")
        bounds = [*self.bands.values()]
        require(bool(self.name.strip()), "data.measurements: a measurement must have a name.")
        require(
            bounds == sorted(set(bounds)) and all(map(math.isfinite, bounds)),
            f"data.measurements: the bands of {self.name!r} must have rising, finite upper bounds, not {bounds}.",
        )
        require(
            self.side is None or not (self.unit or self.bands or self.power),
            f"measurements: {self.name!r} is a side, which has no unit, bands or power.",
        )

    @property
    def scaling(self) -> int | None:
        """Power of the zoom by which the value grows; None = not known.

        Example:
            >>> MeasurementConfig("gland volume", "ml").scaling, MeasurementConfig("gland volume").scaling
            (3, None)
        """
        if self.power is not None or self.side:
            return self.power or 0
        return UNIT_POWERS.get(self.unit.lower().replace("^", ""))


@dataclass
class LabelRule:
    """The class as a threshold on a measured column, so that it can follow a volume that is zoomed."""

    column: str | None = None
    """Column of the manifest; none = the class depends on no size: zooms keep it."""
    below: float | Literal["median", "boundary"] | None = None
    """Class 1 is what lies below: a number, the median of the training subjects, or the boundary between the classes of
    the training subjects (the limit that contradicts fewest of them). Other subjects are class 0."""
    above: float | Literal["median", "boundary"] | None = None
    """Class 1 is what lies above, in place of ``below``."""

    @property
    def limit(self) -> float | Literal["median", "boundary"] | None:
        """The limit as it is set, on whichever side."""
        return self.above if self.below is None else self.below

    def __post_init__(self) -> None:
        for name in ("below", "above"):
            limit = getattr(self, name)
            require(
                limit is None or isinstance(limit, str) or math.isfinite(limit),
                f"data.label_rule.{name}={limit} must be finite.",
            )
        set_limits = sum(limit is not None for limit in (self.below, self.above))
        require(
            set_limits == (self.column is not None),
            f"data.label_rule: column={self.column} needs exactly one of below={self.below} and above={self.above} "
            "beside it, and no column needs neither.",
        )


@dataclass
class DataConfig:
    """Where the subjects come from."""

    root: str | None = None
    """Folder that holds the manifest; none = phantom prostates."""
    manifest: str = "manifest.csv"
    """CSV with one row a subject; image columns are paths inside ``root``."""
    images: list[str] = field(default_factory=lambda: ["t2w"])
    """Image columns, in channel order."""
    label: str = "label"
    """Column with the class, an integer from 0 or one of ``classes``."""
    classes: list[str] = field(default_factory=list)
    """Names of the classes where ``label`` holds names, in the order that numbers them from 0: [negative, positive]."""
    unlabelled: Literal["refuse", "leave_out"] = "refuse"
    """What is done about a subject whose class is left empty: the manifest is refused, or the subject is left out."""
    report: str | None = None
    """Column with the report text; none = written from ``measurements``, or empty."""
    unreported: Literal["refuse", "keep"] = "refuse"
    """What is done about a subject whose report is left empty: the manifest is refused, or the subject has none."""
    measurements: dict[str, MeasurementConfig] = field(default_factory=dict)
    """Columns that the report writer puts into words, when there is no report column."""
    style: ReportStyle = "template"
    """How reports are worded that are written here, from ``measurements`` or for phantoms."""
    wordings: int = 1
    """Wordings of each report that is written here, one of which is drawn whenever a generator's training reads the
    subject; 1 = always the same. A training sees at most so many texts a subject, times its zooms and mirrorings."""
    label_rule: LabelRule | None = None
    """How the class follows from a measured size; none = not known, and volumes are not zoomed where their class has to
    be right."""
    subject: str = "subject_id"
    """Column that names the subject."""
    patient: str = "patient_id"
    """Column that names the patient; where a manifest has no ``patient_id`` each subject is a patient."""
    affine: Literal["sform", "qform"] | None = None
    """Which matrix of a NIfTI header says where voxels lie where the two are more than a voxel apart; none = such an
    image is refused."""
    public: str | None = None
    """Name of the public data set of the patients: they are remembered by a published key, so that anybody can tell
    whether a generator has seen them. None = your own patients, whom your institution's key hides."""
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    """Used when ``root`` is none."""

    @property
    def protected(self) -> bool:
        """Whether the subjects are patients who are not public."""
        return self.root is not None and self.public is None

    def __post_init__(self) -> None:
        require(
            bool(self.images) and all(self.images) and len(set(self.images)) == len(self.images),
            f"data.images={self.images} must name at least one image column, each once.",
        )
        require(
            len(set(self.classes)) == len(self.classes) != 1 and all(self.classes),
            f"data.classes={self.classes} must name at least two classes, each once.",
        )
        require(
            self.public is None or any(map(str.isalnum, self.public)),
            f"data.public={self.public!r} must be the name of a data set.",
        )
        require(
            self.root is None or not (self.measurements and self.report),
            "Set data.report (a column of reports) or data.measurements (to write them), not both.",
        )
        require(1 <= self.wordings <= 256, f"data.wordings={self.wordings} must lie in [1, 256].")
        require(
            self.report is None or (self.style == "template" and self.wordings == 1),
            f"data.report={self.report!r} is read as it stands; leave data.style and data.wordings out.",
        )


@dataclass
class SplitConfig:
    """Train, validation and test patients."""

    test: float = 0.3
    """Share of patients kept for the test."""
    val: float = 0.15
    """Share of patients that choose the epoch."""
    train: float = 1.0
    """Training patients that are used: a share in (0, 1], or, above 1, a number; smaller sets lie inside larger ones
    of the same seed, and the generator is trained on these patients too."""
    seed: int = 0
    """Another seed, another split."""
    folds: int = 0
    """Above 0: cross-validation by patient with so many folds, in place of ``test``; the axis {"split.fold": [0, 1,
    2]} of three folds tests every patient once."""
    fold: int = 0
    """The fold that is tested, from 0."""
    file: str | None = None
    """A saved split to use instead of drawing one."""
    site: str | None = None
    """Column of the manifest that names the hospital, for leave-one-site-out: the axis {"split.held_out": [A, B, C]}
    tests every site once, by classifiers of the others."""
    held_out: str | None = None
    """The site that is tested, in place of ``test``."""

    def __post_init__(self) -> None:
        tested, name = (1 / self.folds, f"1/split.folds={self.folds}") if self.folds else (self.test, "split.test")
        require(
            tested > 0 and self.val > 0 and tested + self.val < 1,
            f"{name}{'' if self.folds else f'={self.test}'} and split.val={self.val} must be positive and leave "
            "patients to train on.",
        )
        require(
            self.folds == 0 or (self.folds >= 2 and self.file is None),
            f"split.folds={self.folds} must be at least 2 (or 0, none), and stands in place of split.file.",
        )
        require(
            self.site is None or (self.folds == 0 and self.file is None),
            f"split.site={self.site} stands in place of split.folds and split.file.",
        )
        require(
            self.held_out is None or self.site is not None,
            f"split.held_out={self.held_out} needs split.site, the column that names the sites.",
        )
        require(
            0 <= self.fold < max(self.folds, 1),
            f"split.fold={self.fold} must lie in 0..{max(self.folds, 1) - 1}; split.folds={self.folds} says how many "
            "folds there are.",
        )
        require(
            0 < self.train <= 1 or (1 < self.train < 1e9 and float(self.train).is_integer()),
            f"split.train={self.train} must be a share in (0, 1] or a whole number of patients above 1.",
        )


@dataclass
class PreprocessConfig:
    """The one preprocessing, for real and synthetic images alike."""

    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size after resampling, RAS axes."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels after cropping and padding around ``centre``."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """These intensity percentiles, of voxels inside the field of view, become 0 and 1; what lies outside is clipped.
    Published: [0, 99.5], which one dark voxel can move."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Images with a physical scale, by name: {"adc": [0, 3000]} becomes [0, 1] in place of percentiles."""
    centre: Literal["volume", "prostate"] = "volume"
    """What the crop is centred on: the middle of the first image, or the prostate that the taps network sees there
    (T2, needs ``synthaug[taps]``)."""

    def recorded(self) -> dict[str, Any]:
        """As checkpoints and pools keep it: a crop around the middle stands for itself, as before there was a choice.

        Example:
            >>> sorted(PreprocessConfig().recorded())
            ['percentiles', 'ranges', 'shape', 'spacing_mm']
            >>> PreprocessConfig(centre="prostate").recorded()["centre"]
            'prostate'
        """
        settings = asdict(self)
        return settings if self.centre != "volume" else {k: v for k, v in settings.items() if k != "centre"}

    def __post_init__(self) -> None:
        require_ranges(self, "preprocess", spacing_mm="(0, 1000]", shape="[2, 4096]")
        require(
            0 <= self.percentiles[0] < self.percentiles[1] <= 100,
            f"preprocess.percentiles={self.percentiles} must rise within [0, 100].",
        )
        # Hashes tell 0 from 0.0.
        self.percentiles = (float(self.percentiles[0]), float(self.percentiles[1]))
        for name, (low, high) in self.ranges.items():
            require(
                low < high and abs(low) + abs(high) < float("inf"),
                f"preprocess.ranges.{name}=[{low}, {high}] must be two finite numbers that rise.",
            )
