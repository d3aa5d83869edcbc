"""Write the manifest of the study: the cases with their reports and one class that says how far the tumour reaches.

    python benchmarks/studies/real_reports/prepare.py --data DATA/prostate_diagnosis [--out runs/real-reports-data]

Whoever has seminal vesicle invasion (SVI) here has extraprostatic extension (EPE) too, so that two findings are three
classes in order, ``extent``: 0 neither, 1 EPE alone, 2 both. One generator is then told both, and its probabilities
of the classes tell both (:mod:`findings`).
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path


def read_cases(data: Path) -> pd.DataFrame:
    """The folder's manifest with the class ``extent``.

    Raises:
        InputError: There is no manifest, or a case has SVI without EPE.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "manifest.csv").write_text("subject_id,epe,svi\\na,0,0\\nb,1,0\\nc,1,1\\n")
        >>> read_cases(folder)["extent"].tolist()
        [0, 1, 2]
    """
    manifest = data / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest}: no such manifest; give the folder of the cases as --data.")
    cases = pd.read_csv(manifest)
    odd = cases[(cases["svi"] == 1) & (cases["epe"] == 0)]
    if len(odd):
        raise InputError(f"{manifest}: {odd['subject_id'].iloc[0]} has SVI without EPE, which no class stands for.")
    return cases.assign(extent=cases["epe"] + cases["svi"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the images, write the manifest beside them, and tell how many cases each class has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the cases with its manifest.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/real-reports-data"))
    options = parser.parse_args(arguments)
    cases = read_cases(options.data)
    for image in cases["t2w"]:
        copy = options.out / image
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.data / image, copy)
    with atomic_path(options.out / "manifest.csv") as temporary:
        cases.to_csv(temporary, index=False)
    print({extent: int(count) for extent, count in cases["extent"].value_counts().sort_index().items()})


if __name__ == "__main__":
    main()
