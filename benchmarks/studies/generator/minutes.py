"""Quality against time: generators of one config with its steps scaled, each judged by the held-out people.

    python benchmarks/studies/generator/minutes.py --config configs/hippocampus.yaml --out runs/minutes \
        --scales 0.125 0.25 0.5 1 --size volume_mm3 --side side --json FILE

Times are those of the trainings' own ``stats.jsonl``: wall seconds on the machine as it was. Finished trainings and
judged ones are not made again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluate

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config
from synthaug.generate.levels import levels_of
from synthaug.ground.files import read_json, write_json
from synthaug.study.stages.making import make_generator
from synthaug.study.stages.preparation import Study


def scaled(config: Config, scale: float) -> Config:
    """The config with every level's steps scaled."""
    generator = config.generator
    levels = [
        replace(level, steps=max(2, round(level.steps * scale)))
        for level in levels_of(generator, config.preprocess.shape)
    ]
    return replace(config, generator=replace(generator, levels=levels))


def minutes_of(stats: Path) -> dict[str, float]:
    """Minutes that each level took, from a training's log.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "stats.jsonl"
        >>> _ = path.write_text('{"stage": "level 0", "seconds": 30}\\n{"stage": "level 0", "seconds": 90}\\n')
        >>> minutes_of(path)
        {'level 0': 1.5}
    """
    found: dict[str, float] = {}
    for line in stats.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        found[entry["stage"]] = round(entry["seconds"] / 60, 2)
    return found


def measure(config: Config, scale: float, options: argparse.Namespace) -> dict[str, Any]:
    """Train and judge one generator."""
    study = Study.start(scaled(config, scale), options.out, Bars().stage)
    pipe = make_generator(study)
    folder = study.generator_folder
    judged = folder.with_suffix(".judged.json")
    if not judged.is_file():
        options.generator = folder
        write_json(judged, evaluate.judge(study.config, options))
    minutes = minutes_of(folder.with_suffix(".stats.jsonl"))
    return {"scale": scale, "minutes": minutes, "fingerprint": pipe.fingerprint, **read_json(judged)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Every scale in turn; what is done so far is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    own, rest = parser.parse_known_args(arguments)
    options = evaluate.parse([*rest, "--generator", str(own.out)])
    options.out = own.out
    config = read_config(["--config", options.config, *options.set])
    rows = []
    for scale in own.scales:
        rows.append(measure(config, scale, options))
        print(json.dumps(rows[-1]))
        if options.json:
            write_json(options.json, rows)


if __name__ == "__main__":
    main()
