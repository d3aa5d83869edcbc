"""Splits: by patient, in proportion, saved and read back."""

from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthaug as sa
from synthaug.config import SplitConfig
from synthaug.data.sites import site_subjects
from synthaug.data.splits import PARTS, Split, fold_subjects, keep_training
from synthaug.ground.errors import InputError
from synthaug.ground.people import VARIABLE


def people(labels, rows_each=1):
    return [
        {"subject_id": f"s{number}-{row}", "patient_id": f"p{number}", "label": label}
        for number, label in enumerate(labels)
        for row in range(rows_each)
    ]


def patients(subjects):
    return {subject["patient_id"] for subject in subjects}


@settings(max_examples=30, deadline=None)
@given(
    negatives=st.integers(12, 60),
    positives=st.integers(12, 60),
    rows_each=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_no_patient_on_two_sides_none_lost_and_classes_in_proportion(negatives, positives, rows_each, seed):
    subjects = people([0] * negatives + [1] * positives, rows_each)
    split = sa.split_subjects(subjects, test=0.3, val=0.2, seed=seed)
    sides = [patients(part) for _, part in split.parts()]
    assert sum(len(side) for side in sides) == negatives + positives == len(set().union(*sides))
    assert sum(len(part) for _, part in split.parts()) == len(subjects)
    share = positives / (negatives + positives)
    for _, part in split.parts():
        positive = sum(subject["label"] for subject in part) / len(part)
        assert abs(positive - share) <= 2 / (len(part) / rows_each)


def test_same_seed_same_split_another_seed_another():
    subjects = people([0, 1] * 20)
    first, again, other = (sa.split_subjects(subjects, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_patient_with_rows_of_both_classes_stays_whole():
    subjects = [*people([0, 1] * 15), {"subject_id": "extra", "patient_id": "p0", "label": 1}]
    split = sa.split_subjects(subjects)
    assert sum("p0" in patients(part) for _, part in split.parts()) == 1


def test_saved_split_reads_back_equal(tmp_path):
    subjects = people([0, 1] * 20, rows_each=2)
    split = sa.split_subjects(subjects, seed=3)
    sa.save_split(split, tmp_path / "split.csv")
    assert sa.load_split(tmp_path / "split.csv", subjects) == split


def test_too_few_patients_of_a_class_are_refused():
    with pytest.raises(InputError, match=r"\{0: 20, 1: 2\}"):
        sa.split_subjects(people([0] * 20 + [1] * 2))


def spoil(rows, name):
    if name == "a patient in two parts":
        parts = rows["part"].tolist()
        moved = PARTS[(PARTS.index(parts[0]) + 1) % 3]
        rows.loc[0, "part"] = moved
    elif name == "subject twice":
        rows = pd.concat([rows, rows.iloc[:1]])
    elif name == "unknown part":
        rows.loc[0, "part"] = "dev"
    elif name == "stranger":
        rows.loc[0, "subject_id"] = "nobody"
    elif name == "missing column":
        rows = rows.drop(columns="part")
    return rows


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a patient in two parts", "patient 'p0' stands in both"),
        ("subject twice", "stands twice"),
        ("unknown part", "unknown part 'dev'"),
        ("stranger", "is not in both"),
        ("missing column", "no column 'part'"),
    ],
)
def test_a_split_file_that_cannot_be_trusted_is_refused(tmp_path, name, message):
    subjects = people([0, 1] * 20, rows_each=2)
    sa.save_split(sa.split_subjects(subjects), tmp_path / "split.csv")
    rows = pd.read_csv(tmp_path / "split.csv").sort_values("subject_id", ignore_index=True)
    spoil(rows, name).to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(InputError, match=message):
        sa.load_split(tmp_path / "split.csv", subjects)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("patient_id", "Patient ID"), "'Patient ID' only looks like it"),
        (lambda text: text.replace("part\n", "Part\n"), "'Part' only looks like it"),
        (lambda text: text.replace("s03,p3,", "s03,p4,"), "row 5: subject 's03' is of patient 'p4' here and of 'p3'"),
        (lambda text: text.replace("s03,p3,train", "s03,p3,"), "row 5: part is empty"),
        (lambda text: text.replace("s03,p3,train", "s03,train"), "row 5: has 2 cells"),
        (lambda text: text.replace("s03,p3,train", "s03,p3,Train"), "row 5: unknown part 'Train'"),
        (lambda text: text.replace("s03,p3", "s03,1.23E+11"), "row 5: patient_id '1.23E\\+11'"),
        (lambda text: text.replace("s03,", "1.23E+11,"), "row 5: subject_id '1.23E\\+11'"),
        (lambda text: "", "not a readable CSV"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: text.replace("s03", "s\u00fc3").encode("latin-1"), "line 5, byte 0xfc"),
    ],
)
def test_a_split_file_is_read_as_strictly_as_a_manifest(tmp_path, change, message):
    subjects = [{"subject_id": f"s{n:02d}", "patient_id": f"p{n}", "label": n % 2} for n in range(12)]
    rows = [f"s{n:02d},p{n},{'train' if n < 6 else 'val' if n < 9 else 'test'}\n" for n in range(12)]
    text = "subject_id,patient_id,part\n" + "".join(rows)
    file = tmp_path / "split.csv"
    file.write_text(text.replace("s03,", " s03 ,"), encoding="utf-8")
    assert len(sa.load_split(file, subjects).train) == 6
    changed = change(text)
    file.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with pytest.raises(InputError, match=message):
        sa.load_split(file, subjects)


def test_a_part_without_a_class_is_refused(tmp_path):
    subjects = people([0, 0, 0, 1, 1, 1])
    parts = ["train", "val", "test", "train", "val", "val"]
    rows = pd.DataFrame({"subject_id": [s["subject_id"] for s in subjects], "part": parts})
    rows.to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(InputError, match="test part has no subject of class 1"):
        sa.load_split(tmp_path / "split.csv", subjects)


def test_a_missing_split_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such split file"):
        sa.load_split(tmp_path / "absent.csv", people([0, 1]))


# --- sites


@pytest.mark.parametrize("other", ["umc oost", "UMC  Oost", "UMC-Oost\uff0d1", "UMC Oost 01"])
def test_one_site_in_two_spellings_is_not_two_sites(other):
    name = {"UMC-Oost\uff0d1": "UMC-Oost-1", "UMC Oost 01": "UMC Oost 1"}.get(other, "UMC Oost")
    subjects = people([0, 1] * 15)
    sites = {subject["subject_id"]: [name, other, "C"][number // 10] for number, subject in enumerate(subjects)}
    with pytest.raises(InputError, match=r"split\.site"):
        site_subjects(subjects, sites, held_out=name)
    named = {subject: {other: "D"}.get(site, site) for subject, site in sites.items()}
    assert len(site_subjects(subjects, named, held_out=name).test) == 10


# --- cross-validation


@settings(max_examples=40, deadline=None)
@given(data=st.data(), folds=st.integers(2, 6), rows_each=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_folds_are_disjoint_by_patient_cover_all_and_hold_every_class_in_proportion(data, folds, rows_each, seed):
    sizes = data.draw(st.lists(st.integers(3 * folds, 40), min_size=2, max_size=3))
    subjects = people([label for label, size in enumerate(sizes) for _ in range(size)], rows_each)
    splits = [fold_subjects(subjects, folds=folds, fold=fold, val=0.15, seed=seed) for fold in range(folds)]
    tested = [subject["subject_id"] for split in splits for subject in split.test]
    assert sorted(tested) == sorted(subject["subject_id"] for subject in subjects)  # each once, so disjoint too
    for split in splits:
        sides = [patients(part) for _, part in split.parts()]
        assert sum(map(len, sides)) == len(set().union(*sides)) == sum(sizes)
        assert sum(len(part) for _, part in split.parts()) == len(subjects)
        for label, size in enumerate(sizes):
            of_class = [sum(subject["label"] == label for subject in part) / rows_each for _, part in split.parts()]
            assert all(of_class)
            assert abs(of_class[2] - size / folds) < 1


def test_folds_follow_their_seed_and_each_chooses_by_other_patients():
    subjects = people([0, 1] * 20)
    one, again, other = (fold_subjects(subjects, folds=4, fold=1, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert patients(one.test) != patients(other.test)
    chosen = [frozenset(patients(fold_subjects(subjects, folds=4, fold=fold).val)) for fold in range(4)]
    assert len(set(chosen)) == 4


def test_a_patient_with_rows_of_both_classes_is_tested_once():
    subjects = [*people([0, 1] * 15), {"subject_id": "extra", "patient_id": "p0", "label": 1}]
    tested = [patients(fold_subjects(subjects, folds=3, fold=fold).test) for fold in range(3)]
    assert sum("p0" in part for part in tested) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 4}, "fold=4 of folds=4"),
        ({"folds": 1, "fold": 0}, "fold=0 of folds=1"),
        ({"val": 0.75}, "val=0.75 cannot be"),
        ({"folds": 30}, r"patients per class \{0: 20, 1: 20\} into 30 folds"),
    ],
)
def test_folds_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        fold_subjects(people([0, 1] * 20), **({"folds": 4, "fold": 0} | changes))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"fold": 1}, "split.fold=1 must lie in 0..0; split.folds=0 says"),
        ({"folds": 3, "fold": 3}, "split.fold=3 must lie in 0..2"),
        ({"folds": 1}, "leave patients to train on"),
        ({"folds": -2}, "split.folds=-2"),
        ({"folds": 2, "val": 0.5}, "1/split.folds=2 and split.val=0.5"),
        ({"folds": 3, "file": "split.csv"}, "stands in place of split.file"),
    ],
)
def test_settings_of_folds_that_cannot_be_are_refused(settings_, message):
    with pytest.raises(InputError, match=message):
        SplitConfig(**settings_)


# --- fewer training patients


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    shares=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4),
    rows_each=st.integers(1, 2),
    seed=st.integers(0, 100),
)
def test_smaller_training_sets_lie_inside_larger_ones_and_hold_every_class_in_proportion(
    sizes, shares, rows_each, seed
):
    train = people([label for label, size in enumerate(sizes) for _ in range(size)], rows_each)
    counts = sorted({max(len(sizes), round(share * sum(sizes))) for share in shares})
    kept = [keep_training(Split(train, ["val"], ["test"]), count, seed=seed) for count in counts if count > 1]
    for count, split in zip(counts, kept, strict=True):
        assert (split.val, split.test) == (["val"], ["test"])
        assert len(patients(split.train)) == count
        assert len(split.train) == count * rows_each  # with all rows of the patient
        for label, size in enumerate(sizes):
            of_class = sum(subject["label"] == label for subject in split.train) / rows_each
            assert of_class >= 1
            assert abs(of_class - count * size / sum(sizes)) <= len(sizes)
    for smaller, larger in pairwise(kept):
        assert patients(smaller.train) <= patients(larger.train)


def test_another_seed_keeps_other_patients_and_all_of_them_are_the_split_itself():
    split = Split(people([0, 1] * 20), [], [])
    one, again, other = (patients(keep_training(split, 0.5, seed=seed).train) for seed in (0, 0, 1))
    assert one == again != other
    assert keep_training(split, 1.0).train == split.train
    assert keep_training(split, 40).train == split.train


@pytest.mark.parametrize("size", [41, 0.02, 1.0e6])
def test_training_sets_that_cannot_be_are_refused(size):
    with pytest.raises(InputError, match=r"possible are 2 \(one a class\) to 40"):
        keep_training(Split(people([0, 1] * 20), [], []), size)


def test_a_patient_who_was_moved_in_a_saved_split_is_named(tmp_path):
    path, subjects = tmp_path / "split.csv", people([0, 1] * 20)
    sa.save_split(sa.split_subjects(subjects), path)
    rows = pd.read_csv(path)
    moved = rows.index[rows["part"] == "test"][0]
    rows.loc[moved, "part"] = "train"
    rows.to_csv(path, index=False)
    with pytest.raises(InputError, match=f"{rows['patient_id'][moved]!r} was in the part test"):
        sa.load_split(path, subjects)
    rows.drop(columns="seal").to_csv(path, index=False)
    assert len(sa.load_split(path, subjects).test) == (rows["part"] == "test").sum()


def test_a_split_of_another_institution_is_read(tmp_path, monkeypatch):
    path, subjects = tmp_path / "split.csv", people([0, 1] * 20)
    monkeypatch.setenv(VARIABLE, "another institution's")
    sa.save_split(sa.split_subjects(subjects), path)
    monkeypatch.setenv(VARIABLE, "ours")
    assert sa.load_split(path, subjects).test
