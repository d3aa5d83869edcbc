"""What a pool's scorecard holds: seven criteria, and their entries.

The criteria are those of Zamzmi et al., "Scorecard for synthetic medical data evaluation", Communications Engineering
4, 130 (2025); which figure stands for which is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

FORMAT = 1
CRITERIA = {
    "congruence": "Are synthetic volumes distributed as real ones?",
    "coverage": "Do they show as much variety as real ones?",
    "constraint": "Does each of them stay within what real volumes, its class and its intensities allow?",
    "completeness": "Is everything there that was ordered, and all that belongs to a volume?",
    "compliance": "What is known of privacy and licence?",
    "comprehension": "Is it written down how they were made?",
    "consistency": "Are classes, reports and recipes in accord with each other?",
}
"""What each asks."""


@dataclass(frozen=True)
class Entry:
    """One line of the card."""

    criterion: str
    name: str
    meaning: str
    value: float | str | None = None
    """None = not measured."""
    low: float | None = None
    """Of its interval, where it has one."""
    high: float | None = None
    reference: float | None = None
    """The same between real volumes and other real volumes, or what it is to be held against."""
    needs: str = ""
    """What has to be given for it to be measured; "" = it was."""


@dataclass(frozen=True)
class Scorecard:
    """The card of a pool."""

    pool: str
    """Name of its folder."""
    facts: Mapping[str, Any]
    entries: Sequence[Entry]
    date: str = field(default_factory=lambda: date.today().isoformat())

    def of(self, criterion: str) -> list[Entry]:
        """The entries of a criterion."""
        return [entry for entry in self.entries if entry.criterion == criterion]

    def to_json(self) -> dict[str, Any]:
        """The whole card."""
        return {
            "format": FORMAT,
            "pool": self.pool,
            "date": self.date,
            "facts": dict(self.facts),
            "criteria": {
                name: {"question": question, "entries": [asdict(entry) for entry in self.of(name)]}
                for name, question in CRITERIA.items()
            },
        }
