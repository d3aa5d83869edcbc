"""Settings of sampling and of the pool of synthetic volumes."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.data import ReportStyle


@dataclass
class SamplingConfig:
    """Sampling of volumes from the generator."""

    steps: int = 20
    """Denoising steps."""
    scheduler: Literal["ddpm", "ddim", "dpm_solver", "dpm_solver_sde", "heun", "unipc", "flow_euler"] = "dpm_solver_sde"
    """Sampler (published: ddpm with 1,000 steps). EDM, as in a cascade, takes all but ``unipc`` and ``flow_euler``, and
    ``heun`` is for EDM only. Rectified flows take neither ``ddpm`` nor ``ddim``, and ``flow_euler`` is for them only.
    NV-Generate takes ``flow_euler`` (published: 30 steps)."""
    guidance: float = 1.0
    """Scale of classifier-free guidance. 1: none (published). Needs ``generator.report_dropout`` > 0."""
    guided_levels: int | None = None
    """Levels of a cascade that guidance leads, from the coarsest; the others are drawn once a step. None: all."""
    guidance_below: float | None = None
    """Noise level below which guidance leads (arXiv 2404.07724), in units in which the data's deviation is 0.5; for an
    EDM denoiser. Above, volumes are drawn once a step and keep their spread. None: at every level."""
    epsilon_scale: float | None = None
    """By which the predicted noise is divided (arXiv 2308.15321; for an EDM denoiser). None: the generator's own, which
    is 1 after a training."""
    micro_batch: int = 8
    """Batch size of the U-Net. Smaller batches are padded, so that a volume does not depend on its neighbours."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "pool.sampling",
            steps="[1, 1000]",
            guidance="[0, 100]",
            guided_levels="[1, inf)",
            guidance_below="(0, inf)",
            epsilon_scale="[0.5, 2]",
            micro_batch="[1, 4096]",
        )


PromptPolicy = Literal["training", "relabelled", "writer", "override"]
Layout = Literal["manifest", "ccella"]
LabelPolicy = Literal["requested", "predicted", "agreed"]
PoolFilter = Literal["none", "agreement", "realism", "distance"]
UnusableRows = Literal["refuse", "leave_out"]


@dataclass
class PoolConfig:
    """The synthetic volumes of a study."""

    path: str | None = None
    """Folder of a finished pool, made with this preprocessing and from training patients only. Of this section only
    ``filter`` and ``keep`` then apply. None: built by the study."""
    generator: str | None = None
    """Pretrained generator, used as it is: a folder, builtin/ccella-tiny or a hub id. The sections ``autoencoder`` and
    ``generator`` then do not apply. None: trained by the study."""
    per_class: int = 40
    """Volumes per class."""
    seed: int = 0
    """Seed of prompts and noise."""
    prompts: PromptPolicy = "training"
    """Source of the prompts. ``training``: reports of training subjects of a class. ``relabelled``: those, and what
    they say once ``generator.geometry`` has mirrored or zoomed the volume, by the class that ``data.label_rule`` then
    gives. ``writer``: written from findings. ``override``: as training, with the requested class in place of the one
    predicted from the report."""
    reports: str | None = None
    """CSV of prompts in place of the training reports: columns report and label, optionally spacing and patient_id
    (whose report it is; none = nobody's). Studies need patient_id, lest a test patient's report be among them.
    ``synthaug pool build`` draws one volume per row, and ``per_class`` does not apply."""
    unusable: UnusableRows = "refuse"
    """Unusable rows of ``reports``: refuse the file, or leave them out. Either way they are named."""
    marksheet: str | None = None
    """CSV with PI-CAI's columns, from whose findings reports are written. Validation and test patients are left out.
    None: findings are drawn at random."""
    style: ReportStyle = "template"
    """Style of written reports."""
    labels: LabelPolicy = "requested"
    """Class label of a volume: the requested class, or the class that the generator predicts from the report.
    ``agreed``: where the two differ, the volume is rejected and another report is drawn."""
    attempts: int = 4
    """With ``labels: agreed``: attempts per volume."""
    threads: int | None = None
    """Threads; the bytes of volumes depend on their number. None: those of the pool so far, or of the machine."""
    filter: PoolFilter = "none"
    """Volumes that classifiers train on: all, or the share ``keep`` of each class that ranks first. ``agreement``: by
    the class probability of a classifier of the real training patients. ``realism``: by likeness of texture statistics
    to training volumes. ``distance``: by distance to the nearest training volume. The pool itself stays whole."""
    keep: float = 0.5
    """Share of each class that ``filter`` keeps, in (0, 1]."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Sampling of the volumes."""

    def __post_init__(self) -> None:
        require_ranges(self, "pool", per_class="[1, 1e9]", attempts="[1, 1000]", threads="[1, 4096]", keep="(0, 1]")
        require(
            self.marksheet is None or self.prompts == "writer",
            f"pool.marksheet is worded by the report writer; set pool.prompts to writer, not {self.prompts}.",
        )
        require(
            self.style == "template" or self.prompts == "writer",
            f"pool.style={self.style} is the report writer's; set pool.prompts to writer, not {self.prompts}.",
        )
        require(
            self.reports is None or self.prompts != "writer",
            "pool.reports gives reports and pool.prompts=writer words them; set one of the two.",
        )
        require(
            self.unusable == "refuse" or self.reports is not None,
            "pool.unusable speaks of the rows of pool.reports; set that, or leave it out.",
        )
