"""Which batches of an epoch a process gets, and whether the sampler or the one who asks for them deals them out."""

import sys
from dataclasses import dataclass

from accelerate.data_loader import BatchSamplerShard
from torch import distributed

from synthaug.ground.errors import InputError


@dataclass(frozen=True)
class Dealing:
    """How the batches of one epoch are shared out.

    Example:
        >>> list(Dealing(rank=1, ranks=2).numbers(0, 3)), list(Dealing(rank=1, ranks=2, whole=True).numbers(1, 3))
        ([1, 3, 5], [2, 3, 4, 5])
    """

    rank: int
    ranks: int
    whole: bool = False
    """Whether all ranks' batches are asked for, by one who deals them out in the same turns."""

    def numbers(self, first: int, length: int) -> range:
        """Batches of the epoch from the ``first`` of this rank on, where every rank gets ``length``."""
        start, step = (0, 1) if self.whole else (self.rank, self.ranks)
        return range(first * self.ranks + start, length * self.ranks, step)

    def batches(self, length: int) -> int:
        """How many batches are asked for where every rank gets ``length``."""
        return length * self.ranks if self.whole else length


def checked_place(rank: int | None, ranks: int | None) -> Dealing | None:
    """The place among ranks that a caller gave; None = none given.

    Raises:
        InputError: Only one of the two is given, or not 0 <= rank < ranks.
    """
    if rank is None or ranks is None:
        if (rank is None) != (ranks is None):
            raise InputError(f"rank={rank} and ranks={ranks} go together; give both or neither.")
        return None
    if not 0 <= rank < ranks:
        raise InputError(f"rank={rank} must lie in 0..{ranks - 1}.")
    return Dealing(rank, ranks)


def dealing_of(given: Dealing | None) -> Dealing:
    """The dealing for the caller's caller: ``given``, torch.distributed's, or the whole epoch if accelerate deals it.

    ``accelerate.prepare`` puts a ``BatchSamplerShard`` between sampler and loader, which passes over the other ranks'
    batches; a sampler that deals too would lose them. Nothing tells a sampler of it but who asks.

    Raises:
        InputError: Accelerate deals among other ranks than those given.
    """
    shard = sys._getframe(2).f_locals.get("self")
    if isinstance(shard, BatchSamplerShard):
        if given and given.ranks not in (1, shard.num_processes):
            raise InputError(
                f"ranks={given.ranks}, but accelerate deals the batches among {shard.num_processes} processes; leave "
                "rank and ranks out."
            )
        # Split batches: each process gets a part of every batch.
        return Dealing(shard.process_index, 1 if shard.split_batches else shard.num_processes, whole=True)
    if given:
        return given
    running = distributed.is_available() and distributed.is_initialized()
    return Dealing(distributed.get_rank(), distributed.get_world_size()) if running else Dealing(0, 1)
