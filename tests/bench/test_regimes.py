"""Tiny studies, end to end, of what can be compared: fine-tuning, label policies, folds, generators side by side."""

import copy
import csv
import json

import pytest
import torch
import yaml
from test_bench import results
from tiny_study import PUBLISHED, bench
from two_processes import in_two_processes

from synthaug.augment.sampler import SyntheticSampler
from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import config_of, study_parser
from synthaug.bench.studies.remaking import make_report
from synthaug.data.phantom import make_subjects
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import patient_hash
from synthaug.models.training.processes import processes
from synthaug.pool.pool import SyntheticPool
from synthaug.study.grid import cells_of
from synthaug.study.records import read_summary
from synthaug.study.running.cell import run_cell
from synthaug.study.stages.making import make_pool
from synthaug.study.stages.preparation import Study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Runs the tiny study with changes and gives its folder."""
    settings = copy.deepcopy(PUBLISHED)
    settings["data"]["phantom"] |= {"n": 24, "seed": 5}
    for stage in ("autoencoder", "generator"):
        settings[stage]["monitor_every"] = 0
    settings["metrics"] = {"bootstrap": 20, "permutations": 20, "copies": False}
    settings["study"] = {"seeds": [0]}
    config = tmp_path_factory.mktemp("config") / "tiny.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def run(command="bench", *, out=None, axes=None, **options):
        out = out or tmp_path_factory.mktemp("study") / "out"
        words = [word for key, value in options.items() for word in (f"--{key.replace('__', '.')}", str(value))]
        words += ["--study.axes", json.dumps(axes)] if axes else []
        assert run_command(command, ["--config", str(config), "--out", str(out), *words]) == 0
        return out

    run.words = ["--config", str(config)]
    return run


def records_of(out):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("cells/*.json"))]


def summary_of(out):
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def contrasts_of(out):
    return {row["contrast"]: row for row in summary_of(out)["contrasts"] if row["metric"] == "auroc"}


# --- fine-tuning, and whose word the labels are


@pytest.fixture(scope="module")
def torn(tiny):
    """A folder with a trained generator that reads class 1 from about half of the training reports."""
    out = tiny("train-ldm")
    [folder] = (path for path in out.glob("generator-*") if path.is_dir())
    pipe = CCELLAPipeline.from_pretrained(folder)
    reports = [subject["report"] for subject in make_subjects(16, 0.5, 5)]
    drawn = pipe(reports, seeds=range(16), num_inference_steps=1).class_probabilities[:, 1]
    with torch.no_grad():
        pipe.denoiser.classifier.bias[1] -= torch.logit(drawn.median() + 1e-6)
    pipe.save_pretrained(folder)
    return out


AXES = {"pool.labels": ["requested", "predicted", "agreed"]}
LABELLED = {"classifier__balance": "weighted", "classifier__evaluate_every": 2, "pool__attempts": 6}


@pytest.fixture(scope="module")
def labelled(tiny, torn):
    """Real data, and each label policy in fine-tuning with two shares."""
    regimes = {"study__regimes": "[real, finetuned]", "study__pretrain_share": "[0.25, 0.5]"}
    return tiny(out=torn, axes=AXES, **regimes, **LABELLED)


def test_fine_tuning_takes_the_steps_of_every_regime_and_chooses_after_the_pre_training(labelled):
    found = [record for record in records_of(labelled) if record["regime"] == "finetuned"]
    assert len(found) == 3 * 2  # policies and shares
    for record in found:
        assert (record["steps"], record["steps_made"]) == (8, 8)
        assert record["pretrain_steps"] == 8 * record["synthetic_fraction"] in (2, 4)
        assert min(point["step"] for point in record["history"]) > record["pretrain_steps"]
        assert record["chosen_step"] > record["pretrain_steps"]
        assert record["n_train_real"] == record["n_train"] > 0
        assert record["n_train_synthetic"] > 0
    rows = [row for row in results(labelled) if row["regime"] == "finetuned"]
    assert {row["synthetic_fraction"] for row in rows} == {"0.25", "0.5"}
    assert {row["steps"] for row in results(labelled)} == {"8"}


def test_label_policies_share_the_real_cells_and_name_the_contrasts(labelled):
    [real] = [record for record in records_of(labelled) if record["regime"] == "real"]
    assert (real["settings"], real["pretrain_steps"], real["n_train_synthetic"]) == ({}, 0, 0)
    policies = ("requested", "predicted", "agreed")
    assert set(contrasts_of(labelled)) == {
        f"finetuned {share} labels {policy} - real" for policy in policies for share in ("0.25", "0.5")
    }
    headers = [json.loads(path.read_text(encoding="utf-8"))["labels"] for path in labelled.glob("pool-*/pool.json")]
    assert sorted(headers) == sorted(policies)
    answer = summary_of(labelled)["answer"]
    assert (answer["regimes"], answer["compared"]) == (["finetuned"], 6)


def test_predicted_classes_need_not_be_equally_many_and_every_batch_is_balanced_all_the_same(labelled):
    summaries = {
        json.loads((folder / "pool.json").read_text(encoding="utf-8"))["labels"]: SyntheticPool.open(folder)
        for folder in labelled.glob("pool-*")
    }
    assert summaries["requested"].counts == {0: 6, 1: 6}
    pool = summaries["predicted"]
    assert sum(pool.counts.values()) == 12
    assert min(pool.counts.values()) != max(pool.counts.values())
    real = [{"label": label} for label in [0] * 9 + [1] * 3]
    for batch in SyntheticSampler(real, pool, batch_size=4, synthetic_fraction=1.0):
        assert sorted(draw.label for draw in batch) == [0, 0, 1, 1]
        assert all(draw.member < pool.counts[draw.label] for draw in batch)


def test_the_protocol_is_named_in_record_contrast_and_regime_row(labelled):
    summary = summary_of(labelled)
    every = [*records_of(labelled), *summary["contrasts"], *summary["regimes"]]
    assert {row["protocol"] for row in every} == {"same cohort"}


# --- folds


@pytest.fixture(scope="module")
def folded(tiny):
    return tiny(axes={"split.fold": [0, 1, 2]}, split__folds=3, split__val=0.2, study__regimes="[real, mixed]")


def test_over_the_folds_every_patient_is_tested_once_and_the_statistics_pool_them(folded):
    for regime in ("real", "mixed"):
        tested = [
            row["patient_id"]
            for record in records_of(folded)
            if record["regime"] == regime
            for row in record["predictions"]
        ]
        assert len(tested) == len(set(tested)) == 24
    assert [(row["regime"], row["repeats"], row["n_test"]) for row in summary_of(folded)["regimes"]] == [
        ("real", 3, 24),
        ("mixed", 3, 24),
    ]
    [contrast] = contrasts_of(folded).values()
    assert (contrast["contrast"], contrast["repeats"], contrast["seeds"]) == ("mixed - real", 3, [0])
    answer = summary_of(folded)["answer"]
    assert (answer["n_test"], answer["seeds"]) == (24, 1)


def test_every_fold_has_a_generator_of_its_own_training_patients(folded):
    splits = [list(csv.DictReader(path.open())) for path in folded.glob("split*.csv")]
    trained = {frozenset(patient_hash(r["patient_id"]) for r in rows if r["part"] == "train") for rows in splits}
    seen = {
        frozenset(json.loads(path.read_text(encoding="utf-8"))["patients"])
        for path in folded.glob("generator-*/training.json")
    }
    assert len(trained) == 3
    assert seen == trained
    assert {record["protocol"] for record in records_of(folded)} == {"same cohort"}


# --- generators and classifiers side by side


@pytest.fixture(scope="module")
def compared(tiny):
    axes = {"generator.variant": ["ccella", "radmaisi"], "classifier.network": ["resnet10", "resnet18"]}
    return tiny(axes=axes, study__regimes="[real, mixed]")


def test_comparators_and_classifiers_stand_side_by_side(compared):
    networks, variants = ("resnet10", "resnet18"), ("ccella", "radmaisi")
    assert set(contrasts_of(compared)) == {
        f"mixed variant {variant} network {network} - real network {network}"
        for network in networks
        for variant in variants
    }
    assert len(records_of(compared)) == 2 + 4  # real data is trained on once a network
    assert len({row["source"] for row in summary_of(compared)["image_metrics"]}) == 2
    assert {row["axes"]["generator.variant"] for row in summary_of(compared)["image_metrics"]} == set(variants)
    weights = [
        json.loads(path.read_text(encoding="utf-8"))["generator"] for path in compared.glob("generator-*/training.json")
    ]
    assert sorted(each["variant"] for each in weights) == sorted(variants)


def test_a_generator_from_elsewhere_beside_an_own_one_tells_its_protocol(tiny_pipeline, tiny, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "elsewhere")
    axes = {"generator.pretrained": [None, str(tmp_path / "elsewhere")]}
    out = tiny(axes=axes, study__regimes="[real, mixed]", generator__prediction="v_prediction")
    told = {record["settings"].get("generator.pretrained", "real"): record["protocol"] for record in records_of(out)}
    assert told == {"real": "same cohort", None: "same cohort", str(tmp_path / "elsewhere"): "other cohort"}
    assert sorted(row["protocol"] for row in contrasts_of(out).values()) == ["other cohort", "same cohort"]
    assert sorted(row["protocol"] for row in summary_of(out)["regimes"]) == [
        "other cohort",
        "same cohort",
        "same cohort",
    ]


@pytest.fixture(scope="module")
def pool_folder(compared):
    """The pool of the variant that reads the class from the report."""
    [folder] = [
        path.parent
        for path in compared.glob("pool-*/pool.json")
        if not json.loads(path.read_text(encoding="utf-8"))["override_class"]  # radmaisi is told the class
    ]
    return folder


def test_a_ready_pool_beside_an_own_one_is_of_the_same_cohort_if_it_saw_just_the_training_patients(
    compared, pool_folder, tiny
):
    tiny(out=compared, axes={"pool.path": [None, str(pool_folder)]}, study__regimes="[real, mixed]")
    contrasts = contrasts_of(compared)
    assert len(contrasts) == 2
    assert {row["protocol"] for row in contrasts.values()} == {"same cohort"}


def test_fine_tuning_on_half_of_the_real_patients_takes_a_pool_of_others_and_says_so(pool_folder, tiny):
    axes = {"split.train": [1, 0.5]}
    out = tiny(axes=axes, study__regimes="[real, finetuned]", pool__path=pool_folder)
    told = {(r["regime"], r["settings"]["split.train"]): (r["protocol"], r["steps_made"]) for r in records_of(out)}
    assert told == {
        ("real", 1): ("same cohort", 8),
        ("real", 0.5): ("same cohort", 8),
        ("finetuned", 1): ("same cohort", 8),
        ("finetuned", 0.5): ("other cohort", 8),
    }
    assert not list(out.glob("generator-*"))
    assert {name: row["protocol"] for name, row in contrasts_of(out).items()} == {
        "finetuned train 1 - real train 1": "same cohort",
        "finetuned train 0.5 - real train 0.5": "other cohort",
    }


# --- several processes


def cells_of_a_rank(rank, words, out):
    """What a rank finds of the study's cells, run and then read."""
    parser = study_parser("bench")
    config = config_of(parser.instantiate_classes(parser.parse_args(words)))
    processes()  # from here on the ranks know of each other
    study = Study.read(config, out, lambda name, total: lambda *_: None)
    cells = cells_of(config, lambda each: (study.data_id, study.identify_pool()))
    pool = make_pool(study)
    records = [[run_cell(cell, study, pool) for cell in cells] for _ in range(2)]
    assert records[0] == records[1] or rank
    return [[record.to_json() for record in each] for each in records]


def test_two_processes_train_one_cell_together_and_the_main_one_writes(pool_folder, tiny, tmp_path):
    words = [*tiny.words, "--study.regimes", "[real, finetuned]", "--pool.path", str(pool_folder)]
    first, second = in_two_processes(cells_of_a_rank, words, tmp_path)
    assert len(list(tmp_path.glob("cells/*.json"))) == 2
    assert not list(tmp_path.glob("cells/*.checkpoint"))
    assert first[1] == second[1]  # found by both
    for ours, theirs in zip(first[0], second[0], strict=True):
        assert ours["predictions"] == theirs["predictions"]
        assert ours["history"] == theirs["history"]
        assert len(ours["predictions"]) == 8


def test_arms_that_share_a_training_are_all_there_and_a_report_made_again_says_the_same(tmp_path):
    alone = ["--study.regimes", "[real]", "--data.phantom.n", "26", "--split.folds", "3", "--split.val", "0.2"]
    assert bench(tmp_path / "out", *alone) == 0  # its cell is found again by the study below, which calls it otherwise
    axes = '{"split.train": [1, 11], "split.fold": [0, 1, 2]}'
    assert bench(tmp_path / "out", *alone, "--study.axes", axes) == 0
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 > len({row["cell"] for row in rows})
    assert {row["arm"] for row in rows} == {"real train 1", "real train 11"}
    summary = read_summary(tmp_path / "out")
    assert [(arm.repeats, arm.n_test) for arm in summary.arms] == [(3, 26), (3, 26)]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    make_report(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == page
