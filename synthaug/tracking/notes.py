"""What a reader of MLflow's interface sees first: findings, the verdict and small tables."""

from collections.abc import Sequence

from synthaug.study.records import Arm, Contrast, Summary

ROWS = 12
"""Rows of a table in a note; the report has all."""
METRICS = {"auroc": "AUROC", "average_precision": "AP", "sensitivity": "sensitivity", "specificity": "specificity"}
GUIDE = (
    "The run named after the verdict is the study. Below it stand the trainings of its generators and its cells, one "
    "classifier each: open its row to see them. Filter cells, for example, by tags.regime = 'mixed' and tags.seed = "
    "'0'; chart test/auroc grouped by the tag regime."
)
"""How to read the experiment, below its verdict."""


def note_of(summary: Summary, report: str = "") -> str:
    """Findings, the verdict, each difference in AUROC and each arm's metrics, as Markdown that reads as text too.

    Args:
        summary: Of the study.
        report: Address of ``report.html`` below the server's; "" = not told.
    """
    failed = len(summary.failed)
    lines = [summary.verdict.sentence(), ""]
    told = [each for each in summary.findings if not each.muted]
    lines += [f"{each.severity.capitalize()} {each.code}: {each.sentence}\n" for each in told]
    if failed and not summary.findings:
        lines += [f"{failed} of {failed + summary.cells} cells failed and are missing.", ""]
    if report:
        lines += [f"[Open the report]({report})", ""]
    # The interface folds a description to its first lines: the answer comes before the arms behind it.
    return "\n".join([*lines, *_contrasts(summary.in_metric("auroc")), "", *_arms(summary.arms)]).strip()


def _arms(arms: Sequence[Arm]) -> list[str]:
    told = {name: title for name, title in METRICS.items() if arms and name in arms[0].metrics}
    lines = [f"| trained on | real | synthetic | {' | '.join(told.values())} |", "|---|---:|---:|" + "---|" * len(told)]
    for arm in arms[:ROWS]:
        cells = [arm.label, str(arm.n_train_real), str(arm.n_train_synthetic)]
        lines.append(f"| {' | '.join([*cells, *(arm.metrics[name].words() for name in told)])} |")
    return lines + _rest(len(arms))


def _contrasts(rows: Sequence[Contrast]) -> list[str]:
    if not rows:
        return []
    lines = ["| paired difference | AUROC | interval | p, Holm |", "|---|---:|---|---:|"]
    for row in rows[:ROWS]:
        found = row.difference
        interval = f"{found.low:+.3f} to {found.high:+.3f}"
        lines.append(f"| {row.label} | {found.value:+.3f} | {interval} | {row.p_holm:.3g} |")
    return lines + _rest(len(rows))


def _rest(rows: int) -> list[str]:
    return ["", f"{rows - ROWS} more are in the report."] if rows > ROWS else []
