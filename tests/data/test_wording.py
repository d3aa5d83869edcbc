"""The report grammar: every style says what was found, traceably, and nothing against it."""

import re
from typing import get_args

import pytest
import torch
from handwritten_reports import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import FINDINGS

from synthaug.config import DataConfig, GeometryConfig, LevelConfig, MeasurementConfig
from synthaug.config.data import ReportStyle
from synthaug.config.pool import PoolConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.reports.wording import phrases
from synthaug.data.reports.wording.grammar import SYMBOL, VALUE, Grammar
from synthaug.data.reports.wording.measured import BANDS, Stated, measured_grammar, word_measured
from synthaug.data.reports.wording.prostate import prostate_grammar, word_prostate
from synthaug.data.reports.wording.styles import LONGEST, STYLES
from synthaug.data.reports.writers import ProstateFindings, write_measurement_report, write_prostate_report
from synthaug.data.voxels.geometry import NEUTRAL
from synthaug.generate.training.examples import Examples
from synthaug.ground.errors import InputError
from synthaug.pool.prompts import WriterPrompts

STYLE = st.sampled_from(sorted(STYLES))
SCORE = re.compile(
    r"(?:pi-?\s?rads|pr|score|category|overall|grade of suspicion)\W+(?:(?:of|category|score|v2\.1)\W+)*(\d)"
)
SIDES = {"left": r"\b(left|lt|l)\b", "right": r"\b(right|rt|r)\b"}
HIPPOCAMPUS = {
    "side": MeasurementConfig("hippocampus", side="stays", synonyms=["HC"]),
    "volume": MeasurementConfig(
        "hippocampal volume", "mm3", {"small": 2900, "average": 3400}, synonyms=["volume", "vol"]
    ),
}


def test_the_config_knows_every_style():
    assert set(get_args(ReportStyle)) == {"template", "any", *STYLES}
    assert len(STYLES) >= 10


@settings(max_examples=400, deadline=None)
@given(FINDINGS, STYLE, st.integers(0, 2**62))
def test_every_style_states_what_was_found_and_traces_it(findings, style, seed):
    worded = word_prostate(findings, style, seed=seed)
    stated = {"pirads", "suspicion", "no lesion"} & worded.facts
    assert stated if findings.label == 0 else stated & {"pirads", "suspicion"}
    if findings.pirads > 1:
        known = {name for name in ("side", "zone", "level", "size_mm") if getattr(findings, name) is not None}
        assert known <= worded.facts
    assert worded.text.isascii()
    assert len(worded.text) <= LONGEST
    assert not re.search(r"[{}<>]|None", worded.text)


@settings(max_examples=400, deadline=None)
@given(FINDINGS, STYLE, st.integers(0, 2**62))
def test_no_sentence_contradicts_the_findings(findings, style, seed):
    sentences = word_prostate(findings, style, seed=seed).sentences
    for sentence in sentences:
        text = sentence.text.lower()
        if findings.label:
            assert "no lesion" not in sentence.facts, text
        if "elsewhere" in sentence.facts and findings.side:
            assert not re.search(SIDES[findings.side], text), text
        if "elsewhere" in sentence.facts and findings.zone:
            own = r"peripheral|\bpz\b" if findings.zone == "peripheral" else r"transition|\btz\b"
            assert not re.search(own, text) or "side" in sentence.facts or re.search(r"left|right", text), text
        if "no lesion" in sentence.facts or "elsewhere" in sentence.facts:
            continue  # denies what was not found
        assert set(SCORE.findall(text)) <= {str(findings.pirads)}, text
        if "side" in sentence.facts:
            other = "right" if findings.side == "left" else "left"
            assert re.search(SIDES[findings.side], text), text
            assert not re.search(SIDES[other], text), text
        if "zone" in sentence.facts:
            wrong = r"transition|\btz\b" if findings.zone == "peripheral" else r"peripheral|\bpz\b"
            assert not re.search(wrong, text), text
        if "size_mm" in sentence.facts:
            numbers = re.findall(r"(\d+(?:\.\d+)?)[ -]?(mm|cm|millimetres)\b", text)
            assert numbers, text
            for number, unit in numbers:
                told = float(number) * (10 if unit == "cm" else 1)
                assert told == pytest.approx(findings.size_mm, rel=0.006, abs=0.005), text


def test_other_places_are_denied_only_where_the_finding_is_known_to_be_alone():
    findings = ProstateFindings(4, "peripheral", "left", "apex", 13.0)
    denied = [word_prostate(findings, "negations", seed=seed).facts for seed in range(20)]
    assert any("elsewhere" in facts for facts in denied)
    for seed in range(20):
        worded = word_prostate(findings, "negations", seed=seed, alone=False)
        assert "elsewhere" not in worded.facts
        assert not re.search(SIDES["right"], worded.text.lower())


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_seed_names_the_wording_and_seeds_vary_it(style):
    findings = ProstateFindings(4, "peripheral", "left", "apex", 13.0, 7.1, 45.0, 2)
    reports = [write_prostate_report(findings, seed=seed, style=style) for seed in range(40)]
    assert reports == [write_prostate_report(findings, seed=seed, style=style) for seed in range(40)]
    assert len(set(reports)) >= 30


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["left", "right"]), st.floats(1500, 5000), STYLE, st.integers(0, 2**62))
def test_measurements_are_told_in_every_style(side, volume, style, seed):
    row = {"side": side, "volume": volume}
    text = write_measurement_report(row, HIPPOCAMPUS, seed=seed, style=style).lower()
    assert re.search(SIDES[side], text)
    assert not re.search(SIDES["right" if side == "left" else "left"], text)
    numbers = re.findall(r"(\d+(?:\.\d+)?) (mm|ml|cm|cubic)", text)
    assert numbers
    for number, unit in numbers:
        factor = 1000 if unit in ("ml", "cm") else 1
        assert float(number) * factor == pytest.approx(volume, rel=0.006)


def test_several_measurements_are_all_told_and_missing_ones_are_not():
    row = {"side": "", "volume": 3000, "length": 40.0}
    measurements = HIPPOCAMPUS | {"length": MeasurementConfig("length", "mm")}
    for style in STYLES:
        for seed in range(5):
            text = write_measurement_report(row, measurements, seed=seed, style=style).lower()
            assert re.search(r"3000|3 (ml|cm)", text), text
            assert re.search(r"40 mm|4 cm|40 m[a-z]+", text), text
            assert not re.search(r"\b(left|right)\b", text), text
    assert write_measurement_report({"side": ""}, HIPPOCAMPUS, seed=0, style="any") == ""


def bare(text: str) -> str:
    """Without what a style may change: capitals, gaps, line breaks and full stops."""
    return re.sub(r"[\s.]+", "", text.lower())


class Recogniser:
    """Says whether a text is made of sentences of a grammar, in any order."""

    def __init__(self, grammar: Grammar, text: str) -> None:
        self.grammar, self.text = grammar, bare(text)
        self.known: dict[tuple[str, int], set[int]] = {}

    def ends(self, symbol: str, start: int) -> set[int]:
        """Where a symbol that begins at ``start`` can end."""
        if (symbol, start) not in self.known:
            found: set[int] = set()
            for alternative in self.grammar.usable(symbol):
                at = {start}
                for part in re.split(r"(\{\w+\}|<\w+>)", alternative):
                    at = self._after(part, at)
                found |= at
            self.known[symbol, start] = found
        return self.known[symbol, start]

    def _after(self, part: str, at: set[int]) -> set[int]:
        if SYMBOL.fullmatch(part):
            return {end for place in at for end in self.ends(part[1:-1], place)}
        literal = bare(self.grammar.values[part[1:-1]] if VALUE.fullmatch(part) else part)
        return {place + len(literal) for place in at if self.text.startswith(literal, place)}

    def accepts(self) -> bool:
        slots = dict.fromkeys(name for style in STYLES.values() for name, _ in style.slots)
        symbols = dict.fromkeys(symbol for slot in slots for symbol in self.grammar.filling(slot))
        reached, todo = {0}, [0]
        while todo:
            start = todo.pop()
            between = re.compile(r"[,;*?-]|\d\)?").match(self.text, start)
            new = {end for symbol in symbols for end in self.ends(symbol, start)}
            new = (new | ({between.end()} if between else set())) - reached
            reached |= new
            todo += new
        return len(self.text) in reached


def is_derivable(text: str, grammars: list[Grammar]) -> bool:
    return any(Recogniser(grammar, text).accepts() for grammar in grammars)


def grammars_of(row: dict[str, str]) -> list[Grammar]:
    size = float(row["size_mm"]) if row["size_mm"] else None
    stated = re.search(r"PSA\D{0,12}(\d+(?:\.\d+)?)", row["report"])
    volume = re.search(r"(\d+) (?:ml|cc)", row["report"])
    findings = ProstateFindings(
        int(row["pirads"]),
        row["zone"] or None,
        row["side"] or None,
        row["level"] or None,
        size,
        float(stated.group(1)) if stated else None,
        float(volume.group(1)) if volume else None,
    )
    return [prostate_grammar(findings, brief=brief) for brief in (False, True)]


def hippocampus_grammars(row: dict[str, str]) -> list[Grammar]:
    names, volume = ("hippocampal volume", "volume", "vol"), float(row["volume_mm3"])
    side = Stated("side", ("hippocampus", "HC"), side=row["side"])
    told = [[side, Stated("v", names, value=volume, unit="mm3", band=band)] for band in ("", *BANDS)]
    return [measured_grammar(each, brief=brief) for each in told for brief in (False, True)]


def test_the_reports_written_by_hand_are_none_of_the_grammars():
    for row in rows_of("prostate"):
        assert not is_derivable(row["report"], grammars_of(row)), row["name"]
    for row in rows_of("hippocampus"):
        assert not is_derivable(row["report"], hippocampus_grammars(row)), row["name"]


def test_what_the_grammar_writes_is_found_to_be_its_own():
    """The test above would see a report of the grammar."""
    for row in [row for row in rows_of("prostate") if row["level"]][:4]:
        grammars = grammars_of(row)
        findings = ProstateFindings(
            int(row["pirads"]), row["zone"], row["side"], row["level"], float(row["size_mm"] or 0) or None
        )
        for style in ("prose", "impression", "structured", "list"):
            text = word_prostate(findings, style, seed=4).text
            assert is_derivable(text, grammars), text


def test_training_may_read_another_wording_each_time_and_their_number_is_bounded():
    data = DataConfig(style="any", wordings=5)
    subjects = make_subjects(4, 0.5, seed=1, shape=(8, 8, 8), style="any")
    relabeller = Relabeller(data, geometry_without_moves(), rows={})
    for subject in subjects:
        told = [relabeller.rewrite(subject, NEUTRAL, wording) for wording in range(5)]
        assert told[0] == (subject["report"], subject["label"])
        assert len({report for report, _ in told}) == 5
        assert {label for _, label in told} == {subject["label"]}
        assert set(relabeller.reports(subject)) == {report for report, _ in told}
        assert max(map(len, relabeller.longest(subject))) >= max(map(len, relabeller.reports(subject)))


@pytest.mark.parametrize("level", [0, 1])
def test_a_training_draws_a_wording_for_each_reading(tiny_cascade, level):
    """Texts of a training without moves: as many as there are subjects, or up to ``wordings`` times as many."""
    shape = tuple(tiny_cascade.config.shape)
    subjects = make_subjects(2, 0.5, seed=1, shape=shape, spacing_mm=(5.0, 5.0, 8.0), style="any")
    found = {}
    for wordings in (1, 3):
        relabeller = Relabeller(DataConfig(style="any", wordings=wordings), geometry_without_moves(), rows={})
        examples = Examples(subjects, tiny_cascade, True, geometry_without_moves(), relabeller)
        batch = examples.draw(
            level,
            LevelConfig(batch_size=32),
            torch.Generator().manual_seed(0),
            report_dropout=0.0,
            guide_noise=0.0,
        )
        told = batch["text" if level == 0 else "context"]
        found[wordings] = len(told.flatten(1).unique(dim=0))
    assert found == {1: 2, 3: 6}


def geometry_without_moves():
    return GeometryConfig(flip=False, zooms=(1.0,))


def test_free_text_has_one_wording():
    relabeller = Relabeller(DataConfig(root="unused", report="report"), geometry_without_moves(), rows={})
    subject = {"subject_id": "a", "label": 0, "report": "Seen by a colleague."}
    assert {relabeller.rewrite(subject, NEUTRAL, wording)[0] for wording in range(4)} == {subject["report"]}


def test_the_writer_of_prompts_takes_a_style():
    template, styled = WriterPrompts(), WriterPrompts(style="telegraphic")
    assert template.identity != styled.identity
    assert template.report(1, 0, seed=3) != styled.report(1, 0, seed=3)
    assert template.findings(1, 0, seed=3) == styled.findings(1, 0, seed=3)


@pytest.mark.parametrize(
    "settings_of",
    [
        lambda: DataConfig(root="x", report="report", style="any"),
        lambda: DataConfig(root="x", report="report", wordings=2),
        lambda: DataConfig(wordings=0),
        lambda: DataConfig(wordings=257),
        lambda: PoolConfig(style="prose"),
    ],
)
def test_styles_that_nothing_would_use_are_refused(settings_of):
    with pytest.raises(InputError):
        settings_of()


def test_phrases_leave_no_symbol_without_a_rule():
    findings = ProstateFindings(4, "peripheral", "left", "apex", 13.0, 7.1, 45.0, 2)
    for pirads in (1, 2, 4):
        grammar = prostate_grammar(
            ProstateFindings(pirads, *(getattr(findings, n) for n in ("zone", "side", "level", "size_mm")), 7, 45, 2),
            brief=False,
        )
        used = {s for symbol in grammar.rules for each in grammar.rules[symbol] for s in SYMBOL.findall(each)}
        assert used <= set(grammar.rules), used - set(grammar.rules)
    assert set(phrases.RISKS) == set(phrases.BELIEFS) == {1, 2, 3, 4, 5}


def test_a_measured_report_is_traced_to_its_columns():
    told = [Stated("side", ("hippocampus",), side="left"), Stated("v", ("volume",), value=3100, unit="mm3")]
    for style in STYLES:
        assert word_measured(told, style, seed=1).facts >= {"side", "v"}
