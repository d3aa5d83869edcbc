"""Splits: by patient, in proportion, saved and read back."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthaug as sa
from synthaug.data.splits import PARTS
from synthaug.errors import InputError


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
