"""Recipe of a synthetic volume: everything that its bytes depend on."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from synthaug.config import SamplingConfig
from synthaug.generate.pipeline import CCELLAOutput, CCELLAPipeline
from synthaug.generate.stored.told import arguments_of
from synthaug.generate.trial import require_steps
from synthaug.ground.files import content_hash
from synthaug.ground.seeding import derive_seed
from synthaug.models.precision import Precision
from synthaug.pool.prompts import Prompts


def with_sampling(
    pipe: CCELLAPipeline, sampling: SamplingConfig, *, precision: Precision | None = None
) -> CCELLAPipeline:
    """The same networks with the scheduler and micro-batch of ``sampling``; ``pipe`` is not modified.

    ``precision`` replaces the precision of the training; None = the same.

    Raises:
        InputError: The scheduler does not suit the generator, or cannot make so many steps.
    """
    drawing = copy.copy(pipe).with_scheduler(sampling.scheduler, epsilon_scale=sampling.epsilon_scale)
    drawing.register_to_config(micro_batch=sampling.micro_batch, precision=precision or pipe.config.precision)
    drawing.set_progress_bar_config(disable=True)
    if not drawing.edm:
        require_steps(drawing.scheduler, sampling.steps)
    return drawing


def common_recipe(pipe: CCELLAPipeline, sampling: SamplingConfig, *, override_class: bool) -> dict[str, Any]:
    """The part of a recipe that all volumes of a pool share: all but report, class and seed."""
    # A scale that is the generator's own is part of its fingerprint.
    told = {name: value for name, value in asdict(sampling).items() if value is not None}
    return {
        "checkpoint": pipe.fingerprint,
        "override_class": override_class,
        **told,
        "shape": list(pipe.config.shape),
        "spacing_mm": list(pipe.config.spacing_mm),
        "threads": torch.get_num_threads(),
        "device": pipe.device.type,
        "dtype": str(pipe.denoiser.dtype),
        **({"precision": "bf16"} if pipe.config.precision == "bf16" else {}),
    }


def plan_volume(
    common: Mapping[str, Any], prompts: Prompts, *, label: int, index: int, attempt: int = 0, seed: int
) -> dict[str, Any]:
    """Recipe of the volume at (class, index), and its id, the hash of the recipe.

    Args:
        common: Of :func:`common_recipe`.
        prompts: Source of the report.
        label: Requested class.
        index: Index within the class.
        attempt: Number of rejected volumes of this place.
        seed: Of the pool.
    """
    name = ("volume", seed, label, index, attempt) if attempt else ("volume", seed, label, index)
    report = prompts.report(label, index, attempt=attempt, seed=seed)
    recipe = {**common, "report": report, "requested_class": label, "seed": derive_seed(*name)}
    return {"id": content_hash(recipe), "label": label, "index": index, "attempt": attempt, "recipe": recipe}


def draw_volumes(drawing: CCELLAPipeline, sampling: SamplingConfig, plans: Sequence[Mapping[str, Any]]) -> CCELLAOutput:
    """Volumes of some recipes, from a pipeline of :func:`with_sampling`."""
    recipes = [plan["recipe"] for plan in plans]
    override = any(recipe["override_class"] for recipe in recipes)
    return drawing(
        [recipe["report"] for recipe in recipes],
        [recipe["requested_class"] for recipe in recipes] if override else None,
        seeds=[recipe["seed"] for recipe in recipes],
        **arguments_of(sampling),
    )


def provenance_line(recipe: Mapping[str, Any], class_probabilities: Sequence[float] | None) -> str:
    """A subject's provenance: one line of JSON."""
    return json.dumps({**recipe, "class_probabilities": class_probabilities}, sort_keys=True)


def rounded_probabilities(output: CCELLAOutput, row: int) -> list[float] | None:
    """Class probabilities of one volume of an output, rounded as they are recorded."""
    if output.class_probabilities is None:
        return None
    return [round(probability, 6) for probability in output.class_probabilities[row].tolist()]


def volume_affine(shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """RAS, centred on the origin.

    Example:
        >>> volume_affine((3, 3, 5), (1, 1, 2))[:3, 3].tolist()
        [-1.0, -1.0, -4.0]
    """
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.multiply(spacing_mm, np.subtract(shape, 1)) / 2
    return affine
