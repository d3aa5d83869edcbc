"""``synthaug pool build | adopt | verify | audit | card | export | montage``: pools without a study around them."""

# What the actions need is imported when they run: a misspelt one, or its options, need not wait for torch.
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synthaug.bench.single.pool_card import card, real_side
from synthaug.bench.single.pool_verification import verify
from synthaug.config import DataConfig, GeneratorConfig, GeometryConfig, PoolConfig, PreprocessConfig, SplitConfig
from synthaug.config.pool import Layout
from synthaug.data.reading.tables import read_table
from synthaug.ground.errors import InputError

if TYPE_CHECKING:
    from synthaug.generate.pipeline import CCELLAPipeline
    from synthaug.pool.building.order import Order
    from synthaug.pool.prompts import Prompts

Executor = Literal["local", "ray"]
BUILTIN = "builtin/ccella-tiny"
"""The generator where none is named."""


def build(
    out: str,
    data: DataConfig,
    split: SplitConfig,
    pool: PoolConfig,
    generator: str | GeneratorConfig | None = None,
    executor: Executor = "local",
    workers: int = 2,
    gpus_per_worker: float = 0.0,
    shard: tuple[int, int] | None = None,
    typed: Collection[str] | None = None,
) -> None:
    """Fill a pool from a generator and the reports of training patients, or from a file of reports.

    The pool is byte for byte the same with every executor. Several builders may fill it at once, and a killed one
    continues when it is run again.

    Args:
        out: Folder of the pool.
        data: Subjects whose reports are the prompts; not read where pool.reports is set.
        split: Only its training part is used.
        pool: Contents of the pool.
        generator: Folder, builtin name or hub id; none = ``pool.generator`` or ``generator.pretrained`` of the study's
            config, else builtin/ccella-tiny.
        executor: local: this process; ray: tasks on the cluster of RAY_ADDRESS, or on a local one.
        workers: Ray tasks in parallel.
        gpus_per_worker: GPUs per Ray task; 0 = CPU.
        shard: Part k of n only, as [k, n], k from 0; local only.
        typed: Settings of pool.sampling that stay as they are; the others are those with which the generator's card
            was measured. None: all stay.
    """
    if pool.path:
        raise InputError("pool.path names a pool that is there already; give the folder to fill as --out.")
    if executor == "ray" and shard:
        raise InputError("shard is for several local builders; Ray deals out shards by itself.")
    drawn_with = _trained(generator, pool)
    import torch

    from synthaug.data.reading.manifest import class_counts
    from synthaug.data.relabel.relabeller import Relabeller
    from synthaug.generate.pipeline import CCELLAPipeline
    from synthaug.pool.cluster import build_on_ray
    from synthaug.pool.pool import SyntheticPool
    from synthaug.study.stages.cohort import draw_split, load_subjects
    from synthaug.study.stages.pools import describe_pool, prompts_of

    parts = None if pool.reports else draw_split(split, load_subjects(data), data)
    pipe = CCELLAPipeline.from_pretrained(drawn_with)
    if parts is None:
        prompts, per_class = _read_prompts(pool, pipe)
    else:
        geometry = generator.geometry if isinstance(generator, GeneratorConfig) else GeometryConfig()
        prompts = prompts_of(pool, parts, lambda: Relabeller.fit(parts.train, data, geometry))
        per_class = dict.fromkeys(sorted(class_counts(parts.train)), pool.per_class)
    order = _order(pool, pipe, prompts, per_class, typed=typed)
    on_volume = _bar_when_begun(len(order.places(shard)))
    if executor == "ray":
        built = build_on_ray(
            drawn_with, out, order, workers=workers, gpus_per_worker=gpus_per_worker, on_volume=on_volume
        )
    else:
        pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        built = SyntheticPool.fill(pipe, out, order, shard=shard, on_volume=on_volume)
    print(f"pool: {built.path}: {describe_pool(built)}")


def _trained(generator: str | GeneratorConfig | None, pool: PoolConfig) -> str:
    """Folder, builtin name or hub id of a generator that is there: the one that is named, or the study's."""
    if isinstance(generator, str):
        return generator
    if pool.generator or generator is None:
        return pool.generator or BUILTIN
    if generator.pretrained is None:
        raise InputError("the config says how to train a generator; name a trained one by --generator after --config.")
    return generator.pretrained


def _order(
    pool: PoolConfig,
    pipe: "CCELLAPipeline",
    prompts: "Prompts",
    per_class: dict[int, int],
    *,
    typed: Collection[str] | None,
) -> "Order":
    """What the pool is to hold; says so where it is drawn as by the generator's card."""
    from synthaug.generate.stored.told import Guidance, measured_sampling
    from synthaug.pool.building.order import Order
    from synthaug.study.stages.checks import overrides_class

    measured = {} if typed is None else measured_sampling(pipe.record)
    sampling = replace(pool.sampling, **{name: value for name, value in measured.items() if name not in (typed or ())})
    if sampling != pool.sampling:
        how = f"{sampling.scheduler}, {sampling.steps} steps, {Guidance.of(sampling)}"
        print(f"drawn as the generator's card was measured: {how}; --pool.sampling.* sets another")
    return Order(
        per_class=per_class,
        prompts=prompts,
        seed=pool.seed,
        sampling=sampling,
        override_class=overrides_class(pool, pipe.denoiser.conditioning),
        labels=pool.labels,
        attempts=pool.attempts,
        threads=pool.threads,
    )


def _read_prompts(pool: PoolConfig, pipe: "CCELLAPipeline") -> "tuple[Prompts, dict[int, int]]":
    """Prompts of a file of reports, and how many volumes of each class they are for: one a row."""
    from synthaug.pool.report_file import read_report_file

    classes, spacing_mm = pipe.denoiser.config.classes, pipe.config.spacing_mm
    read = read_report_file(str(pool.reports), classes=classes, spacing_mm=spacing_mm, unusable=pool.unusable)
    return read, read.counts


def _bar_when_begun(volumes: int) -> Callable[[], None]:
    """A progress bar that appears with the first volume, so that input refused before leaves one clear line."""
    bar: Callable[..., None] | None = None
    from synthaug.bench.studies.progress import Bars

    def on_volume() -> None:
        nonlocal bar
        bar = bar or Bars().stage("pool", volumes)
        bar()

    return on_volume


def adopt(
    folder: str,
    labels: str,
    out: str,
    preprocess: PreprocessConfig,
    images: list[str] | None = None,
    label: str = "label",
    classes: list[str] | None = None,
    report: str | None = None,
    data: DataConfig | None = None,
) -> None:
    """Convert volumes of another system to a pool, checked and on the grid of a study.

    Args:
        folder: Folder of the volumes.
        labels: CSV with one row per volume: its file (or one per sequence) inside the folder, and its class.
        out: Folder of the pool.
        preprocess: Preprocessing of the study, also from its --config.
        images: Columns of the files in channel order, named as in the study; none = columns that hold image files.
        label: Column of the class.
        classes: Class names in order, numbered from 0; none = sorted.
        report: Column of the reports; none = report, if present.
        data: Data settings of the study: defaults for images and classes.
    """
    images, classes = images or (data.images if data else None), classes or (data.classes if data else None)
    rows = len(read_table(Path(labels), what="table of labels", mend="give --labels").rows)
    from synthaug.models.extractors.taps import crop_centre
    from synthaug.pool.adoption import adopt_pool
    from synthaug.study.stages.pools import describe_pool

    pool = adopt_pool(
        folder,
        labels,
        out,
        preprocess,
        images=images or (),
        label=label,
        classes=classes or (),
        report=report,
        centre=crop_centre(preprocess),
        on_volume=_bar_when_begun(rows),
    )
    print(f"pool: {pool.path}: {describe_pool(pool)}")


def audit(
    folder: str,
    data: DataConfig,
    split: SplitConfig,
    drop: bool = False,
    false_alarms: float = 0.01,
    pictures: str | None = None,
) -> None:
    """Find copies of training patients in a pool and write audit.json beside its files.

    Args:
        folder: Folder of the pool.
        data: Subjects of the generator's training, and others.
        split: Copies are searched in the training part; the other parts set the limits.
        drop: Exclude the copies whenever the pool is opened; deleting audit.json includes them again.
        false_alarms: Share of unseen real patients that may be called copies, in (0, 1).
        pictures: PNG with each copy beside its original; it shows patients.
    """
    from synthaug.pool.pool import SyntheticPool
    from synthaug.pool.review.audit import audit_pool, tell_copies
    from synthaug.pool.review.slices import require_png

    if pictures is not None:
        require_png(pictures)
    opened = SyntheticPool.open(folder, whole=True)
    real = real_side(opened, data, split)
    found = audit_pool(opened, real.training, real.held_out, false_alarms=false_alarms, drop=drop, pictures=pictures)
    left_out = SyntheticPool.open(folder).dropped
    ending = f"; {left_out} are left out when the pool is opened" if left_out else ""
    print(f"{folder}: {tell_copies(opened, found, real.training)}{ending}")


def export(pool: str, out: str, layout: Layout = "manifest") -> None:
    """Write a pool as NIfTI with a manifest CSV, or in CCELLA's layout.

    Args:
        pool: Folder of the pool.
        out: New folder.
        layout: manifest: float32 volumes and manifest.csv; ccella: one folder per case, int16, and datalist.json.
    """
    from synthaug.pool.export import export_pool
    from synthaug.pool.pool import SyntheticPool

    print(f"exported: {export_pool(SyntheticPool.open(pool), out, layout=layout)}")


def montage(pool: str, out: str, columns: int = 8) -> None:
    """Draw slices of some volumes of each class.

    Args:
        pool: Folder of the pool.
        out: PNG to write.
        columns: Volumes per class.
    """
    from synthaug.pool.pool import SyntheticPool
    from synthaug.pool.review.montage import save_montage

    print(f"montage: {save_montage(SyntheticPool.open(pool), out, columns=columns)}")


POOL_COMMANDS: dict[str, Callable[..., None]] = {
    "build": build,
    "adopt": adopt,
    "verify": verify,
    "audit": audit,
    "card": card,
    "export": export,
    "montage": montage,
}

FLAGS = {"audit": {"drop": "exclude the copies whenever the pool is opened from now on"}}
"""Options without a value, by command."""
