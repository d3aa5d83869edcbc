"""The parts of an optimisation loop: network, optimiser, rate, running average, and what one step does with them."""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import nn
from transformers import get_polynomial_decay_schedule_with_warmup

from synthaug.config import TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.memory import keep_freed_memory, return_freed_memory
from synthaug.ground.seeding import derive_seed
from synthaug.models.parts.convolution import small_in_float32
from synthaug.models.precision import gpu_has_bf16
from synthaug.models.training.muon import Muon
from synthaug.models.training.processes import processes

Batch = dict[str, torch.Tensor]
EMA_WARMUP = 10.0
"""Steps over which the averaging of weights grows long (``TrainingConfig.ema_warmup``).

Without it diffusers' average grows long as quickly: what ``ema_warmup`` chooses is the formula.
"""


class Companion(Protocol):
    """What a caller gathers while the loop runs and must find again after a resume."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up what ``state_dict`` gave."""


class Loop:
    """What is optimised and what optimises it, as of one step.

    Args:
        objective: Maps a batch to (loss, {name: value}).
        config: The loop's settings.
        companion: Saved and restored with it.

    Raises:
        InputError: The batch does not divide among the processes and parts.
    """

    def __init__(self, objective: nn.Module, config: TrainingConfig, companion: Companion | None) -> None:
        processes()  # before the accelerator, which takes over what it finds
        self.objective, self.config = objective, config
        self.half = _half_precision(config.precision)
        self.accelerator = Accelerator(mixed_precision="no")  # every loop computes in its own, by autocast
        if config.batch_size % (self.accelerator.num_processes * config.accumulate):
            raise InputError(
                f"batch_size={config.batch_size} does not divide among {self.accelerator.num_processes} processes "
                f"of {config.accumulate} parts."
            )
        self.parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(objective, config)
        self.schedule = _schedule(self.optimizer, config)
        self.average = _average(self.parameters, config) if config.ema else None
        self.state: dict[str, Any] = {"objective": objective, "optimizer": self.optimizer, "schedule": self.schedule}
        """What a checkpoint holds, by name."""
        self.state |= {name: part for name, part in (("average", self.average), ("companion", companion)) if part}

    @property
    def leads(self) -> bool:
        """Whether this is the main process."""
        return self.accelerator.is_main_process

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def _channels_last(self) -> bool:
        """Where half-precision convolutions on CPUs are fast."""
        return self.config.precision == "bf16" and not torch.cuda.is_available()

    def begin(self) -> None:
        """Move everything to its device, after what was saved has been taken up."""
        keep_freed_memory()
        if self._channels_last:
            self.objective.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            small_in_float32(self.objective)
        self.model, self.optimizer = self.accelerator.prepare(self.objective, self.optimizer)
        self.model.train()
        if self.average:
            self.average.to(self.accelerator.device)

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """One optimiser step on the global batch; returns the values of its loss."""
        parts = _parts(batch, self.accelerator, self.config.accumulate)
        values = _backward(self.model, parts, self.accelerator, half=self.half, seed_parts=(self.config.seed, step))
        if not math.isfinite(values["loss"]):
            raise InputError(f"Training stopped at step {step}: the loss is {values['loss']}; lower the learning rate.")
        self.accelerator.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average:
            self.average.step(self.parameters)
        return values

    def main_says(self, until: Callable[[], bool]) -> bool:
        """The main process's answer, in every process."""
        answer = torch.tensor(float(until()), device=self.accelerator.device)
        return bool(broadcast(answer) if self.accelerator.num_processes > 1 else answer)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The objective as it would be if the training ended now; its random draws leave the training's alone."""
        self.objective.eval()
        self._ask_for_gradients(False)  # of weights that do, torch multiplies some matrices in another order
        if self.average:
            self.average.store(self.parameters)
            self.average.copy_to(self.parameters)
        try:
            with torch.random.fork_rng(_drawn_on(self.accelerator.device)):
                yield
        finally:
            if self.average:
                self.average.restore(self.parameters)
            self._ask_for_gradients(True)
            self.objective.train()

    def _ask_for_gradients(self, asked: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(asked)

    def end(self) -> None:
        """Leave the objective with the averaged weights, laid out in memory as usual."""
        if self.average:
            self.average.copy_to(self.parameters)
        if self._channels_last:
            self.objective.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return_freed_memory()


def make_optimizer(objective: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of the parameters that ask for gradients."""
    # fused: a quarter of the time of one pass a tensor
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
        "fused": True,
    }
    if config.optimizer == "muon":
        return Muon(objective, **settings)
    return torch.optim.AdamW([each for each in objective.parameters() if each.requires_grad], **settings)


def _average(parameters: list[nn.Parameter], config: TrainingConfig) -> EMAModel:
    return EMAModel(
        parameters,
        decay=config.ema,
        use_ema_warmup=config.ema_warmup,
        inv_gamma=EMA_WARMUP,
        power=1.0,
        foreach=True,
    )


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


def _half_precision(setting: str) -> torch.dtype | None:
    """The half precision to compute in; None = float32.

    auto: bfloat16 on a GPU that has it. Elsewhere it may be emulated, and float16 would overflow.
    """
    chosen = setting == "bf16" or (setting == "auto" and torch.cuda.is_available() and gpu_has_bf16())
    return torch.bfloat16 if chosen else None


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
def _own_draws(*parts: str | int, device: torch.device) -> Iterator[None]:
    """Dropout draws from a generator named by ``parts``; the caller's generators stay as they were."""
    # torch.manual_seed also notes its caller for each kind of device that is not in use: 2 ms of every step.
    seed = torch.manual_seed if device.type == "cuda" else torch.default_generator.manual_seed
    with torch.random.fork_rng(_drawn_on(device)):
        seed(derive_seed(*parts))
        yield


def _drawn_on(device: torch.device) -> list[torch.device]:
    """GPUs whose generator a loop may move: its own. To ask the others would take memory on each."""
    return [device] if device.type == "cuda" else []
