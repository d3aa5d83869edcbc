"""Reader studies: nothing in the page tells real from synthetic, and answers are scored as counted by hand."""

import base64
import json
import re
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torchio as tio
from chromium import Chromium, needs_axe, needs_chromium
from conftest import IMAGES
from small_pool import build_pool, tree

from synthaug.bench.commands import main
from synthaug.ground.errors import InputError
from synthaug.reader_study.cases import Case, arranged, choose_real, choose_synthetic
from synthaug.reader_study.grey_levels import grey_levels
from synthaug.reader_study.key import Answer, Answers, Key, Truth, read_answers
from synthaug.reader_study.leaks import telling_traits, traits
from synthaug.reader_study.page import MOST_BYTES, Shown, page_of
from synthaug.reader_study.scores import ALL, score_readers
from synthaug.statistics.agreement import fleiss_kappa

DATA = ["--data.phantom.n", "24", "--data.phantom.shape", "[16,16,8]", "--data.phantom.spacing_mm", "[5,5,8]"]


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("reader") / "pool")


def volumes(n, *, seed=0):
    """Smooth volumes (1, 12, 10, 6) in [0, 1], none like another."""
    rng = np.random.default_rng(seed)
    return rng.random((n, 1, 12, 10, 6)) * 0.4 + np.linspace(0.1, 0.6, 12)[:, None, None]


def case_of(volume, role, number, *, label=0, generator=None):
    name = f"{role}-subject-{number}"
    maker = (generator or "pool-of-somebody") if role == "synthetic" else ""
    return Case(role, label, maker, name, f"patient of {name}", volume)


def cases_of(real, synthetic):
    """As many cases of both roles, classes by turns."""
    made = [case_of(each, "real", place, label=place % 2) for place, each in enumerate(real)]
    return made + [case_of(each, "synthetic", place, label=place % 2) for place, each in enumerate(synthetic)]


def shown_of(cases):
    return Shown([case.volume for case in cases], (1.0, 1.0, 2.0), IMAGES, ["negative", "positive"])


def voxels_of(page):
    packed = re.search(r'id="voxels">([^<]+)<', page)[1]
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)


# --- the page tells nothing


def test_a_page_is_the_same_when_real_and_synthetic_change_their_roles():
    made = volumes(8)
    pages, keys = [], []
    for real, synthetic in ((made[:4], made[4:]), (made[4:], made[:4])):
        cases = arranged(cases_of(real, synthetic), seed=3)
        pages.append(page_of(shown_of(cases)))
        keys.append([case.role for case in cases])
    assert pages[0] == pages[1]
    assert keys[0] == [{"real": "synthetic", "synthetic": "real"}[role] for role in keys[1]]
    assert keys[0] not in (sorted(keys[0]), sorted(keys[0], reverse=True))


def test_another_seed_shows_another_order():
    cases = cases_of(volumes(4), volumes(4, seed=1))
    orders = [[case.subject_id for case in arranged(cases, seed=seed)] for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_a_page_holds_no_identifier_and_no_address():
    cases = arranged(cases_of(volumes(4), volumes(4, seed=1)), seed=0)
    page = page_of(shown_of(cases))
    told = {text for case in cases for text in (case.subject_id, case.patient_id, case.generator) if text}
    assert not [text for text in told if text in page]
    assert not re.findall(r"https?://|file:|src=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_voxels_come_back_as_radiologists_look_at_them():
    cases = arranged(cases_of(volumes(1), volumes(1, seed=1)), seed=0)
    read = voxels_of(page_of(shown_of(cases))).reshape(2, 1, 6, 10, 12)  # case, image, slice, row, column
    for case, seen in zip(cases, read, strict=True):
        # The first row is anterior (the last y), the first column the patient's right (the last x).
        assert seen[0, 2, 0, 0] == case.volume[0, 11, 9, 2]
        assert seen[0, 5, 9, 3] == case.volume[0, 8, 0, 5]


PLANTED = {
    "half the range": lambda volume: 0.5 * volume,
    "an offset": lambda volume: 0.5 + 0.5 * volume,
    "a hundred grey values": lambda volume: np.round(volume * 100) / 100,
    "clipped at percentiles": lambda volume: np.clip(volume, *np.percentile(volume, [0.5, 99.5])),
    "an outlier": lambda volume: np.where(volume == volume.max(), 50.0, volume),
    "float16": lambda volume: volume.astype(np.float16).astype(float),
    "empty slices": lambda volume: volume * (np.arange(volume.shape[-1]) < volume.shape[-1] - 2),
}


@pytest.mark.parametrize("leak", PLANTED)
def test_what_is_planted_in_synthetic_volumes_does_not_come_through(leak):
    made = volumes(24)
    planted = np.stack([PLANTED[leak](each) for each in made[12:]])
    cases = arranged(cases_of(made[:12], planted), seed=0)
    assert {(case.volume.shape, case.volume.dtype) for case in cases} == {(cases[0].volume.shape, np.dtype("uint8"))}
    assert telling_traits(cases) == {}
    assert {(case.volume.min(), case.volume.max()) for case in cases} == {(0, 255)}


def test_slices_of_padding_are_left_out_of_all_volumes():
    made = volumes(8)
    made[4:, ..., 0] = made[4:, ..., 4:] = 0
    assert {case.volume.shape for case in arranged(cases_of(made[:4], made[4:]), seed=0)} == {(1, 12, 10, 3)}
    made[7, ..., 1:4] = 0
    made[7, ..., 5] = 1
    with pytest.raises(InputError):
        arranged(cases_of(made[:4], made[4:]), seed=0)


def test_a_trait_that_cannot_be_taken_away_is_told():
    framed, few = volumes(24), volumes(24)
    framed[:12, :, :3] = 0
    few[:12] = np.round(few[:12] * 12) / 12
    told = (
        (framed, {"width of the black frame", "share of black voxels"}),
        (few, {"number of grey levels"}),
    )
    for made, planted in told:
        found = telling_traits(arranged(cases_of(made[:12], made[12:]), seed=0))
        assert planted <= set(found)
        assert all(p < 0.001 for p in found.values())


def test_the_black_frame_is_counted_at_all_four_sides():
    levels = np.full((1, 12, 10, 6), 9, np.uint8)
    levels[:, :1] = levels[:, -2:] = levels[:, :, :3] = 0
    assert traits(levels)["width of the black frame"] == 1 + 2 + 3
    levels[:, 0, 5] = 9  # one tenth of a plane
    assert traits(levels)["width of the black frame"] == 2 + 3


def test_levels_below_five_are_black_and_no_others():
    ramp = np.linspace(0, 1, 12 * 10 * 60).reshape(1, 12, 10, 60)
    assert [*np.unique(grey_levels(ramp, named="ramp"))] == [0, *range(5, 256)]


def test_volumes_of_unlike_shape_constant_ones_and_too_many_are_refused():
    one, other = volumes(2)
    with pytest.raises(InputError, match="real-subject-0"):
        arranged([case_of(one, "real", 0), case_of(other[:, :8], "synthetic", 1)], seed=0)
    for unusable in (np.zeros((1, 4, 4, 4)), np.full((1, 4, 4, 4), np.nan)):
        with pytest.raises(InputError, match="constant"):
            grey_levels(unusable, named="x")
    huge = np.broadcast_to(np.uint8(0), (1, 1000, 1000, MOST_BYTES // 10**6 + 1))
    with pytest.raises(InputError, match="per_class"):
        page_of(Shown([huge], (1, 1, 1), IMAGES, ["a", "b"]))


# --- which cases


def test_as_many_of_each_class_one_of_a_patient(tiny_subjects, pool):
    real = choose_real(tiny_subjects, per_class=3, seed=0)
    assert [subject["label"] for subject in real] == [0] * 3 + [1] * 3
    assert len({subject["patient_id"] for subject in real}) == 6
    synthetic = choose_synthetic({"a": pool, "b": pool}, [0, 1], per_class=3, seed=0)
    assert [(name, subject["label"]) for name, subject in synthetic] == [
        *[("a", 0), ("a", 0), ("b", 0)],
        *[("a", 1), ("a", 1), ("b", 1)],
    ]
    twice = [tio.Subject({**subject, "patient_id": "p"}) for subject in tiny_subjects]
    for unusable in (twice, tiny_subjects[:3]):
        with pytest.raises(InputError, match="per_class"):
            choose_real(unusable, per_class=4, seed=0)
    with pytest.raises(InputError, match="class 0"):
        choose_synthetic({"a": pool}, [0], per_class=4, seed=0)


# --- scores, counted by hand


def key_of(roles, labels=None, generators=None):
    labels, generators = labels or [0] * len(roles), generators or ["g"] * len(roles)
    truths = [
        Truth(role, label, generator if role == "synthetic" else "", f"s{place}", f"p{place}")
        for place, (role, label, generator) in enumerate(zip(roles, labels, generators, strict=True))
    ]
    return Key("0123", ["negative", "positive"], truths, {})


def answers_of(reader, calls, *, classes=None):
    """Calls such as "s5" (synthetic, certain) or "" (left open)."""
    names = {"r": "real", "s": "synthetic"}
    given = {
        place: Answer(names[call[0]], int(call[1]), (classes or [0] * len(calls))[place])
        for place, call in enumerate(calls)
        if call
    }
    return Answers("0123", reader, given)


def value(scores, reader, measure, cases=ALL):
    (row,) = [row for row in scores.scores if (row.reader, row.cases, row.measure) == (reader, cases, measure)]
    assert row.low <= row.value <= row.high
    return row.value


def test_scores_are_those_counted_by_hand():
    key = key_of(["real", "real", "real", "synthetic", "synthetic"], labels=[0, 1, 0, 0, 1])
    one = answers_of("one", ["r5", "r1", "s2", "s4", "r2"], classes=[0, 1, 1, 0, 1])
    two = answers_of("two", ["r5", "r4", "r3", "s4", "s5"], classes=[0, 1, 0, 0, 1])
    scores = score_readers(key, [one, two], resamples=50)
    assert value(scores, "one", "accuracy") == 3 / 5
    assert value(scores, "one", "sensitivity") == 1 / 2
    assert value(scores, "one", "specificity") == 2 / 3
    # Ratings of real: 0, 0.4, 0.7; of synthetic: 0.9, 0.3. Of six pairs 3 + 1 are in order.
    assert value(scores, "one", "auroc") == pytest.approx(4 / 6)
    assert value(scores, "two", "accuracy") == value(scores, "two", "auroc") == 1
    assert value(scores, ALL, "accuracy") == pytest.approx((3 / 5 + 1) / 2)
    assert value(scores, "one", "class accuracy", "real") == 2 / 3
    assert value(scores, "one", "accuracy", "class negative") == 2 / 3
    by_case = {row.case: row for row in scores.by_case}
    assert (by_case[3].called_synthetic, by_case[3].right_class, by_case[3].confidence) == (0.5, 0.5, 2.5)
    # Calls agree in cases 1, 2 and 4: P = 3/5; real 6 of 10, synthetic 4 of 10: Pe = 0.52.
    agreement = {row.question: row for row in scores.agreement}
    assert agreement["call"].kappa == pytest.approx((3 / 5 - 0.52) / (1 - 0.52))
    assert json.loads(json.dumps(scores.to_json()))["answered"] == {"one": 5, "two": 5}


def test_kappa_is_that_of_fleiss_and_of_the_resampled_cases():
    """Five readers, four cases, three categories. P of a case: 1, 0.4, 0.4, 0.3; shares 9/20, 6/20, 5/20."""
    ratings = np.array([[5, 0, 0], [3, 2, 0], [0, 3, 2], [1, 1, 3]])
    observed, expected = (1 + 0.4 + 0.4 + 0.3) / 4, (81 + 36 + 25) / 400
    kappa = (observed - expected) / (1 - expected)
    assert fleiss_kappa(ratings)[0] == pytest.approx(kappa)
    drawn = fleiss_kappa(ratings, np.array([[1, 1, 1, 1], [2, 0, 1, 1]]))
    assert drawn == pytest.approx([kappa, fleiss_kappa(ratings[[0, 0, 2, 3]])[0]])
    assert np.isnan(fleiss_kappa(np.array([[2, 0], [2, 0]]))[0])


def test_generators_are_scored_apart_each_beside_all_real_volumes():
    key = key_of(["real", "real", "synthetic", "synthetic"], generators=["", "", "good", "bad"])
    scores = score_readers(key, [answers_of("one", ["r3", "r3", "r5", "s5"])], resamples=20)
    assert value(scores, "one", "sensitivity", "generator good") == 0
    assert value(scores, "one", "sensitivity", "generator bad") == 1
    assert value(scores, "one", "specificity", "generator bad") == 1


def test_open_cases_one_reader_and_one_role_leave_no_number_that_means_nothing():
    key = key_of(["real", "real", "synthetic", "synthetic"])
    scores = score_readers(key, [answers_of("one", ["r3", "s3", "", ""])], resamples=20)
    measures = {row.measure for row in scores.scores if row.cases == ALL}
    assert measures == {"accuracy", "specificity"}
    assert [row.kappa for row in scores.agreement] == [None, None]
    assert scores.answered == {"one": 2}
    assert len(scores.remarks()) == 2
    both = [answers_of("one", ["r3", "s3", "s1", ""]), answers_of("two", ["r3", "", "s1", "s1"])]
    agreement = score_readers(key, both, resamples=20).agreement
    assert [row.cases for row in agreement] == [2, 2]
    assert agreement[0].kappa == 1
    assert agreement[1].kappa is None  # all saw class 0 everywhere


def test_a_reader_weighs_as_much_as_it_answered():
    key = key_of(["real"] * 4 + ["synthetic"] * 4)
    one = answers_of("one", ["r5", "r5", "s5", "r5", "s5", "s5", "s5", "r4"])  # 6 of 8
    two = answers_of("two", ["s5", "", "", "", "s4", "", "", ""])  # 1 of 2; the one pair is out of order
    scores = score_readers(key, [one, two], resamples=50)
    assert value(scores, ALL, "accuracy") == pytest.approx(7 / 10)
    assert value(scores, ALL, "sensitivity") == pytest.approx(4 / 5)
    assert value(scores, ALL, "specificity") == pytest.approx(3 / 5)
    assert value(scores, ALL, "auroc") == pytest.approx(16 / 17 * value(scores, "one", "auroc"))
    of_all = {row.measure: row.n for row in scores.scores if (row.reader, row.cases) == (ALL, ALL)}
    assert of_all == {"accuracy": 10, "auroc": 10, "sensitivity": 5, "specificity": 5}


def test_answers_that_do_not_belong_to_the_key_are_refused(tmp_path):
    key = key_of(["real", "synthetic"])
    one = {"case": 1, "call": "real", "confidence": 3, "class": 0, "seconds": 4}
    told = {"format": "synthaug reader study, answers 1", "study": "0123", "reader": "A", "answers": [one]}
    (tmp_path / "a.json").write_text(json.dumps(told), encoding="utf-8")
    assert read_answers([tmp_path / "a.json"], key)[0].by_case == {0: Answer("real", 3, 0)}
    unusable = {
        "study": told | {"study": "4567"},
        "format": told | {"format": "something"},
        "call": told | {"answers": [one | {"call": "fake"}]},
        "confidence": told | {"answers": [one | {"confidence": 6}]},
        "case": told | {"answers": [one | {"case": 3}]},
        "twice": told | {"answers": [one, one]},
        "class": told | {"answers": [one | {"class": 2}]},
        "missing": told | {"answers": [{"case": 1}]},
        "none": told | {"answers": []},
        "fraction": told | {"answers": [one | {"case": 1.0}]},
        "yes": told | {"answers": [one | {"confidence": True}]},
        "nobody": told | {"reader": " "},
        "null": told | {"reader": None},
        "all": told | {"reader": "all"},
    }
    for name, wrong in unusable.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(InputError, match=f"{name}.json"):
            read_answers([tmp_path / f"{name}.json"], key)
    (tmp_path / "b.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.json.*a\.json"):
        read_answers([tmp_path / "a.json", tmp_path / "b.json"], key)
    (tmp_path / "b.json").write_text(json.dumps(told | {"reader": "a"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.json.*a\.json"):
        read_answers([tmp_path / "a.json", tmp_path / "b.json"], key)


def test_nobody_is_told_to_delete_answers_or_a_key(tmp_path):
    key = key_of(["real", "synthetic"])
    for content in ("", "{", '{"format": "synthaug reader study, answers 1"}'):
        (tmp_path / "a.json").write_text(content, encoding="utf-8")
        for read in (lambda: read_answers([tmp_path / "a.json"], key), lambda: Key.read(tmp_path / "a.json")):
            with pytest.raises(InputError, match=r"a\.json") as refused:
                read()
            assert "delete it" not in str(refused.value)


def test_scores_are_written_over_scores_only(tmp_path):
    key_of(["real", "synthetic"]).write(tmp_path / "key.json")
    one = {"case": 1, "call": "real", "confidence": 3, "class": 0}
    told = {"format": "synthaug reader study, answers 1", "study": "0123", "reader": "A", "answers": [one]}
    (tmp_path / "a.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "page.html").write_text("<html>", encoding="utf-8")
    words = ["reader-study", "score", str(tmp_path / "a.json"), "--key", str(tmp_path / "key.json"), "--out"]
    before = tree(tmp_path)
    for name in ("key.json", "a.json", "page.html"):
        assert main([*words, str(tmp_path / name)]) == 2
    assert tree(tmp_path) == before
    assert main([*words, str(tmp_path / "scores.json")]) == main([*words, str(tmp_path / "scores.json")]) == 0


def test_an_interval_without_width_is_remarked():
    key = key_of(["real"] * 4 + ["synthetic"] * 4)
    for alike in (["r3"] * 8, ["r3"] * 4 + ["s3"] * 4):
        told = score_readers(key, [answers_of("one", alike), answers_of("two", alike)], resamples=20).remarks()
        assert len(told) == 1
    one, two = ["r3", "s2", "r1", "r4", "s1", "s2", "s4", "r3"], ["s3", "s2", "r1", "r4", "r1", "s2", "s4", "r3"]
    assert not score_readers(key, [answers_of("one", one), answers_of("two", two)], resamples=200).remarks()


def test_a_key_is_read_back_and_never_lost_to_another_study(tmp_path):
    key = key_of(["real", "synthetic"])
    key.write(tmp_path / "key.json")
    key.write(tmp_path / "key.json")
    assert Key.read(tmp_path / "key.json") == key
    with pytest.raises(InputError, match=r"key\.json"):
        replace(key, study="4567").write(tmp_path / "key.json")
    (tmp_path / "other.json").write_text(json.dumps(key.to_json() | {"format": "x"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"other\.json"):
        Key.read(tmp_path / "other.json")


# --- from start to score


@pytest.fixture
def made(pool, tmp_path):
    """The page of a study and its key."""
    page = tmp_path / "study" / "page.html"
    words = [str(pool.path), *DATA, "--per_class", "2", "--part", "all", "--out", str(page)]
    assert main(["reader-study", *words]) == 0
    return page, page.with_suffix(".key.json")


def test_a_study_is_made_from_a_pool_and_its_page_tells_nothing_of_the_files(made, pool):
    page, key = made
    told, truths = page.read_text(encoding="utf-8"), Key.read(key).cases
    assert sorted(truth.role for truth in truths) == ["real"] * 4 + ["synthetic"] * 4
    assert sorted(truth.label for truth in truths) == [0] * 4 + [1] * 4
    names = {name for truth in truths for name in (truth.subject_id, truth.patient_id)} | {str(pool.path)}
    assert not [name for name in names if name in told]
    assert len(voxels_of(told)) % 8 == 0
    assert Key.read(key).study in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{pool}", "--per_class", "90"], "per_class"),
        (["{pool}", "--per_class", "0"], "per_class"),
        (["{pool}", "{pool}"], "once"),
        (["{tmp}/absent"], "no synthetic pool"),
        (["{pool}", "--out", "{tmp}/page.htm"], ".html"),
        (["{pool}", "--data.images", "[adc]"], "adc"),
        (["score", "{tmp}/absent.json", "--key", "{tmp}/none.json"], "none.json"),
    ],
)
def test_unusable_input_ends_with_one_line_and_exit_code_2(pool, tmp_path, capsys, words, told):
    given = [word.format(pool=pool.path, tmp=tmp_path) for word in words]
    rest = [] if words[0] == "score" else [*DATA, "--part", "all"]
    out = [] if "--out" in words or words[0] == "score" else ["--out", str(tmp_path / "page.html")]
    assert main(["reader-study", *given, *rest, *out]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("synthaug")]
    assert told in line
    assert not [*tmp_path.iterdir()]


def answer_all(browser, key, *, wrong=()):
    """Answer every case by the keyboard and the mouse, as the key has it except for cases in ``wrong``."""
    for place, truth in enumerate(key.cases):
        call = {"real": "r", "synthetic": "s"}[truth.role]
        browser.press({"r": "s", "s": "r"}[call] if place in wrong else call)
        browser.press("4")
        browser.click(f"input[name='class'][value='{truth.label}']")
        browser.click("#next" if place + 1 < len(key.cases) else "#overview button:first-child")


@needs_axe
def test_the_page_has_no_serious_fault_before_and_while_reading(made, tmp_path):
    with Chromium(tmp_path / "profile") as browser:
        browser.open(made[0], ready="document.body.dataset.ready")
        for width in (1280, 390):
            browser.resize(width, 844)
            assert browser.faults() == []
        browser.click("#reader")
        browser.type("A B")
        browser.click("#sign button")
        browser.wait_for("!document.getElementById('reading').hidden")
        for width in (1280, 390):
            browser.resize(width, 844)
            assert browser.faults() == []
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


@needs_chromium
def test_a_reader_goes_from_the_page_to_the_score_in_a_browser(made, tmp_path, capsys):
    page, key_file = made
    key = Key.read(key_file)
    ready = "document.body.dataset.ready"
    slice_told = "document.getElementById('slice-told').textContent"
    answered = "document.querySelectorAll('#overview .answered').length"
    with Chromium(tmp_path / "profile") as browser:
        browser.download_to(tmp_path)
        browser.open(page, ready=ready)
        browser.click("#reader")
        browser.type("A B")
        browser.press("Enter")
        browser.click("#sign button")
        browser.wait_for("!document.getElementById('reading').hidden")
        # Slices by keys, wheel and slider; pixels are the volume's.
        before = browser.evaluate(slice_told)
        browser.press("ArrowUp")
        assert browser.evaluate(slice_told) != before
        browser.scroll("#panels", -1)
        browser.wait_for(f"{slice_told} === '{before}'")
        pixels = browser.evaluate(
            "[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 16, 16).data]"
            ".filter((_, place) => place % 4 === 0)"
        )
        shown = voxels_of(page.read_text(encoding="utf-8")).reshape(8, -1, 16, 16)
        assert np.abs(np.array(pixels) - shown[0, shown.shape[1] // 2].ravel()).max() <= 1
        for step in ("r", "5"):
            browser.press(step)
        browser.click("input[name='class'][value='0']")
        assert browser.evaluate(answered) == 1
        browser.picture(tmp_path / "page.png")
        assert browser.messages == []
        assert not [address for address in browser.requests if address.startswith("http")]
    with Chromium(tmp_path / "profile") as browser:  # closed and opened again
        browser.download_to(tmp_path)
        browser.open(page, ready=ready)
        browser.click("#reader")
        browser.type("A B")
        browser.click("#sign button")
        browser.wait_for(f"{answered} === 1")
        browser.click("#overview button:first-child")
        answer_all(browser, key, wrong={0, 3})
        assert browser.evaluate(answered) == 8
        browser.click("#save")
        saved = tmp_path / "answers-A_B.json"
        deadline = time.monotonic() + 30
        while not saved.is_file() and time.monotonic() < deadline:
            browser.evaluate("new Promise((done) => setTimeout(done, 50))")
        assert browser.messages == []
    with Chromium(tmp_path / "another") as browser:  # on another computer, from the saved file
        browser.open(page, ready=ready)
        browser.choose_file("#file", saved)
        browser.wait_for(f"{answered} === 8")
    capsys.readouterr()
    words = ["reader-study", "score", str(saved), "--key", str(key_file), "--out", str(tmp_path / "scores.json")]
    assert main(words) == 0
    rows = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["scores"]
    found = {row["measure"]: row["value"] for row in rows if row["cases"] in (ALL, "real")}
    assert found["accuracy"] == 6 / 8
    assert found["class accuracy"] == 1
