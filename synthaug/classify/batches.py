"""The batch of each optimiser step, from loaders of subjects."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
import torchio as tio

from synthaug.data.reading.manifest import class_index, stack_images
from synthaug.ground.errors import InputError
from synthaug.models.training.loop import Batch


@contextlib.contextmanager
def undivided(loaders: Sequence[tio.SubjectsLoader]) -> Iterator[None]:
    """The loaders' samplers leave the dealing to the optimisation loop, which gives each process part of each batch."""
    with contextlib.ExitStack() as stack:
        for loader in loaders:
            if hasattr(loader.batch_sampler, "undivided"):
                stack.enter_context(loader.batch_sampler.undivided())
        yield


def require_classes(loader: tio.SubjectsLoader, classes: int) -> None:
    """InputError where a loader that knows its classes, 0 to K - 1, has fewer or more than the validation subjects."""
    known = len(getattr(loader.batch_sampler, "counts", ())) or classes
    if known > classes:
        raise _apart("training", known - 1, "validation", classes)
    if known < classes:
        raise _apart("validation", classes - 1, "training", known)


def _apart(some: str, label: int, others: str, classes: int) -> InputError:
    return InputError(
        f"The {some} subjects have class {label}, the {others} subjects only {classes} classes; put every class into "
        "both."
    )


def in_turn(first: Callable[[int], Batch], second: Callable[[int], Batch], *, steps: int) -> Callable[[int], Batch]:
    """The batches of ``first`` for so many steps, then those of ``second`` from its own beginning."""
    return lambda step: first(step) if step < steps else second(step - steps)


def batches_of(
    loader: tio.SubjectsLoader,
    *,
    images: Sequence[str],
    classes: int,
    weights: torch.Tensor | None,
    offsets: torch.Tensor | None,
    resumable: bool,
) -> Callable[[int], Batch]:
    """The batch of each step, asked for in order from any first step.

    It holds the weight of each row and what is added to its logits, if there are any.
    """
    if resumable and not hasattr(loader.batch_sampler, "set_epoch"):
        raise InputError(
            "The loader's batch sampler has no set_epoch, so no killed training can go on: pass no checkpoint."
        )
    stream: Iterator[Batch] | None = None

    def batch_of(step: int) -> Batch:
        nonlocal stream
        if stream is None:
            stream = _endless(loader, images, classes, first_step=step)
        batch = next(stream)
        if weights is not None:
            batch = {**batch, "weights": weights[batch["labels"]]}
        if offsets is not None:
            batch = {**batch, "offsets": offsets.repeat(len(batch["labels"]), 1)}
        return batch

    return batch_of


def _endless(loader: tio.SubjectsLoader, images: Sequence[str], classes: int, *, first_step: int) -> Iterator[Batch]:
    first_epoch, seen = _place_of(loader, first_step)
    for epoch in itertools.count(first_epoch):
        _open(loader, epoch)
        for batch in itertools.islice(loader, seen if epoch == first_epoch else 0, None):
            labels = torch.tensor([class_index(label) for label in batch["label"]])
            if labels.max() >= classes:
                raise _apart("training", int(labels.max()), "validation", classes)
            yield {"volumes": stack_images(batch, images), "labels": labels}


def _place_of(loader: tio.SubjectsLoader, step: int) -> tuple[int, int]:
    """The epoch of a step, and the batches of that epoch before it; epochs differ in length where a schedule moves the
    synthetic fraction."""
    for epoch in itertools.count():
        _open(loader, epoch)
        if not len(loader):
            raise InputError("The loader has no whole batch; lower its batch size, or set drop_last=False.")
        if step < len(loader):
            break
        step -= len(loader)
    return epoch, step


def _open(loader: tio.SubjectsLoader, epoch: int) -> None:
    if hasattr(loader.batch_sampler, "set_epoch"):
        loader.batch_sampler.set_epoch(epoch)
