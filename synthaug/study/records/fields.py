"""What records are made of: estimates, settings in words, the schema and the versions behind a file."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from synthaug.ground.errors import InputError

SCHEMA = 2
"""Of the files. 1 = files without a number, written before there were records."""
STAGES = ("autoencoder", "generator", "pool")
"""Sections of the config that say how synthetic volumes are made: an arm of real data has none of their settings."""
Settings = Mapping[str, Any]
KINDS: dict[str, tuple[type, ...]] = {
    str(str): (str,),
    str(int): (int,),
    str(float): (int, float),
    str(Settings): (Mapping,),
    str(Mapping[str, float]): (Mapping,),
    str(float | None): (int, float, type(None)),
    str(int | None): (int, type(None)),
}
"""What a field of a record may hold when it is read."""


def library_versions() -> dict[str, str]:
    """The installed versions of what results depend on most."""
    found = {}
    for name in ("synthaug", "torch", "monai"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval; NaN = it has none."""

    value: float
    low: float
    high: float

    @property
    def without_interval(self) -> "Estimate":
        """The value alone."""
        return Estimate(self.value, math.nan, math.nan)

    @property
    def leaves_out_zero(self) -> bool:
        """Whether both ends lie on one side of 0."""
        return self.low * self.high > 0

    @property
    def has_width(self) -> bool:
        """Whether the ends differ by more than rounding: where they do not, nothing follows from the width."""
        return self.high - self.low > 1e-9

    def words(self, sign: str = "") -> str:
        """For people.

        Example:
            >>> Estimate(0.1, -0.05, 0.25).words("+")
            '+0.100 (-0.050 to +0.250)'
        """
        return f"{self.value:{sign}.3f} ({self.low:{sign}.3f} to {self.high:{sign}.3f})"

    def to_json(self, name: str = "value") -> dict[str, float]:
        """The keys that files have."""
        ends = {"ci_low": self.low, "ci_high": self.high}
        return {name: self.value} | {key: end for key, end in ends.items() if not math.isnan(end)}

    @classmethod
    def from_json(cls, told: Settings, name: str = "value") -> Self:
        """As :meth:`to_json` wrote it."""
        made = {"value": told[name], "low": told["ci_low"], "high": told["ci_high"]}
        require_kinds(cls, made)
        return cls(**made)


def setting_words(key: str, value: Any) -> str:
    """A setting as labels write it: a short key, and a value that every tracker takes in a name.

    Example:
        >>> setting_words("classifier.class_weights", [1.0, 2.5])
        'class_weights 1.0 2.5'
    """
    return re.sub(r"[^\w.+-]+", " ", f"{key.split('.')[-1]} {value}").strip()


def require_schema(told: Settings, name: str) -> None:
    """InputError if a later version wrote the file ``name``."""
    if told.get("schema", 1) > SCHEMA:
        raise InputError(f"{name} has schema {told['schema']}, this synthaug reads up to {SCHEMA}: upgrade it.")


def require_kinds(cls: type, made: Settings) -> None:
    """InputError for a text, number or mapping of a record that is of another kind in a file."""
    for each in fields(cls):
        kinds = KINDS.get(str(each.type))
        if kinds and each.name in made and not isinstance(made[each.name], kinds):
            raise InputError(f"{each.name} is {made[each.name]!r:.100}, which it cannot be.")


def known(cls: type, told: Settings) -> dict[str, Any]:
    """Of what a file tells, the fields that a record has: files of later versions may tell more."""
    return {each.name: told[each.name] for each in fields(cls) if each.name in told}
