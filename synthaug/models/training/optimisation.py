"""One optimisation loop for every network: AdamW, decaying rate, clipped gradients, averaged weights, resume.

Each step's batch and noise are functions of (seed, step), so a killed loop that resumes sees what it would have seen,
and several processes (``accelerate launch``) share one global batch: each takes its slice of the same draw.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import nn
from transformers import get_polynomial_decay_schedule_with_warmup

from synthaug.config import TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.seeding import derive_seed
from synthaug.models.pretrained import load_strictly
from synthaug.models.training.training_log import TrainingLog

Batch = dict[str, torch.Tensor]
OnStep = Callable[[int, dict[str, float]], None]
OnInterval = Callable[[int], None]
PACE = ("checkpoint_minutes",)
"""Settings of a loop that change no result."""
EMA_WARMUP = 10.0
"""Steps over which the averaging of weights grows long (``TrainingConfig.ema_warmup``)."""


class Companion(Protocol):
    """What a caller gathers while the loop runs and must find again after a resume."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up what ``state_dict`` gave."""


def optimise(
    objective: nn.Module,
    batch_of: Callable[[int], Batch],
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
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
        checkpoint: File that a killed loop resumes from; removed at the end.
        on_step: Called after each step with the step's number from 1 and the values.
        every: Steps between calls of ``on_interval``; 0 = none.
        on_interval: Called by the main process every so many steps and at the end, with the step's number, while the
            objective holds the averaged weights and is in evaluation mode. Whatever it draws, the training goes on
            as without it.
        until: Asked after each interval, and if the main process says True the training ends there. Every process
            must pass it, or none.
        companion: Saved and restored with the loop, as of the same step.
        stats: Keeps a line every few steps; told by the main process.

    Raises:
        InputError: The loss stops being finite, the batch does not divide among the processes and parts, or the
            checkpoint is of another loop.
    """
    processes()  # before the accelerator, which takes over what it finds
    half = _half_precision(config.precision)
    # All loops of a process must ask accelerate for the same; only fp16 needs it, for its gradient scaler.
    accelerator = Accelerator(mixed_precision="fp16" if half == torch.float16 else "no")
    if config.batch_size % (accelerator.num_processes * config.accumulate):
        raise InputError(
            f"batch_size={config.batch_size} does not divide among {accelerator.num_processes} processes "
            f"of {config.accumulate} parts."
        )
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(  # fused: a quarter of the time of one pass a tensor
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    schedule = _schedule(optimizer, config)
    average = None
    if config.ema:
        average = EMAModel(
            parameters,
            decay=config.ema,
            use_ema_warmup=config.ema_warmup,
            inv_gamma=EMA_WARMUP,
            power=1.0,
            foreach=True,
        )
    state = {"objective": objective, "optimizer": optimizer, "schedule": schedule}
    state |= {name: part for name, part in (("average", average), ("companion", companion)) if part}
    done = _resume(checkpoint, config, state)
    channels_last = config.precision == "bf16" and not torch.cuda.is_available()
    if channels_last:
        objective.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # where half-precision convolutions on CPUs are fast
    if stats and accelerator.is_main_process:
        stats.resume(done)
    model, optimizer = accelerator.prepare(objective, optimizer)
    model.train()
    if average:
        average.to(accelerator.device)
    saved = time.monotonic()
    for step in range(done, config.steps):
        # Asked before a step, not after one, so that a loop killed between the two stops as the unbroken one.
        if until and every and step and step % every == 0 and _main_says(until, accelerator):
            break
        parts = _parts(batch_of(step), accelerator, config.accumulate)
        values = _backward(model, parts, accelerator, half=half, seed_parts=(config.seed, step))
        if not math.isfinite(values["loss"]):
            raise InputError(f"Training stopped at step {step}: the loss is {values['loss']}; lower the learning rate.")
        accelerator.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if average:
            average.step(parameters)
        if on_step:
            on_step(step + 1, values)
        if stats and accelerator.is_main_process:
            rate = float(schedule.get_last_lr()[0])
            stats.step(step + 1, {**values, "learning_rate": rate}, last=step + 1 == config.steps)
        due = every and ((step + 1) % every == 0 or step + 1 == config.steps)
        if on_interval and due and accelerator.is_main_process:
            with _averaged(objective, parameters, average):
                on_interval(step + 1)
        if checkpoint and accelerator.is_main_process and time.monotonic() - saved > 60 * config.checkpoint_minutes:
            _save(checkpoint, config, step + 1, state)
            saved = time.monotonic()
    if average:
        average.copy_to(parameters)
    if channels_last:
        objective.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if checkpoint and accelerator.is_main_process:
        checkpoint.unlink(missing_ok=True)
    objective.eval()


def _schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "polynomial":
        return get_polynomial_decay_schedule_with_warmup(optimizer, config.warmup, config.steps, lr_end=0.0, power=2.0)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, partial(cosine_share, config))
    # One step more than there are, because the rate is also set after the last one. The peak is at step ``warmup``.
    total = config.steps + 1
    rise = (config.warmup + 1) / total if config.warmup else 0.3
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=total, pct_start=rise)


def cosine_share(config: TrainingConfig, step: int) -> float:
    """Share of the peak rate at a step: a linear rise, constant for half of the steps, then a cosine to 0.

    Example:
        >>> config = TrainingConfig(steps=100, schedule="cosine", warmup=10)
        >>> [round(cosine_share(config, step), 2) for step in (0, 9, 49, 75, 100)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = step / config.steps
    return rise * (1.0 if done < 0.5 else (1 + math.cos(2 * math.pi * (done - 0.5))) / 2)


def _main_says(until: Callable[[], bool], accelerator: Accelerator) -> bool:
    """The main process's answer, in every process."""
    answer = torch.tensor(float(until()), device=accelerator.device)
    return bool(broadcast(answer) if accelerator.num_processes > 1 else answer)


def processes() -> PartialState:
    """The processes that train together (``torchrun``, ``accelerate launch``); alone, there is one.

    Without a GPU, accelerate joins processes only when it is told that the CPU is meant.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def _half_precision(setting: str) -> torch.dtype | None:
    """The half precision to compute in; None = float32.

    auto: bfloat16 or else float16 on CUDA; on a CPU without native support they are 100 times slower.
    """
    if setting == "auto" and torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if setting == "bf16" else None


def _parts(batch: Batch, accelerator: Accelerator, count: int) -> list[Batch]:
    """This process's share of the global batch, in ``count`` parts."""
    every = len(next(iter(batch.values())))
    rows, left_over = divmod(every, accelerator.num_processes * count)
    if left_over:
        raise InputError(
            f"A batch of {every} does not divide among {accelerator.num_processes} processes of {count} parts."
        )
    starts = [(accelerator.process_index * count + part) * rows for part in range(count)]
    return [{name: value[at : at + rows].to(accelerator.device) for name, value in batch.items()} for at in starts]


def _backward(
    model: nn.Module, parts: list[Batch], accelerator: Accelerator, *, half: torch.dtype | None, seed_parts: tuple
) -> dict[str, float]:
    """Gradients of the mean loss over the parts; its value and the others', averaged over parts and processes."""
    total: dict[str, torch.Tensor] = {}
    for number, part in enumerate(parts):
        waiting = accelerator.no_sync(model) if number + 1 < len(parts) else contextlib.nullcontext()
        names = ("dropout", *seed_parts, accelerator.process_index, number)
        with waiting, _own_draws(*names, device=accelerator.device):
            with torch.autocast(accelerator.device.type, dtype=half, enabled=half is not None):
                loss, values = model(**part)
            accelerator.backward(loss / len(parts))
        for name, value in {"loss": loss.detach(), **values}.items():
            total[name] = total.get(name, 0) + value / len(parts)
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, reduction="mean")
    return {name: float(value) for name, value in total.items()}


@contextlib.contextmanager
def _averaged(objective: nn.Module, parameters: list[nn.Parameter], average: EMAModel | None) -> Iterator[None]:
    """The objective as it would be if the training ended now; its random draws leave the training's alone."""
    objective.eval()
    if average:
        average.store(parameters)
        average.copy_to(parameters)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        if average:
            average.restore(parameters)
        objective.train()


@contextlib.contextmanager
def _own_draws(*parts: str | int, device: torch.device) -> Iterator[None]:
    """Dropout draws from a generator named by ``parts``; the caller's generators stay as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(*parts))
        yield


def _loop(config: TrainingConfig) -> dict[str, float]:
    """What a checkpoint and the loop that resumes from it must agree on."""
    return {name: value for name, value in asdict(config).items() if name not in PACE}


def _save(checkpoint: Path, config: TrainingConfig, step: int, state: dict[str, Any]) -> None:
    saved = {name: part.state_dict() for name, part in state.items()}
    with atomic_path(checkpoint) as temporary:
        torch.save({"loop": _loop(config), "step": step, **saved}, temporary)


def _resume(checkpoint: Path | None, config: TrainingConfig, state: dict[str, Any]) -> int:
    if checkpoint is None or not checkpoint.is_file():
        return 0
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    changed = [f"{name}={value}" for name, value in saved["loop"].items() if _loop(config).get(name) != value]
    if changed:
        raise InputError(f"{checkpoint}: begun with {', '.join(changed)}; train as then, or delete it to begin anew.")
    load_strictly(state["objective"], saved["objective"], source=str(checkpoint))
    for name, part in state.items():
        if name == "objective":
            continue
        if name not in saved:
            raise InputError(f"{checkpoint}: holds no {name}; delete it to begin anew.")
        part.load_state_dict(saved[name])
    return saved["step"]
