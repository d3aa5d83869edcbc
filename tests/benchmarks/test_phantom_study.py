"""The phantom study: its arms are the bench's own cells, and its script judges what filled batches add."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from synthaug.config import MetricsConfig
from synthaug.ground.errors import InputError
from synthaug.study.summary.aggregate import summarise

FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies" / "phantom"


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/phantom")


def a_record(regime, treatment, seed, *, strength, loss):
    """A cell of 60 test patients whose scores tell the class the better, the larger the strength."""
    balance, criterion = ("none", "focal") if treatment == "focal" else (treatment, "cross_entropy")
    balance, augment = ("oversampled", ["flip"]) if treatment == "classical" else (balance, False)
    labels = [place % 3 == 0 for place in range(60)]
    noise = np.random.default_rng([seed, len(regime), len(treatment)]).normal(size=60)
    scores = 1 / (1 + np.exp(-(strength * np.array(labels) + noise)))
    return {
        "id": f"{regime}-{treatment}-{seed}",
        "regime": regime,
        "seed": seed,
        "synthetic_fraction": {"real": None, "mixed": 0.5, "synthetic": 1.0}[regime],
        "settings": {
            "data.phantom.difficulty": 0.5,
            "data.phantom.positive_fraction": 0.2,
            "classifier.balance": balance,
            "classifier.loss": criterion,
        },
        "augment": augment,
        "n_train": 40,
        "n_train_real": 40,
        "n_train_synthetic": 0,
        "protocol": "same cohort",
        "history": [{"step": 1, "train_loss": 1.0, "val_loss": 2.0}, {"step": 2, "train_loss": 1.0, "val_loss": loss}],
        "predictions": [
            {"patient_id": f"p{place}", "label": int(label), "probabilities": [1 - score, score]}
            for place, (label, score) in enumerate(zip(labels, scores.tolist(), strict=True))
        ],
    }


@pytest.fixture
def cells(tmp_path):
    """A cohort in which mixed data is far better than real data and synthetic data is as good."""
    (tmp_path / "cells").mkdir()
    arms = [("real", "none", 0.0, 0.7), ("real", "oversampled", 0.3, 0.5), ("real", "weighted", 0.9, 0.6)]
    arms += [
        ("real", "focal", 0.0, 0.9),
        ("real", "classical", 0.2, 0.7),
        ("mixed", "oversampled", 6.0, 0.1),
        ("synthetic", "oversampled", 0.3, 0.6),
    ]
    for regime, treatment, strength, loss in arms:
        for seed in (0, 1):
            record = a_record(regime, treatment, seed, strength=strength, loss=loss)
            (tmp_path / "cells" / f"{record['id']}.json").write_text(json.dumps(record), encoding="utf-8")
    return tmp_path


def test_arms_with_synthetic_volumes_are_held_against_the_treatment_that_validation_chose(script, cells):
    collect = script("collect")
    records = collect.read_records(cells)
    summary = summarise(records, [], MetricsConfig(bootstrap=100, permutations=199))
    rows = {row["arm"]: row for row in collect.grid(summary, collect.validation_losses(records))}
    treatments = ["none", "oversampled", "weighted", "focal", "classical"]
    assert list(rows) == [*(f"real, {treatment}" for treatment in treatments), "mixed", "synthetic"]
    # Weighted is better on the test patients; it is not asked.
    assert rows["mixed"]["against"] == rows["synthetic"]["against"] == "real, oversampled"
    assert (rows["mixed"]["verdict"], rows["synthetic"]["verdict"]) == ("pays", "not clear")
    assert rows["mixed"]["difference"] == pytest.approx(rows["mixed"]["auroc"] - rows["real, oversampled"]["auroc"])
    assert rows["mixed"]["p_holm"] == pytest.approx(2 * rows["mixed"]["p"])
    (line,) = collect.table(list(rows.values()))[2:]
    assert line.count("**") == 2
    assert line.startswith("| 0.5 | 20% |")
    told = collect.tell_all(list(rows.values()), summary.contrasts)
    assert told[0].startswith("mixed: pays in 1 and harms in 0 of 1 cells; the AUROC is higher in 5 of all 5")
    assert len(collect.gains(list(rows.values())).axes) == 1


def test_a_folder_without_cells_is_refused(script, tmp_path):
    with pytest.raises(InputError, match="no finished cell"):
        script("collect").read_records(tmp_path)


def test_the_arms_are_cells_of_the_bench(script):
    run = script("run")
    config = run.read_config(["--config", str(FOLDER / "study.yaml"), "--pool.path", "pool"])

    class Known:
        @staticmethod
        def identify(config):
            return str(config.data.phantom), "pool"

    cells = [cell for seed in (0, 1) for cell in run.cells_of_seed(config, seed, Known)]
    assert len({cell.id for cell in cells}) == len(cells) == 2 * 9 * 7
    assert {cell.settings["classifier.loss"] for cell in cells if cell.regime != "real"} == {"cross_entropy"}
    assert {cell.config.classifier.loss for cell in cells if cell.settings["classifier.loss"] == "focal"} == {"focal"}
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
