"""The answer of a study: judged from its contrasts, told in a sentence that is made last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from synthaug.ground.errors import InputError
from synthaug.statistics.detectable import POWER, is_small
from synthaug.study.records.arms import LEAST_REPEATS, Arm, Contrast
from synthaug.study.records.fields import Estimate, Settings, known, require_kinds

QUESTIONS = {
    "mixed": "Adding synthetic data",
    "finetuned": "Pre-training on synthetic data",
    "synthetic": "Training on synthetic data alone",
}
"""What a verdict says of the arms of a regime."""
UNKNOWN_COHORT = "unknown cohort"
"""Protocol of a generator of which nobody can tell whom it was trained on."""
UNKNOWN_PROVENANCE = "It is unknown whom the generator was trained on: test patients may be among them."
ANSWERS = {
    "helped": "helped",
    "hurt": "hurt",
    "unclear": "showed no clear effect",
    "abstains": "has no verdict",
}
"""What a verdict says of one comparison."""

Kind = Literal["helped", "hurt", "unclear", "abstains", "none"]


@dataclass(frozen=True)
class Verdict:
    """The answer of a study, no bolder than intervals and corrected p-values."""

    kind: Kind
    """helped, hurt: clearly in at least one comparison, and in none the other way. abstains: each rests on fewer
    repeats than a verdict needs. none: nothing is compared."""
    regimes: tuple[str, ...] = ()
    """Whose arms were asked about."""
    compared: int = 0
    """Comparisons of AUROC with real data."""
    helped: int = 0
    """Of these, clear gains."""
    hurt: int = 0
    """Of these, clear losses."""
    abstained: int = 0
    """Of these, with fewer repeats than a verdict needs."""
    seen: tuple[float, ...] = ()
    """Of the comparisons that are not clear, the smallest and largest difference that they would likely have shown,
    each for itself: Holm's correction asks for more."""
    flat: int = 0
    """Of the comparisons that are not clear, those whose interval has no width: they say nothing of what would show."""
    family: int = 0
    """Comparisons of AUROC that p is corrected over, those of real arms too; 0 = an earlier version did not tell."""
    lowest: Contrast | None = None
    """The comparison with the lowest difference."""
    highest: Contrast | None = None
    """That with the highest; the same where there is one comparison."""
    confidence: float = 0.95
    n_test: int = 0
    """Test patients."""
    seeds: int = 0
    """Of the comparison, where there is one."""
    augmentations: tuple[str, ...] = ()
    """Kinds that the arms have, classical or labelled; none where an arm has none."""
    limit: str = ""
    """Why no comparison can come out clear; "" = some can."""
    provenance: Literal["", "known", "unknown"] = ""
    """unknown: of a generator nobody can tell whom it was trained on; "" = no arm has synthetic data."""

    @property
    def difference(self) -> Estimate | None:
        """Of AUROC, where there is one comparison."""
        return self.highest.difference if self.highest and self.compared == 1 else None

    def to_json(self) -> dict[str, Any]:
        """The key ``answer``."""
        ends = {name: end and end.to_json() for name, end in (("lowest", self.lowest), ("highest", self.highest))}
        single = self.difference.to_json("difference") if self.difference else {}
        lists = {"regimes": list(self.regimes), "augmentations": list(self.augmentations), "seen": list(self.seen)}
        told = {name: value for name, value in vars(self).items() if name not in ("flat", "family") or value}
        return {**told, **lists, **ends, **single}

    @classmethod
    def from_json(cls, told: Settings, arms: Mapping[str, Arm]) -> Self:
        """The key ``answer``."""
        ends = {name: told[name] and Contrast.from_json(told[name], arms) for name in ("lowest", "highest")}
        lists = {name: tuple(map(str, told[name])) for name in ("regimes", "augmentations")}
        made = {**known(cls, told), **lists, **ends, "seen": tuple(map(float, told.get("seen", ())))}
        require_kinds(cls, made)
        if made["kind"] not in ("helped", "hurt", "unclear", "abstains", "none"):
            raise InputError(f"answer: kind is {made['kind']!r:.100}, which is no answer.")
        return cls(**made)

    def sentence(self) -> str:
        """The answer for people, made last."""
        caveat = UNKNOWN_PROVENANCE if self.provenance == "unknown" else ""
        return " ".join(filter(None, (_answer(self), self.limit, caveat)))

    def headline(self) -> str:
        """The answer in the few words that a column of names has room for."""
        if self.kind == "none":
            return "no comparison"
        if self.kind == "abstains":
            return "too few repeats: no verdict"
        if self.compared > 1:
            return f"{self.helped} of {self.compared} helped, {self.hurt} hurt"
        return ANSWERS[self.kind]


def judge(
    contrasts: Sequence[Contrast], *, confidence: float, n_test: int, augmentations: Sequence[str] = (), limit: str = ""
) -> Verdict:
    """Judge a study by its differences in AUROC to real data; data added to real data counts before data alone.

    Args:
        contrasts: Of the study; those of real arms with each other are passed over.
        confidence: Coverage of their intervals.
        n_test: Test patients.
        augmentations: Kinds that the arms have; none where an arm has none.
        limit: Why no comparison can come out clear.
    """
    asked = [each for each in contrasts if each.metric == "auroc" and each.arm.regime != "real"]
    added = [each for each in asked if each.arm.regime != "synthetic"] or asked
    if not added:
        return Verdict("none", confidence=confidence, n_test=n_test, augmentations=tuple(augmentations), limit=limit)
    clear = [each.difference.value for each in added if each.is_clear(1 - confidence)]
    unclear = [each for each in added if not (each.is_clear(1 - confidence) or each.abstains)]
    seen = sorted(each.seen(confidence) for each in unclear if each.difference.has_width)
    abstained = sum(each.abstains for each in added)
    helped, hurt = sum(value > 0 for value in clear), sum(value < 0 for value in clear)
    lowest, highest = (choose(added, key=lambda each: each.difference.value) for choose in (min, max))
    kind: Kind = "helped" if helped and not hurt else "hurt" if hurt and not helped else "unclear"
    return Verdict(
        "abstains" if abstained == len(added) else kind,
        regimes=tuple(dict.fromkeys(each.arm.regime for each in added)),
        compared=len(added),
        helped=helped,
        hurt=hurt,
        abstained=abstained,
        seen=(seen[0], seen[-1]) if seen else (),
        flat=len(unclear) - len(seen),
        family=sum(each.metric == "auroc" for each in contrasts),
        lowest=lowest,
        highest=highest,
        confidence=confidence,
        n_test=n_test,
        seeds=len(highest.seeds),
        augmentations=tuple(augmentations),
        limit=limit,
        provenance="unknown" if any(each.protocol == UNKNOWN_COHORT for each in asked) else "known",
    )


def _answer(verdict: Verdict) -> str:
    low, high = verdict.lowest, verdict.highest
    if low is None or high is None:
        return "No comparison: the study needs the regime 'real' and one with synthetic data."
    one = verdict.regimes[0] if len(verdict.regimes) == 1 else ""
    what = QUESTIONS.get(one, "Adding or pre-training on synthetic data")
    percent = f"{100 * verdict.confidence:g} %"
    if verdict.compared > 1:
        counted = f"helped clearly in {verdict.helped} and hurt clearly in {verdict.hurt} of {verdict.compared}"
        if verdict.kind == "abstains":
            counted = f"has no verdict in any of {verdict.compared}"
        return (
            f"{what} {counted} comparisons with real data (AUROC {low.difference.value:+.3f}, {low.label}, to "
            f"{high.difference.value:+.3f}, {high.label}; {percent} intervals, p corrected by Holm).{_power(verdict)}"
        )
    found, kinds = high.difference, " or ".join(verdict.augmentations)
    with_augmentation = f" with {kinds} augmentation" if kinds else ""
    return (
        f"{what} {ANSWERS[verdict.kind]}: AUROC {found.value:+.3f} against real data"
        f"{with_augmentation} ({percent} interval {found.low:+.3f} to {found.high:+.3f}; corrected p "
        f"{high.p_holm:.3g}; {verdict.n_test} test patients, {verdict.seeds} "
        f"seed{'s' * (verdict.seeds > 1)}).{_halves(verdict, high)}{_power(verdict)}"
    )


def _halves(verdict: Verdict, found: Contrast) -> str:
    """Which of the two conditions a comparison without a clear effect misses, where it holds the other."""
    clear, small = found.difference.leaves_out_zero, is_small(found.p_holm, alpha=1 - verdict.confidence)
    if verdict.kind != "unclear" or clear == small:
        return ""
    missed = "the interval holds 0" if small else f"the corrected p is above {1 - verdict.confidence:.2g}"
    return f" A clear effect needs both a small p and an interval without 0; {missed}."


def _power(verdict: Verdict) -> str:
    """What the comparisons without an answer could have shown, or why they have none; begins with a blank."""
    told = ""
    if verdict.abstained:
        least = f"a verdict needs {LEAST_REPEATS} repeats (seeds, splits or folds)"
        which = "" if verdict.abstained == verdict.compared else f" {verdict.abstained} comparisons have fewer."
        told = f" One or two repeats say nothing of the next: {least}.{which}"
    if verdict.seen:
        smallest, largest = (f"{each:.2f}" for each in (verdict.seen[0], verdict.seen[-1]))
        size = smallest if smallest == largest else f"{smallest} to {largest}"
        chance = f"would have shown with {100 * POWER:.0f} % chance"
        family = max(verdict.family, verdict.compared)
        before = f" before Holm's correction over {family} comparisons" if family > 1 else ""
        told += f" Where the answer is not clear, a difference of {size} {chance}{before}; smaller ones may be there."
    if verdict.flat:
        which = "The interval has" if verdict.compared == 1 else f"{verdict.flat} intervals have"
        told += (
            f" {which} no width: both arms are at the ceiling or predict alike, and what would have shown is unknown."
        )
    return told
