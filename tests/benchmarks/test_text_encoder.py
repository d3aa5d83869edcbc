"""The text encoder that is trained to read: what its cases hold, and that a generator takes its folder."""

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch

from synthaug.config import TextEncoderConfig
from synthaug.data.reports.writers import ProstateFindings
from synthaug.models.pretrained import read_weights
from synthaug.models.text_encoder import build_text_encoder, encode_tokens, tokenize, without_padding


@pytest.fixture
def script(import_script):
    return import_script("builtin", "text_encoder")


def test_a_case_holds_what_its_report_states(import_script):
    script = import_script("builtin", "cases")
    told = script.prostate_case(ProstateFindings(4, "transition", "right", "apex", 13.0, psa=7.0), "R apex TZ")
    assert told.choices == (3, 2, 2, 3)
    assert told.amounts[0] == 13
    assert math.isnan(told.amounts[1])
    assert told.amounts[2] == 7
    assert script.hippocampus_case("left", 3000.0, "").choices == (-1, 1, -1, -1)
    cases = [script.drawn_case(k, part="test") for k in range(40)]
    assert [repr(each) for each in cases] == [repr(script.drawn_case(k, part="test")) for k in range(40)]
    assert {each.choices[0] for each in cases} >= {-1, 0, 3}
    assert len({each.report for each in cases}) == 40
    assert cases[0].report != script.drawn_case(0, part="training").report


def test_amounts_and_answers_that_a_report_does_not_state_cost_nothing(script, import_script):
    options = script._options(["--width", "32", "--layers", "1", "--vocabulary", "300", "--out", "unused"])
    reader = script.Reader(*script.new_encoder(options), frozen=False)
    told = [import_script("builtin", "cases").hippocampus_case("right", 3000.0, "Right hippocampus, 3000 mm3.")]
    for parameter in reader.readout.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        before = script.loss_of(reader, told).item()
        reader.readout.bias[:5] = torch.randn(5)  # PI-RADS
        after = script.loss_of(reader, told).item()
    assert before == pytest.approx(script.WEIGHTS["side"] * math.log(3))  # of three answers
    assert after == before


PLACES_OF = {
    "left": r"\b(?:left|l|lt)\b",
    "right": r"\b(?:right|r|rt)\b",
    "peripheral": r"\bpz\b|periph",
    "transition": r"\btz\b|transition|central gland",
}


def test_clauses_affirm_the_place_of_the_finding_and_deny_others(import_script):
    clauses = import_script("builtin", "clauses")

    def named(text):
        return {place for place, pattern in PLACES_OF.items() if re.search(pattern, text.lower())}

    denied, whole = 0, 0
    for k in range(600):
        findings, told, _ = clauses.composed_report(k, seed=k, draw=np.random.default_rng(k))
        found = {str(findings.side), str(findings.zone)} & PLACES_OF.keys()
        affirmed = named(" ".join(clause.text for clause in told if clause.does == "affirms"))
        assert affirmed == found, told
        for clause in told:
            names = named(clause.text)
            if clause.does == "neither":
                assert not names, clause
            elif clause.does == "denies" and found:
                denied += 1
                # The zone alone where it is the other one, or with the other side.
                assert "no" in clause.text.lower() or names or "re" in clause.text.lower()
                assert names - found or not names, (findings, clause)
            whole += clause.does == "affirms"
    assert denied > 200
    assert whole > 600


def test_reports_of_the_training_are_none_of_those_written_by_hand(script, import_script):
    cases = import_script("builtin", "cases")
    written = {row.report for name in ("prostate", "prostate-development") for row in script.prostate_rows(name)}
    assert len(written) == 158
    assert not written & {cases.drawn_case(k, part="training").report for k in range(2000)}


def test_the_side_of_a_lesion_may_be_told_by_the_other_one(import_script):
    clauses = import_script("builtin", "clauses")
    told = 0
    for k in range(1, 400, 2):
        draw = np.random.default_rng(k)
        findings, before, _ = clauses.composed_report(k, seed=k, draw=draw)
        after = clauses.across_report(findings, before, draw)
        if after != before:
            told += 1
            words = set(re.split(r"[^a-z]+", " ".join(clause.text for clause in after).lower()))
            assert str(findings.side) not in words
            assert words & {"opposite", "other", "contralateral"}
            assert after[0].does == "denies"
    assert told > 20


def test_every_token_is_told_what_its_clause_does(script, import_script):
    cases, clauses = import_script("builtin", "cases"), import_script("builtin", "clauses")
    text, ends = clauses.joined(
        [clauses.Clause("PZ clear", "denies"), clauses.Clause("TZ lesion", "affirms")],
        "; ",
        draw=np.random.default_rng(0),
    )
    told = [cases.Told(text, (4, 1, 2, 0), (math.nan,) * 4, ends=tuple(ends)), cases.Told("No.", (0, 0, 0, 0), ())]
    places = torch.tensor([[0, 3, 8, 10, 13, 0], [0, 2, 0, 0, 0, 0]])
    does = script.clause_of(told, places)
    assert [script.DOES[k] for k in does[0]] == ["denies"] * 3 + ["affirms"] * 2 + ["denies"]  # then padding
    assert set(does[1].tolist()) == {-1}


def test_a_new_encoder_takes_over_the_states_of_its_teacher(script, tmp_path, monkeypatch):
    for name, value in (("BATCH", 8), ("VALIDATION", 12)):
        monkeypatch.setattr(script, name, value)
    common = ["--minutes", "0.01", "--width", "32", "--vocabulary", "300", "--max-tokens", "64", "--spoken", "6"]
    script.main([*common, "--layers", "1", "--out", str(tmp_path / "first")])
    script.main([*common, "--layers", "2", "--teacher", str(tmp_path / "first"), "--out", str(tmp_path / "second")])
    settings = json.loads((tmp_path / "second" / "reading.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["taught"], str(tmp_path) in str(settings)) == (True, False)
    teacher = script.Teacher(str(tmp_path / "first"), 6)
    reports = ["L mid PZ 12 mm", "PI-RADS 1"]
    states = teacher.means(reports)[:, None].expand(2, 3, 6)
    assert teacher.distances(states, reports).max() < 1e-6
    assert torch.allclose(teacher.distances(states + teacher.deviations, reports), torch.ones(2, 3))


def test_slips_keep_what_a_report_states(import_script):
    slips = import_script("builtin", "slips")
    text = "L mid PZ, 12 mm, suspicious hypointensity. No lesion in the transition zone. PI-RADS category 4."
    seen = {slips.with_slips(text, np.random.default_rng(k)) for k in range(200)}
    assert len(seen) > 100
    for each in seen:
        words = set(re.split(r"[^a-z0-9]+", each.lower()))
        assert words >= {"l", "mid", "pz", "no", "in", "rads"}
        assert re.search(r"12|\bt[welv]{4,6}\b", each.lower())  # twelve, with a slip or without
        assert re.search(r"mm|\bm[il]{2,5}", each.lower())  # its unit
        assert words & {"4", "four", "iv"}


def test_each_slip_changes_a_report_that_it_can_change(import_script):
    slips = import_script("builtin", "slips")
    text = "There is a suspicious lesion of 12 mm, left, base. It lies in the peripheral zone. Category 4."
    short = "Lesion, left, base, 12 mm, PZ, category 4"
    for _, slip in slips.SLIPS:
        assert any(slip(each, np.random.default_rng(k)) != each for each in (text, short) for k in range(20)), slip


def test_what_is_said_of_elsewhere_keeps_the_lesion(import_script):
    slips = import_script("builtin", "slips")
    draw = np.random.default_rng(0)
    told = {slips.with_elsewhere("Mass, L PZ.", "right", "transition", draw=draw) for _ in range(200)}
    assert len(told) > 30
    for each in told:
        elsewhere = each.replace("Mass, L PZ.", "")
        assert elsewhere != each
        assert "left" not in elsewhere.lower()


def test_the_place_of_a_digit_is_part_of_its_token(import_script):
    drawn = (import_script("builtin", "cases").drawn_case(k, part="test").report for k in range(2000))
    texts = itertools.chain(drawn, (f"{k / 100} ml" for k in range(1000)))  # a pair of decimals must be met to be known
    tokenizer = import_script("builtin", "subword").subword_tokenizer(texts, vocabulary=2048)

    def numbers(text):
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
        return [token for token in tokens if any(sign.isdigit() for sign in token)]

    assert numbers("3100 mm³") == numbers("3,100 mm^3") == ["31", "~00"]
    assert numbers("1.4 cm x 12mm") == numbers("1,4 cm x 12 mm") == ["1", ".4", "12"]
    assert numbers("2.14 ml; 8.") == ["2", ".14", "8"]


def test_numbers_begin_with_their_value(import_script):
    vocabulary = {"14": 0, "~14": 1, ".14": 2, ".1": 3, ".10": 4, "mass": 5}

    class Tokenizer:
        def get_vocab(self):
            return vocabulary

    torch.manual_seed(0)
    rows = torch.randn(6, 8)
    before = rows.clone()
    import_script("builtin", "subword").tell_numbers(rows, Tokenizer())
    assert torch.equal(rows[0, :6], rows[1, :6])
    assert torch.equal(rows[3, :6], rows[4, :6])  # .1 is .10
    assert not torch.equal(rows[2, :6], rows[3, :6])
    assert torch.equal(rows[:, 6:], before[:, 6:])
    assert torch.equal(rows[5], before[5])


def test_states_say_nothing_beyond_what_is_read_off_them(script):
    options = script._options(["--width", "32", "--layers", "1", "--vocabulary", "300", "--out", "unused"])
    reader = script.Reader(*script.new_encoder(options), frozen=False)
    reader.keep_silent(5)
    script.train(reader, minutes=0.001, learning_rate=1e-3, spoken=5, seed=0)
    with torch.no_grad():
        states = encode_tokens(reader.encoder, tokenize(reader.tokenizer, ["L mid PZ 12 mm"]))
    assert states[0, 0, :5].all()
    assert not states[..., 5:].any()


@pytest.mark.parametrize("kind", ["subword", "byte"])
def test_the_folder_is_a_text_encoder_of_a_generator(script, kind, tmp_path, monkeypatch):
    for name, value in (("BATCH", 8), ("VALIDATION", 12)):
        monkeypatch.setattr(script, name, value)
    sizes = ["--minutes", "0.01", "--width", "16", "--layers", "1", "--vocabulary", "300", "--max-tokens", "128"]
    script.main(["--encoder", kind, *sizes, "--out", str(tmp_path)])
    told = json.loads((tmp_path / "reading.json").read_text(encoding="utf-8"))
    assert told["steps"] >= 1
    assert told["handwritten"]["n"] == 92
    encoder, tokenizer = build_text_encoder(TextEncoderConfig(path=str(tmp_path), max_tokens=64))
    assert tokenizer.truncation_side == "left"
    reports = ["", "PI-RADS 4, left. " * 40 + "no lesion"]
    with torch.no_grad():
        states = encode_tokens(encoder, tokenize(tokenizer, reports))
    assert states.shape == (2, 64, 16)
    assert [len(without_padding(each)) for each in states] == [1, 64]  # its end; cut on the left


def test_an_encoder_that_goes_on_keeps_the_meaning_of_its_states(script, tmp_path, monkeypatch):
    for name, value in (("BATCH", 8), ("VALIDATION", 12)):
        monkeypatch.setattr(script, name, value)
    first, second = tmp_path / "first", tmp_path / "second"
    common = ["--minutes", "0.01", "--width", "32", "--layers", "1", "--vocabulary", "300", "--max-tokens", "64"]
    script.main([*common, "--out", str(first)])
    script.main([*common, "--begin", str(first), "--out", str(second)])
    one, other = (read_weights(folder / script.READOUT) for folder in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)
    one, other = (read_weights(folder / "model.safetensors") for folder in (first, second))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    settings = json.loads((second / "reading.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["begun"], str(tmp_path) in str(settings)) == (True, False)


def test_how_the_states_of_a_builtin_are_read_is_learnt_before_they_change(script, tmp_path, monkeypatch):
    for name, value in (("BATCH", 8), ("VALIDATION", 12)):
        monkeypatch.setattr(script, name, value)
    common = ["--minutes", "0.01", "--width", "32", "--layers", "1", "--vocabulary", "300", "--max-tokens", "64"]
    script.main([*common, "--out", str(tmp_path / "first")])
    (tmp_path / "first" / script.READOUT).unlink()
    seen = []
    train = script.train

    def watched(reader, *teacher, **settings):
        before = {name: value.clone() for name, value in reader.state_dict().items()}
        steps = train(reader, *teacher, **settings)
        seen.append({name for name, value in reader.state_dict().items() if not torch.equal(value, before[name])})
        return steps

    monkeypatch.setattr(script, "train", watched)
    script.main([*common, "--begin", str(tmp_path / "first"), "--out", str(tmp_path / "second")])
    fitted, trained = seen
    assert {name.partition(".")[0] for name in fitted} == {"readout", "clauses"}
    assert {name.partition(".")[0] for name in trained} == {"encoder", "clauses"}


def test_encoders_stand_beside_each_other_at_equal_minutes(script, import_script, tmp_path, monkeypatch):
    for name, value in (("BATCH", 8), ("VALIDATION", 12)):
        monkeypatch.setattr(script, name, value)
    encoders = import_script("builtin", "encoders")
    monkeypatch.setattr(encoders, "text_encoder", script)
    words = ["--encoders", "subword", "byte", "--out", str(tmp_path), "--json", str(tmp_path / "found.json")]
    sizes = ["--width", "16", "--layers", "1", "--vocabulary", "300", "--max-tokens", "64"]
    encoders.main([*words, "--minutes", "0.01", *sizes])
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert {kind: each["settings"]["encoder"] for kind, each in found.items()} == {"subword": "subword", "byte": "byte"}
    assert {each["handwritten"]["n"] for each in found.values()} == {92}
    encoders.main([*words, "--minutes", "0.01"])  # found again: the default sizes would take longer
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8")) == found
    with pytest.raises(SystemExit, match="minutes"):
        encoders.main([*words, "--minutes", "0.02"])
