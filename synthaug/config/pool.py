"""Settings of sampling and of the pool of synthetic volumes."""

from dataclasses import dataclass, field
from typing import Literal

from synthaug.config.checks import require, require_ranges
from synthaug.config.data import ReportStyle


@dataclass
class SamplingConfig:
    """How volumes are drawn."""

    steps: int = 20
    """Denoising steps."""
    scheduler: Literal["ddpm", "ddim", "dpm_solver", "dpm_solver_sde", "unipc", "flow_euler"] = "dpm_solver_sde"
    """A diffusers scheduler (published: ddpm with 1,000 steps); flow_euler samples rectified flows only, ddpm and
    ddim the others only. NV-Generate's flow takes flow_euler (published: 30 steps)."""
    guidance: float = 1.0
    """Classifier-free guidance; 1 = none (published). Needs ``generator.report_dropout`` > 0."""
    micro_batch: int = 8
    """The U-Net always runs at this batch size, padded, so that a volume's bytes do not depend on its neighbours."""

    def __post_init__(self) -> None:
        require_ranges(self, "pool.sampling", steps="[1, 1000]", guidance="[0, 100]", micro_batch="[1, 4096]")


PromptPolicy = Literal["training", "writer", "override"]
Layout = Literal["manifest", "ccella"]
LabelPolicy = Literal["requested", "predicted", "agreed"]
PoolFilter = Literal["none", "agreement", "realism", "distance"]
UnusableRows = Literal["refuse", "leave_out"]


@dataclass
class PoolConfig:
    """The synthetic volumes of a study."""

    path: str | None = None
    """Folder of a pool that was built before, with this preprocessing and from training patients only; the rest of
    this section, but for ``filter`` and ``keep``, then says nothing. None = built here."""
    generator: str | None = None
    """A ready generator that fills the pool as it is: a folder, builtin/ccella-tiny or a hub id. The sections
    ``autoencoder`` and ``generator`` then say nothing. None = trained here."""
    per_class: int = 40
    """Volumes of each class."""
    seed: int = 0
    """Names the prompts and the noise."""
    prompts: PromptPolicy = "training"
    """Where reports come from: training: the training subjects' of the class; writer: the report writer, from
    structured findings; override: as training, and the requested class takes the place of the one read from the
    report."""
    reports: str | None = None
    """CSV of reports in place of the training subjects': columns report and label, and, if wanted, spacing (of voxels,
    the generator's own) and patient_id. ``synthaug pool build`` draws one volume a row; ``per_class`` says nothing."""
    unusable: UnusableRows = "refuse"
    """What is done about rows of ``reports`` that cannot be used: the file is refused, or they are left out; both name
    the rows."""
    marksheet: str | None = None
    """CSV with PI-CAI's columns, whose findings the writer words; patients to validate and test by are left out.
    None = findings are drawn."""
    style: ReportStyle = "template"
    """How the writer words its reports."""
    labels: LabelPolicy = "requested"
    """Class that a volume counts as: requested; predicted by the generator from the report; agreed: both are the same,
    other volumes are turned down and made anew from another report."""
    attempts: int = 4
    """Volumes made at most for one that is agreed."""
    threads: int | None = None
    """Threads to compute with, on which the bytes of volumes depend; None = those of the pool, or of the machine."""
    filter: PoolFilter = "none"
    """Which volumes classifiers train on: all; or of each class the share ``keep`` that ranks first by agreement (a
    classifier of the real training patients sees the class), by realism (told least from real training volumes by
    texture statistics), or by distance (farthest from the nearest training volume). The pool itself stays whole."""
    keep: float = 0.5
    """Share of each class that ``filter`` keeps, in (0, 1]."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How they are drawn."""

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
