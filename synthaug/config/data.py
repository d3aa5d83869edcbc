"""Data settings: manifest, columns, reports, phantoms."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.measurements import LabelRule, MeasurementConfig

OWN = "own"
"""In place of the name of a public data set: the patients are of none."""


@dataclass
class PhantomConfig:
    """Generated prostate phantoms, for a study without data."""

    n: int = 96
    """Number of phantom patients."""
    positive_fraction: float = 0.5
    """Prevalence of a PI-RADS >= 3 lesion, in (0, 1)."""
    shape: tuple[int, int, int] = (32, 32, 16)
    """Voxels along each axis."""
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 4.0)
    """Voxel size."""
    difficulty: float = 0.5
    """Difficulty in [0, 1]. 0: conspicuous lesions; 1: small, faint lesions among benign mimics."""
    seed: int = 0
    """Seed of the patients."""

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
"""Style of a written report. ``template``: findings in a fixed order, then the impression. ``any``: a style drawn for
each report."""


@dataclass
class DataConfig:
    """Data settings: manifest, columns, reports."""

    root: str | None = None
    """Folder of the manifest. None: prostate phantoms."""
    manifest: str = "manifest.csv"
    """CSV with one row per subject. Image columns are paths inside ``root``."""
    images: list[str] = field(default_factory=lambda: ["t2w"])
    """Image columns, in channel order."""
    label: str = "label"
    """Column of the class label: an integer from 0, or one of ``classes``."""
    classes: list[str] = field(default_factory=list)
    """Class names in order, numbered from 0, such as [negative, positive]. Where no name is a number, ``label`` may
    hold numbers too."""
    unlabelled: Literal["refuse", "leave_out"] = "refuse"
    """Subjects without a class label: refuse the manifest, or leave them out."""
    report: str | None = None
    """Column of the radiology report. None: written from ``measurements``, or empty."""
    unreported: Literal["refuse", "keep"] = "refuse"
    """Subjects with an empty report: refuse the manifest, or keep them without a report."""
    measurements: dict[str, MeasurementConfig] = field(default_factory=dict)
    """Columns from which reports are written where there is no report column."""
    style: ReportStyle = "template"
    """Style of written reports (from ``measurements``, or for phantoms)."""
    wordings: int = 1
    """Number of wordings of each written report. The training of a generator draws one at each reading. 1: one fixed
    wording."""
    label_rule: LabelRule | None = None
    """Class as a threshold on a measured size. None: unknown; then labelled augmentation does not zoom."""
    subject: str = "subject_id"
    """Column of the subject id."""
    patient: str = "patient_id"
    """Column of the patient id. Without a column ``patient_id`` each subject is a patient."""
    affine: Literal["sform", "qform"] | None = None
    """Matrix of the NIfTI header to use where sform and qform differ by more than a voxel. None: refuse such images."""
    public: str | None = None
    """Name of the public data set of the patients. Their ids are hashed with a published key, so that anybody can check
    whether a generator was trained on them. ``own``: own patients, of no public data set, hashed with the key of the
    institution. None: hashed as own ones; of a generator of a public data set nobody can then tell whom it has seen."""
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    """Phantoms, used where ``root`` is None."""

    @property
    def protected(self) -> bool:
        """Whether the subjects are patients outside public data sets."""
        return self.root is not None and self.public in (None, OWN)

    def class_names(self, number: int) -> list[str]:
        """Names of the classes: from ``classes``, those of the phantoms, or "class 0", "class 1", ...

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
