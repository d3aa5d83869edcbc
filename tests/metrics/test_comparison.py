"""The whole comparison: groups, directions, what is left out, and refusals."""

import json

import numpy as np
import pytest
import torch
import torchio as tio
from torch import nn

import synthaug as sa
from synthaug.ground.errors import InputError
from synthaug.metrics.comparison import ImageReport
from synthaug.metrics.distances.estimates import METRICS, metrics_for
from synthaug.metrics.features import module_extractor
from synthaug.metrics.realism.judgement import judge_realism

MEANS = module_extractor(nn.Sequential(nn.AdaptiveAvgPool3d((2, 2, 1)), nn.Flatten()), "pooled voxels")


def subjects(n: int, *, seed: int, shift: float = 0.0) -> list[tio.Subject]:
    """Noise volumes about 0.3, class 1 brighter by 0.2; ``shift`` brightens all."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for k in range(n):
        volume = 0.2 + 0.2 * torch.rand(1, 16, 16, 8, generator=draw) + 0.2 * (k % 2) + shift
        volume += 0.05 * torch.randn(1, 2, 2, 1, generator=draw).repeat_interleave(8, 1).repeat_interleave(
            8, 2
        ).repeat_interleave(8, 3)
        made.append(tio.Subject(t2w=tio.ScalarImage(tensor=volume.clamp(0, 1)), label=k % 2))
    return made


@pytest.fixture(scope="module")
def reports() -> dict[str, ImageReport]:
    real = subjects(40, seed=0)
    return {
        name: sa.compare_images(real, subjects(40, seed=1, shift=shift), MEANS, resamples=40)
        for name, shift in {"alike": 0.0, "brighter": 0.15}.items()
    }


def test_every_metric_is_there_overall_and_by_class(reports):
    report = reports["alike"]
    assert {group: tuple(found) for group, found in report.distances.items()} == dict.fromkeys(
        ["all", "0", "1"], METRICS
    )
    assert report.left_out == {}
    assert set(report.similarities["all"]) == {"real", "synthetic", "real to synthetic"}
    assert report.distances["0"]["fid"].n_real == 20
    json.dumps(report.to_dict())
    assert report.to_metrics()["1/coverage_floor"] == report.distances["1"]["coverage"].floor


def test_each_metric_moves_the_right_way(reports):
    for group in ("all", "0", "1"):
        for name in METRICS:
            near, far = (reports[which].distances[group][name] for which in ("alike", "brighter"))
            worse = far.value < near.value if near.larger_is_better else far.value > near.value
            assert worse, (group, name)
            assert abs(near.value_at_floor_n - near.floor) < abs(far.value_at_floor_n - far.floor), (group, name)
    assert reports["alike"].ratio(reports["brighter"]) < 0.5


def test_reports_measured_unlike_are_not_compared(reports):
    other = sa.compare_images(subjects(40, seed=0), subjects(38, seed=1), MEANS, resamples=2, realism="off")
    with pytest.raises(InputError, match="n_synthetic"):
        other.ratio(reports["alike"])
    seeded = sa.compare_images(subjects(40, seed=0), subjects(40, seed=1), resamples=2, realism="off")
    with pytest.raises(InputError, match="fingerprint"):
        seeded.ratio(reports["alike"])
    with pytest.raises(InputError, match="not in both"):
        seeded.ratio(reports["alike"], "fid", "7")


def test_realism_stands_first_and_in_every_form(reports):
    near, far = (reports[name].realism for name in ("alike", "brighter"))
    assert near.statistics.value < 0.7
    assert far.statistics.value > near.statistics.value + 0.1
    assert far.cnn is None
    report = reports["brighter"]
    assert report.remarks()[0] == far.sentence()
    assert report.to_metrics()["all/realism_statistics_ci_low"] == far.statistics.low
    assert report.to_frame().set_index("metric").loc["realism_statistics", "value"] == far.statistics.value
    assert json.loads(json.dumps(report.to_dict()))["realism"]["kind"] == far.kind


def test_what_too_few_volumes_cannot_tell_is_named():
    report = sa.compare_images(subjects(9, seed=0), subjects(9, seed=1), MEANS, resamples=2)
    assert {"precision", "recall", "density", "coverage"} == {*METRICS} - {*metrics_for(9)} == {*report.left_out["all"]}
    assert {"fid", "kid", "mmd"} <= report.distances["0"].keys() == {*metrics_for(4)}
    assert report.realism.kind == "cannot tell"
    assert report.to_metrics().keys().isdisjoint({"all/realism_statistics"})
    with pytest.raises(InputError, match="2 real and 40 synthetic volumes are too few"):
        sa.compare_images(subjects(2, seed=0), subjects(40, seed=1), MEANS)
    with pytest.raises(InputError, match="no volumes"):
        sa.compare_images([], subjects(40, seed=1), MEANS)


def two_sequences(n: int, *, seed: int, names: tuple[str, str]) -> list[tio.Subject]:
    """Subjects with a dark and a bright image, under these names in the order of the names."""
    made = zip(subjects(n, seed=seed), subjects(n, seed=seed, shift=0.3), strict=True)
    pairs = [dict(zip(("dark", "bright"), (each["t2w"] for each in pair), strict=True)) for pair in made]
    return [tio.Subject({name: pair[name] for name in names}, label=0) for pair in pairs]


def test_sequences_are_compared_by_name_in_whatever_order_a_subject_holds_them():
    orders = ("dark", "bright"), ("bright", "dark")
    real, synthetic, turned = (
        two_sequences(12, seed=seed, names=orders[turn]) for seed, turn in ((0, 0), (1, 0), (1, 1))
    )
    report, same = (
        sa.compare_images(real, each, MEANS, training=each, resamples=10, pairs=2) for each in (synthetic, turned)
    )
    assert report.to_frame().equals(same.to_frame())
    assert report.copies.to_dict() == same.copies.to_dict()
    statistics, again = (judge_realism(real, each, cnn=False).statistics for each in (synthetic, turned))
    assert statistics == again


def test_sides_without_the_same_images_and_what_is_no_set_of_volumes_are_refused():
    real = two_sequences(8, seed=0, names=("dark", "bright"))
    with pytest.raises(InputError, match="'dark'"):
        sa.compare_images(real, subjects(8, seed=1))
    for wrong in (iter(real), real[0], [np.zeros((1, 16, 16, 8))]):
        with pytest.raises(InputError, match=r"[Vv]olume"):
            sa.compare_images(real, wrong)


def test_volumes_are_read_one_batch_at_a_time():
    held = []

    class Lazy:
        """Volumes that exist only while they are held."""

        def __init__(self, seed):
            self.seed = seed

        def __len__(self):
            return 24

        def __getitem__(self, place):
            held.append(place)
            return torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(100 * self.seed + place))

    report = sa.compare_images(Lazy(0), Lazy(1), MEANS, resamples=2)
    assert report.distances["all"]["fid"].n_real == 24
    assert np.isfinite(report.similarities["all"]["real"].value)


def test_the_share_of_copies_has_the_interval_that_was_asked_for():
    training, real, synthetic = (subjects(12, seed=seed) for seed in range(3))
    settings = {"training": training, "resamples": 2, "realism": "off"}
    wide, narrow = (sa.compare_images(real, synthetic, MEANS, confidence=each, **settings) for each in (0.95, 0.5))
    low, high = (f"{100 * end:.1f}%" for end in narrow.copies.share(0.5)[1:])
    assert (narrow.confidence, wide.confidence) == (0.5, 0.95)
    [line] = [line for line in narrow.remarks() if line.startswith("Copies")]
    assert f"({low} to {high})" in line
    assert line not in wide.remarks()


def test_the_html_names_every_metric_and_floor(reports):
    page = reports["alike"].to_html()
    assert all(f"<td>{name}</td>" in page for name in METRICS)
    assert "class 1" in page
    assert "real to real" in page


def test_degenerate_sets_say_what_they_are():
    real = subjects(12, seed=0)
    with pytest.raises(InputError, match="compared with itself"):
        sa.compare_images(real, real, MEANS)
    with pytest.raises(InputError, match="12 real and 1 synthetic volumes are too few"):
        sa.compare_images(real, subjects(1, seed=1), MEANS)
    flat = tio.Subject(t2w=tio.ScalarImage(tensor=torch.full((1, 16, 16, 8), 0.5)), label=0)
    with pytest.raises(InputError, match="Volume 4 is constant"):
        sa.compare_images(real, [*subjects(4, seed=1), flat], MEANS)
    broken = module_extractor(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), NotANumber()), "broken")
    with pytest.raises(InputError, match="'broken' gave features that are not finite for volume 0"):
        sa.compare_images(real, subjects(12, seed=1), broken)


class NotANumber(nn.Module):
    def forward(self, features):
        return features * torch.nan
