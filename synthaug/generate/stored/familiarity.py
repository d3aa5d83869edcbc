"""Is a report unlike every report that a generator was trained on? A calibrated score over text states and letters."""

import logging
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.covariance import LedoitWolf

from synthaug.generate.encode import encode_reports
from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path
from synthaug.ground.seeding import numpy_generator
from synthaug.models.text_encoder import tokenize

logger = logging.getLogger(__name__)

FILE = "familiarity.safetensors"
FITTED, CALIBRATED, READ = 1000, 500, 4000
"""Reports, at most, whose states are fitted, by which the limits are set, and whose letters are read."""
FEWEST = 6
"""Different reports below which no limit can be set."""
GRAM, BITS = 4, 2**16
"""Letters of a sequence, and bits of the filter of those that occur, from which no report can be read back."""
FALSE_ALARMS = 0.01
"""Share of reports like those of the training that are called unlike."""
NOVEL = 0.2
"""Share of new sequences of letters below which a report is never unlike: a fifth of it can be typing errors."""
CLEARLY = 1.645
"""Standard errors by which the share must exceed its limit (95 %, one-sided): of a line's few sequences a third can be
new by chance."""


@dataclass(frozen=True)
class Familiarity:
    """What reports of a training look like, as far as it is kept with the generator.

    Two scores have a limit each. One is the Mahalanobis distance of the mean text state from those of training
    reports. The other is the share of letter 4-grams that no training report has. The limits are those that training
    reports which took no part in the fit exceed with probability ``FALSE_ALARMS``.
    """

    centre: torch.Tensor
    """Mean of the reports' mean text states, (width,)."""
    precision: torch.Tensor
    """Inverse of their covariance, shrunk (Ledoit and Wolf 2004), (width, width)."""
    sequences: torch.Tensor
    """Which hashes of four-letter sequences occur, (BITS,) bool."""
    letters: torch.Tensor
    """Code points of the letters that occur, lower case, (n,)."""
    limits: torch.Tensor
    """Largest usual distance, and largest usual share of new sequences, (2,)."""

    @classmethod
    def fit(cls, text_encoder: Any, tokenizer: Any, reports: Sequence[str]) -> Self | None:
        """From training reports; None where there are too few different ones to set a limit."""
        different = sorted({report for report in reports if report.strip()})
        if len(different) < FEWEST:
            return None
        order = numpy_generator("familiarity").permutation(len(different)).tolist()
        texts = [different[place] for place in order[:READ]]
        third = max(1, len(texts) // 3)
        calibration, fitted = texts[:third], texts[third:]
        states = _mean_states(text_encoder, tokenizer, fitted[:FITTED])
        gaussian = LedoitWolf().fit(states.double().numpy())
        known = cls(
            states.mean(0),
            torch.from_numpy(gaussian.precision_).float(),
            _filter_of(fitted),
            torch.tensor(sorted({ord(letter) for text in texts for letter in _letters(text)}), dtype=torch.int32),
            torch.ones(2),
        )
        judged = calibration[:CALIBRATED]
        distances = known._distances(_mean_states(text_encoder, tokenizer, judged))
        shares = [known.new_sequences(report) for report in judged]
        limits = torch.tensor([_limit(distances.tolist()), max(NOVEL, _limit(shares))])
        return cls(known.centre, known.precision, _filter_of(texts), known.letters, limits)

    def score(self, report: str, states: torch.Tensor) -> float:
        """The larger of both scores over its limit: above 1, the report is unlike those of the training.

        Args:
            report: The text.
            states: Its text states, without padding, (tokens, width).
        """
        distance = float(self._distances(states.float().mean(0, keepdim=True).cpu())[0])
        return max(distance / float(self.limits[0]), self._clearly_new(report) / float(self.limits[1]))

    def reason(self, report: str, states: torch.Tensor) -> str:
        """Why a report is unlike those of the training; "" = it is not."""
        known = set(self.letters.tolist())
        strange = sorted({letter for letter in _letters(report) if ord(letter) not in known})
        if strange:
            return f"letters that no training report has ({', '.join(strange[:5])})"
        return "wording or language" if self.score(report, states) > 1 else ""

    def reasons(self, tokenizer: Any, reports: Sequence[str], states: Mapping[str, torch.Tensor]) -> list[str]:
        """:meth:`reason` of each report, whose padded states are at hand; of an empty one there is nothing to say."""
        found = {
            report: self.reason(report, own_states(tokenizer, report, states[report])) if report.strip() else ""
            for report in dict.fromkeys(reports)
        }
        return [found[report] for report in reports]

    def new_sequences(self, report: str) -> float:
        """Share of a report's sequences of four letters that no training report has."""
        new, count = self._new_of_all(report)
        return new / count

    def _new_of_all(self, report: str) -> tuple[int, int]:
        """New sequences of four letters, and all."""
        places = _sequences(report)
        return sum(not self.sequences[place] for place in places), len(places)

    def _clearly_new(self, report: str) -> float:
        """:meth:`new_sequences` less its sampling error at the limit, as if the sequences were drawn one by one."""
        limit, (new, count) = float(self.limits[1]), self._new_of_all(report)
        return new / count - CLEARLY * math.sqrt(limit * (1 - min(limit, 1)) / count)

    def save(self, folder: Path) -> None:
        """Write to a generator's folder."""
        with atomic_path(folder / FILE) as temporary:
            save_file({name: value.contiguous() for name, value in vars(self).items()}, temporary)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """From a generator's folder; None where it has none.

        Raises:
            InputError: The file holds something else.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        found = load_file(path)
        width = found["centre"].shape[0]
        shapes = {"centre": (width,), "precision": (width, width), "sequences": (BITS,), "limits": (2,)}
        if set(found) != {*shapes, "letters"} or any(found[name].shape != shape for name, shape in shapes.items()):
            raise InputError(f"{path}: its tensors are not those of reports; delete it to do without.")
        if not (found["limits"] > 0).all():
            raise InputError(
                f"{path}: its limits {found['limits'].tolist()} must be positive; delete it to do without."
            )
        return cls(**found)

    def _distances(self, means: torch.Tensor) -> torch.Tensor:
        away = means - self.centre
        return ((away @ self.precision) * away).sum(1).clamp(min=0).sqrt()


class Doubts:
    """Warns, once of each kind, of reports that contradict the class or that a generator cannot know."""

    def __init__(self, *, told: Iterable[str] = ()) -> None:
        self._told = set(told)

    def tell(self, labels: Sequence[int] | None, read: torch.Tensor | None, unlike: Sequence[str] | None) -> None:
        """Look at one call: classes asked for, class probabilities read from the reports (n, K), reasons."""
        if labels is not None and read is not None:
            other = sum(found != label for found, label in zip(read.argmax(1).tolist(), labels, strict=True))
            if other:
                self._once("class", "%d of %d reports are read as another class than is asked for.", other, len(labels))
        strange = [reason for reason in unlike or () if reason]
        if strange:
            told = (
                "%d of %d reports are unlike those that the generator was trained on (%s): do not rely on its volumes."
            )
            self._once("unlike", told, len(strange), len(unlike or ()), strange[0])

    def _once(self, kind: str, message: str, *values: Any) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning(message, *values)


def own_states(tokenizer: Any, report: str, states: torch.Tensor) -> torch.Tensor:
    """Text states (L, width) without those of the padding."""
    ids = tokenize(tokenizer, [report])[0]
    kept = ids != tokenizer.pad_token_id
    return states[kept.to(states.device)] if kept.any() else states


def _mean_states(text_encoder: Any, tokenizer: Any, reports: Sequence[str]) -> torch.Tensor:
    def mean(report: str) -> torch.Tensor:
        states = encode_reports(text_encoder, tokenizer, [report])[report]  # those of all would fill the memory
        return own_states(tokenizer, report, states).float().mean(0).cpu()

    return torch.stack([mean(report) for report in reports])


def _limit(scores: Sequence[float]) -> float:
    """What a further score of the same kind exceeds with probability ``FALSE_ALARMS``, or rarely, where these are few.

    Example:
        >>> _limit([1.0, 2.0]), _limit([*range(1, 1000)])
        (2.5, 990)
    """
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * (1 - FALSE_ALARMS))
    return ordered[rank - 1] if rank <= len(ordered) else 1.25 * ordered[-1]


def _letters(report: str) -> list[str]:
    return [character for character in report.lower() if character.isalpha()]


def _sequences(report: str) -> list[int]:
    """Hashes of the four-letter sequences; one digit is as good as another."""
    text = re.sub(r"\s+", " ", re.sub(r"\d", "0", report.lower())).strip()
    return [zlib.crc32(text[at : at + GRAM].encode()) % BITS for at in range(max(1, len(text) - GRAM + 1))]


def _filter_of(reports: Sequence[str]) -> torch.Tensor:
    found = np.zeros(BITS, dtype=bool)
    for report in reports:
        found[_sequences(report)] = True
    return torch.from_numpy(found)
