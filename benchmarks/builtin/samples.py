"""Draw a picture of what a builtin generator makes of sentences; no real volume is in it.

    python benchmarks/builtin/samples.py --pipeline builtin/ccella-hippocampus --guidance 1.5 \\
        --out docs/images/hippocampus.png "Left hippocampus, volume 2300 mm³." "Left hippocampus, volume 3900 mm³."
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from synthaug import CCELLAPipeline
from synthaug.ground.files import atomic_path


def main(arguments: Sequence[str] | None = None) -> None:
    """A row of middle slices for each sentence, one column a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", nargs="+", help="reports to draw from")
    parser.add_argument("--pipeline", required=True, help="folder or builtin name")
    parser.add_argument("--seeds", type=int, default=7, help="volumes of each report")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    options = parser.parse_args(arguments)
    pipe = CCELLAPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    figure = Figure(figsize=(1.25 * options.seeds, 1.9 * len(options.sentences)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(len(options.sentences), 1, squeeze=False)[:, 0]
    for row, sentence in zip(rows, options.sentences, strict=True):
        seeds = range(options.seeds)
        drawn = pipe(
            [sentence] * len(seeds), seeds=seeds, num_inference_steps=options.steps, guidance_scale=options.guidance
        )
        row.suptitle(f"“{sentence}”", fontsize=9)
        for axis, volume in zip(row.subplots(1, len(seeds), squeeze=False)[0], drawn.volumes, strict=True):
            axis.imshow(volume[0, :, :, volume.shape[3] // 2].T, cmap="gray", vmin=0, vmax=1, origin="lower")
            axis.axis("off")
    with atomic_path(options.out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main()
