"""The hippocampus study: nobody on two sides, every config a study, goals and figures as counted by hand."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio
import yaml
from taps_wheel import real_data

from synthaug.bench.options.parsing import read_config
from synthaug.config import ClassifierConfig, GeometryConfig, MetricsConfig
from synthaug.data.reading.manifest import load_manifest, make_subject
from synthaug.data.splits import load_split
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_json
from synthaug.report.figures.plots import learning_plot
from synthaug.study.grid import describe_cells
from synthaug.study.records import CellRecord, Estimate, ImageComparison, Summary, Verdict

FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies" / "hippocampus"
PARTS = [
    ["generator"],
    ["other-cohort"],
    ["treatments"],
    ["reference"],
    ["generator", "same-cohort"],
    ["generator", "same-cohort", "joined"],
    ["generator", "longer"],
    ["generator", "longer", "joined"],
]


@pytest.fixture
def script(import_script):
    """Import a script of the study."""
    return partial(import_script, "studies/hippocampus")


def a_manifest(folder: Path, *, pairs: int, singles: int) -> pd.DataFrame:
    """Crops of people with both sides and of people with one, an empty file each; volumes around the classes' limit."""
    numbers = [*range(1, 2 * pairs + 1), *range(2 * pairs + 1, 2 * (pairs + singles), 2)]
    rows = [
        {
            "subject_id": f"hippocampus_{number:03d}",
            "t1": f"images/{number:03d}.nii.gz",
            "volume_mm3": 3000 + 500 * (place % 3 == 0),
            "label": int(place % 3 != 0),
        }
        for place, number in enumerate(numbers)
    ]
    (folder / "images").mkdir(parents=True)
    for row in rows:
        (folder / row["t1"]).touch()
    manifest = pd.DataFrame(rows)
    manifest.to_csv(folder / "manifest.csv", index=False)
    return manifest


def test_both_sides_of_a_person_get_one_patient_a_side_and_a_rounded_size(script, tmp_path):
    a_manifest(tmp_path, pairs=2, singles=1)
    crops = script("prepare").read_crops(tmp_path)
    assert crops["patient_id"].tolist() == [f"person-{person:03d}" for person in (1, 1, 2, 2, 3)]
    assert crops["side"].tolist() == ["left", "right", "left", "right", "left"]
    assert set(crops["size_mm3"]) == {3000, 3600}  # 3500 lies between two steps; NumPy rounds half to even: 17.5 -> 18


def test_people_are_dealt_out_once_and_the_test_stays(script, tmp_path):
    prepare = script("prepare")
    a_manifest(tmp_path, pairs=12, singles=16)
    crops = prepare.read_crops(tmp_path)
    dealt = prepare.deal_people(crops, cohort=6)
    assert [len(dealt[name]) for name in ("cohort", "test", "learners")] == [6, 6, 16]
    assert len(set(dealt["cohort"]) | set(dealt["test"]) | set(dealt["learners"])) == 28
    prepare.write_study(crops, dealt, tmp_path / "out", choosing=4, joining=2)
    splits = [pd.read_csv(tmp_path / "out" / f"split-{name}.csv") for name in range(prepare.REPEATS)]
    for split in splits:
        assert set(split.loc[split["part"] == "test", "patient_id"]) == set(dealt["test"])
        assert split.groupby("patient_id")["part"].nunique().max() == 1
        assert not set(split["patient_id"]) & set(dealt["cohort"])
        assert split["part"].value_counts().to_dict() == {"train": 12, "test": 12, "val": 4}
    chosen = [frozenset(split.loc[split["part"] == "val", "patient_id"]) for split in splits]
    assert len(set(chosen)) > prepare.REPEATS / 2
    joined = pd.read_csv(tmp_path / "out" / "split-joined-1.csv")
    assert joined["part"].value_counts().to_dict() == {"train": 12 + 2 * 2, "test": 12, "val": 4}
    assert len(set(joined.loc[joined["part"] == "train", "patient_id"]) & set(dealt["cohort"])) == 2
    development = pd.read_csv(tmp_path / "out" / "split-development.csv")
    assert set(development.loc[development["part"] == "train", "patient_id"]) == set(dealt["cohort"])
    assert not set(development["patient_id"]) & set(dealt["test"])


def test_too_few_people_with_both_sides_are_refused(script, tmp_path):
    prepare = script("prepare")
    a_manifest(tmp_path, pairs=3, singles=4)
    with pytest.raises(InputError, match="3 people have both sides"):
        prepare.deal_people(prepare.read_crops(tmp_path), cohort=3)
    with pytest.raises(InputError, match="no such manifest"):
        prepare.read_crops(tmp_path / "nowhere")


def test_the_real_crops_are_dealt_as_the_page_says(script, tmp_path):
    data = real_data("hippocampus")
    script("prepare").main(["--data", str(data), "--out", str(tmp_path)])
    for manifest, split, counts in (
        ("study", "3", {"train": 64, "val": 16, "test": 80}),
        ("joined", "joined-3", {"train": 128, "val": 16, "test": 80}),
        ("development", "development", {"train": 100, "val": 16, "test": 64}),
    ):
        subjects = load_manifest(tmp_path / f"{manifest}.csv", ["t1"])
        parts = load_split(tmp_path / f"split-{split}.csv", subjects)
        assert {name: len(part) for name, part in parts.parts()} == counts
        if manifest == "study":  # one crop a person, so that sizes in people are sizes in crops
            assert len({subject["patient_id"] for subject in parts.train}) == 64
            assert len({subject["patient_id"] for subject in parts.test}) == 40


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part[-1])
def test_every_part_of_the_study_is_a_study(script, part):
    configs = [word for name in ("base", *part) for word in ("--config", str(FOLDER / f"{name}.yaml"))]
    assert describe_cells(read_config(configs, exits=False))


def test_the_parts_differ_from_each_other_in_nothing_but_what_they_compare():
    usual, plain = (
        yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("other-cohort", "treatments")
    )
    for key in ("split.train", "split.file"):
        assert usual["study"]["axes"][key] == plain["study"]["axes"][key]
    assert usual["data"] == plain["data"]
    assert usual["study"]["seeds"] == plain["study"]["seeds"]


def a_cell(folder: Path, name: str, *, regime: str, size: int, repeat: int, right: int, **more) -> None:
    """A record of ten test people, of whom the first ``right`` of each class are on their own side."""
    predictions = []
    for person in range(10):
        label, hit = person % 2, person // 2 < right
        towards = 0.5 + (0.4 - 0.01 * person) * (1 if hit else -1) * (1 if label else -1)
        probabilities = [1 - towards, towards]
        predictions.append(
            {"subject_id": f"s{person}", "patient_id": f"p{person}", "label": label, "probabilities": probabilities}
        )
    fraction = more.pop("fraction", None)
    record = {
        "id": name,
        "regime": regime,
        "seed": 0,
        "synthetic_fraction": fraction,
        "settings": {"split.train": size, "split.file": f"split-{repeat}.csv", **more.pop("settings", {})},
        "protocol": "other cohort",
        "augment": more.pop("augment", ["flip", "rotate", "translate"]),
        "n_train": size,
        "n_train_real": size,
        "n_train_synthetic": 0 if fraction is None else size,
        "steps": 4,
        "steps_made": 4,
        "chosen_step": 4,
        "temperature": 1.0,
        "history": [{"step": 4, "val_loss": more.pop("val_loss", 0.7)}],
        "metrics": {"auroc": 0.5},
        "seconds": 1.0,
        "predictions": predictions,
    }
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    (folder / "cells" / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture
def two_parts(tmp_path):
    """Folders of a part with synthetic data and of one with treatments; mixed 0.5 has the lower validation loss."""
    usual, plain = tmp_path / "usual", tmp_path / "plain"
    for repeat in range(2):
        for size in (16, 64):
            at = {"size": size, "repeat": repeat}
            key = f"{size}-{repeat}"
            a_cell(usual, f"real-{key}", regime="real", right=3, **at)
            a_cell(usual, f"half-{key}", regime="mixed", right=5, fraction=0.5, val_loss=0.5, **at)
            a_cell(usual, f"most-{key}", regime="mixed", right=2, fraction=0.75, val_loss=0.6, **at)
            a_cell(usual, f"alone-{key}", regime="synthetic", right=2, fraction=1.0, **at)
            a_cell(
                plain,
                f"plain-{key}",
                regime="real",
                right=1,
                augment=False,
                settings={"classifier.augment": False},
                **at,
            )
    return usual, plain


def test_parts_become_one_study_whose_mixture_was_chosen_on_validation(script, two_parts):
    summary, told, records = script("collect").collect(two_parts, MetricsConfig(bootstrap=50, permutations=19))
    assert len(records) == 20
    assert [arm.label for arm in summary.arms[:5]] == [
        "real oversampled train 16",
        "real classical train 16",
        "synthetic train 16",
        "mixed 0.5 train 16",
        "mixed 0.75 train 16",
    ]
    assert told["mixed_share_chosen_on_validation"] == {16: 0.5, 64: 0.5}
    goals = {(row["kind"], row["contrast"]): row for row in told["goals"]}
    assert all(f"train {row['people']} " in row["contrast"] for row in told["goals"])
    assert {contrast for kind, contrast in goals if kind != "alone"} == {
        f"mixed 0.5 train {size} - real classical train {size}" for size in (16, 64)
    }
    # 3 of 5 of a class on their own side rank 15 of 25 pairs or more rightly; 5 of 5 all of them.
    assert all(row["holds"] for (kind, _), row in goals.items() if kind == "no loss")
    assert not any(row["holds"] for (kind, _), row in goals.items() if kind == "alone")
    plain = [row.label for row in summary.in_metric("auroc")]
    assert "mixed 0.75 train 64 - real oversampled train 64" in plain


def test_the_figures_show_every_arm_at_every_size(script, two_parts):
    summary, *_ = script("collect").collect(two_parts, MetricsConfig(bootstrap=10, permutations=9))
    gains = script("gains")
    assert {arm: sorted(rows) for arm, rows in gains.gains_by_arm(summary.contrasts).items()} == {
        arm: [16, 64] for arm in ("synthetic", "mixed 0.5", "mixed 0.75")
    }
    (axes,) = gains.gain_plot(summary.contrasts).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["16", "64"]
    legend = [text.get_text() for text in learning_plot(summary).legends[0].get_texts()]
    assert legend == ["real oversampled", "real classical", "synthetic", "mixed 0.5", "mixed 0.75"]


def test_a_part_that_was_not_run_is_told(script, tmp_path):
    with pytest.raises(InputError, match="no finished cell"):
        script("collect").read_records([tmp_path])


def test_pools_of_their_own_are_told_by_size(script, tmp_path):
    def row(metric, size, value):
        axes = {"split.train": size, "split.file": "a.csv"}
        return ImageComparison(metric, Estimate(value, 0.0, 1.0), axes=axes, more={"floor": 0.02})

    rows = [row("fid", 16, 0.4), row("fid", 16, 0.2), row("copies", 16, 0.01), row("fid", 64, 0.1), row("kid", 64, 9.0)]
    write_json(tmp_path / "summary.json", Summary(0, (), (), Verdict("none"), image_metrics=tuple(rows)).to_json())
    told = script("collect").pools_by_size([tmp_path])
    assert list(told) == [16, 64]
    assert told[16]["pools"] == 2
    assert told[16]["fid"] == pytest.approx(0.3)
    assert told[16]["fid_range"] == [0.2, 0.4]
    assert (told[16]["copies"], told[64]["copies"]) == (0.01, None)


def test_every_file_of_the_study_is_written(script, two_parts, tmp_path, capsys):
    arguments = ["--runs", *map(str, two_parts), "--out", str(tmp_path), "--resamples", "9"]
    script("collect").main(arguments)
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert len(pd.read_csv(tmp_path / "results.csv")) == 20
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["cells"] == 20
    for name in ("auroc", "gain"):
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_the_table_tells_each_arm_with_its_difference_at_each_size(script, two_parts, import_script):
    summary, *_ = script("collect").collect(two_parts, MetricsConfig(bootstrap=10, permutations=9))
    table = import_script("studies", "table").table(summary, baseline="real classical")
    head, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    assert head == "| trained on | 16 people | 64 people |"
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        "real oversampled",
        "real classical",
        "synthetic",
        "mixed 0.5",
        "mixed 0.75",
    ]
    best = next(row for row in rows if "mixed 0.5" in row)
    assert best.count("1.000; +0.") == 2
    assert table.splitlines()[-1].startswith("Verdict: ")


def test_a_ridge_regression_reads_the_size_it_was_trained_on(script):
    ridge = script("ridge")
    sizes = [3000.0 + 100 * place for place in range(12)]
    subjects = []
    for place, size in enumerate(sizes):
        bright = torch.full((1, 4, 4, 4), 0.1)
        bright[:, :2] = size / 5000
        images = {"t1": tio.ScalarImage(tensor=bright)}
        report = f"Hippocampal volume {size:.0f} mm3, small."
        subjects.append(
            make_subject(images, label=int(place < 6), subject_id=f"{place}", patient_id="p", report=report)
        )
    assert ridge.asked_sizes(subjects) == sizes
    rows = ridge.Rows.of(subjects, sizes)
    plain = replace(rows, values=1000 * rows.values)  # so that the penalty counts for little
    read = ridge.read_size(plain, plain)
    assert read["correlation"] == pytest.approx(1, abs=1e-3)
    assert read["auroc"] == 1
    assert read["deviation_mm3"] == pytest.approx(np.std(sizes), rel=1e-3)
    # One of three steps along the first axis crosses from 0.1 to the brightness; the other two axes have none.
    assert ridge.roughness(subjects[:1]) == pytest.approx((0.6 - 0.1) / 3 / 3)


def test_labelled_augmentation_is_compared_with_the_same_moves_untold(script):
    labelled = script("labelled")
    arms = labelled.arms_of(ClassifierConfig(augment=["flip"]))
    assert [arm.augment for arm in arms.values()] == [["flip"], True, *["labelled"] * 3]
    assert arms["shifts and flips"].geometry == replace(arms["labelled"].geometry, zooms=(1.0,))


def test_figures_of_labelled_augmentation_are_paired_by_split_and_seed(script):
    """Two people: right with labels told, wrong without, in both splits."""

    def a_record(arm: str, split: str, scores: list[float]) -> CellRecord:
        rows = [
            {"subject_id": f"s{k}", "patient_id": f"p{k}", "label": k, "probabilities": [1 - score, score]}
            for k, score in enumerate(scores)
        ]
        told = {"regime": "real", "seed": 0, "synthetic_fraction": None, "n_train": 32, "n_train_real": 32}
        told |= {"n_train_synthetic": 0, "protocol": "same cohort", "predictions": rows}
        auroc = float(scores[1] > scores[0])
        settings = {"classifier.augment": arm, "split.file": split}
        return CellRecord.from_json(told | {"settings": settings, "metrics": {"auroc": auroc}})

    records = [
        a_record(arm, split, scores)
        for split in ("split-0.csv", "split-1.csv")
        for arm, scores in (("classical", [0.9, 0.1]), ("labelled", [0.1, 0.9]))
    ]
    figures = script("labelled").figures_of(records, MetricsConfig(bootstrap=20), GeometryConfig())
    [contrast] = figures["contrasts"]
    assert contrast["contrast"] == "real augment labelled - real augment classical"
    assert contrast["difference"] == 1
    assert figures["arms"]["labelled"]["value"] == 1
    assert figures["cells"]["classical"] == {"split-0 seed 0": 0, "split-1 seed 0": 0}
