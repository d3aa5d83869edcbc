"""Manifests: what is read, and one clear error for each thing that cannot be used."""

import gzip
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

import synthaug as sa
from synthaug.config import DataConfig, MeasurementConfig
from synthaug.data.reading.manifest import CONVENTION, class_counts, class_of, make_subject, read_columns, read_manifest
from synthaug.ground.errors import InputError
from synthaug.study.stages.cohort import load_subjects

SHARED = Path(os.environ.get("SYNTHAUG_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_image(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4) if affine is None else affine), path)


@pytest.fixture
def folder(tmp_path):
    """Four subjects of three patients, two classes."""
    rng = np.random.default_rng(0)
    lines = ["subject_id,patient_id,t2w,label,report"]
    for number, (patient, label) in enumerate([("p0", 0), ("p1", 1), ("p1", 1), ("p2", 0)]):
        write_image(tmp_path / f"images/{number}.nii.gz", rng.random((6, 5, 4)))
        lines.append(f'{number:03d},{patient},images/{number}.nii.gz,{label},"Finding {number}, left."')
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def read(folder, **options):
    return sa.load_manifest(folder / "manifest.csv", ["t2w"], report="report", **options)


def test_subjects_follow_the_convention_in_file_order(folder):
    subjects = read(folder)
    assert [subject["subject_id"] for subject in subjects] == ["000", "001", "002", "003"]
    assert set(subjects[1].keys()) == {"t2w", *CONVENTION}
    assert subjects[1]["patient_id"] == "p1"
    assert subjects[1]["label"] == 1
    assert subjects[1]["report"] == "Finding 1, left."
    assert subjects[1]["synthetic"] is False
    assert subjects[1]["provenance"] == ""
    assert subjects[1]["t2w"].shape == (1, 6, 5, 4)


def test_paths_with_backslashes_lead_to_the_same_files(folder):
    rewrite(folder, "images/", "images\\")
    assert [subject["t2w"].path.name for subject in read(folder)] == [f"{number}.nii.gz" for number in range(4)]
    rewrite(folder, "images\\1", "..\\1")
    with pytest.raises(InputError, match="leads out"):
        read(folder)


def test_without_patient_column_each_subject_is_a_patient(folder):
    rewrite(folder, "patient_id", "centre")
    assert [s["patient_id"] for s in read(folder)] == ["000", "001", "002", "003"]
    assert [s["patient_id"] for s in read(folder, patient="subject_id")] == ["000", "001", "002", "003"]


def test_a_patient_column_that_is_asked_for_must_be_there(folder):
    with pytest.raises(InputError, match="no column 'patiant_id'; the nearest is 'patient_id'"):
        read(folder, patient="patiant_id")


def test_cells_are_stripped_and_composed(folder):
    rewrite(folder, "p1", "mu\u0308ller")
    text = (folder / "manifest.csv").read_text(encoding="utf-8").replace("002,mu\u0308ller", "002,\u00a0m\u00fcller ")
    (folder / "manifest.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert [s["patient_id"] for s in read(folder)] == ["p0", "m\u00fcller", "m\u00fcller", "p2"]


def test_row_numbers_count_blank_lines_and_lines_inside_cells_do_not(folder):
    rewrite(folder, "000,p0", "\n  \n000,p0")
    rewrite(folder, "Finding 0, left", "Finding 0,\nleft")
    (folder / "images/1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"row 5: 1\.nii\.gz"):
        read(folder)


def test_an_empty_report_is_kept_where_one_says_so(folder):
    rewrite(folder, '"Finding 1, left."', "")
    assert [bool(s["report"]) for s in read(folder, unreported="keep")] == [True, False, True, True]


def test_columns_of_measurements_must_be_there_and_filled(folder):
    def measured(**columns):
        return sa.load_manifest(
            folder / "manifest.csv", ["t2w"], measured=columns, write_report=lambda row: f"PSA {row['psa']}"
        )

    rewrite(folder, "report\n", "psa\n")
    rewrite(folder, '"Finding 1, left."', "")
    with pytest.raises(InputError, match="no column 'psi'; the nearest is 'psa'"):
        measured(psi="refuse")
    with pytest.raises(InputError, match=r"row 3: psa is empty; .*data\.measurements\.psa\.missing=leave_out"):
        measured(psa="refuse")
    assert len(measured(psa="leave_out")) == 4
    table = folder / "manifest.csv"
    table.write_text(re.sub('"Finding[^"]*"', "", table.read_text(encoding="utf-8")), encoding="utf-8")
    for missing in ("leave_out", "refuse"):
        with pytest.raises(InputError, match=r"manifest\.csv: column 'psa' is empty in every row"):
            measured(psa=missing)


def test_columns_that_slice_must_be_there_and_filled(folder):
    path = folder / "manifest.csv"
    with pytest.raises(InputError, match="'report' only looks like it"):
        read_columns(path, ["Report"])
    rewrite(folder, '"Finding 1, left."', "")
    with pytest.raises(InputError, match="row 3: report is empty"):
        read_columns(path, ["report"])


def test_a_subject_of_half_a_class_cannot_be_made():
    with pytest.raises(InputError, match=r"label is 0\.5"):
        make_subject({}, label=0.5, subject_id="a", patient_id="a")
    for labels in ([0.5, 1.5], [0, float("nan")], [0, float("inf")]):
        with pytest.raises(InputError, match="a class is an integer from 0"):
            class_counts([{"label": label} for label in labels])


def test_a_row_without_a_class_is_refused_or_left_out_as_one_says(folder):
    text = (folder / "manifest.csv").read_text(encoding="utf-8").replace("images/1.nii.gz,1", "images/1.nii.gz,")
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"row 3: label is empty; .* data\.unlabelled=leave_out"):
        read(folder)
    assert [subject["subject_id"] for subject in read(folder, unlabelled="leave_out")] == ["000", "002", "003"]


@pytest.mark.parametrize(
    ("cell", "classes", "number"),
    [
        ("5", ["2", "5"], 1),
        ("2.0", ["2", "5"], 0),
        ("1.0", ["1", "2"], 0),
        ("1", ["no", "yes"], 1),
        ("0.0", ["a", "b"], 0),
    ],
)
def test_a_class_is_found_by_its_name_before_its_number(cell, classes, number):
    assert class_of(cell, "label", "row 2", classes) == number


@pytest.mark.parametrize("cell", ["0", "1", "1.0"])
def test_a_number_beside_classes_named_by_numbers_is_none_of_them(cell):
    with pytest.raises(InputError, match="none of"):
        class_of(cell, "label", "row 2", ["2", "3", "4", "5"])


def test_reports_are_written_from_the_row(folder):
    subjects = sa.load_manifest(folder / "manifest.csv", ["t2w"], write_report=lambda row: f"class {row['label']}")
    assert subjects[2]["report"] == "class 1"


def measured_in_table(folder, delimiter, *cells, **options):
    """What measured cells of column ml are read as."""
    (folder / "table.csv").write_text(
        "\n".join([f"id{delimiter}ml", *(f"a{delimiter}{cell}" for cell in cells)]), encoding="utf-8"
    )
    table = read_manifest(folder / "table.csv")
    return [table.measured(number, {"ml": "leave_out"}, **options)["ml"] for number in table.rows]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_comma_within_a_heading_does_not_separate_cells(tmp_path, delimiter):
    lines = [["id", "label", "size (mm, longest)"], ["a", "1", "12,5"]]
    (tmp_path / "table.csv").write_text("\r\n".join(map(delimiter.join, lines)), encoding="utf-8")
    assert read_manifest(tmp_path / "table.csv").rows == {2: dict(zip(*lines, strict=True))}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_read_where_no_comma_stands_between_cells(tmp_path, delimiter):
    cells = ["12,3", "0,95", "2,650", "1,2E+03", "40", ""]
    assert measured_in_table(tmp_path, delimiter, *cells) == ["12.3", "0.95", "2.650", "1.2E+03", "40", ""]
    assert measured_in_table(tmp_path, delimiter, "12.3", "1.234", "left") == ["12.3", "1.234", "left"]
    assert measured_in_table(tmp_path, ",", "12.3", '"5,2"') == ["12.3", "5,2"]
    assert measured_in_table(tmp_path, ";", "5, 2", "7", several=["ml"]) == ["5, 2", "7"]


@pytest.mark.parametrize(
    ("cells", "options", "row"),
    [
        (["950", "2,650"], {}, 3),  # 2.65 or 2650?
        (["12,3", "1.234"], {}, 3),  # 1.234 or 1234?
        (["12,3", "1.234,5"], {}, 3),
        (["7", "0,95"], {"several": ["ml"]}, 3),  # 0.95, or 0 and 95?
        (["12,3, 4,5"], {"several": ["ml"]}, 2),
    ],
)
def test_a_comma_or_point_that_may_mean_two_things_is_refused(tmp_path, cells, options, row):
    with pytest.raises(InputError, match=rf"row {row}: ml is '.*with a point"):
        measured_in_table(tmp_path, ";", *cells, **options)


def test_what_reads_as_a_decimal_comma_is_no_list_in_a_table_of_commas(tmp_path):
    lists = ["0,2", "3,5", "5,0,3", "0, 95", "12,15"]
    quoted = [f'"{cell}"' for cell in lists]
    assert measured_in_table(tmp_path, ",", *quoted, several=["ml"]) == lists
    for cell in ("0,95", "1,05", "-0,125"):
        with pytest.raises(InputError, match=r"row 2: ml is '.*with a point"):
            measured_in_table(tmp_path, ",", f'"{cell}"', several=["ml"])


def test_a_report_of_decimal_commas_tells_the_number_and_the_row_of_one_that_is_none(folder):
    table = folder / "manifest.csv"
    rows = [row.split(",")[:4] for row in table.read_text(encoding="utf-8").splitlines()]

    def reports(last):
        cells = ["ml", "40,5", "0,95", "12,3", last]
        table.write_text(
            "\n".join(";".join([*row, cell]) for row, cell in zip(rows, cells, strict=True)), encoding="utf-8"
        )
        config = DataConfig(str(folder), measurements={"ml": MeasurementConfig("volume", "ml")})
        return [subject["report"] for subject in load_subjects(config)]

    assert all(value in report for value, report in zip(["40.5", "0.95", "12.3", "7"], reports("7"), strict=True))
    with pytest.raises(InputError, match="row 5: column 'ml'"):
        reports("many")


def test_class_counts_want_two_classes_without_gaps():
    assert class_counts([{"label": 1}, {"label": 0}, {"label": 1}]) == {0: 1, 1: 2}
    with pytest.raises(InputError, match="two classes"):
        class_counts([{"label": 1}, {"label": 1}])
    with pytest.raises(InputError, match="without gaps"):
        class_counts([{"label": 0}, {"label": 2}])


def rewrite(folder, old, new, encoding="utf-8"):
    path = folder / "manifest.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding=encoding)


def encode(folder, encoding):
    rewrite(folder, "", "", encoding)


def loop(path):
    path.unlink()
    path.symlink_to(path)


def break_image(change):
    def apply(folder):
        change(folder / "images/1.nii.gz")

    return apply


def corrupt(path):
    path.write_bytes(gzip.compress(b"not an image"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def fill(value, shape=(6, 5, 4)):
    def change(path):
        write_image(path, np.full(shape, value, dtype=np.float32))

    return change


def one_nan(path):
    array = np.random.default_rng(0).random((6, 5, 4))
    array[0, 0, 0] = np.nan
    write_image(path, array)


def two_dimensional(path):
    write_image(path, np.random.default_rng(0).random((6, 5)))


def zero_size(path):
    write_image(path, np.zeros((6, 0, 4)))


def four_dimensional(path):
    write_image(path, np.random.default_rng(0).random((6, 5, 4, 2)))


BROKEN = {
    "missing column": (lambda f: rewrite(f, "t2w", "t1w"), "no column 't2w'.*t1w"),
    "missing file": (lambda f: (f / "images/1.nii.gz").unlink(), "row 3: 1.nii.gz: no such file"),
    "corrupt image": (break_image(corrupt), "row 3: 1.nii.gz: not a readable NIfTI"),
    "truncated image": (break_image(truncate), "row 3: 1.nii.gz: not a readable NIfTI"),
    "2D image": (break_image(two_dimensional), r"row 3: 1.nii.gz: shape \(6, 5\) is not one 3D volume"),
    "4D image": (break_image(four_dimensional), "is not one 3D volume"),
    "NaN": (break_image(one_nan), "row 3: 1.nii.gz: holds NaN"),
    "zero size": (break_image(zero_size), "row 3: 1.nii.gz: has zero size"),
    "constant": (break_image(fill(7.0)), "row 3: 1.nii.gz: every voxel is 7"),
    "duplicate subject": (lambda f: rewrite(f, "002,", "001,"), "row 4: subject '001' stands twice"),
    "label not a class": (lambda f: rewrite(f, ",1,", ",yes,"), "row 3: label is 'yes'"),
    "negative label": (lambda f: rewrite(f, ",1,", ",-1,"), "row 3: label is '-1'"),
    "path out of the folder": (lambda f: rewrite(f, "images/1", "../1"), "leads out of"),
    "no rows": (
        lambda f: (f / "manifest.csv").write_text("subject_id,t2w,label,report\n", encoding="utf-8"),
        "has no rows",
    ),
    "padded header": (lambda f: rewrite(f, ",patient_id", ", patient_id"), "' patient_id' only looks like it"),
    "header in capitals": (lambda f: rewrite(f, "patient_id", "Patient_ID"), "'Patient_ID' only looks like it"),
    "header without a stroke": (lambda f: rewrite(f, "patient_id", "PatientID"), "'PatientID' only looks like it"),
    "header that is near": (lambda f: rewrite(f, "patient_id", "patient"), "'patient' looks like it.*data.patient="),
    "header twice": (lambda f: rewrite(f, ",report\n", ",label\n"), "column 'label' stands twice"),
    "second label": (lambda f: rewrite(f, "report\n", "Label\n"), "'label' and 'Label' differ only in spelling"),
    "report in capitals": (lambda f: rewrite(f, "report\n", "Report\n"), "'Report' only looks like it"),
    "image in capitals": (lambda f: rewrite(f, "t2w,", "T2W,"), "'T2W' only looks like it"),
    "empty patient": (lambda f: rewrite(f, ",p1,", ",,"), "row 3: patient_id is empty"),
    "blank patient": (lambda f: rewrite(f, ",p1,", ",\u00a0 ,"), "row 3: patient_id is empty"),
    "empty subject": (lambda f: rewrite(f, "001,", ","), "row 3: subject_id is empty"),
    "empty image": (lambda f: rewrite(f, "images/1.nii.gz", ""), "row 3: t2w is empty"),
    "empty report": (lambda f: rewrite(f, '"Finding 1, left."', " "), "row 3: no report.*data.unreported=keep"),
    "patients in two cases": (lambda f: rewrite(f, "p2", "P1"), "row 5: patient_id 'P1' and 'p1' of row 3"),
    "leading zeros": (lambda f: rewrite(f, "p2", "p01"), "row 5: patient_id 'p01' and 'p1' of row 3"),
    "blanks inside": (lambda f: rewrite(f, "p2", "p 1"), "row 5: patient_id 'p 1' and 'p1' of row 3"),
    "full-width digits": (lambda f: rewrite(f, "p2", "p\uff11"), "row 5: .* Unicode form"),
    "rounded patient": (lambda f: rewrite(f, "p2", "1.23E+11"), "row 5: patient_id '1.23E\\+11' .* as text"),
    "rounded with a comma": (lambda f: rewrite(f, ",p2,", ',"1,23457E+15",'), "row 5: patient_id .* as text"),
    "rounded to one digit": (lambda f: rewrite(f, "p2", "1e+05"), "row 5: patient_id '1e\\+05'"),
    "rounded subject": (lambda f: rewrite(f, "002,", "2.5E+12,"), "row 4: subject_id '2.5E\\+12'"),
    "NaN label": (lambda f: rewrite(f, ",1,", ",nan,"), "row 3: label is 'nan'"),
    "infinite label": (lambda f: rewrite(f, ",1,", ",inf,"), "row 3: label is 'inf'"),
    "label of one half": (lambda f: rewrite(f, ",1,", ",0.5,"), "row 3: label is '0.5'"),
    "UTF-16": (lambda f: encode(f, "utf-16"), "UTF-16"),
    "Latin-1": (lambda f: rewrite(f, "Finding 1", "Befund \u00fc", encoding="latin-1"), "line 3, byte 0xfc"),
    "NUL": (lambda f: rewrite(f, "p1", "p\0"), "line 3: holds a NUL"),
    "NUL in a path": (lambda f: rewrite(f, "images/1", "images/\0"), "line 3: holds a NUL"),
    "ragged row": (lambda f: rewrite(f, ',"Finding 1, left."', ""), "row 3: has 4 cells and the header 5"),
    "long path": (lambda f: rewrite(f, "images/1", "i" * 5000), "row 3: iii.*cannot be read"),
    "loop of links": (break_image(loop), "row 3: 1.nii.gz: cannot be read"),
    "empty file": (lambda f: (f / "manifest.csv").write_text("", encoding="utf-8"), "not a readable CSV"),
    "no manifest": (lambda f: (f / "manifest.csv").unlink(), "no such manifest"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_input_is_refused_by_name(folder, name):
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(InputError, match=message):
        read(folder)


@pytest.mark.parametrize("honest", ["E12", "P1E5", "1E5", "1E-05", "12E+11", "P1E+11", "1.2", "1.23E+11-b"])
def test_ids_that_no_spreadsheet_rounded_are_taken(folder, honest):
    rewrite(folder, "p2", honest)
    assert read(folder)[3]["patient_id"] == honest


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data folder is not here; set SYNTHAUG_DATA")
def test_real_studies_are_read_and_a_missing_label_is_named():
    assert class_counts(sa.load_manifest(SHARED / "hippocampus/manifest.csv", ["t1"])) == {0: 130, 1: 130}
    with pytest.raises(InputError, match="row 13: label is empty"):
        sa.load_manifest(SHARED / "prostatex/manifest.csv", ["t2w", "adc", "hbv"])
