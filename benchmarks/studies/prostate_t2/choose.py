"""Which guidance to draw with: small draws of CCELLA held against its own training patients, nobody held out.

    C=benchmarks/studies/prostate_t2
    python $C/choose.py --config $C/base.yaml --out runs/prostate-t2 --pool.seed 1 --volumes 24

A draw that copied its training patients would look best here; ``copies`` of collect.py tells whether one does. Writes
choose.json beside this script.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from prepare import MEASURED_MM, roughness
from run import draw_pool, read_options, taps_features

from synthaug.bench.preparation import Study
from synthaug.bench.run import Bars
from synthaug.files import write_json
from synthaug.metrics.distances import distance_report
from synthaug.metrics.features import Extractor
from synthaug.metrics.fidelity import gland_volume_fidelity, stated_volume_ml
from synthaug.models.taps import measure_glands_ml

HERE = Path(__file__).parent
GUIDANCES = (1.0, 2.0)


def try_guidance(study: Study, guidance: float, *, volumes: int, features: Extractor) -> dict[str, Any]:
    """Distances to the training patients, how rough volumes are, and whether glands are as large as asked."""
    sampling = replace(study.config.pool.sampling, guidance=guidance)
    pool = draw_pool(study, study.out / f"choose-{guidance:g}", sampling, volumes=volumes)
    drawn = list(pool.subjects())
    images = [[s["t2w"].data.float() for s in part] for part in (study.split.train, drawn)]
    found = distance_report(*map(features.features, images), metrics=["fid", "kid"], resamples=200)
    stated = np.array([stated_volume_ml(subject["report"]) for subject in drawn], dtype=float)
    glands = gland_volume_fidelity(stated, measure_glands_ml(images[1], MEASURED_MM))
    rough = [float(np.mean([roughness(volume) for volume in part])) for part in images]
    return {
        "guidance": guidance,
        "n": len(drawn),
        "fid_to_training": found["fid"].value,
        "kid_to_training": found["kid"].value,
        "gland_spearman": glands.spearman,
        "gland_bias_ml": glands.median_bias_ml,
        "roughness": {"training": rough[0], "drawn": rough[1]},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Try each guidance and write what is found."""
    config, options = read_options(arguments, __doc__)
    study = Study.start(config, Path(options.out), Bars().stage)
    features = taps_features(config, study.out)
    found = [try_guidance(study, guidance, volumes=options.volumes, features=features) for guidance in GUIDANCES]
    features.save()
    for row in found:
        print(row)
    write_json(HERE / "choose.json", found)


if __name__ == "__main__":
    main()
