"""Print the Markdown table of a study's summary.json, or put it into the README between the results markers.

python benchmarks/studies/table.py benchmarks/studies/hippocampus/summary.json [--write README.md]
"""

import argparse
import json
from pathlib import Path

from synthaug.study.records import Summary, read_summary

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def table(summary: Summary, *, baseline: str = "") -> str:
    """Arms, differences and image metrics as Markdown.

    Args:
        summary: Of the study.
        baseline: Name of the arms that differences are told to, where the study has several sizes.
    """
    several = len({arm.n_train for arm in summary.arms}) > 1
    lines = sizes_table(summary, baseline) if several else one_size_table(summary)
    lines += ["", f"Verdict: {summary.verdict.sentence()}"]
    for image in summary.image_metrics:
        if image.metric not in ("fid", "fid3d"):  # one line of the README; the others stand in summary.json
            continue
        lines.append(
            f"3D FID ({image.extractor}, {image.n_real} held-out real, {image.n_synthetic} synthetic): "
            f"{image.estimate.words()}; with {image.more['n_floor']} a side {image.more['value_at_floor_n']:.3f} "
            f"against a real–real floor of {image.more['floor']:.3f}."
        )
    return "\n".join(lines)


def sizes_table(summary: Summary, baseline: str) -> list[str]:
    """A row an arm, a column a size of the training set: AUROC, and the difference to the baseline."""
    sizes = sorted({arm.n_train for arm in summary.arms})
    gains = {row.arm.label: row.difference for row in summary.in_metric("auroc") if row.baseline.series() == baseline}
    cells: dict[str, dict[int, str]] = {}
    for arm in summary.arms:
        told = f"{arm.metrics['auroc'].value:.3f}"
        if arm.label in gains:
            told += f"; {gains[arm.label].words('+')}"
        cells.setdefault(arm.series(), {})[arm.n_train] = told
    return [
        f"| trained on | {' | '.join(f'{size} people' for size in sizes)} |",
        f"|---|{'---|' * len(sizes)}",
        *(f"| {arm} | {' | '.join(row.get(size, '') for size in sizes)} |" for arm, row in cells.items()),
    ]


def one_size_table(summary: Summary) -> list[str]:
    """A row an arm, a column a metric."""
    lines = [
        "| trained on | real | synthetic | accuracy | AUROC | average precision | AUROC − real |",
        "|---|---|---|---|---|---|---|",
    ]
    gains = {row.arm.label: row.difference.words("+") for row in summary.in_metric("auroc")}
    for arm in summary.arms:
        shown = [arm.metrics[metric].words() for metric in ("accuracy", "auroc", "average_precision")]
        cells = [arm.label, arm.n_train_real, arm.n_train_synthetic, *shown, gains.get(arm.label, "")]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--write", type=Path, help="file that holds the results markers")
    options = parser.parse_args()
    baseline = json.loads(options.summary.read_text(encoding="utf-8")).get("baseline", "")
    text = table(read_summary(options.summary), baseline=baseline)
    if options.write is None:
        print(text)
        return
    page = options.write.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
