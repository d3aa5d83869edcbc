"""Reports unlike those of a training, and reports that contradict the class, are said, counted and kept."""

import copy
import logging

import pytest
import torch
from handwritten_reports import rows_of
from safetensors.torch import load_file, save_file
from taps_wheel import real_data

from synthaug.config import SamplingConfig, TextEncoderConfig
from synthaug.data.phantom import draw_findings
from synthaug.data.reading.manifest import load_manifest
from synthaug.data.reports.writers import write_prostate_report
from synthaug.generate.encode import encode_reports
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored import familiarity
from synthaug.generate.stored.familiarity import FILE, Familiarity, own_states
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import derive_seed
from synthaug.models.text_encoder import build_text_encoder
from synthaug.pool.pool import SyntheticPool
from synthaug.study.stages.pools import describe_pool

SAMPLING = SamplingConfig(steps=2, micro_batch=4)
FOREIGN = [
    "Läsion links in der peripheren Zone, 12 mm, PI-RADS 4.",
    "Lésion de la zone périphérique gauche de 12 mm, PI-RADS 4.",
    "Nessun sospetto di neoplasia nella zona periferica sinistra.",
    "De prostaat toont geen verdachte afwijkingen aan de linkerkant.",
]


def a_report(k: int) -> str:
    return write_prostate_report(draw_findings(k % 2, seed=derive_seed("familiarity", k)), seed=k, style="any")


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_text_encoder(TextEncoderConfig(width=16, layers=1, heads=2, max_tokens=512))


@pytest.fixture(scope="module")
def known(encoder) -> Familiarity:
    found = Familiarity.fit(*encoder, [a_report(k) for k in range(450)])
    assert found is not None
    return found


def reasons(known: Familiarity, encoder, reports: list[str]) -> list[str]:
    return known.reasons(encoder[1], reports, encode_reports(*encoder, reports))


def test_reports_of_the_training_are_seldom_called_unlike(known, encoder):
    found = reasons(known, encoder, [a_report(k) for k in range(2000, 2200)])
    assert sum(map(bool, found)) <= 10  # 1 % in expectation


def test_other_languages_and_accents_are_unlike(known, encoder):
    assert all(reasons(known, encoder, FOREIGN))
    assert "ä" in reasons(known, encoder, FOREIGN[:1])[0]
    report = a_report(3)
    assert reasons(known, encoder, [report + " é", "", " "])[1:] == ["", ""]
    assert reasons(known, encoder, [report + " é"])[0]


def test_the_radiologists_reports_are_unlike_the_grammars(known, encoder):
    folder = real_data("prostate_diagnosis")
    reports = [subject["report"] for subject in load_manifest(folder / "manifest.csv", ["t2w"], report="report")]
    assert len(reports) == 45
    assert all(reasons(known, encoder, reports))


def test_the_builtin_says_what_it_cannot_read():
    pipeline = CCELLAPipeline.from_pretrained("builtin/ccella-tiny")
    builtin = (pipeline.text_encoder, pipeline.tokenizer)
    assert pipeline.familiarity is not None
    assert all(reasons(pipeline.familiarity, builtin, FOREIGN))
    folder = real_data("prostate_diagnosis")
    reports = [subject["report"] for subject in load_manifest(folder / "manifest.csv", ["t2w"], report="report")]
    assert all(reasons(pipeline.familiarity, builtin, reports))


def test_reports_written_by_hand_are_seldom_called_unlike():
    """Short English ones have few sequences of letters; the share of new ones is judged with its sampling error."""
    pipeline = CCELLAPipeline.from_pretrained("builtin/ccella-tiny")
    builtin = (pipeline.text_encoder, pipeline.tokenizer)
    reports = [row["report"] for row in rows_of("prostate")]
    found = reasons(pipeline.familiarity, builtin, reports)
    assert sum(map(bool, found)) <= 0.2 * len(reports)


def test_what_is_new_in_a_line_may_be_chance_and_is_not_over_pages(known, encoder):
    line = "Mild, indistinct signal loss right mid PZ. PI-RADS 2."
    pages = " ".join([line] * 60)
    assert known.new_sequences(line) > known.new_sequences(pages) > float(known.limits[1])
    assert [bool(reason) for reason in reasons(known, encoder, [line, pages])] == [False, True]


def test_the_states_of_one_report_are_held_at_a_time(encoder, monkeypatch):
    reports = [f"Report {number}, {'x' * number}" for number in range(5)]
    together = encode_reports(*encoder, reports)
    expected = torch.stack([own_states(encoder[1], each, together[each]).float().mean(0) for each in reports])
    held = []

    def encode(text_encoder, tokenizer, texts):
        held.append(len(texts))
        return encode_reports(text_encoder, tokenizer, texts)

    monkeypatch.setattr(familiarity, "encode_reports", encode)
    assert torch.equal(familiarity._mean_states(*encoder, reports), expected)
    assert max(held) == 1


def test_too_few_reports_set_no_limit(encoder):
    assert Familiarity.fit(*encoder, ["one", "two", "two", ""]) is None


def test_it_is_kept_with_the_generator_and_a_damaged_file_is_named(known, tiny_pipeline, tmp_path):
    pipeline = copy.copy(tiny_pipeline)
    pipeline.familiarity = None
    pipeline.save_pretrained(tmp_path / "without")
    assert CCELLAPipeline.from_pretrained(tmp_path / "without").familiarity is None
    pipeline.familiarity = known
    pipeline.save_pretrained(tmp_path / "with")
    again = CCELLAPipeline.from_pretrained(tmp_path / "with")
    assert again.familiarity is not None
    assert torch.equal(again.familiarity.precision, known.precision)
    assert again.fingerprint == tiny_pipeline.fingerprint
    path = tmp_path / "with" / FILE
    tensors = load_file(path)
    for damage in ({"limits": -tensors["limits"]}, {"centre": tensors["centre"][:3]}):
        save_file({**tensors, **damage}, path)
        with pytest.raises(InputError, match=FILE):
            CCELLAPipeline.from_pretrained(tmp_path / "with")
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match=FILE):
        CCELLAPipeline.from_pretrained(tmp_path / "with")


def a_pipeline(tiny_pipeline, reports: list[str]) -> CCELLAPipeline:
    pipeline = copy.copy(tiny_pipeline).with_scheduler(SAMPLING.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.familiarity = Familiarity.fit(pipeline.text_encoder, pipeline.tokenizer, reports)
    return pipeline


def test_a_trained_generator_knows_its_reports(tiny_pipeline, tiny_subjects):
    assert tiny_pipeline.familiarity is not None
    told = [subject["report"] for subject in tiny_subjects]
    states = encode_reports(tiny_pipeline.text_encoder, tiny_pipeline.tokenizer, told)
    unlike = tiny_pipeline.familiarity.reasons(tiny_pipeline.tokenizer, told, states)
    assert sum(map(bool, unlike)) <= len(told) / 4


def test_the_pipeline_warns_once_of_each_doubt(tiny_pipeline, tiny_subjects, caplog):
    pipeline = a_pipeline(tiny_pipeline, [subject["report"] for subject in tiny_subjects])
    pipeline.doubts = type(pipeline.doubts)()
    reports = [*FOREIGN[:2], tiny_subjects[0]["report"]]
    read = pipeline(reports, seeds=[0, 1, 2], num_inference_steps=2)
    asked = [1 - int(each.argmax()) for each in read.class_probabilities]  # what is not read
    assert [bool(reason) for reason in read.unlike] == [True, True, False]
    assert len([record for record in caplog.records if record.name.endswith("familiarity")]) == 1
    for _ in range(2):
        pipeline(reports, asked, seeds=[0, 1, 2], num_inference_steps=2)
    told = [record for record in caplog.records if record.name.endswith("familiarity")]
    assert len(told) == 2
    assert told[1].args == (3, 3)


def test_a_pool_counts_and_tells_both_kinds_of_doubt(tiny_pipeline, tiny_subjects, tmp_path, caplog):
    pipeline = a_pipeline(tiny_pipeline, [subject["report"] for subject in tiny_subjects])
    reports = {0: [FOREIGN[0], FOREIGN[1]], 1: [FOREIGN[2], FOREIGN[3]]}
    with caplog.at_level(logging.WARNING):
        pool = SyntheticPool.build(
            pipeline, tmp_path / "pool", per_class={0: 2, 1: 2}, reports=reports, sampling=SAMPLING
        )
    read = [entry["class_probabilities"] for label in (0, 1) for entry in pool.entries(label)]
    other = sum(max(range(2), key=each.__getitem__) != label for each, label in zip(read, (0, 0, 1, 1), strict=True))
    assert pool.doubts() == {"contradicts": other, "unlike": 4}
    assert SyntheticPool.open(tmp_path / "pool").doubts() == pool.doubts()
    assert "4 reports unlike" in describe_pool(pool)
    assert any(record.name.endswith("builder") and record.args[1] == other for record in caplog.records) == bool(other)
