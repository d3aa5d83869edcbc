"""Filters and doses: validation chooses, the test patients say what the choice adds."""

import json
from functools import partial

import numpy as np
import pytest

from synthaug.bench.options.parsing import read_config
from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.study.records import CellRecord


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/filtering")


def a_record(regime, seed, *, strength, loss, fraction=None, **settings):
    labels = [place % 3 == 0 for place in range(60)]
    noise = np.random.default_rng([seed, int(10 * strength)]).normal(size=60)
    scores = 1 / (1 + np.exp(-(strength * np.array(labels) + noise)))
    return CellRecord.from_json(
        {
            "id": f"{regime}-{seed}-{fraction}-{settings}",
            "regime": regime,
            "seed": seed,
            "synthetic_fraction": fraction,
            "settings": settings,
            "n_train": 40,
            "protocol": "same cohort",
            "history": [{"step": 1, "train_loss": 1.0, "val_loss": loss}],
            "predictions": [
                {"patient_id": f"p{place}", "label": int(label), "probabilities": [1 - score, score]}
                for place, (label, score) in enumerate(zip(labels, scores.tolist(), strict=True))
            ],
        }
    )


SETTINGS = MetricsConfig(bootstrap=50, permutations=19)


def test_the_filter_of_the_lowest_validation_loss_is_chosen_whatever_the_test_says(script):
    collect, records = script("collect"), []
    for seed in (0, 1, 2):
        records.append(a_record("real", seed, strength=0.2, loss=0.9))
        for name, strength, loss in (("none", 1.0, 0.7), ("agreement", 3.0, 0.6), ("distance", 5.0, 0.8)):
            record = a_record("mixed", seed, strength=strength, loss=loss, fraction=0.5, **{"pool.filter": name})
            records.append(record)
    rows = {row["filter"]: row for row in collect.rows_of(records, "filter", SETTINGS)}
    assert list(rows) == ["none", "agreement", "distance"]
    assert [name for name, row in rows.items() if row["chosen"]] == ["agreement"]
    assert rows["distance"]["difference"] > rows["agreement"]["difference"] > rows["none"]["difference"]
    assert len(collect.picture(list(rows.values()), "filter").axes) == 1


def test_doses_are_told_in_volumes_for_each_real_one(script):
    collect = script("collect")
    records = [a_record("real", seed, strength=0.2, loss=0.9) for seed in (0, 1, 2)]
    for share, loss in ((0.8, 0.4), (0.2, 0.5)):
        records += [a_record("mixed", seed, strength=1 + share, loss=loss, fraction=share) for seed in (0, 1, 2)]
    rows = collect.rows_of(records, "dose", SETTINGS)
    assert [(row["dose"], row["chosen"]) for row in rows] == [(0.25, False), (4.0, True)]
    with pytest.raises(InputError, match="no mixed arm"):
        collect.rows_of(records[:3], "dose", SETTINGS)


def test_the_configs_are_grids_over_a_study(script):
    folder = script("collect").Path(script("collect").__file__).parent
    base = ["--config", str(folder / "phantoms.yaml"), "--pool.path", "pool"]
    filters = read_config([*base, "--config", str(folder / "filters.yaml")], exits=False)
    assert filters.study.axes == {"pool.filter": ["none", "agreement", "realism", "distance"]}
    dose = read_config([*base, "--config", str(folder / "dose.yaml")], exits=False)
    ratios = [round(share / (1 - share), 2) for share in dose.study.synthetic_fraction]
    assert ratios == [0.25, 0.5, 1, 2, 4]
    assert json.dumps(dose.study.axes) == "{}"
