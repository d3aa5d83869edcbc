"""Many hashes of training patients stand in a compressed file; without it nobody is told that none were seen."""

import gzip

import pytest

from synthaug.generate.stored.patients import FEW, PATIENTS, set_aside, with_patients
from synthaug.ground.errors import InputError

MANY = [f"{number:016x}" for number in range(FEW + 1)]


def test_few_hashes_stay_in_the_record_and_many_are_read_back(tmp_path):
    few = {"patients": MANY[:FEW], "date": "2026-11-28"}
    assert set_aside(tmp_path, few) == with_patients(tmp_path, few) == few
    assert list(tmp_path.iterdir()) == []
    kept = set_aside(tmp_path, {"patients": MANY, "date": "2026-11-28"})
    assert kept == {"patients": PATIENTS, "date": "2026-11-28"}
    assert with_patients(tmp_path, kept) == {"patients": MANY, "date": "2026-11-28"}
    first = (tmp_path / PATIENTS).read_bytes()
    set_aside(tmp_path, {"patients": MANY})
    assert (tmp_path / PATIENTS).read_bytes() == first  # equal generators are equal folders
    set_aside(tmp_path, few)  # a generator with few patients leaves no other's behind
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "cut", "no gzip", "no JSON", "a folder"])
def test_a_file_of_hashes_that_cannot_be_read_is_named(tmp_path, damage):
    kept = set_aside(tmp_path, {"patients": MANY})
    path = tmp_path / PATIENTS
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"cut": content[:50], "no gzip": b"[]", "no JSON": gzip.compress(b"[")}[damage])
    with pytest.raises(InputError, match=str(path)):
        with_patients(tmp_path, kept)
