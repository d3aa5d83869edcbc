"""One optimisation loop for every network: AdamW, decaying rate, clipped gradients, averaged weights, resume.

Batch and noise of a step are functions of (seed, step), so that a killed loop resumes exactly. Several processes
(``accelerate launch``) take slices of the same global batch.
"""

import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthaug.config import TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.models.pretrained import load_strictly
from synthaug.models.training.loop import Batch, Companion, Loop
from synthaug.models.training.training_log import TrainingLog

OnStep = Callable[[int, dict[str, float]], None]
OnInterval = Callable[[int], None]
PACE = ("checkpoint_minutes",)
"""Settings of a loop that change no result."""


@dataclass(frozen=True)
class Part:
    """A loop that is part of a longer training. Its checkpoint stays, with the last step, until the caller has stored
    what was trained."""

    name: str
    """Checkpoints of other parts are passed over: one stays where a training is killed as its part is stored."""
    settings: str = ""
    """Hash of what decides the result beside the loop's settings."""


def optimise(
    objective: nn.Module,
    batch_of: Callable[[int], Batch],
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
    part: Part | None = None,
    on_step: OnStep | None = None,
    every: int = 0,
    on_interval: OnInterval | None = None,
    until: Callable[[], bool] | None = None,
    companion: Companion | None = None,
    stats: TrainingLog | None = None,
) -> None:
    """Minimise ``objective(**batch_of(step))`` over the steps of ``config``.

    Args:
        objective: Maps a batch to (loss, {name: value}); its trainable parameters are optimised in place. With
            ``config.ema`` > 0 they end as the running average.
        batch_of: The global batch of a step, on the CPU; tensors of ``batch_size`` rows.
        config: The loop.
        checkpoint: File that a killed loop resumes from; removed at the end, unless it is of a ``part``.
        part: What the loop is part of; None = it stands alone.
        on_step: Called after each step with the step's number from 1 and the values.
        every: Steps between calls of ``on_interval``; 0 = none.
        on_interval: Called by the main process at intervals and at the end with the number of the step. The objective
            then holds the averaged weights in evaluation mode. Whatever it draws, the training goes on as without it.
        until: Asked after each interval, and if the main process says True the training ends there. Every process
            must pass it, or none.
        companion: Saved and restored with the loop, as of the same step.
        stats: Keeps a line every few steps; told by the main process.

    Raises:
        InputError: The loss stops being finite, the batch does not divide among the processes and parts, or the
            checkpoint is damaged or of another loop.
    """
    loop = Loop(objective, config, companion)
    done = _resume(checkpoint, config, part, loop.state)
    loop.accelerator.wait_for_everyone()  # before the main process replaces or removes what the others read
    if stats and loop.leads:
        stats.resume(done)
    loop.begin()
    saved = time.monotonic()
    for step in range(done, config.steps):
        # Asked before a step, not after one, so that a loop killed between the two stops as the unbroken one.
        if until and every and step and step % every == 0 and loop.main_says(until):
            break
        values = loop.step(step, batch_of(step))
        if on_step:
            on_step(step + 1, values)
        if stats and loop.leads:
            stats.step(step + 1, {**values, "learning_rate": loop.rate}, last=step + 1 == config.steps)
        due = every and ((step + 1) % every == 0 or step + 1 == config.steps)
        if on_interval and due and loop.leads:
            with loop.averaged():
                on_interval(step + 1)
        finished = part is not None and step + 1 == config.steps
        if checkpoint and loop.leads and (finished or time.monotonic() - saved > 60 * config.checkpoint_minutes):
            _save(checkpoint, config, part, step + 1, loop.state)
            saved = time.monotonic()
    loop.end()
    if checkpoint and loop.leads and part is None:
        checkpoint.unlink(missing_ok=True)
    objective.eval()


def _settings(config: TrainingConfig) -> dict[str, float]:
    """What a checkpoint and the loop that resumes from it must agree on."""
    return {name: value for name, value in asdict(config).items() if name not in PACE}


def _save(checkpoint: Path, config: TrainingConfig, part: Part | None, step: int, state: dict[str, Any]) -> None:
    saved = {name: each.state_dict() for name, each in state.items()}
    if part:
        saved["part"] = asdict(part)
    with atomic_path(checkpoint) as temporary:
        torch.save({"loop": _settings(config), "step": step, **saved}, temporary)


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if not isinstance(saved, dict) or not {"loop", "step", "objective"} <= saved.keys():
            raise ValueError("it holds something else")
    except (EOFError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200] or "it ends too early"
        raise InputError(f"{checkpoint}: cannot be read ({reason}); delete it to begin anew.") from error
    return saved


def _resume(checkpoint: Path | None, config: TrainingConfig, part: Part | None, state: dict[str, Any]) -> int:
    if checkpoint is None or not checkpoint.is_file():
        return 0
    saved = _read(checkpoint)
    its_part = Part(**saved["part"]) if part and "part" in saved else part  # older checkpoints do not tell
    if part and its_part and its_part.name != part.name:
        return 0
    changed = [f"{name}={value}" for name, value in saved["loop"].items() if _settings(config).get(name) != value]
    if changed:
        raise InputError(f"{checkpoint}: begun with {', '.join(changed)}; train as then, or delete it to begin anew.")
    if its_part != part:
        raise InputError(f"{checkpoint}: begun with other settings or data; train as then, or delete it to begin anew.")
    load_strictly(state["objective"], saved["objective"], source=str(checkpoint))
    for name, each in state.items():
        if name == "objective":
            continue
        if name not in saved:
            raise InputError(f"{checkpoint}: holds no {name}; delete it to begin anew.")
        each.load_state_dict(saved[name])
    return saved["step"]
