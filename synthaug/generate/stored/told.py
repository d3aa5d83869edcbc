"""What a generator's record says of how it may be asked: guidance, and how long a report may be."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from synthaug.ground.errors import InputError


def measured_guidance(record: Mapping[str, Any]) -> float | None:
    """The guidance that a generator's card was measured with; None = the card says none.

    Example:
        >>> measured_guidance({"evaluation": {"figures": {"settings": {"guidance": 3.0}}}}), measured_guidance({})
        (3.0, None)
    """
    found: Any = record
    for key in ("evaluation", "figures", "settings", "guidance"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def require_guidance(record: Mapping[str, Any], guidance: float) -> None:
    """InputError where guidance would lead away from what the generator never learnt: how it draws without a report.

    Example:
        >>> require_guidance({"generator": {"report_dropout": 0.1}}, 3.0)
    """
    dropout = record.get("generator", {}).get("report_dropout")
    if guidance != 1 and dropout == 0:
        raise InputError(
            f"guidance {guidance:g} needs a generator that was trained with generator.report_dropout above 0, and this "
            "one was trained with 0; set guidance to 1."
        )


def cut_reports(tokenizer: PreTrainedTokenizerBase, reports: Iterable[str]) -> int:
    """How many different reports are longer than the text encoder reads; their beginnings are cut off."""
    longest = tokenizer.model_max_length
    return sum(
        len(tokenizer(report, truncation=False, verbose=False).input_ids) > longest for report in dict.fromkeys(reports)
    )
