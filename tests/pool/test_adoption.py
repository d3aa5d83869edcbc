"""Volumes of another system become a pool, and two such pools stand against each other in one study."""

import json

import nibabel
import numpy as np
import pytest
import yaml
from small_pool import tree
from tiny_study import STUDY

from synthaug.bench.commands import main, run_command
from synthaug.bench.options.parsing import read_config
from synthaug.config import PreprocessConfig
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.survey import survey_manifest
from synthaug.ground.errors import InputError
from synthaug.pool.adoption import adopt_pool
from synthaug.pool.pool import SyntheticPool
from synthaug.report.figures.plots import has_sizes
from synthaug.study.records import read_summary

GRID = PreprocessConfig(shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))


def foreign(folder, seed, count=6):
    """A folder as another system leaves it: volumes on a grid of their own, and a table of names and classes."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    rows = ["file;label;report"]
    for number in range(count):
        values = rng.random((20, 18, 10), dtype=np.float32) * 900
        nibabel.save(nibabel.Nifti1Image(values, np.diag([4.0, 4.5, 7.0, 1.0])), folder / f"v{number}.nii.gz")
        rows.append(f"v{number}.nii.gz;{('well', 'sick')[number % 2]};Text {number}.")
    (folder.parent / f"{folder.name}.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder, folder.parent / f"{folder.name}.csv"


def test_adopted_volumes_are_those_of_the_one_preprocessing(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    pool = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"], classes=["well", "sick"])
    assert pool.counts == {0: 3, 1: 3}
    subject = pool.subject(1, 0)
    own = survey_manifest(table, folder=folder, by_file=True, classes=["well", "sick"]).subjects[1]
    (expected,) = preprocess([own], GRID, ["file"])
    assert np.array_equal(subject["t2w"].data, expected["file"].data)
    assert subject["synthetic"]
    assert subject["report"] == "Text 1."
    assert json.loads(subject["provenance"])["adopted"] == {"t2w": "v1.nii.gz"}
    pool.verify()
    again = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"], classes=["well", "sick"])
    assert again.identity == pool.identity
    with pytest.raises(InputError, match="another"):
        adopt_pool(folder, table, tmp_path / "pool", PreprocessConfig(shape=(8, 8, 8)), images=["t2w"])


def test_the_numbers_of_names_are_told_where_nobody_gave_their_order(tmp_path, caplog):
    folder, table = foreign(tmp_path / "theirs", 0)
    adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])
    assert "0 = sick, 1 = well" in caplog.text
    caplog.clear()
    adopt_pool(folder, table, tmp_path / "other", GRID, images=["t2w"], classes=["well", "sick"])
    assert not caplog.text


def test_a_volume_that_is_missing_from_an_adopted_pool_is_made_again(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    pool = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])
    before = tree(pool.path)
    (gone,) = pool.entries(1)[0]["files"].values()
    (pool.path / gone).unlink()
    adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"]).verify()
    assert tree(pool.path) == before


def test_a_volume_of_two_missing_files_is_one_volume(tmp_path):
    folder, _ = foreign(tmp_path / "theirs", 0)
    table = tmp_path / "pairs.csv"
    rows = ["t2w,adc,label", *(f"v{place}.nii.gz,v{5 - place}.nii.gz,{place % 2}" for place in range(3))]
    table.write_text("\n".join(rows), encoding="utf-8")
    pool = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w", "adc"])
    for file in pool.entries(0)[0]["files"].values():
        (pool.path / file).unlink()
    with pytest.raises(InputError, match="1 of 3 volumes"):
        pool.verify()


def test_a_volume_that_was_altered_in_an_adopted_pool_is_named(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    pool = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])
    (altered,) = pool.entries(1)[0]["files"].values()
    (pool.path / altered).write_bytes((pool.path / altered).read_bytes()[:-1])
    with pytest.raises(InputError, match=altered.removeprefix("volumes/")):
        adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])


@pytest.mark.parametrize(
    ("old", "new"),
    [("v4.nii.gz;well", "v4.nii.gz;sick"), ("Text 2.", "Other text."), ("v5.nii.gz;sick", "v5.nii.gz;well")],
)
def test_a_pool_is_not_mixed_with_a_table_that_was_changed_since(tmp_path, old, new):
    folder, table = foreign(tmp_path / "theirs", 0)
    pool = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])
    before, usual = tree(pool.path), table.read_text(encoding="utf-8")
    table.write_text(usual.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match="choose another folder"):
        adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])
    assert tree(pool.path) == before
    assert SyntheticPool.open(pool.path).identity == pool.identity


def test_a_file_that_stands_twice_is_refused_before_the_folder_is_made(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    (folder / "v1.nii.gz").write_bytes((folder / "v0.nii.gz").read_bytes())
    with pytest.raises(InputError, match="one volume"):
        adopt_pool(folder, table, tmp_path / "pool", GRID)
    assert not (tmp_path / "pool").exists()


def test_a_volume_that_is_refused_late_leaves_no_begun_pool(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    corner, usual = np.zeros((20, 18, 10), dtype=np.float32), (folder / "v4.nii.gz").read_bytes()
    corner[:2, :2, :2] = np.arange(8).reshape(2, 2, 2)
    nibabel.save(nibabel.Nifti1Image(corner, np.diag([4.0, 4.5, 7.0, 1.0])), folder / "v4.nii.gz")
    small = PreprocessConfig(shape=(8, 8, 4), spacing_mm=GRID.spacing_mm)
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"v4\.nii\.gz"):
        adopt_pool(folder, table, tmp_path / "pool", small)
    assert [path.name for path in (tmp_path / "pool").iterdir()] == ["notes.txt"]
    (folder / "v4.nii.gz").write_bytes(usual)
    assert len(adopt_pool(folder, table, tmp_path / "pool", small)) == 6


def test_a_folder_that_cannot_take_the_pool_is_named_before_the_volumes_are_read(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    pool = adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w"])
    (folder / "v0.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="preprocessing differs"):
        adopt_pool(folder, table, pool.path, PreprocessConfig(shape=(8, 8, 8)), images=["t2w"])
    with pytest.raises(InputError, match="cannot write there"):
        adopt_pool(folder, table, table, GRID, images=["t2w"])
    with pytest.raises(InputError, match="row 2"):
        adopt_pool(folder, table, tmp_path / "new", GRID, images=["t2w"])
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_adopted_is_named(tmp_path):
    folder, table = foreign(tmp_path / "theirs", 0)
    usual, damages = (
        table.read_text(encoding="utf-8"),
        {
            "row 3": ("v1.nii.gz;sick", "gone.nii.gz;sick"),
            "no class": ("v1.nii.gz;sick", "v1.nii.gz;"),
            "one volume": ("v1.nii.gz;sick", "copy.nii.gz;sick"),
            "leads out": ("v1.nii.gz;sick", "../v1.nii.gz;sick"),
        },
    )
    (folder / "copy.nii.gz").write_bytes((folder / "v0.nii.gz").read_bytes())
    for number, (told, (old, new)) in enumerate(damages.items()):
        table.write_text(usual.replace(old, new), encoding="utf-8")
        with pytest.raises(InputError, match=told):
            adopt_pool(folder, table, tmp_path / f"pool{number}", GRID)
    table.write_text(usual, encoding="utf-8")
    with pytest.raises(InputError, match=r"no column 't2w'; the files of t2w, adc are looked for.*are file, "):
        adopt_pool(folder, table, tmp_path / "pool", GRID, images=["t2w", "adc"])
    with pytest.raises(InputError, match=r"theirs\.csv, row 2: label is 'well', which is none"):
        adopt_pool(folder, table, tmp_path / "pool", GRID, classes=["healthy", "sick"])
    with pytest.raises(InputError, match="no such folder"):
        adopt_pool(tmp_path / "none", table, tmp_path / "pool", GRID)


def test_two_systems_stand_against_each_other_in_one_study(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    for name, seed in (("one", 1), ("other", 2)):
        folder, table = foreign(tmp_path / name, seed)
        words = ["pool", "adopt", folder, "--labels", table, "--out", tmp_path / f"pool-{name}"]
        assert main([*map(str, words), "--config", str(tmp_path / "study.yaml"), "--images", "[t2w]"]) == 0
    pools = [str(tmp_path / f"pool-{name}") for name in ("one", "other")]
    assert SyntheticPool.open(pools[0]).images == ["t2w"]
    axes = json.dumps({"pool.path": pools})
    options = ["--config", str(tmp_path / "study.yaml"), "--study.axes", axes, "--out", str(tmp_path / "run")]
    assert run_command("bench", options) == 0
    summary = read_summary(tmp_path / "run")
    mixed = [arm for arm in summary.arms if arm.regime == "mixed"]
    assert len(mixed) == 2
    assert {arm.protocol for arm in mixed} == {"unknown cohort"}
    told = [row.source for row in summary.image_metrics] + [row["source"] for row in summary.image_metrics_left_out]
    assert len(set(told)) == 2


def test_a_fine_tuning_curve_has_a_line_for_each_pre_training(tmp_path):
    """Pre-trained on a synthetic pool, on real volumes from elsewhere, not at all; over the patients that train."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    for name, seed in (("drawn", 1), ("scanned", 2)):
        folder, table = foreign(tmp_path / name, seed)
        adopt_pool(folder, table, tmp_path / f"pool-{name}", GRID, images=["t2w"])
    pools = {"synthetic": str(tmp_path / "pool-drawn"), "real": str(tmp_path / "pool-scanned")}
    words = ["--preset", "external", "--config", str(tmp_path / "study.yaml"), "--study.regimes", "[real, finetuned]"]
    words += ["--study.axes", json.dumps({"split.train": [6, 12]}), "--study.pretrained_on", json.dumps(pools)]
    assert run_command("bench", [*words, "--out", str(tmp_path / "run")]) == 0
    summary = read_summary(tmp_path / "run")
    lines = ("not pre-trained", "pre-trained on real", "pre-trained on synthetic")
    assert sorted(arm.label for arm in summary.arms) == [f"{line} train {size}" for line in lines for size in (12, 6)]
    assert len(summary.contrasts) == len({each.metric for each in summary.contrasts}) * 4
    assert (
        len({row.source for row in summary.image_metrics} | {row["source"] for row in summary.image_metrics_left_out})
        == 2
    )
    assert has_sizes(summary)
    assert {arm.series() for arm in summary.arms} == {*lines}
    assert not list((tmp_path / "run").glob("generator-*"))
    with pytest.raises(InputError, match="pretrained_on"):
        read_config([*words, "--study.regimes", "[real, mixed]"], exits=False)
    with pytest.raises(InputError, match="pretrained_on"):
        read_config([*words, "--pool.path", "elsewhere"], exits=False)
