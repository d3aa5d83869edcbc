"""A random order that is never written down: the member at a place is computed when it is asked for."""

import math

import numpy as np

ROUNDS = 6
"""Of two half rounds each; a Feistel cipher passes for random from four half rounds on, small sets want more."""


def shuffled_members(places: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    """Which of ``size`` members stands at each place of an endless order.

    Places 0 .. size - 1 hold each member once, so do the next ``size`` places, in another order, and so on. What a
    place costs depends neither on ``size`` nor on the place. It is a Feistel cipher with modular addition on a
    rectangle of slightly more than ``size`` cells. Results outside ``size`` are enciphered again (Black and Rogaway
    2002, Ciphers with arbitrary finite domains).

    Args:
        places: Integers from 0, any shape.
        size: Members, at least 1.
        seed: Names the order; see :func:`synthaug.ground.seeding.derive_seed`.

    Returns:
        Integers in 0 .. size - 1, int64, of the shape of ``places``.

    Example:
        >>> sorted(shuffled_members(np.arange(5), size=5, seed=1).tolist())
        [0, 1, 2, 3, 4]
        >>> shuffled_members(np.array([10**15]), size=10**7, seed=1).shape
        (1,)
    """
    lap, cell = np.divmod(np.asarray(places, dtype=np.uint64), np.uint64(size))
    columns = math.isqrt(size - 1) + 1
    sides = np.uint64(-(-size // columns)), np.uint64(columns)
    keys = _mixed(lap + np.uint64(seed))
    cell = _enciphered(cell, keys, sides)
    while (outside := cell >= size).any():
        cell[outside] = _enciphered(cell[outside], keys[outside], sides)
    return cell.astype(np.int64)


def _enciphered(cell: np.ndarray, keys: np.ndarray, sides: tuple[np.uint64, np.uint64]) -> np.ndarray:
    """Each cell's image under its key's permutation of the rectangle: row and column shift each other in turn."""
    rows, columns = sides
    row, column = np.divmod(cell, columns)
    for _ in range(ROUNDS):
        keys = _mixed(keys)
        row = (row + _mixed(keys ^ column) % rows) % rows
        column = (column + _mixed(~keys ^ row) % columns) % columns
    return row * columns + column


def _mixed(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's step and finaliser (Steele, Lea and Flood 2014): one changed bit changes half of all bits."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
