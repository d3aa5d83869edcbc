"""Volumes for the page's slice viewer: each synthetic one, the training volume most like it, its prompt and recipe."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from synthaug.pool.review.slices import LEFT_RIGHT, SHOWN
from synthaug.report.volumes.slices import Samples, nearest_shown, shown_volume

BUDGET = 3_500_000
"""Bytes of all slices in the page, base64 included."""
SMALLER = 0.75
"""Side of a volume against the last try, where slices do not fit the budget."""
QUALITY = 82
"""Of WebP."""
LONGEST = 16_000
"""Pixels of a WebP picture's side, at most."""
RECIPE = ("scheduler", "steps", "guidance", "seed", "checkpoint")
Shown = dict[str, Any]
"""A volume of the viewer: source, label, index, slices; prompt and recipe; nearest, correlation, mirrored, copy."""


def volumes_of(samples: Sequence[Samples], images: Sequence[str], *, most: int, budget: int = BUDGET) -> list[Shown]:
    """The first volumes of each class of each generator.

    Args:
        samples: A generator each, with the nearest training volumes where they are known.
        images: Image names; the first is shown.
        most: Classes times generators, at most.
        budget: Bytes of all slices together, at most.

    Returns:
        Volumes whose slices fit ``budget`` together.
    """
    pairs = [(each, label) for each in samples for label in each.pool.classes][:most]
    found: list[tuple[Shown, torch.Tensor, torch.Tensor | None]] = []
    for each, label in pairs:
        near = {row["index"]: row for row in nearest_shown(each, label)}
        known = {subject["subject_id"]: subject for subject in each.training}
        for index in range(min(SHOWN, each.pool.counts[label])):
            subject = each.pool.subject(label, index)
            told = _told_of(each, label, index, near.get(index))
            original = None
            if index in near:
                original = shown_volume(known[near[index]["nearest_subject"]], images)
                original = original.flip(LEFT_RIGHT) if near[index]["mirrored"] else original
            found.append((told, shown_volume(subject, images), original))
    return _within_budget(found, _spacing(pairs[0][0]) if pairs else (1.0, 1.0), budget)


def split_by_privacy(volumes: Sequence[Shown]) -> tuple[list[Shown], list[Shown]]:
    """What may be shared of each volume, and what shows or names patients.

    A synthetic volume may be shared where it was compared with the training volumes and is called no copy. Prompts are
    reports of patients; the nearest volume is a patient.
    """
    open_part: list[Shown] = []
    rest: list[Shown] = []
    own = ("prompt", "nearest", "nearest_subject", "correlation", "mirrored")
    for volume in volumes:
        shared = volume.get("copy") is False
        kept = {name: value for name, value in volume.items() if name not in own and (shared or name != "slices")}
        open_part.append(kept)
        rest.append({name: value for name, value in volume.items() if name not in kept})
    return open_part, rest


def _told_of(samples: Samples, label: int, index: int, near: Mapping[str, Any] | None) -> Shown:
    entry = samples.pool.entries(label)[index]
    recipe = entry["recipe"]
    told: Shown = {"source": samples.source, "label": label, "index": index, "prompt": recipe.get("report", "")}
    told["recipe"] = {name: str(recipe[name]) for name in RECIPE if name in recipe}
    if entry["class_probabilities"]:
        told["probabilities"] = [round(each, 3) for each in entry["class_probabilities"]]
    if near:
        told |= {name: near[name] for name in ("nearest_subject", "correlation", "mirrored", "copy")}
    return told


def _spacing(samples: Samples) -> tuple[float, float]:
    across, down = samples.pool.header.get("spacing_mm", (1.0, 1.0, 1.0))[:2]
    return float(across), float(down)


def _within_budget(
    found: Sequence[tuple[Shown, torch.Tensor, torch.Tensor | None]], spacing: tuple[float, float], budget: int
) -> list[Shown]:
    size = 1.0
    while True:
        volumes = []
        for told, synthetic, original in found:
            slices = {"slices": _slices(synthetic, size, spacing)}
            if original is not None:
                slices["nearest"] = _slices(original, size, spacing)
            volumes.append(told | slices)
        used = sum(len(each[name]["picture"]) for each in volumes for name in ("slices", "nearest") if name in each)
        if used <= budget or size < 0.05:
            return volumes
        size *= SMALLER


def _slices(volume: torch.Tensor, size: float, spacing: tuple[float, float]) -> dict[str, Any]:
    """All axial slices of a volume (X, Y, Z) in one picture, row by row, the lowest first."""
    turned = (volume.flip(LEFT_RIGHT).permute(2, 1, 0).flip(1).clamp(0, 1) * 255).round().byte().numpy()
    count, height, width = turned.shape
    high, wide = max(round(size * height), 1), max(round(size * width), 1)
    columns = max(math.ceil(count * high / LONGEST), 1)
    sheet = Image.new("L", (columns * wide, -(-count // columns) * high))
    for number, each in enumerate(turned):
        tile = Image.fromarray(np.ascontiguousarray(each)).resize((wide, high), Image.Resampling.BOX)
        sheet.paste(tile, (number % columns * wide, number // columns * high))
    stream = io.BytesIO()
    sheet.save(stream, format="webp", quality=QUALITY, method=4)
    return {
        "picture": base64.b64encode(stream.getvalue()).decode(),
        "count": count,
        "columns": columns,
        "width": wide,
        "height": high,
        "ratio": round(width * spacing[0] / (height * spacing[1]), 4),
    }
