"""How well readers told synthetic from real volumes, which class they saw, and how far they agreed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthaug.reader_study.key import ALL as ALL
from synthaug.reader_study.key import CALLS, CONFIDENCES, Answers, Key
from synthaug.statistics.agreement import fleiss_kappa
from synthaug.statistics.intervals import Interval, draw_weights
from synthaug.statistics.resampling import Resamples, interval_of
from synthaug.statistics.shares import share_interval
from synthaug.statistics.weighted import STATISTICS

MEASURES = ("accuracy", "auroc", "sensitivity", "specificity")
"""Of the call, with synthetic as the positive class. Sensitivity is the share of synthetic cases that were called so;
specificity is the share of real ones that were called real."""


@dataclass(frozen=True)
class ScoreRow:
    """One number of a table."""

    reader: str
    """Name, or ``all``: the mean of the readers, each weighted by its answers, for AUROC by its pairs of answers."""
    cases: str
    """Which cases: all, a class, a generator's volumes beside all real ones; of class accuracy, a role."""
    measure: str
    """One of ``MEASURES``, or class accuracy: the share of cases whose class was seen as the key has it."""
    value: float
    low: float
    high: float
    n: int
    """Answers behind it."""


@dataclass(frozen=True)
class CaseRow:
    """What the readers said of one case."""

    case: int
    """From 1, as in the page."""
    truth: str
    label: int
    generator: str
    subject_id: str
    readers: int
    called_synthetic: float
    """Share of the readers, with Wilson's interval."""
    low: float
    high: float
    confidence: float
    """Mean of the readers'."""
    right_class: float
    """Share of the readers who saw the key's class."""


@dataclass(frozen=True)
class AgreementRow:
    """Fleiss' kappa of the readers."""

    question: str
    """call or class."""
    readers: int
    cases: int
    """Cases that all of them answered."""
    kappa: float | None
    """None = there is none: one reader, fewer than two common cases, or one answer to everything."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ReaderScores:
    """What a reader study found."""

    study: str
    confidence: float
    """Coverage of all intervals."""
    answered: dict[str, int]
    """Cases that each reader answered, of ``cases``."""
    cases: int
    scores: list[ScoreRow]
    by_case: list[CaseRow]
    agreement: list[AgreementRow]
    traits: dict[str, float]
    """Traits besides the anatomy by which real and synthetic cases differ, with p."""

    def to_json(self) -> dict[str, Any]:
        """What JSON can write."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """The scores, one row a number."""
        return pd.DataFrame([asdict(row) for row in self.scores])

    def remarks(self) -> list[str]:
        """What to keep in mind, one sentence each."""
        open_cases = {reader: self.cases - n for reader, n in self.answered.items() if n < self.cases}
        told = [f"{reader} left {n} of {self.cases} cases open." for reader, n in open_cases.items()]
        if len({*self.answered.values()}) > 1:
            told.append("Readers answered unequally many cases: the mean of all weighs each by its answers.")
        if len(self.answered) == 1:
            told.append("One reader: the intervals hold for this reader, and there is no agreement to measure.")
        if any(row.low == row.high for row in self.scores):
            told.append(
                "Where low equals high, every resample gave the same number, as where all answers are right or alike. "
                "Such an interval does not say how sure the number is."
            )
        told += [
            f"Real and synthetic volumes differ in {trait} (p = {p:.1g}), which a reader may have gone by."
            for trait, p in self.traits.items()
        ]
        return told


def score_readers(
    key: Key, answers: Sequence[Answers], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> ReaderScores:
    """Score the answers of all readers.

    Shares of one reader have Wilson's interval. AUROC resamples cases, and what is a mean of readers resamples cases
    and readers, so that it holds for other readers too.

    Args:
        key: What the cases are.
        answers: Of each reader, on the key's study.
        confidence: Coverage of the intervals, in (0, 1).
        resamples: Bootstrap resamples.
        seed: Names them.
    """
    table = _Table(key, answers, Resamples(resamples, seed=seed), confidence)
    return ReaderScores(
        study=key.study,
        confidence=confidence,
        answered={each.reader: len(each.by_case) for each in answers},
        cases=len(key.cases),
        scores=[*table.call_rows(), *table.class_rows()],
        by_case=[*table.case_rows()],
        agreement=[*table.agreement_rows(resamples, seed)],
        traits=dict(key.traits),
    )


class _Table:
    """Answers by reader and case (T, n); NaN = not answered."""

    def __init__(self, key: Key, answers: Sequence[Answers], resamples: Resamples, confidence: float) -> None:
        self.key, self.resamples, self.confidence = key, resamples, confidence
        self.readers = [each.reader for each in answers]
        self.synthetic = np.array([case.role == "synthetic" for case in key.cases])
        self.labels = np.array([case.label for case in key.cases])
        self.generators = np.array([case.generator for case in key.cases])
        self.patients = np.array([case.patient_id for case in key.cases])
        shape = (len(answers), len(key.cases))
        self.rating, self.seen, self.sure = (np.full(shape, np.nan) for _ in range(3))
        for reader, each in enumerate(answers):
            for place, answer in each.by_case.items():
                sign = 1 if answer.call == "synthetic" else -1
                self.rating[reader, place] = 0.5 + sign * answer.confidence / (2 * max(CONFIDENCES))
                self.seen[reader, place] = answer.label
                self.sure[reader, place] = answer.confidence

    def call_rows(self) -> Iterator[ScoreRow]:
        """Real or synthetic: of all cases, of each class, of each generator beside all real cases."""
        groups = {ALL: np.ones(len(self.labels), dtype=bool)}
        groups |= {f"class {name}": self.labels == label for label, name in enumerate(self.key.classes)}
        names = sorted({*self.generators[self.synthetic]})
        if len(names) > 1:
            groups |= {f"generator {name}": ~self.synthetic | (self.generators == name) for name in names}
        for group, members in groups.items():
            for reader, row in zip(self.readers, self.rating, strict=True):
                yield from self._calls_of_one(reader, group, members & ~np.isnan(row), row)
            if len(self.readers) > 1:
                yield from self._calls_of_all(group, members & ~np.isnan(self.rating).all(axis=0))

    def _calls_of_one(self, reader: str, group: str, members: np.ndarray, rating: np.ndarray) -> Iterator[ScoreRow]:
        truth, called = self.synthetic[members], rating[members] > 0.5
        right = truth == called
        for measure, counted in (("accuracy", truth | ~truth), ("sensitivity", truth), ("specificity", ~truth)):
            if n := int(counted.sum()):
                share = share_interval(int(right[counted].sum()), n, confidence=self.confidence)
                yield ScoreRow(reader, group, measure, **asdict(share), n=n)
        if truth.any() and not truth.all():
            draws = self._draws(members, rating[None])
            yield self._row(reader, group, "auroc", draws, n=len(truth))

    def _calls_of_all(self, group: str, members: np.ndarray) -> Iterator[ScoreRow]:
        answered = [row for row in self.rating if len({*self.synthetic[members & ~np.isnan(row)]}) == 2]
        if len(answered) > 1:
            ratings = np.stack(answered)
            given = ~np.isnan(ratings)
            of_synthetic, of_real = ((given & members & role).sum(axis=1) for role in (self.synthetic, ~self.synthetic))
            both = of_synthetic + of_real
            n = dict(zip(MEASURES, (both, both, of_synthetic, of_real), strict=True))
            shares = np.ones((len(ratings), len(STATISTICS)))
            for measure, counted in (n | {"auroc": of_synthetic * of_real}).items():
                shares[:, STATISTICS.index(measure)] = counted / counted.max()
            draws = self._draws(members, ratings, shares=shares)
            for measure in MEASURES:
                yield self._row(ALL, group, measure, draws, n=int(n[measure].sum()))

    def _draws(self, members: np.ndarray, ratings: np.ndarray, *, shares: np.ndarray | None = None) -> np.ndarray:
        scores = [np.stack([1 - row[members], row[members]], axis=1) for row in ratings]
        patients, truth = self.patients[members].tolist(), self.synthetic[members].astype(int)
        return self.resamples.draws(patients, truth, scores, shares=shares)

    def _row(self, reader: str, group: str, measure: str, draws: np.ndarray, *, n: int) -> ScoreRow:
        found = interval_of(draws[:, STATISTICS.index(measure)], confidence=self.confidence)
        return ScoreRow(reader, group, measure, **asdict(found), n=n)

    def class_rows(self) -> Iterator[ScoreRow]:
        """The class that was seen: of real cases, of synthetic ones, and of each generator's."""
        groups = {"real": ~self.synthetic, "synthetic": self.synthetic}
        names = sorted({*self.generators[self.synthetic]})
        if len(names) > 1:
            groups |= {f"generator {name}": self.generators == name for name in names}
        for group, members in groups.items():
            for reader, row in zip(self.readers, self.seen, strict=True):
                counted = members & ~np.isnan(row)
                if n := int(counted.sum()):
                    hits = int((row == self.labels)[counted].sum())
                    share = share_interval(hits, n, confidence=self.confidence)
                    yield ScoreRow(reader, group, "class accuracy", **asdict(share), n=n)

    def case_rows(self) -> Iterator[CaseRow]:
        """What was said of each case."""
        for place, truth in enumerate(self.key.cases):
            given = self.rating[:, place][~np.isnan(self.rating[:, place])]
            if not len(given):
                continue
            share = share_interval(int((given > 0.5).sum()), len(given), confidence=self.confidence)
            yield CaseRow(
                case=place + 1,
                truth=truth.role,
                label=truth.label,
                generator=truth.generator,
                subject_id=truth.subject_id,
                readers=len(given),
                called_synthetic=share.value,
                low=share.low,
                high=share.high,
                confidence=float(np.nanmean(self.sure[:, place])),
                right_class=float(np.mean(self.seen[:, place][~np.isnan(self.seen[:, place])] == truth.label)),
            )

    def agreement_rows(self, resamples: int, seed: int) -> Iterator[AgreementRow]:
        """Fleiss' kappa of both questions over the cases that all readers answered."""
        common = ~np.isnan(self.rating).any(axis=0)
        questions = {
            "call": ((self.rating > 0.5).astype(int), len(CALLS)),
            "class": (self.seen, len(self.key.classes)),
        }
        for question, (given, categories) in questions.items():
            kappa: Interval | None = None
            if len(self.readers) > 1 and common.sum() > 1:
                counts = np.stack([(given[:, common] == each).sum(axis=0) for each in range(categories)], axis=1)
                weights, _ = draw_weights(
                    self.patients[common].tolist(),
                    self.synthetic[common].astype(int),
                    n_repeats=1,
                    resamples=resamples,
                    seed=seed,
                )
                draws = fleiss_kappa(counts, weights)
                usable = np.isfinite(draws[0]) and np.isfinite(draws).mean() > 0.5
                kappa = interval_of(draws, confidence=self.confidence) if usable else None
            ends = (kappa.value, kappa.low, kappa.high) if kappa else (None, None, None)
            yield AgreementRow(question, len(self.readers), int(common.sum()), *ends)
