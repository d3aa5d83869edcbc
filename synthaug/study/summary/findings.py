"""Findings of a study: what its records, its pools and its test patients say that a reader must know first."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from transformers import PreTrainedTokenizerBase

from synthaug.config import Config, DataConfig
from synthaug.generate.stored.told import cut_reports
from synthaug.metrics.comparison import FAR
from synthaug.models.text_encoder import load_tokenizer
from synthaug.pool.pool import SyntheticPool
from synthaug.study.grid import cohorts_of
from synthaug.study.records import CellRecord, Summary, tested_patients
from synthaug.study.records.arms import LEAST_REPEATS
from synthaug.study.records.fields import Estimate
from synthaug.study.records.findings import MEANINGS, Finding, Severity
from synthaug.study.records.verdicts import UNKNOWN_PROVENANCE
from synthaug.study.stages.preparation import Study

FEW = 30
"""Test patients of the rarest class below which it is told that they are few."""
FIELD_TOLERANCE = 0.05
"""Relative difference of a side of the field of view, above which it is another one."""
OFTEN = 0.25
"""Share of volumes whose report contradicts their class, above which labels mean less than they seem to."""
MOST_REPORTS = 2000
"""Different reports of a pool that are looked at for being cut; of more, the first."""


def findings_of(
    summary: Summary,
    records: Sequence[CellRecord],
    config: Config,
    pools: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[Finding, ...]:
    """All findings of a study, errors first; those of the codes in ``report.mute`` are marked.

    Args:
        summary: Of the study, with its image metrics.
        records: Its finished cells.
        config: Its settings: coverage of intervals, muted codes, names of classes.
        pools: Counts of each pool by its source (:func:`look_at_pool`); None = not known.
    """
    found = [
        *_of_cells(summary),
        *_of_test(records, cohorts_of(config)[0]),
        *_of_images(summary),
        *(each for source, counts in (pools or {}).items() for each in _of_pool(source, counts)),
    ]
    order = [*MEANINGS]
    severities = get_args(Severity)
    ranked = sorted(found, key=lambda each: (severities.index(each.severity), order.index(each.code)))
    return mute(ranked, config.report.mute)


def mute(findings: Sequence[Finding], codes: Sequence[str]) -> tuple[Finding, ...]:
    """The findings, those of the codes marked as muted and the others as not."""
    return tuple(Finding(each.code, each.severity, each.sentence, muted=each.code in codes) for each in findings)


def look_at_pool(study: Study, pool: SyntheticPool) -> dict[str, int]:
    """Counts of possible problems of a pool: of its reports, and of volumes outside the generator's field of view.

    Reports may contradict their class, be unlike the training reports, or have been cut. What is not known is left out.
    """
    entries = [entry for label in pool.classes for entry in pool.entries(label)]
    counts = {"volumes": len(entries), **pool.doubts(), "off": sum(_is_off(entry, pool.header) for entry in entries)}
    tokenizer = _tokenizer_of(study)
    if tokenizer is not None:
        reports = list(dict.fromkeys(entry["recipe"]["report"] for entry in entries))[:MOST_REPORTS]
        counts |= {"reports": len(reports), "cut": cut_reports(tokenizer, reports)}
    return counts


def _of_cells(summary: Summary) -> Iterator[Finding]:
    if summary.failed:
        total = len(summary.failed) + summary.cells
        yield Finding("cells-failed", "error", f"{len(summary.failed)} of {total} cells failed and are missing.")
    if summary.near_copies:
        leaks = len(summary.leaking_copies())
        told = f"{leaks} of them in different parts of the split" if leaks else "none in different parts of the split"
        pairs = f"{len(summary.near_copies)} pairs of patients have nearly the same image or report, {told}."
        yield Finding("near-copies", "error" if leaks else "warning", pairs)
    compared = [each for each in summary.in_metric("auroc") if each.arm.regime != "real"]
    few = [each for each in compared if each.abstains]
    if few:
        most = max(each.repeats for each in few)
        told = f"{len(few)} of {len(compared)} comparisons rest on {most} training{'s' * (most > 1)} of each arm"
        yield Finding("few-repeats", "warning", f"{told}; a verdict needs {LEAST_REPEATS}.")
    if summary.p_limit:
        yield Finding("p-limit", "warning", summary.p_limit)
    if summary.verdict.provenance == "unknown":
        yield Finding("unknown-provenance", "warning", UNKNOWN_PROVENANCE)


def _of_test(records: Sequence[CellRecord], data: DataConfig) -> Iterator[Finding]:
    """Few test patients; which difference they could show is told beside the verdict."""
    labels = tested_patients(records)
    if not labels:
        return
    counts = Counter(labels.values())
    rare, number = min(counts.items(), key=lambda item: (item[1], item[0]))
    rest = len(labels) - number
    if number >= FEW or not rest:
        return
    names = data.class_names(records[0].classes)
    name = names[rare] if names[rare] == f"class {rare}" else f"class {names[rare]}"
    told = f"{len(labels)} test patients, {number} of {name}"
    yield Finding("few-test-patients", "warning", f"{told}: only large differences in AUROC show.")


def _of_images(summary: Summary) -> Iterator[Finding]:
    for row in summary.image_metrics:
        source = f"{row.source}: " if row.source else ""
        if row.tells_apart:
            words = f"{source}synthetic volumes are easily told from real ones (AUROC {row.estimate.words()})."
            yield Finding("told-apart", "warning", _capital(words))
        if row.more.get("missing"):
            words = f"{source}a reader of real volumes tells the class of synthetic ones with AUROC "
            words += f"{row.estimate.words()}, "
            real = Estimate(*(row.more[end] for end in ("real", "real_low", "real_high")))
            yield Finding("class-not-shown", "warning", _capital(f"{words}of held-out real ones with {real.words()}."))
        floor = row.more.get("floor")
        if row.metric == "fid" and floor and row.estimate.low > FAR * floor:
            words = f"{source}the Fréchet distance to held-out patients is {row.estimate.words()}, between halves of "
            yield Finding("far-from-real", "warning", _capital(f"{words}them {floor:.3g}."))
        chance = row.more.get("false_alarms")
        if row.metric == "copies" and chance is not None and row.estimate.value > chance:
            share = f"{row.estimate.value:.1%} ({row.estimate.low:.1%} to {row.estimate.high:.1%})"
            words = f"{source}{share} of synthetic volumes are called copies of training patients; of unseen patients "
            sure: Severity = "error" if row.estimate.low > chance else "warning"
            yield Finding("copies", sure, _capital(f"{words}at most {chance:.1%} would be."))
    for missing in summary.image_metrics_left_out:
        if missing["metric"] == "copies":
            source = f"{missing['source']}: " if missing["source"] else ""
            yield Finding("copies-unknown", "note", _capital(f"{source}{missing['reason']}"))


def _of_pool(source: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    before, volumes = f"{source}: " if source else "", counts["volumes"]
    if counts.get("cut"):
        words = f"{counts['cut']} of {counts['reports']} reports are longer than the text encoder reads"
        yield Finding("reports-cut", "warning", f"{before}{words}; their beginnings were cut off.")
    if counts.get("contradicts"):
        words = f"{counts['contradicts']} of {volumes} volumes have a report that the generator read as another class."
        severity: Severity = "warning" if counts["contradicts"] > OFTEN * volumes else "note"
        yield Finding("reports-contradict", severity, before + words)
    if counts.get("unlike"):
        words = f"{counts['unlike']} of {volumes} volumes have a report unlike those of the generator's training."
        yield Finding("reports-unlike", "note", before + words)
    if counts.get("off"):
        words = f"{counts['off']} of {volumes} volumes have another field of view than the generator's training images."
        yield Finding("field-of-view", "warning", before + words)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _is_off(entry: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a volume's field of view is another than that of the images which its generator was trained on."""
    recipe, born = entry["recipe"], header.get("preprocessing") or {}
    if not all(name in each for each in (recipe, born) for name in ("shape", "spacing_mm")):
        return False
    sides, learnt = (
        [size * spacing for size, spacing in zip(each["shape"], each["spacing_mm"], strict=True)]
        for each in (recipe, born)
    )
    return any(abs(side / its - 1) > FIELD_TOLERANCE for side, its in zip(sides, learnt, strict=True))


def _tokenizer_of(study: Study) -> PreTrainedTokenizerBase | None:
    """Of the generator behind a study's pool, where it is at hand and reads text."""
    if study.ready:
        return study.ready.tokenizer if study.ready.denoiser.conditioning.text else None
    folder = study.generator_folder / "tokenizer"
    return load_tokenizer(folder) if not study.given and folder.is_dir() else None
