"""The prostate network of the lavlab-taps wheel, in MONAI: where is the gland, how large, how does it look?

The wheel ships its weights (MIT) as an ONNX file. They are read from there into MONAI's own ``SegResNetDS``, so that
neither the wheel's code nor an ONNX runtime is needed.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from monai.networks.nets import SegResNetDS
from scipy import ndimage
from torch import Tensor, nn

from synthaug.config import PreprocessConfig
from synthaug.ground.errors import InputError
from synthaug.models.pretrained import load_strictly, weights_hash

INSTALL = "pip install 'synthaug[taps]' && pip install --no-deps lavlab-taps"
"""Without --no-deps the wheel brings 256 MB of onnxruntime-gpu that is not used here."""
SPACING_MM = (0.8, 0.8, 3.0)
"""Voxels that the network was trained on, RAS axes."""
FIELD = (160, 160, 16)
"""Voxels of the central field that it is shown: its group norms want a field near that of its training."""
MULTIPLE = 8
"""The encoder halves three times."""


def taps_file() -> Path:
    """The ONNX file in the installed wheel.

    Raises:
        InputError: The wheel, or the ``onnx`` package, is not installed.
    """
    wheel = importlib.util.find_spec("taps")
    for folder in (wheel.submodule_search_locations if wheel else None) or []:
        found = Path(folder) / "resources" / "model_v1.onnx"
        if found.is_file() and importlib.util.find_spec("onnx"):
            return found
    raise InputError(f"The prostate network taps needs the onnx and lavlab-taps packages: {INSTALL}.")


def load_taps(path: Path | None = None) -> SegResNetDS:
    """The network with the weights of an ONNX file; None = that of the installed wheel.

    Raises:
        InputError: The file is missing, or does not hold exactly these weights.
    """
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced below
        # Its four outputs were for training; the ONNX graph keeps the finest.
        network = SegResNetDS(
            spatial_dims=3,
            init_filters=32,
            in_channels=1,
            out_channels=1,
            norm=("GROUP", {"num_groups": 8}),
            act=("MISH", {"inplace": True}),
            dsdepth=1,
        )
    source = path or taps_file()
    load_strictly(network, _read_onnx(source, network), source=str(source))
    return network.eval().requires_grad_(False)


def _read_onnx(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Weights by MONAI's names.

    The exporter kept all names but those of the group norms. Their weights and biases are the inputs ``onnx::Mul_*``
    and ``onnx::Add_*``, in order of use.
    """
    import onnx  # only needed here

    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # a damaged file raises protobuf's own errors
        raise InputError(f"{path}: not a readable ONNX file ({type(error).__name__}); install it anew.") from error
    values = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    state = {name: value for name, value in values.items() if not name.startswith("onnx::")}
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.GroupNorm)]
    for kind, operation in (("weight", "Mul"), ("bias", "Add")):
        used = [
            values[name].flatten()
            for node in graph.node
            if node.op_type == operation
            for name in node.input
            if name.startswith(f"onnx::{operation}_")
        ]
        state |= {f"{norm}.{kind}": value for norm, value in zip(norms, used, strict=False)}
    return state


class ProstateNetwork(nn.Module):
    """The network on volumes of any voxel size; the output of ``forward`` is 256 features, the deepest level's means.

    Args:
        network: From :func:`load_taps`.
        spacing_mm: Voxel size of the volumes that will be given, RAS axes.

    Raises:
        InputError: A spacing that is not positive.
    """

    def __init__(self, network: SegResNetDS, spacing_mm: Sequence[float]) -> None:
        super().__init__()
        if len(spacing_mm) != 3 or not all(0 < side < np.inf for side in spacing_mm):
            raise InputError(f"spacing_mm={tuple(spacing_mm)} must be three positive numbers.")
        self.network, self.spacing_mm = network, tuple(float(side) for side in spacing_mm)

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) to (B, 256)."""
        return self.network.encoder(self.standardise(volumes)[0])[-1].mean(dim=(2, 3, 4))

    def standardise(self, volumes: Tensor) -> tuple[Tensor, np.ndarray]:
        """What the network is shown of volumes (B, 1, X, Y, Z), and the affine of it.

        Resampled to ``SPACING_MM``, the central ``FIELD``, mean 0 and deviation 1 over the voxels that are not 0,
        padded with 0 to multiples of 8. The (4, 4) affine maps its voxels to mm from the centre of the volumes.
        """
        if volumes.ndim != 5 or volumes.shape[1] != 1:
            raise InputError(f"taps reads one T2 image a subject, (B, 1, X, Y, Z), not {tuple(volumes.shape)}.")
        extent = np.multiply(volumes.shape[2:], self.spacing_mm)
        sides = np.maximum(np.rint(extent / SPACING_MM), 1).astype(int)
        fine = nn.functional.interpolate(volumes.float(), sides.tolist(), mode="trilinear", align_corners=False)
        kept = np.minimum(sides, FIELD)
        start, padding = (sides - kept) // 2, -kept % MULTIPLE
        before = padding // 2
        x, y, z = (slice(low, low + side) for low, side in zip(start, kept, strict=True))
        shown = z_scored(fine[..., x, y, z])
        pads = [int(pad) for axis in (2, 1, 0) for pad in (before[axis], padding[axis] - before[axis])]
        affine = np.diag([*(extent / sides), 1.0])
        affine[:3, 3] = (start - before - (sides - 1) / 2) * (extent / sides)
        return nn.functional.pad(shown, pads), affine

    def scores(self, volumes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Logit of gland at each voxel (B, x, y, z), and the affine of :meth:`standardise`."""
        shown, affine = self.standardise(volumes)
        with torch.inference_mode():
            return self.network(shown)[:, 0].float().cpu().numpy(), affine

    def glands(self, volumes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Gland of each volume (B, 1, X, Y, Z): the largest connected part; masks (B, x, y, z) and their affine."""
        scores, affine = self.scores(volumes)
        return np.stack([_largest_part(each > 0) for each in scores]), affine


def measure_glands_ml(
    volumes: Iterable[Tensor],
    spacing_mm: Sequence[float],
    *,
    network: SegResNetDS | None = None,
    above: Sequence[float] | None = None,
) -> np.ndarray:
    """Volume of the prostate in each T2 volume, as the network outlines it.

    On crops that end near the gland the network's logits are too low: it was trained on wider fields, and outlines a
    part of the gland or none. Outline such volumes at several logits, and take the one whose mean is right on real
    volumes of known glands.

    Args:
        volumes: (1, X, Y, Z), RAS, any intensities; read one at a time.
        spacing_mm: Their voxel size.
        network: From :func:`load_taps`; None = that of the installed wheel.
        above: Logits above which a voxel is gland, each in turn; None = 0, as the network was trained.

    Returns:
        (n,) in ml, or (n, logits) with ``above``; 0 where no gland is seen.

    Raises:
        InputError: taps is not installed, or volumes of more than one channel.
    """
    measured = ProstateNetwork(network or _shared_network(), spacing_mm)
    logits = (0.0,) if above is None else above
    found = []
    for volume in volumes:
        scores, affine = measured.scores(volume[None])
        voxels = [_largest_part(scores[0] > logit).sum() for logit in logits]
        found.append(np.multiply(voxels, np.prod(np.diag(affine)[:3]) / 1000))
    sizes = np.array(found, dtype=np.float64).reshape(len(found), len(logits))
    return sizes[:, 0] if above is None else sizes


def crop_centre(config: PreprocessConfig) -> Callable[[tio.ScalarImage], tuple[float, float, float]] | None:
    """What ``preprocess`` has to be given for the centre that a config asks for; None = the middle of the volume.

    Raises:
        InputError: The config asks for the prostate, and taps is not installed.

    Example:
        >>> crop_centre(PreprocessConfig()) is None
        True
    """
    if config.centre == "volume":
        return None
    _shared_network()  # what is missing is said before any image is read
    return gland_centre_mm


def centred_by(config: PreprocessConfig) -> str:
    """Names what finds the centre that a config asks for: the hash of the network; "" = the middle of the volume.

    Example:
        >>> centred_by(PreprocessConfig())
        ''
    """
    return "" if config.centre == "volume" else f"taps {weights_hash(_shared_network())}"


def gland_centre_mm(image: tio.ScalarImage, *, network: SegResNetDS | None = None) -> tuple[float, float, float]:
    """Centre of gravity of the prostate in a T2 image; pass this to ``preprocess`` to crop around the gland.

    Args:
        image: (1, X, Y, Z), RAS, as ``tio.ToCanonical`` makes it.
        network: From :func:`load_taps`; None = that of the installed wheel.

    Returns:
        World coordinates in mm.

    Raises:
        InputError: No gland is seen, or taps is not installed.
    """
    masks, affine = ProstateNetwork(network or _shared_network(), image.spacing).glands(image.data[None])
    voxels = np.argwhere(masks[0])
    if not len(voxels):
        raise InputError(f"{image.path or 'A volume'}: taps sees no prostate to crop around; crop around the centre.")
    from_centre_mm = voxels.mean(axis=0) * np.diag(affine)[:3] + affine[:3, 3]
    voxel = (np.array(image.spatial_shape) - 1) / 2 + from_centre_mm / image.spacing
    x, y, z, _ = image.affine @ [*voxel, 1.0]
    return float(x), float(y), float(z)


@functools.cache
def _shared_network() -> SegResNetDS:
    """Read once; nobody changes it."""
    return load_taps()


def z_scored(volumes: Tensor) -> Tensor:
    """Volumes (B, C, X, Y, Z) with mean 0, deviation 1 over the voxels of each channel that are not 0; these stay."""
    seen = volumes != 0
    count = seen.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1)
    mean = volumes.sum(dim=(2, 3, 4), keepdim=True) / count
    centred = torch.where(seen, volumes - mean, 0.0)
    deviation = (centred.square().sum(dim=(2, 3, 4), keepdim=True) / count).sqrt()
    return centred / torch.where(deviation > 0, deviation, 1.0)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    labels, parts = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes: Any = np.bincount(labels.ravel())[1:]
    return labels == 1 + int(sizes.argmax()) if parts else mask
