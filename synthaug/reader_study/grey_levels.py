"""Grey levels of a reader study: every volume, real or synthetic, goes through the same steps to the same 8-bit scale.

Real volumes are clipped at percentiles, padded with exact zeros and may have few grey values; synthetic ones are and
have none of this. Nobody should tell them apart by that.
"""

from collections.abc import Sequence

import numpy as np

from synthaug.ground.errors import InputError
from synthaug.ground.seeding import numpy_generator

PERCENTILES = (0.5, 99.5)
"""Of each image's own voxels; they become black and white."""
BLACK = 5
"""Grey levels below this one, of 255, are shown as 0, as padding is."""
SHOWN = 0.01
"""Share of a slice's voxels that must not be black, else the slice counts as empty."""


def grey_levels(volume: np.ndarray, *, named: str) -> np.ndarray:
    """A volume in 8 bits, its own percentiles at both ends of the scale.

    A little noise (at most one level, the same for every volume) fills the gaps that few grey values leave.

    Args:
        volume: (C, X, Y, Z), any range.
        named: Whose, for messages.

    Returns:
        (C, X, Y, Z) of uint8.

    Raises:
        InputError: An image is constant or not finite.
    """
    noise = numpy_generator("reader study grey levels", list(volume.shape[1:])).uniform(-1, 1, volume.shape[1:])
    levels = np.empty(volume.shape, dtype=np.uint8)
    for channel, image in enumerate(volume.astype(np.float64)):
        low, high = np.percentile(image, PERCENTILES)
        if not high > low:  # NaN too
            raise InputError(f"{named}: image {channel + 1} is constant or not finite: there is nothing to see.")
        scaled = np.clip(np.rint((image - low) / (high - low) * 255 + noise), 0, 255)
        levels[channel] = np.where(scaled < BLACK, 0, scaled)
    return levels


def slices_of_all(volumes: Sequence[np.ndarray]) -> slice:
    """Axial slices from the first to the last that is empty in no volume: slices of padding would tell short scans.

    Args:
        volumes: (C, X, Y, Z) of uint8, all of one shape.

    Raises:
        InputError: There are no such slices.

    Example:
        >>> whole, short = np.full((2, 1, 4, 4, 3), 9, np.uint8)
        >>> short[..., 0] = 0
        >>> slices_of_all([whole, short])
        slice(1, 3, None)
    """
    first, last = 0, volumes[0].shape[-1] - 1
    for volume in volumes:
        filled = np.flatnonzero(((volume > 0).mean(axis=(1, 2)) >= SHOWN).all(axis=0))
        first = max(first, filled[0] if len(filled) else last + 1)
        last = min(last, filled[-1] if len(filled) else first - 1)
    if first > last:
        raise InputError(
            "No axial slice shows something in every volume of the reader study; crop to a smaller preprocess.shape."
        )
    return slice(int(first), int(last) + 1)
