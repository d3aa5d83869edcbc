"""Records become statistics that can be counted by hand; each arm is compared with the real arms it should be."""

import itertools
import json
import re

import numpy as np
import pytest

from synthaug.config import Config, DataConfig, MetricsConfig, StudyConfig
from synthaug.ground.errors import InputError
from synthaug.report.tables import headlines
from synthaug.statistics.resampling import Resamples, interval_of, tell_limit
from synthaug.statistics.weighted import STATISTICS
from synthaug.study.records import Arm, CellRecord, Contrast, Estimate, Subgroup, Summary, Verdict, judge
from synthaug.study.summary.aggregate import count_statistics, measure_arm, summarise
from synthaug.study.summary.arms import arms_of, baselines_of, stack_scores
from synthaug.study.summary.subgroups import slice_arms, slice_cohorts, subgroups_of, subgroups_of_cohorts

PERFECT, REVERSED, HALF = [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.1, 0.9, 0.2, 0.95]


def record(regime="real", *, seed=0, scores=PERFECT, fraction=None, patients=range(4), **settings):
    """Four patients, the last two positive; settings with dots written as double underscores."""
    rows = [
        {
            "subject_id": f"s{patient}",
            "patient_id": f"p{patient}",
            "label": place // 2,
            "probabilities": [1 - score, score],
        }
        for place, (patient, score) in enumerate(zip(patients, scores, strict=True))
    ]
    told = {
        "regime": regime,
        "seed": seed,
        "synthetic_fraction": fraction,
        "settings": {key.replace("__", "."): value for key, value in settings.items()},
        "n_train": 9,
        "n_train_real": 9,
        "n_train_synthetic": 0,
        "protocol": "same cohort",
        "predictions": rows,
    }
    return CellRecord.from_json(told)


def test_summary_on_numbers_counted_by_hand():
    records = [record(scores=REVERSED), record(seed=1, scores=HALF)]
    records += [record("mixed", fraction=0.5), record("mixed", seed=1, fraction=0.5)]
    told: list[None] = []
    summary = summarise(records, [], MetricsConfig(bootstrap=50), on_statistic=lambda: told.append(None))
    assert len(told) == count_statistics(records) == 3
    auroc = {arm.label: arm.metrics["auroc"].value for arm in summary.arms}
    assert auroc == {"real": pytest.approx((0 + 0.75) / 2), "mixed": 1.0}
    rows = {contrast.metric: contrast for contrast in summary.contrasts}
    assert rows["auroc"].difference.value == pytest.approx(1 - 0.375)
    assert rows["auroc"].label == "mixed - real"
    assert (rows["auroc"].seeds, rows["auroc"].repeats, rows["auroc"].n_train) == ((0, 1), 2, 9)
    # Real: seed 0 errs on all four, seed 1 on the second and third patient.
    assert rows["accuracy"].difference.value == pytest.approx(1 - 1 / 4)
    # Of the 16 swaps, only none and all differ by 3/4: patients 0 and 3 gain 1/2, patients 1 and 2 gain 1.
    assert rows["accuracy"].p == rows["accuracy"].p_holm == pytest.approx(2 / 16)
    assert rows["brier"].difference.value < 0


def test_a_calibration_error_lies_within_its_interval_and_no_other_interval_changes():
    rng = np.random.default_rng(0)
    patients, labels = [f"p{patient}" for patient in range(60)], np.repeat([0, 1], 30)
    records = []
    for seed in range(10):
        scores = (labels * 0.3 + 0.35 + rng.normal(scale=0.15, size=60)).clip(0.01, 0.99).tolist()
        rows = [
            {"subject_id": name, "patient_id": name, "label": int(label), "probabilities": [1 - score, score]}
            for name, label, score in zip(patients, labels, scores, strict=True)
        ]
        records.append(CellRecord.from_json({**record(seed=seed).to_json(), "predictions": rows}))
    found = measure_arm(records, MetricsConfig(bootstrap=200))
    assert found["ece"].low <= found["ece"].value <= found["ece"].high
    draws = Resamples(200).draws(*stack_scores(records))
    for metric, each in zip(STATISTICS, draws.T, strict=True):
        plain = interval_of(each, confidence=0.95)
        assert found[metric].value == plain.value
        if metric != "ece":
            assert (found[metric].low, found[metric].high) == (plain.low, plain.high)
        else:
            assert found[metric].low < plain.low


def test_p_values_of_a_metric_are_corrected_over_its_contrasts():
    records = [record(scores=REVERSED), record("synthetic", fraction=1.0), record("mixed", fraction=0.5, scores=HALF)]
    rows = summarise(records, [], MetricsConfig(bootstrap=20)).in_metric("accuracy")
    assert [(row.label, row.p, row.p_holm) for row in rows] == [
        ("synthetic - real", 0.125, 0.25),
        ("mixed - real", 0.5, 0.5),
    ]


def of_many_comparisons(count, *, patients=16):
    """Real data wrong about everybody, and mixtures that are right about everybody, one a comparison."""
    labels = [number % 2 for number in range(patients)]

    def told(regime, scores, **options):
        rows = [
            {"patient_id": f"p{number}", "label": label, "probabilities": [1 - score, score]}
            for number, (label, score) in enumerate(zip(labels, scores, strict=True))
        ]
        return CellRecord.from_json(record(regime, **options).to_json() | {"predictions": rows})

    right, wrong = ([abs(label - error) for label in labels] for error in (0.1, 0.9))
    return [
        each
        for seed in range(3)
        for each in (
            told("real", wrong, seed=seed),
            *(told("mixed", right, fraction=(1 + k) / (1 + count), seed=seed) for k in range(count)),
        )
    ]


def numbers_in(sentence):
    return re.findall(r"\d+(?:\.\d+)?", sentence)


def test_so_many_swaps_are_drawn_that_one_of_many_comparisons_can_be_clear():
    records = of_many_comparisons(60)
    summary = summarise(records, [], MetricsConfig(bootstrap=5))
    assert (summary.permutations, summary.p_limit) == (200 * 60 - 1, "")
    assert all(row.p < 1e-3 for row in summary.in_metric("auroc"))  # 1999 swaps would give 60 * 2 / 2000 = 0.06
    assert counts_of(summary.verdict) == ("helped", 60, 0, 60)


@pytest.mark.parametrize(
    ("patients", "permutations", "told"),
    [
        (16, 1999, ["1999", "0.001", "0.00083", "60", "2399"]),  # swaps, smallest p, needed, comparisons, swaps needed
        (10, None, ["1024", "10", "0.002", "0.00083", "60"]),  # all swaps of ten patients: no more would help
    ],
)
def test_where_no_comparison_can_be_clear_the_summary_and_the_verdict_say_so(patients, permutations, told):
    config = MetricsConfig(bootstrap=5, permutations=permutations)
    summary = summarise(of_many_comparisons(60, patients=patients), [], config)
    assert numbers_in(summary.p_limit) == told
    assert ("metrics.permutations" in summary.p_limit) == (permutations is not None)
    assert summary.verdict.sentence().endswith(summary.p_limit)
    assert counts_of(summary.verdict) == ("unclear", 0, 0, 60)
    one = summarise(of_many_comparisons(1), [], MetricsConfig(bootstrap=5, permutations=19))
    assert numbers_in(one.p_limit) == ["19", "0.1", "0.05", "39"]


def test_a_study_without_comparison_says_so():
    summary = summarise([record()], [{"regime": "mixed"}], MetricsConfig(bootstrap=5))
    assert (summary.verdict.kind, summary.verdict.difference) == ("none", None)
    assert summary.contrasts == ()
    assert summary.failed == ({"regime": "mixed"},)


def test_repeated_splits_are_repeats_and_not_arms():
    """Split 0 tests patients 0 to 3, split 1 patients 2 to 5; real data is right in the first only."""
    records = [record(split__seed=0), record(split__seed=1, scores=REVERSED, patients=(0, 4, 2, 5))]
    records += [
        record("mixed", fraction=0.5, split__seed=0),
        record("mixed", fraction=0.5, split__seed=1, patients=(0, 4, 2, 5)),
    ]
    summary = summarise(records, [], MetricsConfig(bootstrap=200))
    assert [(arm.label, arm.repeats, arm.n_test) for arm in summary.arms] == [
        ("real", 2, 6),
        ("mixed", 2, 6),
    ]
    [row] = summary.in_metric("auroc")
    assert row.difference.value == pytest.approx(0.5)
    assert (row.difference.low, row.difference.high) == (0.0, 1.0)  # either split may be drawn twice
    assert summary.arms[0].metrics["accuracy"].value == 0.5


def test_folds_are_repeats_that_test_each_patient_once():
    """Real data is right in fold 0 and wrong in fold 1; the mixture is right in both."""
    folds = [range(4), range(4, 8)]
    records = [
        record("real", split__fold=fold, patients=of_fold, scores=(PERFECT, REVERSED)[fold])
        for fold, of_fold in enumerate(folds)
    ]
    records += [record("mixed", fraction=0.5, split__fold=f, patients=of_fold) for f, of_fold in enumerate(folds)]
    summary = summarise(records, [], MetricsConfig(bootstrap=50))
    assert [(arm.label, arm.repeats, arm.n_test) for arm in summary.arms] == [
        ("real", 2, 8),
        ("mixed", 2, 8),
    ]
    assert [arm.metrics["auroc"].value for arm in summary.arms] == [0.5, 1.0]
    [row] = summary.in_metric("accuracy")
    assert (row.difference.value, row.repeats) == (0.5, 2)
    # Of the 256 swaps, the four patients of fold 1 decide: 1/16 + 1/16.
    assert row.p == pytest.approx(2 / 16)


def test_fine_tuning_is_an_arm_of_its_own_and_told_in_the_verdict():
    repeats = range(3)
    records = [
        each for n in repeats for each in (record(scores=HALF, seed=n), record("finetuned", fraction=0.5, seed=n))
    ]
    summary = summarise(records, [], MetricsConfig(bootstrap=20))
    assert [arm.label for arm in summary.arms] == ["real", "finetuned"]
    assert {arm.protocol for arm in summary.arms} == {"same cohort"}
    assert {row.label for row in summary.contrasts} == {"finetuned - real"}
    assert (summary.verdict.kind, summary.verdict.regimes) == ("unclear", ("finetuned",))
    assert summary.verdict.difference.value == pytest.approx(0.25)
    assert summary.verdict.headline() == "showed no clear effect"
    records += [
        record(name, fraction=part, seed=n) for n in repeats for name, part in (("synthetic", 1.0), ("mixed", 0.5))
    ]
    verdict = summarise(records, [], MetricsConfig(bootstrap=20)).verdict
    assert verdict.regimes == ("finetuned", "mixed")
    assert counts_of(verdict) == ("unclear", 0, 0, 2)
    shares = arms_of([record("finetuned", fraction=share) for share in (0.25, 0.5)] + [record("mixed", fraction=0.5)])
    assert [arm.label for arm in shares] == ["finetuned 0.25", "finetuned 0.5", "mixed"]


def test_a_subject_with_two_labels_is_refused():
    records = [record(split__seed=0), record(split__seed=1, patients=(2, 3, 0, 1))]
    with pytest.raises(InputError, match=r"Subject 's2' has label 1 in one cell, 0 in another"):
        stack_scores(records)


def test_labels_tell_what_differs_and_fit_into_a_name():
    axes = {"classifier__network": "efficientnet-b0", "classifier__class_weights": [1.0, 2.5], "split__seed": 3}
    [arm] = arms_of([record("mixed", fraction=0.5, **axes)])
    assert arm.label == "mixed network efficientnet-b0 class_weights 1.0 2.5"
    both = arms_of([record("mixed", fraction=0.25), record("mixed", fraction=0.5), record()])
    assert [arm.label for arm in both] == ["mixed 0.25", "mixed 0.5", "real"]


def test_each_arm_is_compared_with_real_data_under_every_treatment_the_most_alike_first():
    records = [
        record(regime, fraction=fraction, classifier__augment=augment, classifier__network=network, **generator)
        for network, augment in itertools.product(("resnet10", "resnet18"), (False, True))
        for regime, fraction, generators in (("real", None, [{}]), ("mixed", 0.5, [{"generator__variant": "maisi"}]))
        for generator in generators
    ]
    arms = arms_of(records)
    compared = {arm.label: [base.label for base in baselines_of(arm, arms)] for arm in arms}
    for network in ("resnet10", "resnet18"):
        plain, augmented = (f"augment {augment} network {network}" for augment in (False, True))
        assert compared[f"mixed {augmented} variant maisi"] == [f"real {augmented}", f"real {plain}"]
        assert compared[f"mixed {plain} variant maisi"] == [f"real {plain}", f"real {augmented}"]
        assert compared[f"real {augmented}"] == [f"real {plain}"]  # what classical augmentation gains
        assert compared[f"real {plain}"] == []


def contrast(regime, difference, low, high, p, *, fraction=None):
    arm = Arm(regime, fraction=fraction, tells_fraction=fraction is not None)
    return Contrast(arm, Arm("real"), "auroc", Estimate(difference, low, high), p=p, p_holm=p, seeds=(0,))


def counts_of(verdict):
    return verdict.kind, verdict.helped, verdict.hurt, verdict.compared


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (contrast("mixed", 0.1, 0.01, 0.2, 0.04), "helped"),
        (contrast("mixed", 0.1, 0.01, 0.2, 0.06), "unclear"),
        (contrast("mixed", 0.1, -0.01, 0.2, 0.04), "unclear"),
        (contrast("mixed", -0.1, -0.2, -0.01, 0.04), "hurt"),
        (contrast("synthetic", -0.1, -0.2, -0.01, 0.04), "hurt"),
    ],
)
def test_the_verdict_is_no_bolder_than_interval_and_corrected_p(row, kind):
    verdict = judge([row], confidence=0.95, n_test=4)
    assert (verdict.kind, verdict.regimes, verdict.difference) == (kind, (row.arm.regime,), row.difference)
    assert (verdict.n_test, verdict.seeds, verdict.compared) == (4, 1, 1)


@pytest.mark.parametrize(
    ("low", "p", "missed"),
    [(0.01, 0.06, "corrected p"), (-0.01, 0.04, "interval holds 0"), (-0.01, 0.06, None), (0.01, 0.04, None)],
)
def test_an_answer_that_misses_one_of_two_conditions_names_it(low, p, missed):
    told = judge([contrast("mixed", 0.1, low, 0.2, p)], confidence=0.95, n_test=4).sentence()
    assert ("needs both" in told) == (missed is not None)
    assert missed is None or missed in told


def test_the_verdict_of_many_comparisons_counts_them():
    rows = [
        contrast("mixed", 0.1, 0.01, 0.2, 0.04, fraction=0.25),
        contrast("mixed", -0.02, -0.1, 0.1, 0.6, fraction=0.5),
        contrast("synthetic", -0.3, -0.4, -0.2, 0.01),
    ]
    verdict = judge(rows, confidence=0.95, n_test=4)
    assert counts_of(verdict) == ("helped", 1, 0, 2)
    assert (verdict.lowest, verdict.highest, verdict.difference) == (rows[1], rows[0], None)
    assert judge([*rows, contrast("finetuned", -0.3, -0.4, -0.2, 0.01)], confidence=0.95, n_test=4).kind == "unclear"


@pytest.mark.parametrize(("seeds", "kind"), [(1, "abstains"), (2, "abstains"), (3, "helped")])
def test_fewer_than_three_repeats_give_no_verdict(seeds, kind):
    records = [record for record in of_many_comparisons(1) if record.seed < seeds]
    verdict = summarise(records, [], MetricsConfig(bootstrap=20)).verdict
    assert counts_of(verdict) == (kind, int(kind == "helped"), 0, 1)
    assert verdict.abstained == int(kind == "abstains")
    assert ("no verdict" in verdict.sentence()) == ("no verdict" in verdict.headline()) == (kind == "abstains")
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json())), {}).kind == kind


def test_what_is_not_clear_says_which_difference_would_have_shown():
    # Half widths of 0.1 and 0.2 are 1.96 standard errors; 2.80 of them show with 80 % chance.
    rows = [contrast("mixed", 0.0, -0.1, 0.1, 0.9, fraction=0.5), contrast("mixed", 0.0, -0.2, 0.2, 0.9, fraction=0.7)]
    verdict = judge(rows, confidence=0.95, n_test=4)
    assert verdict.seen == pytest.approx((0.143, 0.286), abs=0.001)
    assert "0.14 to 0.29" in verdict.sentence()
    assert judge([contrast("mixed", 0.1, 0.01, 0.2, 0.04)], confidence=0.95, n_test=4).seen == ()


def test_a_p_of_just_the_limit_is_small_whatever_the_confidence():
    for confidence, p in ((0.95, 0.05), (0.9, 0.1), (0.8, 0.2)):
        verdict = judge([contrast("mixed", 0.1, 0.01, 0.2, p)], confidence=confidence, n_test=4)
        assert verdict.kind == "helped"
        held = judge([contrast("mixed", 0.1, 0.0, 0.2, p)], confidence=confidence, n_test=4)
        assert held.kind == "unclear"
        assert "the interval holds 0" in held.sentence()
    assert tell_limit(1, swaps=19, patients=600, alpha=1 - 0.9) == ""


def test_what_would_have_shown_is_told_as_before_the_correction_where_there_is_one():
    asked, beside = contrast("mixed", 0.0, -0.1, 0.1, 0.9), contrast("synthetic", 0.0, -0.1, 0.1, 0.9)
    alone, one_of_two = (judge(rows, confidence=0.95, n_test=4) for rows in ([asked], [asked, beside]))
    assert (alone.family, one_of_two.family, one_of_two.compared) == (1, 2, 1)
    assert "Holm" not in alone.sentence()
    assert "Holm's correction over 2" in one_of_two.sentence()
    assert Verdict.from_json(json.loads(json.dumps(one_of_two.to_json())), {}).family == 2
    names = [
        name
        for rows, verdict in (((asked,), alone), ((asked, beside), one_of_two))
        for name, _ in headlines(Summary(1, (), rows, verdict), [record()], DataConfig(), confidence=0.95)
    ]
    assert ["Holm" in name for name in names if "detectable" in name] == [False, True]


@pytest.mark.parametrize(
    "pair",
    [
        {"data__label": ("size>5", "size<5")},
        {"pool__path": ("/pools/a", "pools/a")},
        {"fraction": (1 / 3, 0.3333333)},
    ],
)
def test_arms_that_differ_in_fields_are_told_apart_whatever_their_labels_leave_out(pair):
    [(name, values)] = pair.items()
    made = [record("mixed", seed=seed, **{"fraction": 0.5, name: value}) for seed in (0, 1) for value in values]
    summary = summarise([*made, record(seed=0), record(seed=1)], [], MetricsConfig(bootstrap=10))
    arms = [arm for arm in summary.arms if arm.regime == "mixed"]
    assert [arm.repeats for arm in arms] == [2, 2]
    assert len({arm.label for arm in arms}) == len({arm.series() + arm.panel() for arm in arms}) == 2
    assert [Arm.from_json(arm.to_json()).label for arm in arms] == [arm.label for arm in arms]


def test_an_interval_without_width_claims_nothing_of_what_would_have_shown():
    flat, wide = contrast("mixed", 0.0, 0.0, 0.0, 1.0), contrast("mixed", 0.0, -0.1, 0.1, 0.9, fraction=0.7)
    verdict = judge([flat], confidence=0.95, n_test=4)
    assert (verdict.seen, verdict.flat) == ((), 1)
    assert "chance" not in verdict.sentence()
    assert "no width" in verdict.sentence()
    both = judge([flat, wide], confidence=0.95, n_test=4)
    assert (both.seen, both.flat) == (pytest.approx((0.143, 0.143), abs=0.001), 1)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json())), {}).flat == 1
    assert "flat" not in judge([wide], confidence=0.95, n_test=4).to_json()
    told = dict(headlines(Summary(1, (), (flat,), verdict), [record()], DataConfig(), confidence=0.95))
    assert [value for name, value in told.items() if "detectable" in name] == ["unknown: no interval has a width"]


# --- subgroups


def test_slices_are_counted_by_hand_and_a_slice_of_one_class_has_no_metric():
    groups = {"site": {"s0": "a", "s1": "b", "s2": "b", "s3": "a"}, "sex": {f"s{n}": "fm"[n > 1] for n in range(4)}}
    rows = slice_arms([record(scores=HALF)], groups, MetricsConfig(bootstrap=10))
    auroc = {id(row): row.metrics["auroc"] for row in rows}
    found = {(row.column, row.value): (row.n_test, auroc[id(row)] and auroc[id(row)].value) for row in rows}
    # Site a has patients 0 and 3 (0.1 < 0.95, right), site b 1 and 2 (0.9 > 0.2, wrong); a sex has one class only.
    assert found == {("site", "a"): (2, 1.0), ("site", "b"): (2, 0.0), ("sex", "f"): (2, None), ("sex", "m"): (2, None)}
    assert {row.arm for row in rows} == {"real"}


def test_a_slice_with_one_patient_of_a_class_has_values_and_a_reason_in_place_of_intervals():
    groups = {"site": {"s0": "a", "s1": "a", "s2": "a", "s3": "b"}, "all": {f"s{n}": "x" for n in range(4)}}
    rows = {(row.column, row.value): row for row in slice_arms([record()], groups, MetricsConfig(bootstrap=10))}
    lone, whole = rows["site", "a"], rows["all", "x"]
    assert "class 1" in lone.reason
    assert lone.metrics["auroc"].value == 1
    told = json.loads(json.dumps(lone.to_json(), allow_nan=False))
    assert (told["auroc"], told["reason"]) == ({"value": 1}, lone.reason)
    assert Subgroup.from_json(told).to_json() == lone.to_json()
    assert set(whole.to_json()["auroc"]) == {"value", "ci_low", "ci_high"}
    assert whole.reason == ""
    assert rows["site", "b"].metrics["auroc"] is None
    assert rows["site", "b"].reason


def test_each_cohort_has_the_slices_of_its_own_manifest(tmp_path):
    records = []
    for name, sites in (("a", "xxyy"), ("b", "zzzz")):
        (tmp_path / name).mkdir()
        lines = ["subject_id,site", *(f"s{n},{site}" for n, site in enumerate(sites))]
        (tmp_path / name / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        records.append(record(scores=HALF, data__root=str(tmp_path / name)))
    study = StudyConfig(axes={"data.root": [each.settings["data.root"] for each in records]})
    config = Config(study=study, metrics=MetricsConfig(bootstrap=10, subgroups=["site"]))
    rows = slice_cohorts(records, subgroups_of_cohorts(config), config.metrics)
    assert [(row.value, row.n_test, row.arm.endswith("b")) for row in rows] == [
        ("x", 2, False),
        ("y", 2, False),
        ("z", 4, True),
    ]


def test_subgroup_columns_are_checked(tmp_path):
    lines = ["subject_id,sex,age", *(f"s{n},{'fm'[n % 2]},{40 + n}" for n in range(11))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def groups(root, *columns):
        return subgroups_of(Config(data=DataConfig(root=root), metrics=MetricsConfig(subgroups=list(columns))))

    assert groups(str(tmp_path), "sex")["sex"]["s3"] == "m"
    assert groups(None) == {}
    for root, column, message in (
        (str(tmp_path), "site", "no column 'site'"),
        (str(tmp_path), "age", "'age' of metrics.subgroups has 11 values"),
        (None, "sex", "needs a manifest"),
    ):
        with pytest.raises(InputError, match=message):
            groups(root, column)
