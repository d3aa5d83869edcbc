"""CCELLA and its published comparators, each one value of one conditioning (arXiv 2506.10230, comparator table)."""

from dataclasses import dataclass
from typing import Literal

Heads = Literal["none", "each", "first", "last", "shared"]
ClassInput = Literal["none", "true", "predicted"]


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told."""

    text: bool
    """Cross-attention to the report through the adapter."""
    class_input: ClassInput
    """Class embedding: none, the true class, or the one the adapter predicts from the report."""
    heads: Heads
    """Class heads on the adapter: after each block, the first, the last, or one shared by all."""
    class_loss: bool
    """Whether the class heads are trained on the label."""


VARIANTS: dict[str, Conditioning] = {
    "maisi": Conditioning(text=False, class_input="none", heads="none", class_loss=False),
    "radmaisi": Conditioning(text=False, class_input="true", heads="none", class_loss=False),
    "ellamaisi": Conditioning(text=True, class_input="none", heads="none", class_loss=False),
    "decoupled": Conditioning(text=True, class_input="true", heads="none", class_loss=False),
    "ccella": Conditioning(text=True, class_input="predicted", heads="each", class_loss=True),
    "l1only": Conditioning(text=True, class_input="predicted", heads="each", class_loss=False),
    "first": Conditioning(text=True, class_input="predicted", heads="first", class_loss=True),
    "last": Conditioning(text=True, class_input="predicted", heads="last", class_loss=True),
    "shared": Conditioning(text=True, class_input="predicted", heads="shared", class_loss=True),
}
