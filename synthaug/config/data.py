"""Settings of the data: where subjects come from."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.measurements import LabelRule, MeasurementConfig


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
    """Names of the classes in the order that numbers them from 0: [negative, positive]. ``label`` may hold names or
    numbers."""
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

    def class_names(self, number: int) -> list[str]:
        """A name for each of so many classes: of ``classes``, of the phantoms, or "class 0".

        Example:
            >>> DataConfig(root="x").class_names(2), DataConfig(root="x", classes=["benign", "cancer"]).class_names(2)
            (['class 0', 'class 1'], ['benign', 'cancer'])
        """
        known = self.classes or (["negative", "positive"] if self.root is None else [])
        return [known[place] if place < len(known) else f"class {place}" for place in range(number)]

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
