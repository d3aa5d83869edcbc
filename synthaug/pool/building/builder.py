"""Filling a pool: which volumes are missing, who makes which, and what is kept of them."""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.requests import require_meaning
from synthaug.generate.stored.record import provenance
from synthaug.generate.stored.told import Guidance, cut_reports, require_guidance
from synthaug.ground.errors import InputError
from synthaug.ground.files import usable_folder
from synthaug.pool.building.machine import clear_write_errors, computing_threads, precision_of, threads_of
from synthaug.pool.building.order import Order, Place, final_label, require_class_heads
from synthaug.pool.consistency import refuse_altered
from synthaug.pool.ledger import (
    CLAIMS,
    VOLUMES,
    Ledger,
    claim,
    match_header,
    release,
    sweep,
    write_volume,
)
from synthaug.pool.prompts import describe
from synthaug.pool.recipe import (
    common_recipe,
    draw_volumes,
    plan_volume,
    rounded_probabilities,
    volume_affine,
    with_sampling,
)

logger = logging.getLogger(__name__)

FORMAT = 3
Plan = dict[str, Any]
WAIT_SECONDS = 0.2
"""Between looks at volumes that another builder is at."""


def fill(
    pipe: CCELLAPipeline,
    path: str | Path,
    order: Order,
    *,
    shard: tuple[int, int] | None = None,
    on_volume: Callable[[], None] | None = None,
) -> None:
    """Generate what is missing in the pool at ``path``; returns when all of the order, or of its shard, is there.

    Raises:
        InputError: The folder holds another pool or an altered volume, cannot be written or is full; what is listed
            there stays whole.
    """
    # Refused, if at all, before a file is written.
    with_sampling(pipe, order.sampling)
    require_guidance(pipe.record, Guidance.of(order.sampling), levels=pipe.autoencoder.levels, edm=pipe.edm)
    _require_known_classes(pipe, order)
    require_class_heads(pipe.denoiser.config.variant, order.labels)
    require_meaning(pipe.denoiser, [0] if order.override_class else None, order.sampling.guidance)
    _require_reports(pipe, order)
    folder = usable_folder(Path(path))
    places = order.places(shard)
    with clear_write_errors(folder), computing_threads(order.threads or threads_of(folder)) as threads:
        order = replace(order, threads=threads, precision=precision_of(folder, pipe))
        match_header(folder, _header(pipe, order))
        for name in (CLAIMS, VOLUMES):
            (folder / name).mkdir(exist_ok=True)
        sweep(folder)
        ledger = Ledger(folder)
        with contextlib.closing(ledger):
            ledger.refresh()
            refuse_altered(ledger, pipe.config.shape)
            builder = _Builder(pipe, order, ledger)
            builder.make(places, on_volume or (lambda: None))
            ledger.settle()
    builder.tell_doubts()


class _Builder:
    """One of the builders of a folder."""

    def __init__(self, pipe: CCELLAPipeline, order: Order, ledger: Ledger) -> None:
        self.pipe, self.order, self.ledger, self.folder = pipe, order, ledger, ledger.folder
        self.drawing = with_sampling(pipe, order.sampling, precision=order.precision)
        self.common = common_recipe(self.drawing, order.sampling, override_class=order.override_class)
        self.drawn: set[str] = set()
        """Reports that volumes were drawn from."""
        self.contradicting = 0
        """Volumes whose report was read as another class than the requested one."""

    def tell_doubts(self) -> None:
        """Say once how many reports contradict the requested class, and how many did not fit into the text encoder."""
        if self.contradicting:
            logger.warning(
                "%s: new volumes whose report the generator read as another class than was requested: %d; "
                "pool.labels=agreed turns such volumes down.",
                self.folder,
                self.contradicting,
            )
        if not self.pipe.denoiser.conditioning.text:
            return
        cut = cut_reports(self.pipe.tokenizer, self.drawn)
        if cut:
            logger.warning(
                "%s: %d of %d reports are longer than the %d tokens that the generator reads; their beginnings were "
                "cut off.",
                self.folder,
                cut,
                len(self.drawn),
                self.pipe.tokenizer.model_max_length,
            )

    def make(self, places: list[Place], on_volume: Callable[[], None]) -> None:
        """Make the missing volumes of ``places``; those that other builders are at are waited for."""
        pending, contested = deque(places), deque[Place]()
        while pending or contested:
            if not pending:  # the others finish, or die and leave theirs to us
                time.sleep(WAIT_SECONDS)
                pending, contested = contested, deque()
            self.ledger.refresh()
            batch: list[tuple[Plan, TextIO]] = []
            try:
                while pending and len(batch) < self.order.sampling.micro_batch:
                    place = pending.popleft()
                    plan = self._next_attempt(place)
                    if plan is None:
                        on_volume()
                        continue
                    claimed = claim(self.folder, plan["id"])
                    if claimed is None:
                        contested.append(place)
                    else:
                        batch.append((plan, claimed))
                self.ledger.refresh()  # who held a claim before us may have finished
                self._generate([plan for plan, _ in batch if not self.ledger.holds(plan["id"])])
                pending.extendleft((plan["label"], plan["index"]) for plan, _ in reversed(batch))
            finally:
                for _, claimed in batch:
                    release(claimed)

    def _next_attempt(self, place: Place) -> Plan | None:
        """The volume that the place lacks; None where it has one, or where every attempt was turned down."""
        order = self.order
        for attempt in range(order.attempts):
            plan = plan_volume(
                self.common, order.prompts, label=place[0], index=place[1], attempt=attempt, seed=order.seed
            )
            if not self.ledger.holds(plan["id"]):
                return plan
            if self.ledger.entries[plan["id"]]["label"] is not None:
                return None
        return None

    def _generate(self, plans: list[Plan]) -> None:
        if not plans:
            return
        self.drawn.update(plan["recipe"]["report"] for plan in plans)
        output = draw_volumes(self.drawing, self.order.sampling, plans)
        affine = volume_affine(output.volumes.shape[2:], self.pipe.config.spacing_mm)
        for row, plan in enumerate(plans):
            probabilities = rounded_probabilities(output, row)
            label = final_label(plan["label"], probabilities, self.order.labels)
            files: dict[str, str] = {}
            hashes: dict[str, str] = {}
            for channel, name in enumerate(self.pipe.config.images if label is not None else ()):
                files[name] = f"{VOLUMES}/{plan['id']}_{name}.nii"
                hashes[name] = write_volume(self.folder / files[name], output.volumes[row, channel].numpy(), affine)
            self.contradicting += probabilities is not None and int(np.argmax(probabilities)) != plan["label"]
            made: dict[str, Any] = {
                "label": label,
                "files": files,
                "sha256": hashes,
                "class_probabilities": probabilities,
            }
            if output.unlike is not None:
                made["unlike"] = output.unlike[row]
            self.ledger.append({**plan, **made})


def _header(pipe: CCELLAPipeline, order: Order) -> dict[str, Any]:
    """What all volumes of a pool have in common."""
    return {
        "format": FORMAT,
        "images": pipe.config.images,
        "spacing_mm": pipe.config.spacing_mm,
        "shape": pipe.config.shape,
        "preprocessing": pipe.record.get("preprocessing"),
        "checkpoint": pipe.fingerprint,
        "trained_on_patients": pipe.record.get("patients", []),
        **provenance(pipe.record),
        "prompts": describe(order.prompts),
        "override_class": order.override_class,
        "labels": order.labels,
        "attempts": order.attempts if order.labels == "agreed" else 1,
        "seed": order.seed,
        "sampling": asdict(order.sampling),
        "threads": order.threads,
        "device": pipe.device.type,
        "dtype": str(pipe.denoiser.dtype),
        **({"precision": "bf16"} if order.precision == "bf16" else {}),
    }


def _require_reports(pipe: CCELLAPipeline, order: Order) -> None:
    """InputError where nothing tells the generator a class: it reads it in reports, and all of a class are empty."""
    conditioning = pipe.denoiser.conditioning
    if not conditioning.text or conditioning.class_input == "true" or order.override_class:
        return
    for label, count in sorted(order.per_class.items()):
        if count and not any(order.prompts.report(label, index, seed=order.seed) for index in range(count)):
            raise InputError(
                f"Every report of class {label} is empty, and the generator (variant "
                f"{pipe.denoiser.config.variant!r}) goes by reports: its volumes would not depend on the class. Give "
                "reports, or tell it the class itself (pool.prompts=override; in Python, override_class=True)."
            )


def _require_known_classes(pipe: CCELLAPipeline, order: Order) -> None:
    """InputError where a class is asked for that the generator does not have; one that knows no class has them all."""
    known = pipe.denoiser.config.classes
    unknown = [label for label, count in sorted(order.per_class.items()) if count and label >= known]
    if unknown and pipe.denoiser.conditioning.class_input != "none":
        raise InputError(
            f"per_class asks for class {unknown[0]}, and the generator has classes 0 to {known - 1}; leave it out, or "
            "take a generator that was trained on it."
        )
