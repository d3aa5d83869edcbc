"""Print the Markdown table of a study's summary.json, or put it into the README between the results markers.

python benchmarks/studies/table.py benchmarks/studies/hippocampus/summary.json [--write README.md]
"""

import argparse
import json
from pathlib import Path

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def table(summary: dict) -> str:
    """Regimes, contrasts and image metrics as Markdown."""
    several = len({row.get("n_train") for row in summary["regimes"]}) > 1
    lines = sizes_table(summary) if several else one_size_table(summary)
    lines += ["", f"Verdict: {summary['verdict']}"]
    for image in summary.get("image_metrics", []):
        if image["metric"] not in ("fid", "fid3d"):  # one line of the README; the others stand in summary.json
            continue
        lines.append(
            f"3D FID ({image['extractor']}, {image['n_real']} held-out real, {image['n_synthetic']} synthetic): "
            f"{image['value']:.3f} ({image['ci_low']:.3f} to {image['ci_high']:.3f}); with {image['n_floor']} a side "
            f"{image['value_at_floor_n']:.3f} against a real–real floor of {image['floor']:.3f}."
        )
    return "\n".join(lines)


def shown(values: dict) -> str:
    """A value with its interval."""
    return f"{values['value']:.3f} ({values['ci_low']:.3f} to {values['ci_high']:.3f})"


def sizes_table(summary: dict) -> list[str]:
    """A row an arm, a column a size of the training set: AUROC, and the difference to the baseline that the goals name.

    Example:
        >>> row = {"regime": "real classical train 16", "n_train": 16, "auroc": {"value": 0.5}}
        >>> sizes_table({"regimes": [row], "contrasts": [], "baseline": "real classical"})[-1]
        '| real classical | 0.500 |'
    """
    sizes = sorted({row["n_train"] for row in summary["regimes"]})
    gains = {row["contrast"]: row for row in summary["contrasts"] if row["metric"] == "auroc"}
    cells: dict[str, dict[int, str]] = {}
    for row in summary["regimes"]:
        size, arm = row["n_train"], row["regime"].partition(" train ")[0]
        gain = gains.get(f"{row['regime']} - {summary['baseline']} train {size}")
        told = f"{row['auroc']['value']:.3f}"
        if gain:
            told += f"; {gain['difference']:+.3f} ({gain['ci_low']:+.3f} to {gain['ci_high']:+.3f})"
        cells.setdefault(arm, {})[size] = told
    return [
        f"| trained on | {' | '.join(f'{size} people' for size in sizes)} |",
        f"|---|{'---|' * len(sizes)}",
        *(f"| {arm} | {' | '.join(row.get(size, '') for size in sizes)} |" for arm, row in cells.items()),
    ]


def one_size_table(summary: dict) -> list[str]:
    """A row an arm, a column a metric."""
    lines = [
        "| trained on | real | synthetic | accuracy | AUROC | average precision | AUROC − real |",
        "|---|---|---|---|---|---|---|",
    ]
    gains = {c["contrast"].split(" ")[0]: c for c in summary["contrasts"] if c["metric"] == "auroc"}
    for regime in summary["regimes"]:
        gain = gains.get(regime["regime"])
        cells = [
            regime["regime"],
            regime["n_train_real"],
            regime["n_train_synthetic"],
            *(shown(regime[metric]) for metric in ("accuracy", "auroc", "average_precision")),
            f"{gain['difference']:+.3f} ({gain['ci_low']:+.3f} to {gain['ci_high']:+.3f})" if gain else "",
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--write", type=Path, help="file that holds the results markers")
    options = parser.parse_args()
    text = table(json.loads(options.summary.read_text(encoding="utf-8")))
    if options.write is None:
        print(text)
        return
    page = options.write.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
