"""The scripts of benchmarks/ run on a tiny pipeline, print what they promise, and time what they say they time."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_PREPROCESSING

from synthaug.config import PreprocessConfig, TrainingConfig
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator
from synthaug.metrics.features import module_extractor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CLAIM = {"claim", "ours", "reference", "ratio", "target", "holds", "machine"}


@pytest.fixture(scope="module")
def pipeline_folder(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return str(folder)


def last_json(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_the_evaluation_writes_every_figure_with_its_interval_and_target(
    import_script, pipeline_folder, tmp_path, capsys
):
    out, pictures, cache = tmp_path / "figures.json", tmp_path / "pictures", tmp_path / "auditor"
    arguments = ["--pipeline", pipeline_folder, "--out", str(out), "--quick", "--quiet", "--steps", "2"]
    arguments += ["--pictures", str(pictures), "--auditor-cache", str(cache)]
    import_script("builtin", "evaluate").main(arguments)
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["pipeline"] == "tiny"
    assert {"fingerprint", "date", "versions", "settings", "seconds"} <= set(record)
    judged = [
        record["reconstruction"]["noise_free"],
        record["auditor"]["auroc"],
        record["class_agreement"]["all"],
        record["fid"]["generated_to_floor"],
        record["place_agreement"]["half_and_zone"],
    ]
    for row in judged:
        assert row["low"] <= row["value"] <= row["high"]
        assert isinstance(row["holds"], bool)
    assert record["fid"]["n_a_side"] == record["settings"]["n"] == record["class_agreement"]["all"]["n"] == 8
    assert len(capsys.readouterr().out.strip().splitlines()) == len(judged)
    assert {path.name for path in pictures.iterdir()} == {"pairs.png", "reconstructions.png"}
    assert len(list(cache.iterdir())) == 1


def test_the_twin_of_a_patient_lies_on_the_scale_of_the_noisy_volume(import_script):
    patients = import_script("builtin", "patients")
    config = PreprocessConfig()
    patient = patients.draw_patients(2, part="test", seed=0, difficulty=0.5)[1]
    noisy, twin = (patient.volume(config, kind) for kind in ("noisy", "noise-free"))
    assert noisy.min() == 0
    assert noisy.max() == 1
    middle = (twin > 0.2) & (twin < 0.8)  # neither clipped nor near the Rician floor
    assert (noisy - twin)[middle].mean().abs() < 0.003
    assert 0.01 < (noisy - twin)[middle].std() < 0.05


def test_the_parts_of_the_evaluation_share_no_patient(import_script):
    patients = import_script("builtin", "patients")
    parts = [
        patients.draw_patients(20, part=part, seed=0, difficulty=0.5) for part in ("auditor", "held out", "prompts")
    ]
    seeds = [patient.seed for part in parts for patient in part]
    assert len(set(seeds)) == len(seeds)
    assert all(patients.labels_of(part).sum() == 10 for part in parts)


def test_the_auditor_learns_half_zone_and_class_of_plain_blobs(import_script, tmp_path):
    """The network and its loss, on volumes where the answer is plain: one dark cube in one of four places."""
    auditor = import_script("builtin", "auditor")
    generator = torch.Generator().manual_seed(0)

    def volumes_of(patients, config):
        volumes = 0.7 + 0.02 * torch.randn(len(patients), 1, 16, 16, 8, generator=generator)
        for volume, patient in zip(volumes, patients, strict=True):
            if patient.findings.label:
                x, y = 4 + 6 * (patient.place // 2), 4 + 6 * (patient.place % 2)
                volume[:, x : x + 3, y : y + 3, 3:6] = 0.1
        return volumes

    training = TrainingConfig(steps=100, batch_size=32, learning_rate=1e-2, warmup=5)
    config = auditor.AuditorConfig(preprocess=TINY_PREPROCESSING, patients=128, channels=8, training=training)
    trained = auditor.load_or_train(config, cache=tmp_path, volumes_of=volumes_of)
    patients = auditor.draw_patients(64, part="held out", seed=0, difficulty=0.5)
    tested = volumes_of(patients, None)
    logits, lesion = auditor.place_logits(trained, tested), auditor.labels_of(patients) == 1
    assert ((auditor.class_logit(logits) > 0) == lesion).float().mean() > 0.9
    assert (logits.argmax(1) == auditor.places_of(patients))[lesion].float().mean() > 0.9

    def refuse(*_):
        raise AssertionError("trained again in spite of the cache")

    kept = auditor.load_or_train(config, cache=tmp_path, volumes_of=refuse)
    assert torch.equal(auditor.place_logits(kept, tested), logits)


def test_sampling_prints_its_claim(import_script, pipeline_folder, capsys):
    sampling = import_script("speed", "sampling")
    sampling.main(["--pipeline", pipeline_folder, "--quick", "--few-steps", "4"])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    assert record["ratio"] == pytest.approx(record["ours"] / record["reference"])
    assert sum(record["shares_of_our_time"].values()) == pytest.approx(1)
    assert min(record["shares_of_our_time"].values()) >= 0
    assert record["few_step"]["procedure"] == {"scheduler": "dpm_solver_sde", "steps": 4}
    assert record["fid"] is None


def test_the_published_procedure_draws_what_the_pipeline_draws_with_its_sampler(import_script, tiny_pipeline):
    sampling = import_script("speed", "sampling")
    reports, seeds = ["PI-RADS 5, left apex peripheral zone.", ""], [3, 4]
    try:
        published = sampling.draw_published(tiny_pipeline, reports, seeds, steps=10)
        ours = sampling.draw_ours(tiny_pipeline, reports, seeds, scheduler="ddpm", steps=10)
    finally:
        tiny_pipeline.with_scheduler("dpm_solver_sde")
    torch.testing.assert_close(published.volumes, ours.volumes, atol=1e-3, rtol=0)


def test_sampling_compares_quality_beside_speed(import_script, pipeline_folder, capsys):
    sampling = import_script("speed", "sampling")
    sizes = ["--published-steps", "20", "--n", "4", "--published-n", "4", "--n-real", "8", "--steps", "5"]
    sampling.main(["--pipeline", pipeline_folder, *sizes])
    record = last_json(capsys.readouterr().out)
    assert record["fid"]["ours"]["n_synthetic"] == record["fid"]["reference"]["n_synthetic"] == 4
    assert record["fid"]["ratio"] > 0


def test_augmentation_prints_its_claims(import_script, pipeline_folder, capsys):
    sizes = ["--volumes", "8", "--pool", "40", "--reads", "200", "--subjects", "10000", "--epochs", "2"]
    import_script("speed", "augmentation").main(["--pipeline", pipeline_folder, "--repeats", "2", *sizes])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    assert record["ratio"] == pytest.approx(record["ours"] / record["reference"])
    assert record["holds"] == (record["ratio"] <= record["target"])
    assert record["volume_shape"] == [16, 16, 8]
    for part in ("opening", "memory", "plan"):
        assert record[part]["holds"] == (record[part]["ours"] <= record[part]["target"])
    assert "40 volumes" in record["opening"]["claim"]
    assert record["plan"]["batches_planned"] == 2 * 1001
    assert record["plan"]["batches_an_epoch"] == 2250


def test_threads_print_their_claim(import_script, capsys):
    import_script("speed", "threads").main(["--quick"])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    for part in (record, record["alone"]):
        assert part["ratio"] == pytest.approx(part["ours"] / part["reference"])
    assert record["holds"] == (record["ratio"] >= 1.3 and record["alone"]["ratio"] >= 0.95)


def test_training_prints_its_claim(import_script, capsys):
    import_script("speed", "training").main(["--quick"])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    assert record["ratio"] == pytest.approx(record["reference"] / record["ours"])
    assert record["ratio"] > record["ratio_with_encoding_spread_over_400_epochs"] > 1


def test_classifier_steps_print_their_claim(import_script, capsys):
    import_script("speed", "classifier").main(["--quick"])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    assert record["ratio"] == pytest.approx(record["ours"] / record["reference"])
    assert set(record["cases"][0]["cpu_seconds_a_step"]) == {"reference", "float32"}


def test_the_auroc_of_both_ways_to_augment_is_compared_on_the_same_patients(import_script, capsys):
    import_script("speed", "classifier").main(["--quick", "--auroc", "1"])
    record = last_json(capsys.readouterr().out)
    assert (record["seeds"], record["test_phantoms"]) == (1, 40)
    assert record["difference"]["low"] <= record["difference"]["value"] <= record["difference"]["high"]
    assert record["difference"]["value"] == pytest.approx(record["auroc"]["ours"] - record["auroc"]["torchio"])


def test_the_memory_of_a_study_is_told_beside_that_with_volumes_in_memory(import_script, capsys):
    import_script("scale", "memory").main(["--cohorts", "2", "--patients", "24", "--side", "16", "16", "8"])
    record = last_json(capsys.readouterr().out)
    assert record["volumes_mb"] == 2 * 24 * 16 * 16 * 8 * 4 / 2**20
    assert record["sides"].keys() == {"ours", "ours, again", "reference"}
    assert record["files"] == 2 * 2
    assert record["holds"] is None  # that is told of nine cohorts of 1,000


def test_the_harness_prints_what_it_costs_over_loops_that_find_the_same(import_script, tiny_pipeline, tmp_path, capsys):
    tiny_pipeline.save_pretrained(tmp_path / "tiny")
    harness = import_script("speed", "harness")
    harness.main(["--pipeline", str(tmp_path / "tiny"), "--quick", "--steps", "2"])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    assert record["ratio"] == pytest.approx(record["ours"] / record["reference"])
    assert record["holds"] == (record["ratio"] <= record["target"] == 1.03)
    assert record["harness_seconds"]["once"] > 0
    rows = {(row["cells"], row["seconds_a_cell"]): row["share"] for row in record["expected_share"]}
    assert rows[9, 60.0] == pytest.approx(10 * rows[9, 600.0])


def test_the_harness_refuses_sides_that_did_not_do_the_same_work(import_script):
    harness = import_script("speed", "harness")
    scores = {("real", 0): 0.5, ("mixed", 0): 0.75}
    harness.require_same_work(scores, dict(scores))
    for other in ({("real", 0): 0.5}, {**scores, ("mixed", 0): 0.7}):
        with pytest.raises(InputError, match="did not do the same work"):
            harness.require_same_work(scores, other)


def a_cohort_of_pairs(cohorts, n_people: int):
    """Two volumes of noise a person, and a cohort for them."""
    people = np.repeat(np.arange(n_people), 2)
    generator = torch_generator("a cohort of pairs")
    volumes = [torch.rand((1, *TINY_PREPROCESSING.shape), generator=generator) for _ in people]
    cohort = cohorts.Cohort("pairs", "t1", TINY_PREPROCESSING, ("classifier",), 1, 1, two_sides=True)
    return cohort, cohorts.Sample(volumes, people % 2, people, np.arange(len(people)))


def test_the_classifier_of_the_metrics_study_never_saw_whom_it_measures(import_script, tmp_path):
    cohorts, trained = (import_script("studies/metrics", name) for name in ("cohorts", "trained"))
    short = replace(trained.CONFIG, evaluate_every=1, training=TrainingConfig(steps=2, batch_size=4))
    cohort, everyone = a_cohort_of_pairs(cohorts, n_people=20)
    split = trained.deal_people(everyone, (1.0, 1.0, 1.0), seed=0)
    asked = {"logits": False, "cache": tmp_path, "seed": 0, "config": short}
    extractor, measured = trained.classifier_extractor(cohort, everyone, **asked)
    seen = {subject["person"] for subject in (*split.train, *split.val)}
    assert not seen & set(measured.people.tolist())
    assert len(measured.volumes) == 20
    assert extractor.name == "classifier-resnet10, trained on 20 other volumes"
    features = extractor.features(measured.volumes)
    assert features.shape == (20, short.channels[-1])
    again, _ = trained.classifier_extractor(cohort, everyone, **asked)
    assert again.fingerprint == extractor.fingerprint
    logits, _ = trained.classifier_extractor(cohort, everyone, **asked | {"logits": True})
    assert logits.features(measured.volumes).shape == (20, 2)
    assert logits.name != extractor.name
    assert len(list(tmp_path.iterdir())) == 1


def test_halves_of_the_metrics_study_part_no_person(import_script):
    people = np.repeat(np.arange(30), 2)
    first, second = import_script("studies/metrics", "cohorts").halves((people % 3 == 0).astype(int), people, seed=0)
    assert sorted([*first, *second]) == list(range(60))
    assert not set(people[first]) & set(people[second])
    assert abs(len(first) - len(second)) <= 4


def test_the_outer_thirds_of_the_metrics_study_keep_both_sides_of_a_person(import_script):
    """Seven people: the two with the largest mean trait are class 0, the two with the smallest class 1."""
    cohorts, thirds = (import_script("studies/metrics", name) for name in ("cohorts", "thirds"))
    _, everyone = a_cohort_of_pairs(cohorts, n_people=7)
    means = np.array([40.0, 10.0, 70.0, 30.0, 60.0, 20.0, 50.0])
    # Person 0 has the largest side of all and the smallest: it is their mean that counts.
    sides = np.array([[-39, 39], [-5, 5], [0, 0], [0, 0], [-20, 20], [1, -1], [0, 0]])
    part = thirds.outer_thirds(everyone, (means[:, None] + sides).ravel())
    assert part.people.tolist() == [1, 1, 2, 2, 4, 4, 5, 5]
    assert part.labels.tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    assert part.places.tolist() == [2, 3, 4, 5, 8, 9, 10, 11]
    assert torch.equal(part.volumes[2], everyone.volumes[4])


def test_only_a_cohort_with_a_trait_is_classed_by_it(import_script, tmp_path):
    cohorts, thirds = (import_script("studies/metrics", name) for name in ("cohorts", "thirds"))
    cohort, everyone = a_cohort_of_pairs(cohorts, n_people=6)
    (tmp_path / "pairs").mkdir()
    lines = ["volume_mm3", *(str(100 - person) for person in everyone.people.tolist())]
    (tmp_path / "pairs" / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    assert list(thirds.classings(cohort, everyone, tmp_path)) == ["label"]
    # A part of the cohort finds its own rows of the manifest.
    part = everyone.at(range(6, 12))
    found = thirds.classings(replace(cohort, trait="volume_mm3"), part, tmp_path)
    assert found["label"] is part
    assert found["outer thirds of volume_mm3"].people.tolist() == [3, 3, 5, 5]
    assert found["outer thirds of volume_mm3"].labels.tolist() == [0, 0, 1, 1]


def test_swapped_classes_are_told_in_every_deal_where_the_features_know_them(import_script):
    cohorts, swaps = (import_script("studies/metrics", name) for name in ("cohorts", "swaps"))
    cohort, everyone = a_cohort_of_pairs(cohorts, n_people=24)
    apart = [volume / 2 + 0.5 * int(label) for volume, label in zip(everyone.volumes, everyone.labels, strict=True)]
    knowing = module_extractor(torch.nn.Flatten(), "voxels")
    rows = swaps.swap_often(cohort, replace(everyone, volumes=apart), knowing, classes="label")
    assert len(rows) == 14
    assert {row["share_of_deals"] for row in rows} == {1.0}
    blind = swaps.swap_often(cohort, everyone, knowing, classes="label")
    assert sum(row["share_of_deals"] for row in blind) / 14 < 0.8


def test_the_reach_is_the_one_at_which_most_deals_tell_the_swap(import_script):
    """Ten rows a class and half, one number a volume: with k = 8 of 9 the balls of one class reach over the other."""
    cohorts, swaps = (import_script("studies/metrics", name) for name in ("cohorts", "swaps"))
    cohort, everyone = a_cohort_of_pairs(cohorts, n_people=20)
    draw = torch_generator("one number a volume")
    numbers = (torch.rand(40, generator=draw) + 0.8 * torch.from_numpy(everyone.labels)) / 2
    shape = torch.linspace(0, 1, 8).reshape(1, 2, 2, 2)
    told = replace(everyone, volumes=[number * shape for number in numbers])
    voxels = module_extractor(torch.nn.Flatten(), "voxels")
    rows = swaps.try_reaches(cohort, told, voxels, classes="label", deals=20)
    assert [row["k"] for row in rows] == list(swaps.REACHES)
    shares = {row["k"]: row["share"] for row in rows}
    chosen = [row["k"] for row in rows if row["chosen"]]
    assert chosen == [max(k for k in shares if shares[k] == max(shares.values()))]
    assert shares[8] < shares[chosen[0]]
    at_8 = swaps.swap_often(cohort, told, voxels, classes="label", k=8, deals=20)
    assert {(row["metric"], row["k"]) for row in at_8} == {(name, 8.0) for name in swaps.BALLS}


def test_the_read_out_of_the_metrics_study_is_chosen_without_whom_it_measures(import_script, tmp_path):
    """Brightness is the size: whoever is read, also of the trained by regressions without them, is read rightly."""
    cohorts, readout = (import_script("studies/metrics", name) for name in ("cohorts", "readout"))
    cohort, everyone = a_cohort_of_pairs(cohorts, n_people=60)
    sizes = np.random.default_rng(0).uniform(0.2, 0.8, len(everyone.labels))
    volumes = [0.1 * volume + size for volume, size in zip(everyone.volumes, sizes, strict=True)]
    everyone = replace(everyone, volumes=volumes, labels=(sizes < np.median(sizes)).astype(int))
    (tmp_path / "pairs").mkdir()
    lines = ["volume_mm3,anterior_mm3,posterior_mm3", *(f"{size},{size / 2},{size / 3}" for size in sizes)]
    (tmp_path / "pairs" / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    extractor, measured, rows = readout.readout_extractor(
        cohort, everyone, data=tmp_path, seed=0, penalties=(0.01, 1e6), deals=4
    )
    assert len(measured.labels) == 60
    assert len(extractor.known) == 60
    assert not set(extractor.known) & set(map(cohorts.name_of, measured.volumes))
    [recipe, features] = [row for row in rows if row["chosen"]]
    assert recipe["penalty"] == 0.01
    assert features["features"] in readout.SIZES
    assert len(rows) == len(readout.SMOOTHING_VOXELS) * 2 * 2 + len(readout.SIZES)
    for part in (everyone, measured):
        assert np.corrcoef(extractor.features(part.volumes)[:, 0], sizes[part.places])[0, 1] > 0.9


def test_resampled_statistics_are_those_of_scikit_learn(import_script, capsys):
    resampling = import_script("speed", "resampling")
    resampling.main(["--quick", "--patients", "60"])
    told = last_json(capsys.readouterr().out)
    assert set(told) >= CLAIM
    assert told["figures"] == 8 * (6 * 3 + 9 * 4)
    assert told["largest_difference"] <= resampling.AGREEMENT


def test_p_values_are_those_of_each_swap_by_itself(import_script, capsys):
    swaps = import_script("speed", "swaps")
    swaps.main(["--quick"])
    told = last_json(capsys.readouterr().out)
    assert set(told) >= CLAIM - {"ours", "reference"}
    assert told["paired"]["largest_difference"] <= swaps.AGREEMENT
    assert min(told["paired"]["seconds"].values()) > 0


def test_batched_augmentation_is_timed_against_torchios(import_script, capsys):
    import_script("speed", "batched").main(["--quick"])
    result = last_json(capsys.readouterr().out)
    assert set(result) >= CLAIM
    [case] = result["cases"]
    assert case["classical"]["ours"] > 0
    assert result["ratio"] == max(case[name]["ratio"] for name in ("classical", "everything"))


def test_reading_prints_its_claim(import_script, capsys):
    import_script("speed", "reading").main(["--quick"])
    record = last_json(capsys.readouterr().out)
    assert set(record) >= CLAIM
    assert record["ratio"] == pytest.approx(record["reference"] / record["ours"])
    assert record["tokens"]["mean"] < record["tokens"]["longest"] <= record["tokens"]["padded_to"]
