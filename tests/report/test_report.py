"""The report: curves that can be counted by hand, figures that stay readable, a page that says everything in words."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pynvml
import pytest
from conftest import IMAGES, TINY_PREPROCESSING
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_pool import build_pool

from synthaug.bench.commands import run_command
from synthaug.config import Config, DataConfig, GeneratorConfig, MetricsConfig, StudyConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.splits import Split
from synthaug.ground.files import write_json
from synthaug.metrics.classification import auroc, average_precision, calibration_error
from synthaug.pool.prompts import TrainingPrompts
from synthaug.pool.review.audit import measure_copies
from synthaug.report.confusions import confusions_of
from synthaug.report.figures.curves import GRID, mean_precision, mean_roc, reliability
from synthaug.report.figures.forest import ROWS, auroc_plots, effect_plot, effect_plots
from synthaug.report.figures.panels import panels_of, series_of
from synthaug.report.figures.plots import has_sizes, learning_plot, precision_plot, reliability_plot, roc_plot
from synthaug.report.figures.styles import styles_of
from synthaug.report.material import FILE, Material
from synthaug.report.page import write_report, write_results
from synthaug.report.text import captions
from synthaug.report.text.methods import describe_methods
from synthaug.report.volumes.slices import Samples, slice_plot
from synthaug.report.volumes.viewer import volumes_of
from synthaug.study.folder.shareable import make_shareable
from synthaug.study.outlook.costs import CostMeter, Costs, GpuMeter, ProcessorMeter, StageClock, total_costs
from synthaug.study.records import Arm, CellRecord, Estimate, ImageComparison, Prediction, Subgroup, Summary
from synthaug.study.records.findings import Finding
from synthaug.study.records.verdicts import UNKNOWN_COHORT, UNKNOWN_PROVENANCE
from synthaug.study.summary.aggregate import summarise
from synthaug.study.summary.arms import arms_of
from synthaug.study.summary.findings import findings_of
from synthaug.tracking.disclosure import without_ids
from synthaug.tracking.notes import note_of
from synthaug.tracking.studies import metrics_of

QUICK = MetricsConfig(bootstrap=10, permutations=10)
CONFIG = Config(metrics=QUICK, study=StudyConfig(name="a study of <b>names</b>"))


def record(regime="real", fraction=None, *, seed=0, classes=2, n=12, n_train=16, **axes):
    """A cell with random predictions; settings with dots written as double underscores."""
    told = {key.replace("__", "."): value for key, value in axes.items()}
    rng = np.random.default_rng([seed, n_train, *f"{regime}{fraction}{told}".encode()])
    labels = np.arange(n) % classes
    scores = rng.dirichlet(np.ones(classes), size=n)
    scores[np.arange(n), labels] += rng.uniform(0, 1, n)
    rows = [
        {"subject_id": f"s{i}", "patient_id": f"p{i}", "label": int(labels[i]), "probabilities": row}
        for i, row in enumerate((scores / scores.sum(axis=1, keepdims=True)).tolist())
    ]
    found = {
        "regime": regime,
        "seed": seed,
        "synthetic_fraction": fraction,
        "settings": told,
        "id": "cell",
        "n_train": n_train,
        "n_train_real": n_train,
        "n_train_synthetic": 0 if fraction is None else 16,
        "protocol": "same cohort",
        "predictions": rows,
        "temperature": 1.5,
        "chosen_step": 8,
        "history": [{"step": step, "train_loss": 1 / step, "val_loss": 2 / step} for step in (4, 8)],
        "seconds": 1.0,
    }
    return CellRecord.from_json(found)


def many_records(seeds=(0,)):
    """Four settings of five training sets: 16 differences to two baselines each, and 2 between these, 34 in all."""
    regimes = [("real", None), ("synthetic", 1.0), *(("mixed", fraction) for fraction in (0.25, 0.5, 0.75))]
    return [
        record(regime, fraction=fraction, seed=seed, n_train=n, split__train=n, classifier__augment=augment)
        for seed, n, augment, (regime, fraction) in product(seeds, (8, 32), (True, False), regimes)
    ]


def summary_of(records, **more):
    return replace(summarise(records, [], QUICK), **more)


def ids_of(page):
    return {attrs["id"] for _, attrs in page.tags if "id" in attrs}


def page_of(tmp_path, records, *, samples=(), config=CONFIG, costs=None, **more):
    path, summary = tmp_path / "report.html", summary_of(records, **more)
    summary = replace(summary, findings=findings_of(summary, records, config))
    material = material_of(tmp_path, summary, samples, config)
    costs = costs or Costs({"pool": 3.0}, wall_seconds=9.0, joules={}, measured_seconds={})
    write_report(path, config=config, summary=summary, records=records, material=material, costs=costs)
    return path.read_text(encoding="utf-8")


def material_of(folder, summary, samples, config):
    people = [{"patient_id": f"p{n}", "label": n % 2, "report": "none" * (n % 3 > 0)} for n in range(12)]
    split = Split(people[:6], people[6:8], people[8:])
    return Material.gather(config, summary, samples, split=split, splits=1, facts={"data": "phantoms"}, out=folder)


def test_a_study_over_cohorts_of_patients_is_not_called_one_of_phantoms(tmp_path):
    axes = {"data.root": ["/cohorts/a", "/cohorts/b"]}
    config = replace(CONFIG, study=replace(CONFIG.study, axes=axes))
    page = page_of(
        tmp_path, [record(data__root=root, seed=seed) for root in axes["data.root"] for seed in (0, 1)], config=config
    )
    assert "This page contains images of patients" in page
    assert "phantoms (t2w)" not in page
    assert "phantoms (t2w)" in page_of(tmp_path, [record()])


class Page(HTMLParser):
    """What a screen reader meets."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.said = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.said.append(data)


# --- curves


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 8)), min_size=2, max_size=30), st.booleans())
def test_areas_under_mean_curves_are_the_means_of_the_metrics(rows, twice):
    """Scores on a coarse grid, so that there are ties; classes are added so that both are there."""
    labels = np.array([*(label for label, _ in rows), 0, 1])
    scores = np.array([*(score / 8 for _, score in rows), 0.5, 0.5])
    sets = [np.stack([1 - scores, scores], axis=1)]
    if twice:
        sets.append(sets[0][:, ::-1])
    records = [
        CellRecord(
            "real", 0, predictions=tuple(Prediction("", "", int(n), p) for n, p in zip(labels, each, strict=True))
        )
        for each in sets
    ]
    area = np.trapezoid(mean_roc(records), GRID)
    assert area == pytest.approx(np.mean([auroc(labels, each) for each in sets]), abs=2 / len(GRID))
    height = mean_precision(records)[1:].mean()  # a step function: its value on (GRID[i - 1], GRID[i]]
    assert height == pytest.approx(np.mean([average_precision(labels, each) for each in sets]), abs=0.03)


def test_curves_of_several_classes_are_macro_one_against_rest():
    one = record(classes=3, n=30)
    labels = np.array([row.label for row in one.predictions])
    scores = np.array([row.probabilities for row in one.predictions])
    assert np.trapezoid(mean_roc([one]), GRID) == pytest.approx(auroc(labels, scores), abs=0.01)
    assert mean_precision([one])[1:].mean() == pytest.approx(average_precision(labels, scores), abs=0.02)


def test_reliability_has_the_calibration_error_of_the_metrics_and_the_temperature_tempers_it():
    one = record(n=40)
    labels = np.array([row.label for row in one.predictions])
    scores = np.array([row.probabilities for row in one.predictions])
    before, after = (reliability([one], calibrated=calibrated) for calibrated in (False, True))
    assert before.error == pytest.approx(calibration_error(labels, scores))
    assert before.share.sum() == pytest.approx(1)
    assert (after.share * after.confidence).sum() < (before.share * before.confidence).sum()
    # No decision changes.
    assert (after.share * after.right).sum() == pytest.approx((before.share * before.right).sum())
    assert reliability([replace(one, temperature=1.0)], calibrated=True).error == pytest.approx(before.error)


# --- panels and styles


def test_generators_stand_in_the_panel_of_the_real_arm_that_they_are_compared_with():
    records = [record(split__train=n) for n in (8, 16)]
    records += [
        record("mixed", fraction=0.5, split__train=n, generator__variant=variant)
        for n, variant in product((8, 16), ("ccella", "maisi"))
    ]
    panels = panels_of(records)
    assert list(panels) == ["train 8", "train 16"]
    assert list(series_of(panels)) == ["real", "mixed variant ccella", "mixed variant maisi"]


def test_no_arm_is_lost_in_the_panels_and_a_setting_is_not_taken_for_one_that_begins_alike():
    records = many_records()
    assert sum(len(series) for series in panels_of(records).values()) == len(arms_of(records)) == 20
    arm = Arm("real", settings={"split.train": 1, "pool.seed": 2})
    assert (arm.label, arm.series(), arm.panel()) == ("real train 1 seed 2", "real seed 2", "train 1")


def test_series_are_told_apart_without_colour_and_unknown_regimes_have_a_style():
    names = {name: name for name in ("real", "synthetic", "finetuned", "a regime of tomorrow")}
    names |= {f"mixed {share}": "mixed" for share in range(6)}
    styles = styles_of(names)
    assert list(styles) == list(names)
    assert len({(style.line, style.marker) for style in styles.values()}) == len(names)
    assert (
        len({(style.colour, style.line) for style in styles_of({f"mixed {n}": "mixed" for n in range(30)}).values()})
        == 30
    )
    assert styles_of({"real": "real"})["real"] == styles["real"]


# --- figures


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in (*axes.get_yticklabels(), *axes.texts)]


def test_every_difference_has_its_row_and_figures_fit_a_page():
    summary = summary_of(many_records())
    contrasts = summary.in_metric("auroc")
    assert len(contrasts) == 34
    figures = list(effect_plots(summary))
    assert len(figures) > 1
    for figure in (*figures, *auroc_plots(summary)):
        assert len(figure.axes[0].get_yticks()) <= ROWS
        width, height = figure.get_size_inches() * 25.4
        assert width <= 182
        assert height <= 245
    told = [text for figure in figures for text in texts(figure)]
    for row in contrasts:
        assert any(f"{row.difference.value:+.3f}".replace("-", "−") in text for text in told)
    assert len([text for text in told if " − real" in text]) == 34
    assert {"train 8, augment True", "train 32, augment False"} <= set(told)
    assert "mixed 0.25 − real (augment True)" in told  # of the panel without augmentation
    assert len(effect_plot(summary).axes[0].get_yticks()) == 34 + 4


def test_a_marker_is_filled_only_where_the_difference_is_clear():
    summary = summary_of([record(), record("mixed", fraction=0.5)])

    def face(low=0.1, p_holm=0.04, repeats=3):
        changes = {"difference": Estimate(0.2, low, 0.3), "p_holm": p_holm, "repeats": repeats}
        rows = [replace(row, **changes) for row in summary.contrasts]
        drawn = effect_plot(replace(summary, contrasts=tuple(rows)))
        [marker] = [line for line in drawn.axes[0].lines if line.get_marker() == "^"]
        return marker.get_markerfacecolor()

    assert face() == "#0072B2"
    assert face(p_holm=0.06) == face(low=-0.01) == face(repeats=2) == "white"


def test_learning_curves_have_a_point_for_each_size_and_a_panel_for_each_other_setting():
    summary = summary_of(many_records())
    assert has_sizes(summary)
    figure = learning_plot(summary)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["augment True", "augment False"]
    values = {arm.label: arm.metrics["auroc"].value for arm in summary.arms}
    drawn = [tuple(line.get_ydata()) for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert (values["real train 8 augment True"], values["real train 32 augment True"]) in drawn
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["8", "32"]
    assert not has_sizes(summary_of([record(), record("mixed", fraction=0.5)]))


def test_many_trainings_of_an_arm_are_one_line():
    records = [
        record(regime, fraction=f, seed=seed) for seed in range(5) for regime, f in (("real", None), ("mixed", 0.5))
    ]
    [axes] = roc_plot(records).axes
    assert len(axes.lines) == 2 + 1  # and the diagonal


# --- slices with neighbours


@pytest.fixture(scope="module")
def samples(tiny_pipeline, tiny_subjects, tmp_path_factory):
    """A pool with its nearest training volumes."""
    pool = build_pool(tiny_pipeline, [], tmp_path_factory.mktemp("pool"), reports=TrainingPrompts(tiny_subjects))
    raw = make_subjects(20, seed=5, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    held_out = preprocess(raw, TINY_PREPROCESSING, IMAGES)
    for subject in held_out:
        subject["patient_id"] = f"unseen-{subject['patient_id']}"
    row = measure_copies(pool, tiny_subjects, held_out, QUICK)
    return Samples("", held_out, tiny_subjects, pool, row["nearest"]), row


CONFIG_OF_PHANTOMS = replace(
    CONFIG, preprocess=replace(CONFIG.preprocess, spacing_mm=(5.0, 5.0, 8.0), shape=(16, 16, 8))
)


def test_each_synthetic_volume_stands_above_the_training_volume_most_like_it(samples, tiny_subjects):
    shown, row = samples
    assert [(near["label"], near["index"]) for near in row["nearest"]] == [
        (label, index) for label in shown.pool.classes for index in range(shown.pool.counts[label])
    ]
    assert json.loads(json.dumps(row["nearest"])) == row["nearest"]
    figure = slice_plot(shown, 0, IMAGES)
    [axes] = figure.axes
    titles = [text.get_text() for text in axes.texts if text.get_text().startswith(("r = ", "COPY"))]
    near = [each for each in row["nearest"] if each["label"] == 0]
    assert [f"{each['correlation']:.2f}" in title for each, title in zip(near, titles, strict=True)] == [True] * 3
    known = {subject["subject_id"]: subject for subject in tiny_subjects}
    for each, image in zip(near, axes.images[-3:], strict=True):
        volume = known[each["nearest_subject"]]["t2w"].data[0]
        volume = volume.flip(0) if each["mirrored"] else volume
        assert np.array_equal(image.get_array(), volume.flip(0)[:, :, 4].T.numpy()[::-1])


# --- the page


def test_the_page_needs_no_network_and_its_pictures_say_their_numbers(tmp_path, samples):
    shown, row = samples
    records = [record(), record("mixed", fraction=0.5)]
    realism = {"metric": "realism_statistics", "value": 0.95, "ci_low": 0.91, "ci_high": 1.0, "told_apart": True}
    rows = tuple(map(ImageComparison.from_json, (row, realism)))
    text = page_of(tmp_path, records, samples=[shown], image_metrics=rows)
    page = Page(text)
    assert page.text.count("0.950 (0.910 to 1.000)") == 2  # above the verdict and among the images
    assert page.text.index("0.950 (0.910 to 1.000)") < page.text.index("Effect on the classifier")
    assert not re.search(r"https?://|<link|@import|<script src", text)
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert "a study of <b>names</b>" in page.text  # escaped
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert len(page.images) == 2 + 5 + 2  # effect and AUROC; ROC, PR, reliability twice, training; a class each
    for image in page.images:
        assert len(re.findall(r"\d\.\d|step \d", image["alt"])) >= 2
        kind, data = re.fullmatch(r"data:image/(svg\+xml|png);base64,(.+)", image["src"]).groups()
        content = base64.b64decode(data)
        assert ElementTree.fromstring(content) is not None if kind != "png" else content.startswith(b"\x89PNG")
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers
    assert all(attrs["scope"] in ("col", "row", "rowgroup") for attrs in headers)
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= ids_of(page)
    assert row["sentence"][1:] in page.text
    assert captions.copy_verdict(ImageComparison.from_json(row)) in page.text


def test_a_study_of_forty_differences_stays_small_and_tells_all_of_them(tmp_path):
    records = many_records(seeds=(0, 1))
    text = page_of(tmp_path, records)
    assert len(text.encode()) < 4e6
    page = Page(text)
    for row in summary_of(records).in_metric("auroc"):
        found = row.difference
        assert f"{found.value:+.3f} {found.low:+.3f} to {found.high:+.3f}" in page.text
    assert page.text.count("mixed 0.25 − real (augment True)") == 2  # at two sizes
    assert [tag for tag, attrs in page.tags if attrs.get("scope") == "rowgroup"] == [
        "th"
    ] * 8  # four panels, two tables
    assert re.search(r"Holm\D+\b34\b", page.text)
    limit = summary_of(records).p_limit
    assert limit
    assert page.text.count(limit.rstrip(".")) == 3  # finding, verdict, footnote
    assert re.search(r"\b2 trainings\b", page.text)
    assert "learning" in ids_of(page)


def test_one_training_an_arm_says_what_its_interval_lacks(tmp_path):
    page = Page(page_of(tmp_path, [record(), record("mixed", fraction=0.5)]))
    assert "one seed and one split" in page.text
    assert "learning" not in ids_of(page)


def test_a_study_without_synthetic_data_has_no_pictures_of_any(tmp_path):
    page = Page(page_of(tmp_path, [record()]))
    assert "No comparison" in page.text
    assert "Copies of training patients" not in page.text
    assert "A generator is trained once" not in page.text
    assert "Holm" not in page.text


def test_failed_cells_stand_before_the_verdict(tmp_path):
    failed = [{"regime": "mixed", "seed": 1, "settings": {"split.train": 8}, "error": "out of <memory>", "id": "x"}]
    text = page_of(tmp_path, [record(), record("mixed", fraction=0.5)], failed=failed)
    page = Page(text)
    assert "1 of 3 cells" in page.text
    assert "mixed seed 1, split.train 8: out of <memory>" in page.text
    verdict = summary_of([record(), record("mixed", fraction=0.5)]).verdict.sentence()
    assert page.text.index("out of <memory>") < page.text.index(verdict)


def test_several_classes_say_what_the_curves_are(tmp_path):
    records = [record(classes=3), record("mixed", fraction=0.5, classes=3)]
    assert "macro one-vs-rest" in Page(page_of(tmp_path, records)).text


def test_regimes_not_yet_known_are_drawn(tmp_path):
    records = [record(), record("finetuned", fraction=0.5), record("distilled", fraction=0.5)]
    page = Page(page_of(tmp_path, records))
    assert "distilled − real" in page.text


def test_subgroups_and_copies_not_looked_for_are_told(tmp_path, samples):
    shown, _ = samples
    records = [record(), record("mixed", fraction=0.5)]
    groups = (
        Subgroup("site", "a", "real", 6, {"auroc": Estimate(0.5, 0.25, 0.75)}),
        Subgroup("site", "b", "real", 2, {"auroc": None}),
        Subgroup("site", "c", "real", 3, {"auroc": Estimate(0.5, 0.25, 0.75).without_interval}, "one alone"),
    )
    left_out = ({"metric": "copies", "reason": "3 held-out patients are too few", "source": ""},)
    told = {"subgroups": groups, "image_metrics_left_out": left_out, "samples": [replace(shown, nearest=())]}
    page = Page(page_of(tmp_path, records, **told))
    assert "one class only" in page.text
    assert "0.500 one alone" in page.text
    assert "nan" not in page.text.split("Subgroups of test patients")[1].split("Exploratory")[0]
    assert "Not measured: 3 held-out patients are too few" in page.text
    assert "metrics.copies is off" not in page.text
    off = replace(CONFIG, metrics=replace(QUICK, copies=False))
    page = Page(page_of(tmp_path, records, samples=[replace(shown, nearest=())], config=off))
    assert "metrics.copies is off" in page.text


def test_the_page_tells_costs_and_how_to_make_the_study_again(tmp_path):
    costs = Costs(
        {"generator": 400.0}, wall_seconds=500.0, joules={"processor": 3.6e6}, measured_seconds={"processor": 500}
    )
    page = Page(page_of(tmp_path, [record()], costs=costs))
    assert "generator 7 min" in page.text
    assert "1 kWh" in costs.energy_words()["processor"]
    assert all(told in page.text for told in costs.energy_words().values())
    assert f"python -m synthaug.bench --config {tmp_path}/config.yaml --out {tmp_path}" in page.text
    for name in ("synthaug", "torch", "monai", "torchio", "scikit-learn"):
        assert re.search(rf"\b{name} \d+\.\d+", page.text)


def test_the_same_study_draws_the_same_page(tmp_path):
    records = [record(), record("mixed", fraction=0.5)]
    assert page_of(tmp_path, records) == page_of(tmp_path, records)


# --- words


@pytest.mark.parametrize(
    ("value", "low", "answer"),
    [
        (0.0, 0.0, "No copies were found"),
        (0.04, 0.0, "within the false-alarm rate"),
        (0.2, 0.03, "its interval includes it"),
        (0.2, 0.1, "The generator copies training patients"),
    ],
)
def test_the_verdict_on_copies_is_no_bolder_than_its_interval(value, low, answer):
    row = {"metric": "copies", "value": value, "ci_low": low, "ci_high": 0.5, "false_alarms": 0.05}
    assert answer in captions.copy_verdict(ImageComparison.from_json(row))


def test_a_text_of_many_values_tells_the_ends_and_of_few_all():
    summary = summary_of(many_records())
    rows = summary.in_metric("auroc")
    text = captions.effect_alt(summary, 0.05)
    assert re.findall(r"\b34\b", text) == ["34", "34"]  # how many there are, and that the tables have all
    assert f"{max(row.difference.value for row in rows):+.3f}" in text
    assert captions.auroc_alt(summary_of([record(), record("mixed", fraction=0.5)])).count(" to ") == 2


# --- costs


def test_energy_of_processors_counts_packages_once_and_past_the_end_of_their_counters(tmp_path):
    counters = {"intel-rapl:0": 900, "intel-rapl:1": 0, "intel-rapl:0:0": 5}
    for zone, value in counters.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{value}\n", encoding="utf-8")
        (tmp_path / zone / "max_energy_range_uj").write_text("999\n", encoding="utf-8")
    meter = ProcessorMeter(tmp_path)
    assert meter.read() == 0
    (tmp_path / "intel-rapl:0/energy_uj").write_text("100\n", encoding="utf-8")  # 200 on, past 999
    (tmp_path / "intel-rapl:1/energy_uj").write_text("50\n", encoding="utf-8")
    (tmp_path / "intel-rapl:0:0/energy_uj").write_text("500\n", encoding="utf-8")  # a part of package 0
    assert meter.read() == pytest.approx(250e-6)


def test_counters_that_cannot_be_read_are_not_known(tmp_path):
    assert ProcessorMeter(tmp_path / "none").read() is None
    (tmp_path / "intel-rapl:0").mkdir()  # no counter inside
    assert ProcessorMeter(tmp_path).read() is None


def test_power_is_what_the_driver_tells_of_all_gpus(monkeypatch):
    told = {0: 100_500, 1: 99_500}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(told))
    monkeypatch.setattr("torch.cuda.power_draw", told.__getitem__)
    meter = GpuMeter()
    assert meter._power() == 200
    assert meter.read() >= 0

    def no_sensor(gpu):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr("torch.cuda.power_draw", no_sensor)
    assert GpuMeter().read() is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert GpuMeter().read() is None


def test_costs_of_sessions_add_up_and_a_session_that_did_not_measure_is_told(tmp_path):
    for number, joules in enumerate(({"gpu": 10.0}, {})):
        spent = {"seconds": {"pool": 2.0, f"stage {number}": 1.0}, "wall_seconds": 10.0, "joules": joules}
        (tmp_path / "costs").mkdir(exist_ok=True)
        (tmp_path / f"costs/{number}.json").write_text(json.dumps(spent), encoding="utf-8")
    costs = total_costs(tmp_path)
    assert costs.seconds == {"pool": 4.0, "stage 0": 1.0, "stage 1": 1.0}
    assert (costs.wall_seconds, costs.joules, costs.measured_seconds) == (20.0, {"gpu": 10.0}, {"gpu": 10.0})
    assert "50 % of the time" in costs.energy_words()["gpu"]
    assert "not known" in costs.energy_words()["processor"]


def test_a_session_that_fails_has_cost_what_it_cost(tmp_path):
    clock = StageClock()

    def fail():
        with CostMeter(tmp_path, clock):
            clock.seconds["generator"] = 5.0
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    assert total_costs(tmp_path).seconds == {"generator": 5.0}
    assert [path.parent.name for path in Path(tmp_path).rglob("*.json")] == ["costs"]


def test_memory_is_told_stage_by_stage_and_the_most_of_all_sessions_counts(tmp_path):
    clock = StageClock()
    with CostMeter(tmp_path, clock):
        for name, mib in (("large", 300), ("small", 1)):
            with clock.timed(name):
                bytearray(mib * 2**20)  # given back at once
    peaks = total_costs(tmp_path).peak_mib
    if not peaks:
        pytest.skip("this system does not tell the peak of resident memory")
    assert peaks["large"] > peaks["small"] + 200
    (tmp_path / "costs/1.json").write_text(
        json.dumps({"seconds": {}, "wall_seconds": 1.0, "joules": {}, "peak_mib": {"small": 9e6}}), encoding="utf-8"
    )
    assert total_costs(tmp_path).peak_mib == {"large": peaks["large"], "small": 9e6}


# --- what may be wrong with the data


ALIKE = {"image": "t2w", "subject_id": "jane", "part": "train", "nearest_subject": "joan", "nearest_part": "test"}


def test_patients_who_may_be_one_are_told_and_not_shared(tmp_path):
    records = [record(), record("mixed", fraction=0.5)]
    inside = {**ALIKE, "image": "", "subject_id": "ann", "nearest_subject": "anne", "nearest_part": "train"}
    alike = tuple({**row, "likeness": 0.93} for row in (ALIKE, inside))
    page = page_of(tmp_path, records, near_copies=alike)
    summary = summary_of(records, near_copies=alike)
    assert 'href="#finding-near-copies"' in page[: page.index("<main>")]
    assert [row["subject_id"] for row in summary.leaking_copies()] == ["jane"]
    assert "2 pairs" in Page(page).text
    assert not any(name in make_shareable(page) for name in ("jane", "joan", "anne"))
    assert "joan" not in json.dumps(without_ids(summary.to_json()))
    told = {metric.key: metric.value for metric in metrics_of(summary)}
    assert (told["data/near copies"], told["data/near copies across parts"]) == (2, 1)
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))).near_copies == alike
    assert not summary_of(records, near_copies=(alike[1],)).warning()


def test_unknown_provenance_is_told_on_top_and_in_the_verdict(tmp_path):
    records = [record(), replace(record("mixed", fraction=0.5), protocol=UNKNOWN_COHORT)]
    summary, known = summary_of(records), summary_of([records[0], record("mixed", fraction=0.5)])
    assert (summary.verdict.provenance, known.verdict.provenance) == ("unknown", "known")
    assert summary.verdict.sentence().endswith(UNKNOWN_PROVENANCE)
    assert UNKNOWN_PROVENANCE not in known.verdict.sentence()
    page = page_of(tmp_path, records)
    head = page[: page.index("<main>")]
    assert 'href="#finding-unknown-provenance"' in head
    assert UNKNOWN_PROVENANCE in head
    assert UNKNOWN_PROVENANCE in note_of(summary)
    assert summary_of([records[0]]).verdict.provenance == ""
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))).verdict.provenance == "unknown"


def test_a_page_of_patients_says_so_in_its_header_and_its_shareable_copy_shows_none(tmp_path, samples):
    records = [record(), record("mixed", fraction=0.5)]
    own = replace(CONFIG, data=DataConfig(root="x"))
    page, public = (page_of(tmp_path, records, samples=[samples[0]], config=config) for config in (own, CONFIG))
    said = "images of patients."
    assert said in page[: page.index("<main>")]
    assert said not in public
    assert "data:image/png" in page
    shared = make_shareable(page)
    assert "data:image/png" not in shared
    assert said not in shared


def test_the_shareable_copy_tells_no_path(tmp_path):
    page = page_of(tmp_path, [record(), record("mixed", fraction=0.5)])
    assert str(tmp_path) in page
    assert "<td>phantoms</td>" in page  # the folder of the data, where there is one
    shared = make_shareable(page)
    assert str(tmp_path) not in shared
    assert "<td>phantoms</td>" not in shared
    assert "digest of the settings" in shared


# --- the slice viewer


def embedded(page, name):
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page, flags=re.DOTALL)[1])


def page_with_volumes(folder, samples, **changes):
    shown, row = samples
    records, measured = [record(), record("mixed", fraction=0.5)], (ImageComparison.from_json(row),)
    return page_of(folder, records, samples=[shown], image_metrics=measured, **changes)


def test_the_viewer_shows_each_volume_with_its_nearest_prompt_and_recipe(tmp_path, samples, tiny_subjects):
    shown, row = samples
    page = page_with_volumes(tmp_path, samples)
    shared, patients = (embedded(page, name) for name in ("shared-volumes", "patient-volumes"))
    assert [(each["label"], each["index"]) for each in shared] == [
        (near["label"], near["index"]) for near in row["nearest"]
    ]
    reports = {subject["report"] for subject in tiny_subjects}
    for volume, rest, near in zip(shared, patients, row["nearest"], strict=True):
        told = {**volume, **rest}
        assert told["prompt"] in reports
        assert told["nearest_subject"] == near["nearest_subject"]
        assert told["recipe"]["steps"] == "2"
        sheet = Image.open(io.BytesIO(base64.b64decode(told["slices"]["picture"])))
        slices = told["slices"]
        assert (slices["count"], slices["columns"]) == (8, 1)
        assert sheet.size == (slices["width"], slices["height"] * slices["count"]) == (16, 16 * 8)
        volume_shown = shown.pool.subject(near["label"], near["index"])["t2w"].data[0]
        lowest = volume_shown.flip(0)[:, :, 0].T.flip(0).numpy()
        assert np.abs(np.asarray(sheet.convert("L"))[:16] / 255 - lowest).mean() < 0.03  # WebP is lossy


def test_what_is_shared_of_a_volume_holds_no_copy_prompt_or_patient(tmp_path, samples):
    shown, row = samples
    called = [{**near, "copy": near["index"] == 0} for near in row["nearest"]]
    copies = ImageComparison.from_json({**row, "nearest": called})
    records = [record(), record("mixed", fraction=0.5)]
    page = page_of(tmp_path, records, samples=[shown], image_metrics=(copies,))
    shared = embedded(make_shareable(page), "shared-volumes")
    assert all(("slices" in volume) == (not volume["copy"]) for volume in shared)
    assert "patient-volumes" not in make_shareable(page).split("<script>")[0]
    for near in row["nearest"]:
        assert near["nearest_subject"] not in make_shareable(page)
    for label in shown.pool.classes:
        for entry in shown.pool.entries(label):
            assert entry["recipe"]["report"] not in make_shareable(page)
    unknown = page_of(tmp_path, records, samples=[replace(shown, nearest=())])
    assert not any("slices" in volume for volume in embedded(unknown, "shared-volumes"))


def test_slices_become_smaller_until_they_fit(samples):
    shown, _ = samples
    whole = volumes_of([shown], IMAGES, most=10)
    used = sum(len(each[name]["picture"]) for each in whole for name in ("slices", "nearest"))
    smaller = volumes_of([shown], IMAGES, most=10, budget=used - 1)
    assert smaller[0]["slices"]["width"] == 12
    assert smaller[0]["slices"]["ratio"] == whole[0]["slices"]["ratio"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_slices_are_scrolled_by_keys_wheel_and_drag_in_a_browser(tmp_path, samples):
    page = page_with_volumes(tmp_path, samples)
    acts = """<script>
      const stage = document.querySelector(".stage"), slider = document.getElementById("slice"), seen = [slider.value];
      const act = event => { stage.dispatchEvent(event); seen.push(slider.value); };
      stage.setPointerCapture = () => {};
      act(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
      act(new WheelEvent("wheel", { deltaY: -5, bubbles: true, cancelable: true }));
      act(new PointerEvent("pointerdown", { clientX: 100 }));
      act(new PointerEvent("pointermove", { clientX: 124 }));
      act(new PointerEvent("pointerup"));
      document.querySelector(".next").click();
      seen.push(document.querySelector("select").value, document.querySelector("#viewer dd").textContent);
      document.body.dataset.seen = seen.join(" ");
    </script></body>"""
    path = tmp_path / "acts.html"
    path.write_text(page.replace("</body>", acts), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, encoding="utf-8", timeout=120)
    seen = re.search(r'data-seen="(.*?)"', done.stdout)[1]
    assert seen == "5 6 5 5 7 7 1 negative"


# --- what else the page tells


def test_class_names_single_trainings_and_the_cohort_are_told(tmp_path):
    config = replace(CONFIG, data=DataConfig(classes=["benign", "cancer"]))
    page = Page(page_of(tmp_path, [record(), record("mixed", fraction=0.5)], config=config))
    assert "training 6 3 (50 %) 3 (50 %) 6 4" in page.text  # patients, of each class, volumes, reports
    assert "true, predicted benign cancer" in page.text
    assert "class 1" not in page.text
    assert "detectable difference in AUROC" in page.text


def test_a_confusion_counts_the_classes_of_a_training_on_average():
    rows = [(0, (0.9, 0.1)), (0, (0.4, 0.6)), (1, (0.2, 0.8))]
    one = CellRecord("real", 0, predictions=tuple(Prediction(str(n), str(n), *row) for n, row in enumerate(rows)))
    other = replace(one, seed=1, predictions=tuple(replace(row, probabilities=(1.0, 0.0)) for row in one.predictions))
    [found] = confusions_of([one, other])
    assert found.rows == ((1.5, 0.5), (0.5, 0.5))
    assert found.share(0, 1) == 0.25


def test_worse_and_better_stand_at_their_sides_of_zero_and_dots_are_the_trainings():
    summary = summary_of([record(), record("mixed", fraction=0.5)])
    [contrast] = summary.in_metric("auroc")
    [axes] = effect_plot(summary, dots={contrast.label: [0.25, -0.75]}).axes
    worse, better = (text for text in axes.texts if text.get_text() in ("← worse", "better →"))
    assert (worse.get_ha(), better.get_ha(), worse.xy[0], better.xy[0]) == ("right", "left", 0.0, 0.0)
    assert axes.get_xlim()[0] < -0.75
    assert any(list(line.get_xdata()) == [0.25, -0.75] for line in axes.lines)
    [narrow] = effect_plots(summary, narrow=True)
    assert narrow.get_figwidth() < 4


def test_reliability_has_equal_axes_over_the_counts_of_a_training():
    records = [record(seed=0), record(seed=1)]
    axes = reliability_plot(records, calibrated=False).axes[0]
    assert axes.get_aspect() == 1
    assert axes.get_xlim() == axes.get_ylim()
    assert reliability(records, calibrated=False).counts.sum() == 12


def test_areas_and_prevalence_are_written_into_their_panels():
    records = [record(), record("mixed", fraction=0.5)]
    [roc], [precision] = roc_plot(records, areas={"real": 0.123}).axes, precision_plot(records).axes
    assert any("real 0.12" in text.get_text() for text in roc.texts)
    assert "prevalence 0.50" in [text.get_text() for text in precision.texts]


def test_the_methods_paragraph_numbers_every_reference_that_it_lists(tmp_path):
    records = [record(), record("mixed", fraction=0.5)]
    summary = summary_of(records)
    methods = describe_methods(CONFIG, summary, records, material_of(tmp_path, summary, (), CONFIG))
    cited = [int(number) for group in re.findall(r"\[([\d, ]+)\]", methods.paragraph) for number in group.split(",")]
    assert sorted({*cited} - {0}) == list(range(1, len(methods.references) + 1))


def test_the_methods_paragraph_names_the_generator_that_a_training_went_on_from(tmp_path):
    records = [record(), record("mixed", fraction=0.5)]
    summary, config = summary_of(records), replace(CONFIG, generator=GeneratorConfig(pretrained="of/others"))
    told = describe_methods(config, summary, records, material_of(tmp_path, summary, (), config)).paragraph
    assert "of/others" in told
    assert "(variant" not in told  # it brings its own


def test_a_report_is_made_again_from_its_folder_alone(tmp_path, samples, capsys):
    records = [replace(record(seed=seed), id=f"c{seed}") for seed in (0, 1)]
    page = page_of(tmp_path, records, samples=[samples[0]])
    summary = replace(summary_of(records), findings=(Finding("told-apart", "warning", "easily"),))
    write_json(tmp_path / "summary.json", summary.to_json())
    for each in records:
        write_json(tmp_path / "cells" / f"{each.id}.json", each.to_json())
    write_results(records, tmp_path / "results.csv")
    (tmp_path / "config.yaml").write_text("study: {name: again}\nreport: {mute: [told-apart]}\n", encoding="utf-8")
    material_of(tmp_path, summary, [samples[0]], CONFIG).write(tmp_path)
    assert run_command("report", [str(tmp_path), "--shareable"]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'report-shareable.html'}\n"
    again = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert embedded(again, "patient-volumes") == embedded(page, "patient-volumes")
    assert again.count("data:image/png") == page.count("data:image/png") == 2
    assert "1 finding muted" in Page(again).text
    (tmp_path / FILE).unlink()  # as a folder of an earlier version
    assert run_command("report", ["--out", str(tmp_path)]) == 0
    without = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert summary.verdict.sentence() in Page(without).text
    assert "data:image/png" not in without  # the pictures were in the file


def test_a_folder_without_a_finished_study_is_named(tmp_path, capsys):
    assert run_command("report", [str(tmp_path)]) == 2
    assert str(tmp_path / "config.yaml") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("made", "asked", "told"),
    [
        ("model_index.json", "", "generator"),
        ("pool.json", "", "pool card"),
        ("generator-0a/model_index.json", "", "generator-0a"),
        ("config.yaml", "", "not finished"),
        ("generator-0a/model_index.json", "generator-0a", "name the folder"),
    ],
)
def test_what_a_folder_holds_in_place_of_a_finished_study_is_told(tmp_path, capsys, made, asked, told):
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).touch()
    assert run_command("report", [str(tmp_path / asked)]) == 2
    assert told in capsys.readouterr().err


def test_the_report_of_a_generator_in_a_study_is_asked_of_the_study(tmp_path, capsys):
    (tmp_path / "study" / "generator-0a").mkdir(parents=True)
    (tmp_path / "study" / "generator-0a" / "model_index.json").touch()
    (tmp_path / "study" / "config.yaml").touch()
    assert run_command("report", [str(tmp_path / "study" / "generator-0a")]) == 2
    assert f"{tmp_path / 'study'}." in capsys.readouterr().err
