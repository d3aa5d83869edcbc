"""Whom a folder has seen can be told by whoever has the key, and by nobody else."""

import hashlib
import multiprocessing

import pytest

from synthaug.config import Config, DataConfig, TrackingConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.splits import Split
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.ground.errors import InputError
from synthaug.ground.people import VARIABLE, can_be_told, hashes_of, key_path, patient_hash, pseudonym, public_id
from synthaug.study.stages.leaks import UNKNOWN_COHORT, protocol_of, refuse_leaks


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without a key."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def unkeyed(patient):
    return hashlib.sha256(f"patient:{patient}".encode()).hexdigest()[:16]


def test_a_hash_cannot_be_found_by_trying_ids_without_the_key(home, monkeypatch):
    stored = patient_hash("p001")
    monkeypatch.setenv(VARIABLE, "another institution's")
    tried = {hash_ for number in range(1000) for hash_ in hashes_of(f"p{number:03d}")}
    assert stored not in tried
    assert stored not in {unkeyed(f"p{number:03d}") for number in range(1000)}


def test_one_key_is_made_for_all_data_and_only_its_owner_reads_it(home):
    assert patient_hash("p1") == patient_hash("p1") != patient_hash("p2")
    assert key_path().stat().st_mode & 0o077 == 0
    assert [path.name for path in key_path().parent.iterdir()] == ["key"]
    assert patient_hash("p1") in hashes_of("p1")


def test_looking_makes_no_key(home):
    assert hashes_of("p1") == {unkeyed("p1")}
    assert can_be_told([patient_hash("phantom-1-0001"), unkeyed("p1")])
    assert not key_path().exists()


def _report(queue):
    queue.put(patient_hash("p1"))


def test_processes_that_begin_together_make_one_key(home):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_report, args=(queue,)) for _ in range(4)]
    for child in children:
        child.start()
    found = {queue.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert found == {patient_hash("p1")}


def test_a_config_folder_that_cannot_be_written_names_the_variable(home):
    (home / "synthaug").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match=VARIABLE):
        patient_hash("p1")
    (home / "synthaug").unlink()
    (home / "synthaug").mkdir()
    key_path().write_text("short\n", encoding="utf-8")
    with pytest.raises(InputError, match=VARIABLE):
        patient_hash("p1")


def test_leaks_are_refused_by_old_and_new_hashes_and_another_key_is_unknown(home, monkeypatch):
    split = Split([{"patient_id": "a"}], [{"patient_id": "b"}], [{"patient_id": "c"}])
    for hash_ in (patient_hash("c"), unkeyed("c")):
        with pytest.raises(InputError, match="'c'"):
            refuse_leaks([hash_], split, source="generator")
    assert protocol_of([patient_hash("a")], split) == protocol_of([unkeyed("a")], split) == "same cohort"
    assert protocol_of([patient_hash("a"), patient_hash("d")], split) == "other cohort"
    monkeypatch.setenv(VARIABLE, "another institution's")
    made = patient_hash("a")
    monkeypatch.delenv(VARIABLE)
    assert protocol_of([made], split) == protocol_of([], split) == UNKNOWN_COHORT


def test_people_of_the_builtin_are_refused_whatever_the_key(home):
    seen = CCELLAPipeline.from_pretrained("builtin/ccella-tiny").record["patients"]
    people = make_subjects(2, positive_fraction=0.5, seed=1, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    known = next((subject for subject in people if hashes_of(subject["patient_id"]) & set(seen)), None)
    assert known is not None
    with pytest.raises(InputError, match=known["patient_id"]):
        refuse_leaks(seen, Split([], [], [known]), source="builtin")
    assert not key_path().exists()


def test_public_patients_are_known_to_everybody(home, monkeypatch):
    made = patient_hash(public_id("PROSTATEx", "0001"))
    monkeypatch.setenv(VARIABLE, "another institution's")
    assert made in hashes_of(public_id("prostate-x", "0001"))
    assert made not in hashes_of("0001")
    assert unkeyed("0001") in hashes_of(public_id("PROSTATEx", "0001"))


def test_public_patients_are_known_by_the_plain_id_of_before(home, monkeypatch):
    public = public_id("PROSTATEx", "0001")
    split = Split([], [], [{"patient_id": public}])
    refuse_leaks([patient_hash("0002")], split, source="generator")
    with pytest.raises(InputError, match="0001"):
        refuse_leaks([patient_hash("0001")], split, source="generator")
    monkeypatch.setenv(VARIABLE, "another institution's")
    assert patient_hash("0001") in hashes_of(public)


def test_pseudonyms_are_the_same_everywhere_and_say_nothing(home):
    assert pseudonym("p1") == pseudonym("p1") != pseudonym("p2")
    assert "p1" not in pseudonym("p1")


def test_own_patients_are_protected_and_public_ones_are_not():
    assert not Config().private
    assert Config(data=DataConfig(root="x")).private
    assert not Config(data=DataConfig(root="x", public="PI-CAI")).private
    assert not Config(data=DataConfig(root="x"), tracking=TrackingConfig(privacy="full")).private
