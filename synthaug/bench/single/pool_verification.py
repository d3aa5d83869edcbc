"""``synthaug pool verify``: are a pool's volumes as they were generated?"""

from typing import TYPE_CHECKING

from synthaug.ground.errors import InputError

if TYPE_CHECKING:
    from synthaug.generate.pipeline import CCELLAPipeline
    from synthaug.pool.pool import SyntheticPool


def verify(pool: str, generator: str | None = None, redraw: int = 8) -> None:
    """Verify every volume of a pool and name missing or altered ones; with its generator, draw some anew.

    Args:
        pool: Folder of the pool.
        generator: Folder, builtin name or hub id of the generator that drew it: volumes are drawn anew and compared.
        redraw: How many volumes are drawn anew, spread evenly over the pool.
    """
    from synthaug.pool.ledger import MANIFEST
    from synthaug.pool.pool import SyntheticPool

    opened = SyntheticPool.open(pool)
    if not len(opened) + opened.dropped:
        raise InputError(f"{pool}: lists no volume ({MANIFEST} is missing or empty); run its build again.")
    lost, begun = opened.unlisted_files()
    if lost:
        names = ", ".join(path.name for path in lost)
        raise InputError(
            f"{pool}: {len(lost)} files have no line in {MANIFEST}, which lost it ({names}); run the build again, or "
            "delete them."
        )
    pipe = None if generator is None else _drawer(opened, generator, redraw)  # hashing a pool takes longer
    opened.verify()
    print(f"{pool}: all {len(opened)} volumes are as they were generated")
    if begun:
        names = ", ".join(path.name for path in begun)
        print(f"{len(begun)} files are not listed yet ({names}): a builder is at them, or was stopped; build again")
    if pipe is not None:
        _verify_by_drawing(opened, pipe, redraw)


def _drawer(pool: "SyntheticPool", generator: str, count: int) -> "CCELLAPipeline":
    """The generator of a pool where it drew it; InputError where it is none, or so many volumes cannot be drawn."""
    import torch

    from synthaug.generate.pipeline import CCELLAPipeline
    from synthaug.pool.review.redrawing import require_redrawable

    pipe = CCELLAPipeline.from_pretrained(generator)
    if pool.header.get("device") == "cuda" and torch.cuda.is_available():
        pipe.to("cuda")
    require_redrawable(pool, pipe, count=count)
    return pipe


def _verify_by_drawing(pool: "SyntheticPool", pipe: "CCELLAPipeline", count: int) -> None:
    """InputError where volumes that are drawn anew are others than the pool's."""
    from synthaug.pool.review.redrawing import redraw

    redrawn = redraw(pool, pipe, count=count)
    others = [each for each in redrawn if not each.same_bytes]
    if others:
        largest = max(each.difference for each in others)
        raise InputError(
            f"{pool.path}: {len(others)} of {len(redrawn)} volumes came out otherwise when they were drawn anew, by up "
            f"to {largest:.2g} of a range of 1 ({', '.join(each.id for each in others)}). Another processor or another "
            "version of torch changes roundings, up to about 0.001; more is another volume."
        )
    print(f"{len(redrawn)} volumes drawn anew have the same bytes")
