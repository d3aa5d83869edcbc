"""What leaves the study's folder names and shows no patient who is not public."""

import json

import pytest
from matplotlib.figure import Figure

from synthaug.config import Config, DataConfig
from synthaug.ground.errors import InputError
from synthaug.ground.people import pseudonym
from synthaug.study.folder.shareable import BEGIN, END, SAID, make_shareable, write_shareable
from synthaug.study.records.cells import CellRecord, Prediction
from synthaug.tracking import TrainingRun
from synthaug.tracking.disclosure import shown, with_pseudonyms

PEOPLE = ("doe-jane-1950", "roe-richard-1961")
PICTURE = "<img src='data:image/png;base64,AAAA' alt='x'>"
PAGE = f"<header>{BEGIN}<b>keep</b>{END}</header><p>effect</p>{BEGIN}{PICTURE}{END}"


@pytest.fixture
def files(tmp_path):
    """What a study logs, with people in it."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "report.html").write_text(PAGE, encoding="utf-8")
    rows = [{"nearest_subject": PEOPLE[0], "label": 1}]
    failed = [{"error": f"patient {PEOPLE[1]!r}: no such file"}]
    summary = {"verdict": "helped", "image_metrics": [{"metric": "copies", "nearest": rows}], "failed": failed}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "split.csv").write_text(
        f"subject_id,patient_id,part\n{PEOPLE[0]}-t1,{PEOPLE[0]},train\n", encoding="utf-8"
    )
    (folder / "results.csv").write_text("regime,seed\nreal,0\n", encoding="utf-8")
    (folder / "config.yaml").write_text("study: {name: x}\n", encoding="utf-8")
    return sorted(folder.iterdir())


def test_copies_for_mlflow_hold_no_ids_and_no_images(files):
    with shown(files, private=True) as copies:
        told = {path.name: path.read_text(encoding="utf-8") for path in copies}
    assert [*told] == [path.name for path in files]
    assert not any(name in text for name in PEOPLE for text in told.values())
    assert "data:image" not in told["report.html"]
    assert pseudonym(PEOPLE[0]) in told["split.csv"]
    assert told["results.csv"] == "regime,seed\nreal,0\n"


def test_public_data_goes_as_it_is(files):
    with shown(files, private=False) as paths:
        assert paths == files


def test_predictions_are_pseudonymous_and_otherwise_the_same():
    row = Prediction("s", PEOPLE[0], 1, (0.5, 0.5))
    [shown_row] = with_pseudonyms(CellRecord("real", 0, predictions=(row,))).predictions
    assert shown_row == Prediction(pseudonym("s"), pseudonym(PEOPLE[0]), 1, (0.5, 0.5))


def test_a_private_tracker_keeps_pictures_of_trainings(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    about = {"experiment": "x", "stage": "generator", "params": {}}
    for name, private in (("public", False), ("private", True)):
        run = TrainingRun(tmp_path, stage_id=name, private=private, **about)
        run.log(1, {"loss": 1.0}, figure=Figure())
        run.finish()
    sent = [path for path in (tmp_path / "mlartifacts").rglob("*.png") if path.is_file()]
    assert len(sent) == 1


def test_a_shareable_report_holds_no_images_and_says_so(files):
    out = files[0].parent
    made = write_shareable(out)
    assert "data:image" not in made.read_text(encoding="utf-8")
    assert SAID in made.read_text(encoding="utf-8")
    assert "effect" in made.read_text(encoding="utf-8")
    assert (out / "report.html").read_text(encoding="utf-8") == PAGE


def test_a_report_of_an_earlier_version_is_not_called_shareable(tmp_path):
    with pytest.raises(InputError):
        make_shareable("<img>")
    with pytest.raises(InputError):
        write_shareable(tmp_path)


def test_own_data_is_private_by_default():
    assert Config(data=DataConfig(root="x")).private
