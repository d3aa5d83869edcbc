"""``synthaug check``: everything is read, every problem is told, and what it proposes can be run."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml
from dicom_files import VALUES, write_series
from tiny_study import STUDY

from synthaug.bench.commands import main
from synthaug.bench.options.parsing import read_config
from synthaug.bench.single.check import check_data
from synthaug.data.reading.folders import draft_manifest
from synthaug.data.reading.plan import COARSEST, plan_grid, propose_grid
from synthaug.data.reading.survey import Look, survey_manifest
from synthaug.ground.errors import InputError
from synthaug.statistics.detectable import planned_difference, seen_difference
from synthaug.study.records import read_summary
from synthaug.study.stages.cohort import load_subjects


def volume(seed):
    return np.random.default_rng(seed).random((20, 18, 10), dtype=np.float32)


def save(path, values, spacing=(1.0, 1.0, 2.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), path)


@pytest.fixture
def data(tmp_path):
    """Twelve usable subjects of two named classes."""
    rows = ["subject_id,patient_id,mri,label,report"]
    for number in range(12):
        save(tmp_path / f"data/images/{number}.nii", volume(number))
        rows.append(f"s{number},p{number},images/{number}.nii,{('benign', 'malignant')[number % 2]},Text {number}.")
    (tmp_path / "data/manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "data"


def check(*words):
    return main(["check", *map(str, words), "--quick"])


@pytest.fixture
def pirads(data):
    """The same subjects under PI-RADS 2 to 4."""
    table = pd.read_csv(data / "manifest.csv").assign(label=[2, 3, 4] * 4)
    table.to_csv(data / "manifest.csv", index=False)
    return data


def test_classes_named_by_numbers_are_taken_as_the_problem_says(pirads, tmp_path, capsys):
    target = tmp_path / "config.yaml"
    assert check(pirads, "--out", target) == 2
    words = re.search(r"--classes '(.*)'", capsys.readouterr().out)[1]
    assert check(pirads, "--out", target, "--classes", words) == 0
    assert [each["label"] for each in load_subjects(read_config(["--config", str(target)]).data)] == [0, 1, 2] * 4


def test_names_that_yaml_takes_for_numbers_are_told_to_stand_in_quotes(pirads, capsys):
    assert check(pirads, "--classes", "[2, 3, 4]") == 2
    told = capsys.readouterr().err
    assert "Expected text. Got value: 2; put names in quotes" in told
    assert "Union" not in told


def test_what_it_proposes_is_a_config_that_runs(data, tmp_path, capsys):
    target = tmp_path / "config.yaml"
    assert check(data, "--out", target) == 0
    shown = capsys.readouterr().out
    assert "problems: none" in shown
    config = read_config(["--preset", "cpu", "--config", str(target)], exits=False)
    assert config.data.images == ["mri"]
    assert config.data.classes == ["benign", "malignant"]
    assert config.data.report == "report"
    assert config.generator.variant == "ccella"
    assert (config.preprocess.shape, config.preprocess.spacing_mm) == ((24, 24, 16), (1.0, 1.0, 2.0))
    assert yaml.safe_load(target.read_text(encoding="utf-8"))["data"]["root"] == str(data)
    assert check(data, "--out", target) == 0  # its own config may be written anew
    target.write_text("study: {}", encoding="utf-8")
    assert check(data, "--out", target) == 2
    assert target.read_text(encoding="utf-8") == "study: {}"


def test_every_problem_is_told_by_file_and_row(data, tmp_path, capsys):
    (data / "images/3.nii").unlink()
    save(data / "images/5.nii", np.full((8, 8, 8), np.nan, np.float32))
    text = (data / "manifest.csv").read_text(encoding="utf-8").replace("images/7.nii,malignant", "images/7.nii,1|0")
    (data / "manifest.csv").write_text(text, encoding="utf-8")
    found = survey_manifest(data / "manifest.csv", classes=["benign", "malignant"])
    assert [(each.row, each.file) for each in found.problems] == [
        (5, "images/3.nii"),
        (7, "images/5.nii"),
        (9, "manifest.csv"),
    ]
    assert found.counts == {0: 6, 1: 3}
    assert check(data, "--classes", "[benign, malignant]", "--out", tmp_path / "config.yaml") == 2
    assert not (tmp_path / "config.yaml").exists()
    assert "problems: 3" in capsys.readouterr().out


def test_a_rounded_id_is_told_by_its_row(data):
    text = (data / "manifest.csv").read_text(encoding="utf-8").replace(",p4,", ",1.23E+11,")
    (data / "manifest.csv").write_text(text, encoding="utf-8")
    (told,) = survey_manifest(data / "manifest.csv").problems
    assert (told.row, told.file, "1.23E+11" in told.what) == (6, "manifest.csv", True)


def test_one_image_of_two_patients_is_told(data, tmp_path, capsys):
    save(data / "images/4.nii", volume(2))
    assert check(data, "--out", tmp_path / "config.yaml") == 0
    assert "s2 and s4" in capsys.readouterr().out


def test_synthetic_rows_are_told_before_a_study_refuses_them(data, tmp_path, capsys):
    rows = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    made = [rows[0] + ",synthetic_provenance", *(f"{row},{'made' * (place < 3)}" for place, row in enumerate(rows[1:]))]
    (data / "manifest.csv").write_text("\n".join(made), encoding="utf-8")
    assert check(data, "--out", tmp_path / "config.yaml") == 2
    assert "3 of 12 rows" in capsys.readouterr().out
    assert not (tmp_path / "config.yaml").exists()


def test_a_folder_of_dicom_gets_a_manifest_and_then_a_config(tmp_path, capsys):
    folder = tmp_path / "hospital"
    for number in range(6):
        values = np.random.default_rng(number).integers(0, 400, VALUES.shape).astype(np.int16)
        for place, name in enumerate(("adc", "t2w")):
            write_series(folder / f"p{number}" / name, values + 50 * place, uid=f"1.2.3.{number}.{place}")
    assert check(folder, "--out", tmp_path / "config.yaml") == 2
    header, first, *_ = (folder / "manifest.csv").read_text(encoding="utf-8").splitlines()
    assert header == "subject_id,patient_id,adc,t2w,label"
    assert first == "p0,p0,p0/adc,p0/t2w,"
    assert "no row has a class" in capsys.readouterr().out
    lines = (folder / "manifest.csv").read_text(encoding="utf-8").splitlines()
    lines[1:] = [f"{line}{number % 2}" for number, line in enumerate(lines[1:])]
    (folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    assert check(folder, "--out", tmp_path / "config.yaml") == 0
    assert read_config(["--config", str(tmp_path / "config.yaml")]).data.images == ["adc", "t2w"]


def test_ids_that_are_the_names_of_series_are_no_images(tmp_path, capsys):
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 400, VALUES.shape).astype(np.int16)
        write_series(tmp_path / f"p{number}", values, uid=f"1.2.3.{number}")
    assert check(tmp_path, "--out", tmp_path / "config.yaml") == 2
    assert (tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()[1] == "p0,p0,p0,"
    assert "3 rows, 0 usable; images image\n" in capsys.readouterr().out


def test_the_finest_image_comes_first(data, tmp_path):
    rows = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    for number in range(12):
        save(data / f"images/fine{number}.nii", volume(50 + number).repeat(2, axis=0), spacing=(0.5, 1.0, 2.0))
    rows = [rows[0] + ",zoomed"] + [f"{row},images/fine{number}.nii" for number, row in enumerate(rows[1:])]
    (data / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    assert check(data, "--out", tmp_path / "config.yaml") == 0
    assert yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))["data"]["images"] == ["zoomed", "mri"]


def test_folders_may_be_classes(tmp_path):
    for number in range(6):
        save(tmp_path / f"{('sick', 'well')[number % 2]}/case{number}.nii.gz", volume(number))
    lines = draft_manifest(tmp_path).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "subject_id,patient_id,image,label"
    assert lines[1] == "case0,case0,sick/case0.nii.gz,sick"
    assert len(lines) == 7
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError):
        draft_manifest(tmp_path / "none")


@pytest.mark.parametrize(
    ("tops", "file", "first"),
    [
        (("adc", "t2w"), "{number:03}.nii", "000,000,adc/000.nii,t2w/000.nii,"),
        (("adc", "t2w"), "{number:03}_{top}.nii", "000,000,adc/000_adc.nii,t2w/000_t2w.nii,"),
        (("adc", "t2w"), "{number:03}/d1/{top}.nii", "000-d1,000,adc/000/d1/adc.nii,t2w/000/d1/t2w.nii,"),
        (("early", "late"), "{number:03}.nii", "000,000,early/000.nii,late/000.nii,"),
        (("0", "1"), "{number:03}.nii", "0-000,0-000,0/000.nii,0"),
        (("benign", "malignant"), "{number:03}/t2w.nii", "benign-000,benign-000,benign/000/t2w.nii,benign"),
    ],
)
def test_top_folders_of_the_same_names_are_sequences_unless_they_are_named_as_classes(tops, file, first, tmp_path):
    for top in tops:
        for number in range(8):
            save(tmp_path / top / file.format(number=number, top=top), volume(number))
    assert draft_manifest(tmp_path).read_text(encoding="utf-8").splitlines()[1] == first


def test_a_folder_around_all_images_is_no_patient(tmp_path):
    for number in range(2):
        save(tmp_path / f"nifti/all/p{number}.nii", volume(number))
    lines = draft_manifest(tmp_path).read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ["p0,p0,nifti/all/p0.nii,", "p1,p1,nifti/all/p1.nii,"]


@pytest.mark.parametrize("place", ["", "p1"])
def test_an_image_in_two_forms_is_named_before_a_manifest_is_drafted(place, tmp_path):
    for name in (f"{place}/t2w.nii", f"{place}/t2w.nii.gz", "p2/t2w.nii"):
        save(tmp_path / name.lstrip("/"), volume(0))
    with pytest.raises(InputError, match=r"t2w\.nii and t2w\.nii\.gz"):
        draft_manifest(tmp_path)
    assert not (tmp_path / "manifest.csv").exists()


def test_top_folders_that_were_taken_as_classes_are_told(tmp_path, capsys):
    for number in range(6):
        save(tmp_path / f"{('Bonn', 'Mainz')[number % 2]}/{number}/t2w.nii", volume(number))
    check(tmp_path, "--out", tmp_path / "config.yaml")
    assert "top folders Bonn, Mainz" in capsys.readouterr().out


def test_top_folders_that_were_taken_as_sequences_are_told(tmp_path, capsys):
    for number in range(8):
        for top in ("gutartig", "boesartig"):
            save(tmp_path / f"{top}/{number:03d}.nii", volume(number))
    check(tmp_path, "--out", tmp_path / "config.yaml")
    assert "top folders boesartig, gutartig" in capsys.readouterr().out


def test_a_sequence_that_the_first_subject_lacks_is_a_column(tmp_path):
    for number in range(6):
        for top in ("adc", "t2w")[number == 0 :]:
            save(tmp_path / f"trees/{top}/{number}.nii", volume(number))
            save(tmp_path / f"people/{number}/{top}.nii", volume(number))
    for folder in ("trees", "people"):
        lines = draft_manifest(tmp_path / folder).read_text(encoding="utf-8").splitlines()
        assert (lines[0], len(lines)) == ("subject_id,patient_id,adc,t2w,label", 7)


def test_a_grid_covers_the_median_field_and_stays_within_its_voxels():
    looks = [Look((256, 256, 30), (0.6, 0.6, 3.0), "LPS", (0, 1, 2))] * 4 + [
        Look((512, 512, 60), (0.6, 0.6, 3.0), "LPS", (0, 1, 2))
    ]
    plan = plan_grid(looks, voxels=2**16)
    assert np.prod(plan.shape) <= 2**16
    extent = np.multiply(plan.shape, plan.spacing_mm)
    assert (extent >= np.array([153.6, 153.6, 90]) - 0.5).all()
    assert "1 of 5 images" in plan.reason
    assert plan_grid(looks, voxels=2**24).spacing_mm == (0.6, 0.6, 3.0)


def test_fine_scans_are_cropped_before_they_become_too_coarse():
    prostates = [Look((384, 384, 20), (0.5, 0.5, 3.0), "LPS", (0, 1, 2))] * 3
    plan = propose_grid(prostates, voxels=2**16)
    assert np.prod(plan.shape) <= 2**16
    assert max(plan.spacing_mm[:2]) <= COARSEST * 0.5
    assert plan.whole == plan_grid(prostates, voxels=2**16)
    assert min(np.multiply(plan.shape, plan.spacing_mm)) >= 60  # a prostate and what lies around it
    assert propose_grid(prostates, voxels=2**20).whole is None
    small = [Look((32, 40, 24), (1.0, 1.0, 1.0), "LPS", (0, 1, 2))]
    assert propose_grid(small, voxels=2**16).shape == (32, 40, 24)


def test_air_around_what_is_scanned_is_left_out(tmp_path):
    values = np.zeros((40, 40, 16), np.float32)
    values[9:31, 4:36, :] = np.random.default_rng(0).random((22, 32, 16)) + 1
    for number in range(2):
        save(tmp_path / f"{number}.nii", values + 0.01 * number * (values > 0))
    (tmp_path / "manifest.csv").write_text("subject_id,mri,label\na,0.nii,0\nb,1.nii,1\n", encoding="utf-8")
    looks = survey_manifest(tmp_path / "manifest.csv").looks["mri"]
    assert looks[0].foreground_mm == (22.0, 32.0, 32.0)
    assert propose_grid(looks, voxels=2**20).shape == (24, 32, 16)


def test_a_config_that_was_changed_stays_and_the_next_proposal_stands_beside_it(data, tmp_path, capsys):
    target, beside = tmp_path / "config.yaml", tmp_path / "config.proposed.yaml"
    for _ in range(2):  # its own file is written anew
        assert check(data, "--out", target) == 0
        assert not beside.exists()
    mine = target.read_text(encoding="utf-8").replace("[24, 24, 16]", "[16, 16, 16]")
    target.write_text(mine, encoding="utf-8")
    for _ in range(2):
        assert check(data, "--out", target) == 0
        assert target.read_text(encoding="utf-8") == mine
        assert f"config: {beside}" in capsys.readouterr().out
    assert yaml.safe_load(beside.read_text(encoding="utf-8"))["preprocess"]["shape"] == [24, 24, 16]
    beside.write_text(mine, encoding="utf-8")
    assert check(data, "--out", target) == 2
    assert beside.read_text(encoding="utf-8") == mine


def test_rows_without_a_class_and_a_missing_column_of_patients_are_named(data, tmp_path, capsys):
    table = pd.read_csv(data / "manifest.csv", dtype=str)
    label = table.columns[3]
    table.loc[[1, 4], label] = ""
    table.drop(columns="patient_id").to_csv(data / "manifest.csv", index=False)
    assert check(data, "--out", tmp_path / "config.yaml") == 0
    shown = capsys.readouterr().out
    assert "rows 3, 6" in shown
    assert "no column 'patient_id'" in shown
    assert "rows 3, 6" in (tmp_path / "config.yaml").read_text(encoding="utf-8")


def test_a_subject_that_stands_twice_is_listed_under_its_row(data):
    lines = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    (data / "manifest.csv").write_text("\n".join([*lines, lines[1]]), encoding="utf-8")
    [problem] = [each for each in survey_manifest(data / "manifest.csv").problems if "twice" in each.what]
    assert problem.row == len(lines) + 1
    assert "rename" in problem.what
    assert not problem.what.startswith(str(data))


def test_reports_can_be_written_from_measured_columns(data, tmp_path, capsys):
    header, *rows = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    rows = [row.rpartition(",")[0] + f",{2000 + 10 * number},{'LR'[number % 2]}" for number, row in enumerate(rows)]
    header = header.replace("report", "gland_volume_mm3,side")
    (data / "manifest.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    target = tmp_path / "config.yaml"
    assert check(data, "--out", target) == 0
    assert "gland_volume_mm3, side" in capsys.readouterr().out
    assert read_config(["--config", str(target)]).generator.variant == "radmaisi"
    assert check(data, "--measurements", "[gland_volume_mm3, side]", "--out", target) == 0
    config = read_config(["--config", str(target)])
    volume, side = config.data.measurements.values()
    assert (volume.name, volume.unit, side.side, config.generator.variant) == ("gland volume", "mm3", "swaps", "ccella")
    assert all(subject["report"] for subject in load_subjects(config.data))
    rows[3] = rows[3].replace(",2030,", ",much,")
    rows[4] = rows[4].replace(",2040,", ",,")
    (data / "manifest.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    assert [(each.row, each.file) for each in check_data(config.data)] == [(5, "manifest.csv"), (6, "manifest.csv")]


def test_columns_of_decimal_commas_are_measured_and_unclear_ones_told(data):
    header, *rows = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    rows = [row.rpartition(",")[0].replace(",", ";") + f";{number},5" for number, row in enumerate(rows)]
    header = header.replace(",", ";").replace("report", "size_mm")
    (data / "manifest.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    found = survey_manifest(data / "manifest.csv")
    assert (found.measurable, found.problems) == (("size_mm",), [])
    (data / "manifest.csv").write_text("\n".join([header, *rows]).replace(";3,5", ";1.003"), encoding="utf-8")
    assert [each.row for each in survey_manifest(data / "manifest.csv", measurements=["size_mm"]).problems] == [5]


def test_the_difference_that_can_be_shown_falls_with_the_root_of_the_patients():
    few, many = planned_difference(50, 50), planned_difference(5000, 5000)
    assert few / many == pytest.approx(10, rel=0.05)
    # An interval of +-1.96 standard errors: 2.80 of them come out clear with 80 % chance.
    assert seen_difference(-1.96, 1.96, confidence=0.95) == pytest.approx(2.80, abs=0.01)


def test_dicom_of_another_maker_goes_from_a_folder_to_a_report_in_three_commands(tmp_path, capsys):
    """A CT that comes with pydicom, as twelve patients: headers of its scanner, other voxels, written by pydicom."""
    shipped = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests/98892001/CT5N"
    for number in range(12):
        (tmp_path / f"ward/patient{number}").mkdir(parents=True)
        for path in shipped.iterdir():
            file, draw = pydicom.dcmread(path), np.random.default_rng([number, int(path.name)])
            changed = file.pixel_array + draw.integers(0, 60, file.pixel_array.shape)
            file.PixelData = changed.astype(file.pixel_array.dtype).tobytes()
            file.SeriesInstanceUID = f"1.2.3.{number}"
            file.save_as(tmp_path / f"ward/patient{number}" / path.name)
    config, out, manifest = tmp_path / "config.yaml", tmp_path / "run", tmp_path / "ward/manifest.csv"
    assert check(tmp_path / "ward", "--out", config) == 2
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    assert len(rows) == 12
    manifest.write_text(
        "\n".join([header, *(f"{row}{number % 2}" for number, row in enumerate(rows))]), encoding="utf-8"
    )
    assert check(tmp_path / "ward", "--out", config) == 0
    assert "too few" in capsys.readouterr().out
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(
        yaml.safe_dump({name: STUDY[name] for name in ("generator", "pool", "classifier", "metrics")}), encoding="utf-8"
    )
    words = ["bench", "--preset", "cpu", "--config", str(config), "--config", str(tiny), "--out", str(out)]
    words += ["--study.seeds", "[0]", "--metrics.realism", "off"]
    assert main(words) == 0
    assert main(["report", "--out", str(out)]) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    assert {arm.n_test for arm in read_summary(out).arms} == {4}


def test_columns_of_other_names_are_asked_for_by_option_and_texts_are_told(data, tmp_path, capsys):
    table = data / "manifest.csv"
    text = table.read_text(encoding="utf-8").replace("Text", "No focal lesion in patient")
    table.write_text(
        text.replace("subject_id,patient_id,mri,label,report", "Exam,patient_id,mri,Age,Report"), encoding="utf-8"
    )
    words, target = [], tmp_path / "config.yaml"
    for option, column in (("--subject", "Exam"), ("--label", "Age")):
        assert check(data, *words, "--out", target) == 2
        complaint = capsys.readouterr().err
        assert option in complaint
        assert "nearest" not in complaint
        words += [option, column]
    assert check(data, *words, "--out", target) == 0
    assert '--report "Report"' in capsys.readouterr().out
    assert check(data, *words, "--report", "Report", "--out", target) == 0
    assert "--report" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "told"), [("rare", "class rare"), ("Benign", "Benign, benign")])
def test_the_class_of_too_few_patients_and_one_of_two_spellings_are_named(name, told, data, tmp_path, capsys):
    table = data / "manifest.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.nii,benign", f"0.nii,{name}", 1), encoding="utf-8")
    assert check(data, "--out", tmp_path / "config.yaml") == 2
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("classes", [["no", "yes"], [0, 1]])
def test_cells_that_tell_no_class_are_no_class_and_named(classes, data, tmp_path, capsys):
    table = pd.read_csv(data / "manifest.csv").assign(label=classes * 6).astype(str)
    table.loc[[1, 4], "label"] = ["n/a", "unknown"]
    table.to_csv(data / "manifest.csv", index=False)
    found = survey_manifest(data / "manifest.csv")
    assert [each.row for each in found.problems] == [3, 6]
    assert all("leave_out" in each.what for each in found.problems)
    assert found.counts == {0: 5, 1: 5}
    table.replace({"label": ["n/a", "unknown"]}, "").to_csv(data / "manifest.csv", index=False)
    assert check(data, "--out", tmp_path / "config.yaml") == 0


def test_a_class_may_be_called_unknown_where_it_is_listed_and_minus_beside_plus(data):
    table = pd.read_csv(data / "manifest.csv").assign(label=["+", "-"] * 6)
    table.to_csv(data / "manifest.csv", index=False)
    assert survey_manifest(data / "manifest.csv").counts == {0: 6, 1: 6}
    table = pd.read_csv(data / "manifest.csv").assign(label=["no", "yes", "unknown"] * 4)
    table.to_csv(data / "manifest.csv", index=False)
    assert survey_manifest(data / "manifest.csv", classes=["no", "yes", "unknown"]).counts == {0: 4, 1: 4, 2: 4}


def test_reports_as_files_of_text_are_told_where_no_column_is_read(data, tmp_path, capsys):
    table = pd.read_csv(data / "manifest.csv")
    for number in range(6):
        (data / f"images/{number}.txt").write_text("No focal lesion.", encoding="utf-8")
    for told, columns in ((False, table.columns), (True, table.columns.drop("report"))):
        table[columns].to_csv(data / "manifest.csv", index=False)
        assert check(data, "--out", tmp_path / "config.yaml") == 0
        assert ("6 files of text, such as 0.txt" in capsys.readouterr().out) == told


@pytest.mark.parametrize(("encoding", "written"), [("UTF-8", "auffällig"), ("cp1252", "auff\\xE4llig")])
def test_letters_beyond_ascii_are_written_as_the_machine_reads_them(encoding, written, data, tmp_path, monkeypatch):
    table = pd.read_csv(data / "manifest.csv").replace("malignant", "auffällig")
    table.to_csv(data / "manifest.csv", index=False)
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: encoding)
    target = tmp_path / "config.yaml"
    assert check(data, "--out", target) == 0
    text = target.read_text(encoding="utf-8")
    assert written in text
    assert yaml.safe_load(text)["data"]["classes"] == ["auffällig", "benign"]


def test_patients_of_two_classes_are_told_to_count_in_the_highest(data, tmp_path, capsys):
    table = pd.read_csv(data / "manifest.csv")
    table.assign(patient_id=[f"p{number // 2}" for number in range(12)]).to_csv(data / "manifest.csv", index=False)
    assert check(data, "--out", tmp_path / "config.yaml") == 2
    shown = capsys.readouterr().out
    assert shown.count("highest class") == 2
    assert "class benign has 0 patients" in shown
    assert "of one class" not in shown


def test_a_column_that_is_not_there_is_refused_before_a_dry_run_lists_cells(data, capsys):
    words = ["--data.images", "[mri]", "--data.label", "Diagnose", "--dry-run"]
    assert main(["bench", "--data.root", str(data), *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "data.label" in shown.err
