"""Whom a study is of: subjects, split and one preprocessing, read and checked before any result is written."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import torchio as tio

from synthaug.classify.objective import loss_weights
from synthaug.config import ClassifierConfig, Config, GeneratorConfig, GeometryConfig
from synthaug.data.mapped.image import release
from synthaug.data.near_copies import Alike, tell_near_copies
from synthaug.data.reading.manifest import class_counts
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.splits import Split, save_split
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import subjects_hash
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.networks import pretrained_causes
from synthaug.ground.files import content_hash, usable_folder
from synthaug.ground.people import patient_hash
from synthaug.models.classifier import build_classifier
from synthaug.models.variants import VARIANTS
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import Prompts, describe
from synthaug.pool.verdicts import dropped_from
from synthaug.study.events import Listener, Progress, Silent, no_progress
from synthaug.study.identity import Identity, generator_causes, id_of, identify
from synthaug.study.introduced import AUTOENCODER, GENERATOR, POOL
from synthaug.study.stages.checks import check_study, ignored_settings, say_once
from synthaug.study.stages.cohort import draw_split, load_subjects, prepare_split, save_own_split, unless_refused
from synthaug.study.stages.leaks import can_tell, protocol_of
from synthaug.study.stages.pools import (
    identify_filter,
    open_given_pool,
    open_pretrained,
    open_ready_generator,
    prompts_of,
    refuse_classes_without_reports,
    refuse_synthetic_subjects,
)


@dataclass
class Study:
    """The subjects of a study and what names its stages. :mod:`synthaug.study.stages.making` makes these."""

    config: Config
    out: Path
    progress: Progress
    classes: dict[int, int]
    """Subjects of each class. The images as they came are not kept: they weigh as much as the preprocessed ones."""
    split: Split
    """Preprocessed."""
    listener: Listener = field(default_factory=Silent)
    near_copies: list[Alike] = field(default_factory=list)
    """Pairs of patients with nearly one image or report."""
    design: GeneratorConfig = None  # type: ignore[assignment]  # follows from config
    """Settings of the generator, with what a pretrained one brings."""
    begun: CCELLAPipeline | None = None
    """The generator that the training goes on from, if any."""
    ready: CCELLAPipeline | None = None
    """The generator that fills the pool as it is, if one is named."""
    given: SyntheticPool | None = None
    """The pool that was built before, if one is named."""
    own_prompts: Prompts | None = None
    """Prompts of a file of reports or a marksheet, if one is named, or relabelled ones."""
    part_ids: dict[str, str] = field(init=False)
    """Hash of each part of the split, preprocessed, by its name."""
    _relabellers: dict[str, Relabeller] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.design = self.design or self.config.generator
        self.take(self.split)

    def take(self, split: Split) -> None:
        """Make this the study's split, whose volumes are hashed."""
        self.split = split
        self.part_ids = {name: subjects_hash(part, self.config.data.images) for name, part in split.parts()}

    @classmethod
    def start(cls, config: Config, out: Path, progress: Progress, listener: Listener | None = None) -> "Study":
        """Read and check all input, and only then write who trains, chooses and tests.

        Raises:
            InputError: Anything about the data, the split or the folder cannot be used.
        """
        with unless_refused(out):
            study = cls.read(config, out, progress, listener, generates=True)
        save_own_split(study.split, out, data_id=study.data_id)
        return study

    @classmethod
    def read(
        cls,
        config: Config,
        out: Path,
        progress: Progress,
        listener: Listener | None = None,
        *,
        generates: bool | None = None,
    ) -> "Study":
        """Read and check all input; nothing is written but preprocessed volumes, to its cache.

        Args:
            config: The study.
            out: Its folder.
            progress: Bars of the stages.
            listener: Hears of the trainings; None = nobody does.
            generates: Whether synthetic volumes are made; None = as the regimes ask.

        Raises:
            InputError: Anything about the settings, the data or the split cannot be used.
        """
        study, drawn = cls.examine(config, load_subjects(config.data), out, progress, listener, generates=generates)
        study.take(prepare_split(drawn, config.preprocess, config.data.images, out=out))
        if not study.given and (config.pool.reports or config.pool.marksheet or config.pool.prompts == "relabelled"):
            study.own_prompts = prompts_of(config.pool, study.split, lambda: study.relabeller(study.design.geometry))
        if config.data.root is not None:
            study.near_copies = tell_near_copies(study.split, config.data.images)
        release(study.split.subjects())
        return study

    @classmethod
    def examine(
        cls,
        config: Config,
        subjects: list[tio.Subject],
        out: Path,
        progress: Progress = no_progress,
        listener: Listener | None = None,
        *,
        generates: bool | None = None,
    ) -> tuple["Study", Split]:
        """Check settings, generator and split, and read no voxel: the study without its subjects, and the split.

        Raises:
            InputError: As :meth:`read`.
        """
        check_study(config, out, generates=generates)
        for line in ignored_settings(config):
            say_once(line)
        refuse_synthetic_subjects(subjects)
        study = cls(config, out, progress, class_counts(subjects), Split([], [], []), listener or Silent())
        study.refuse_classifier(config.classifier)
        drawn = draw_split(config.split, subjects, config.data)
        if config.study.synthetic if generates is None else generates:
            if config.pool.path:
                study.given = open_given_pool(config, drawn)
            elif config.pool.generator:
                study.ready = open_ready_generator(config, drawn)
            else:
                study.design = with_own_design(config.generator)
                variant = study.design.variant
                refuse_classes_without_reports(VARIANTS[variant], drawn, source=f"generator.variant={variant}")
                study.begun = open_pretrained(study.design, config, drawn)
        return study, drawn

    def refuse_classifier(self, config: ClassifierConfig) -> None:
        """InputError if a classifier cannot take the volumes: not to be found out after a generator's training."""
        classes, channels = len(self.classes), len(self.config.data.images)
        loss_weights(config, classes=classes, class_counts=self.classes)
        build_classifier(config, in_channels=channels, classes=classes, shape=self.config.preprocess.shape, seed=0)
        if config.augment == "labelled" and self.split.train:
            self.relabeller(config.geometry, texts=False)

    def relabeller(self, geometry: GeometryConfig, *, texts: bool = True) -> Relabeller:
        """Rewrites the class, and the report (``texts``), of what is moved; fitted on the training subjects.

        Raises:
            InputError: The label rule cannot be used.
        """
        name = content_hash([asdict(geometry), texts])
        if name not in self._relabellers:
            self._relabellers[name] = Relabeller.fit(self.split.train, self.config.data, geometry, texts=texts)
        return self._relabellers[name]

    def write_split(self, name: str) -> None:
        """Write who trains, chooses and tests to the output folder; InputError if nothing can be written there."""
        save_split(self.split, usable_folder(self.out) / name)

    @property
    def train_id(self) -> str:
        """Hash of the preprocessed training subjects."""
        return self.part_ids["train"]

    @property
    def data_id(self) -> str:
        """Hash of all parts of the split, preprocessed."""
        return content_hash([*self.part_ids.values()])

    @property
    def autoencoder_identity(self) -> Identity:
        """What the autoencoder depends on. One without training is fitted to the volumes; a pretrained one is fixed."""
        if self.begun:
            return pretrained_causes(self.design, self.begun, self.config.data.images)
        if not self.design.latent_design.trained:
            return {self.design.latents: self.train_id}
        return identify(AUTOENCODER, asdict(self.config.autoencoder), train=self.train_id)

    @property
    def generator_identity(self) -> Identity:
        """What the generator depends on."""
        if self.ready:
            return {"ready": self.ready.fingerprint}
        causes = {"train": self.train_id, "autoencoder": self.autoencoder_identity, **generator_causes(self.config)}
        if self.design.monitor_every:
            causes["val"] = self.part_ids["val"]  # chooses the weights that are kept
        return identify(GENERATOR, asdict(self.design), **causes)

    @property
    def pool_identity(self) -> Identity:
        """What the volumes of a pool that is made here depend on."""
        causes = {"prompts": content_hash(describe(self.prompts))} if self._prompts_are_named else {}
        return identify(POOL, asdict(self.config.pool), generator=self.generator_identity, **causes)

    @property
    def prompts(self) -> Prompts:
        """Prompts of the pool: those of a file, of the training subjects, or of the report writer."""
        return self.own_prompts or prompts_of(
            self.config.pool, self.split, lambda: self.relabeller(self.design.geometry)
        )

    @property
    def _prompts_are_named(self) -> bool:
        """Whether the reports follow neither from settings nor from the generator's training."""
        return bool(self.own_prompts or (self.ready and self.config.pool.prompts != "writer"))

    @cached_property
    def autoencoder_id(self) -> str:
        """Names the autoencoder."""
        return id_of(self.autoencoder_identity)

    @cached_property
    def generator_id(self) -> str:
        """Names the generator."""
        return id_of(self.generator_identity)

    @property
    def autoencoder_folder(self) -> Path:
        """Where the autoencoder is made."""
        return self.out / f"autoencoder-{self.autoencoder_id}"

    @property
    def generator_folder(self) -> Path:
        """Where the generator is made."""
        return self.out / f"generator-{self.generator_id}"

    @cached_property
    def pool_folder(self) -> Path:
        """Where the pool is made."""
        return self.out / f"pool-{id_of(self.pool_identity)}"

    def identify_pool(self) -> Identity:
        """What names the pool, with the copies that an audit left out of it and the filter that chooses among its
        volumes: without them it is another pool.

        The folder is read for them.
        """
        if self.given:
            identity: Identity = {"given": self.given.identity}
        else:
            dropped = dropped_from(self.pool_folder)
            identity = {**self.pool_identity, "dropped": dropped} if dropped else self.pool_identity
        return {**identity, **self.filter_identity}

    @property
    def filter_identity(self) -> Identity:
        """What names the choice among the pool's volumes; nothing where all are taken."""
        return identify_filter(self.config.pool, train=self.train_id, val=self.part_ids["val"])

    @cached_property
    def protocol(self) -> str:
        """Whether the generator was trained on exactly the classifier's training patients; nothing is made for it."""
        if self.given:
            header = self.given.header
            known = can_tell(header, self.config.data)
            return protocol_of(header["trained_on_patients"], self.split, known=known)
        ours = {patient_hash(subject["patient_id"]) for subject in self.split.train}
        earlier = self.ready or self.begun
        before = ours if earlier is None else set(earlier.record.get("patients", []))
        seen = before if self.ready else ours | before
        # A generator that began with patients that nobody recorded may have seen anybody.
        known = earlier is None or can_tell(earlier.record, self.config.data)
        return protocol_of(sorted(seen) if before else [], self.split, known=known)
