"""``synthaug pool build | verify | export | montage`` and the pools that a study refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY_PREPROCESSING
from small_pool import build_pool, tree

from synthaug.bench.commands import main
from synthaug.bench.studies.run import PROTOCOLS
from synthaug.config import Config, PoolConfig
from synthaug.data.reports.picai import COLUMNS
from synthaug.data.splits import Split
from synthaug.generate.stored.record import patient_hash, patients_known
from synthaug.ground.errors import InputError
from synthaug.pool.export import export_pool
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import TrainingPrompts, WriterPrompts
from synthaug.pool.report_file import read_report_file
from synthaug.study.stages.checks import overrides_class
from synthaug.study.stages.leaks import UNKNOWN_COHORT, protocol_of
from synthaug.study.stages.pools import describe_pool, open_given_pool, prompts_of

DATA = ["--data.phantom.n", "24", "--data.phantom.shape", "[16,16,8]", "--data.phantom.spacing_mm", "[5,5,8]"]
SMALL = [*DATA, "--pool.sampling.steps", "1", "--pool.sampling.micro_batch", "4", "--pool.threads", "1"]


@pytest.fixture(scope="module")
def generator(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def arguments(generator):
    return ["pool", "build", "--generator", generator, *SMALL]


def test_a_pool_is_built_verified_exported_and_shown(arguments, tmp_path, capsys):
    pool = str(tmp_path / "pool")
    assert main([*arguments, "--out", pool, "--pool.per_class", "3", "--pool.prompts", "writer"]) == 0
    assert "kept {0: 3, 1: 3}" in capsys.readouterr().out
    assert main(["pool", "verify", pool]) == 0
    assert "all 6 volumes" in capsys.readouterr().out
    assert main(["pool", "export", pool, str(tmp_path / "out")]) == 0
    assert main(["pool", "export", pool, str(tmp_path / "ccella"), "--layout", "ccella"]) == 0
    assert main(["pool", "montage", pool, "--columns", "2", "--out", str(tmp_path / "m.png")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"pool", "out", "ccella", "m.png"}


def test_a_pool_that_lists_less_than_its_folder_holds_is_not_called_whole(tiny_pipeline, split, tmp_path, capsys):
    pool = build_pool(tiny_pipeline, split.train, tmp_path / "pool")
    assert main(["pool", "verify", str(pool.path)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    lines = (pool.path / "manifest.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (pool.path / "manifest.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    (lost,) = json.loads(lines[-1])["files"].values()
    assert main(["pool", "verify", str(pool.path)]) == 2
    assert lost.removeprefix("volumes/") in capsys.readouterr().err
    (pool.path / "claims" / Path(lost).name.partition("_")[0]).touch()  # as a builder leaves that is killed there
    assert main(["pool", "verify", str(pool.path)]) == 0
    assert Path(lost).name in capsys.readouterr().out
    (pool.path / "manifest.jsonl").unlink()
    assert main(["pool", "verify", str(pool.path)]) == 2
    assert "manifest.jsonl" in capsys.readouterr().err


def test_a_pool_of_relabelled_reports_also_asks_for_what_mirrored_and_zoomed_volumes_show(arguments, tmp_path):
    reports = {}
    for policy in ("training", "relabelled"):
        out = tmp_path / policy
        assert main([*arguments, "--out", str(out), "--pool.per_class", "8", "--pool.prompts", policy]) == 0
        rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
        reports[policy] = {row["recipe"]["report"] for row in rows}
    assert len(reports["relabelled"]) == 16 > len(reports["training"])
    assert reports["relabelled"] - reports["training"]


def test_a_pool_is_drawn_as_the_card_was_measured_but_for_what_is_typed(generator, tmp_path):
    folder = shutil.copytree(generator, tmp_path / "generator")
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    record["generator"]["report_dropout"] = 0.1
    measured = {
        "evaluation": {"summary": "", "figures": {"sampling": {"guidance": 2.0, "guided_levels": 1, "steps": 3}}}
    }
    (folder / "training.json").write_text(json.dumps(record | measured), encoding="utf-8")
    words = ["pool", "build", "--generator", str(folder), *DATA, "--pool.per_class", "1", "--pool.threads", "1"]
    guidance = {}
    others = ["--pool.sampling.guidance", "1", "--pool.sampling.steps", "2"]
    for name, typed in (("card", []), ("typed", others)):
        assert main([*words, *typed, "--out", str(tmp_path / name)]) == 0
        sampling = json.loads((tmp_path / name / "pool.json").read_text(encoding="utf-8"))["sampling"]
        guidance[name] = sampling["guidance"], sampling.get("guided_levels"), sampling["steps"]
    assert guidance == {"card": (2.0, 1, 3), "typed": (1.0, 1, 2)}
    record["generator"]["report_dropout"] = 0
    (folder / "training.json").write_text(json.dumps(record | measured), encoding="utf-8")
    assert main([*words, "--out", str(tmp_path / "refused")]) == 2
    assert not (tmp_path / "refused" / "pool.json").exists()


def test_prompts_that_the_text_encoder_cuts_are_counted_once(tiny_pipeline, tiny_subjects, tmp_path, caplog):
    long = " ".join(["Focal lesion in the left peripheral zone."] * 20)
    build_pool(tiny_pipeline, tiny_subjects, tmp_path, reports={0: ["Short."], 1: [long]}, per_class={0: 2, 1: 2})
    (told,) = [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]
    assert "1 of 2 reports" in told


def test_whom_a_generator_was_trained_on_may_be_unknown_which_is_a_state_of_its_own(tiny_subjects):
    split = Split(tiny_subjects, [], [])
    ours = [patient_hash(subject["patient_id"]) for subject in tiny_subjects]
    told = {protocol_of(ours, split), protocol_of([patient_hash("other")], split), protocol_of([], split)}
    assert told == {"same cohort", "other cohort", "unknown cohort"}
    assert protocol_of(ours, split, known=patients_known({"patients": ours, "patients_known": False})) == UNKNOWN_COHORT
    assert set(PROTOCOLS) == told


def test_shards_built_one_by_one_are_the_pool_built_at_once(arguments, tmp_path):
    for part in (0, 1):
        shard = ["--shard", f"[{part}, 2]", "--pool.per_class", "3"]
        assert main([*arguments, "--out", str(tmp_path / "parts"), *shard]) == 0
    assert main([*arguments, "--out", str(tmp_path / "whole"), "--pool.per_class", "3"]) == 0
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_a_pool_is_built_from_the_config_of_a_whole_study(generator, arguments, tmp_path, capsys):
    study = tmp_path / "study.yaml"

    def build(name, text, *words):
        study.write_text(
            text + "\nstudy: {axes: {classifier.balance: [weighted]}}\nmetrics: {bootstrap: 5}\n", encoding="utf-8"
        )
        return main(["pool", "build", "--config", str(study), *words, *SMALL, "--out", str(tmp_path / name)])

    own = "pool: {per_class: 2}\ngenerator: {variant: maisi}\nclassifier: {network: resnet18}"
    assert build("named", own, "--generator", generator) == 0
    assert build("ready", f"pool: {{per_class: 2, generator: {generator}}}\ngenerator: {{variant: maisi}}") == 0
    assert build("pretrained", f"pool: {{per_class: 2}}\ngenerator: {{pretrained: {generator}}}") == 0
    assert main([*arguments, "--pool.per_class", "2", "--out", str(tmp_path / "plain")]) == 0
    assert tree(tmp_path / "named") == tree(tmp_path / "ready")
    assert tree(tmp_path / "named") == tree(tmp_path / "pretrained") == tree(tmp_path / "plain")
    capsys.readouterr()
    assert build("refused", own) == 2
    assert "name a trained one by --generator" in capsys.readouterr().err
    assert build("refused", "classifier: {netwrk: resnet18}") == 2
    assert "netwrk" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verifi"], "unknown action 'verifi'; the actions are build, adopt, verify, audit, card, export, montage"),
        (["verify", "{tmp}/absent"], "no synthetic pool there"),
        (["build", "--out", "{tmp}/p", "--shard", "[2, 2]", *SMALL], "0 <= k < n"),
        (["build", "--out", "{tmp}/p", "--executor", "ray", "--shard", "[0, 2]"], "Ray deals out shards by itself"),
        (["build", "--out", "{tmp}/p", "--executor", "ray", "--workers", "0", *DATA], "workers=0"),
        (["build", "--out", "{tmp}/p", "--pool.path", "x"], "pool.path names a pool that is there already"),
        (["build", "--out", "{tmp}/p", "--pool.marksheet", "x.csv"], "set pool.prompts to writer"),
        (["build", "--out", "{tmp}/p", "--pool.labels", "guessed"], "guessed"),
    ],
)
def test_unusable_input_ends_with_one_line_and_exit_code_2(tmp_path, capsys, words, message):
    assert main(["pool", *(word.replace("{tmp}", str(tmp_path)) for word in words)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("synthaug")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(tmp_path.iterdir())


def given(path, **changes):
    return Config(pool=PoolConfig(path=str(path)), preprocess=replace(TINY_PREPROCESSING, **changes))


@pytest.fixture
def split(tiny_subjects):
    return Split(tiny_subjects[:8], tiny_subjects[8:10], tiny_subjects[10:])


@pytest.fixture
def stranger(tiny_pipeline):
    """Takes a pool's generator as trained on nobody here, so that only its prompts can leak."""

    def forget(pool):
        header = json.loads((pool.path / "pool.json").read_text(encoding="utf-8"))
        (pool.path / "pool.json").write_text(json.dumps(header | {"trained_on_patients": []}), encoding="utf-8")
        return pool.path

    return forget


def test_a_pool_from_training_reports_is_taken_and_one_from_test_reports_refused(
    tiny_pipeline, tiny_subjects, split, stranger, tmp_path
):
    clean = build_pool(tiny_pipeline, [], tmp_path / "clean", reports=TrainingPrompts(split.train))
    assert open_given_pool(given(stranger(clean)), split).identity == clean.identity
    for part, subjects in (("val", split.val), ("test", split.test)):
        leaking = build_pool(tiny_pipeline, [], tmp_path / part, reports=TrainingPrompts([*split.train, *subjects]))
        expected = f"prompted with the report of patient '{subjects[0]['patient_id']}', who is in the {part} part"
        with pytest.raises(InputError, match=expected):
            open_given_pool(given(stranger(leaking)), split)


def test_a_pool_whose_generator_saw_a_test_patient_is_refused(tiny_pipeline, split, tmp_path):
    pool = build_pool(tiny_pipeline, [], tmp_path, reports=TrainingPrompts(split.train))
    with pytest.raises(InputError, match="its generator was trained on patient"):
        open_given_pool(given(pool.path), split)


def test_a_pool_of_bare_texts_is_refused_because_nobody_knows_whose_they_are(
    tiny_pipeline, tiny_subjects, split, stranger, tmp_path
):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path)
    with pytest.raises(InputError, match="does not say whose reports prompted it"):
        open_given_pool(given(stranger(pool)), split)


def test_a_pool_of_a_file_of_reports_is_taken_where_each_says_whose_it_is(
    tiny_pipeline, tiny_subjects, split, stranger, tmp_path
):
    csv = tmp_path / "reports.csv"

    def built(name, *patients):
        rows = [f"PI-RADS {1 + 3 * k},{k},{patient}" for k, patient in enumerate(patients)]
        csv.write_text("\n".join(["report,label,patient_id", *rows]), encoding="utf-8")
        return given(stranger(build_pool(tiny_pipeline, [], tmp_path / name, reports=read_report_file(csv))))

    assert open_given_pool(built("nobody", "none", "None"), split).header["prompts"]["patients"] == []
    assert open_given_pool(built("training", "none", split.train[0]["patient_id"]), split)
    with pytest.raises(InputError, match="who is in the test part"):
        open_given_pool(built("test", "none", split.test[0]["patient_id"]), split)
    with pytest.raises(InputError, match="column patient_id"):
        open_given_pool(built("unknown", "none", ""), split)
    with pytest.raises(InputError, match="row 3: patient_id"):
        built("rounded", "none", "1.23E+11")


def test_a_pool_of_other_preprocessing_or_images_is_refused(tiny_pipeline, split, stranger, tmp_path):
    path = stranger(build_pool(tiny_pipeline, [], tmp_path, reports=TrainingPrompts(split.train)))
    with pytest.raises(InputError, match="born with preprocessing spacing_mm"):
        open_given_pool(given(path, spacing_mm=(5.0, 5.0, 5.0)), split)
    config = given(path)
    config.data.images = ["t2w", "adc"]
    with pytest.raises(InputError, match="has images"):
        open_given_pool(config, split)


def test_a_study_refuses_a_leaking_pool_in_one_line_and_writes_nothing(tiny_pipeline, tiny_subjects, tmp_path, capsys):
    leaking = build_pool(tiny_pipeline, [], tmp_path / "pool", reports=TrainingPrompts(tiny_subjects))
    words = ["--data.phantom.n", "12", *DATA[2:], "--data.phantom.seed", "0", "--pool.path", str(leaking.path)]
    words += ["--preprocess.shape", "[16,16,8]", "--preprocess.spacing_mm", "[5,5,8]", "--split.test", "0.34"]
    words += ["--split.val", "0.2"]
    assert main(["bench", *words, "--out", str(tmp_path / "run")]) == 2
    assert "use training patients only" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_exported_pool_is_refused_as_a_studys_data(tiny_pipeline, tiny_subjects, tmp_path, capsys):
    export_pool(build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool"), tmp_path / "out")
    words = ["--data.root", str(tmp_path / "out"), "--data.report", "report", "--out", str(tmp_path / "run")]
    assert main(["bench", *words, "--preprocess.shape", "[16,16,8]", "--preprocess.spacing_mm", "[5,5,8]"]) == 2
    assert "is synthetic, and a study splits and tests real subjects only" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_prompts_follow_the_policy_and_findings_leave_out_who_is_held_out(tiny_pipeline, split, tmp_path):
    marksheet = tmp_path / "m.csv"
    held_out = split.test[0]["patient_id"]
    marksheet.write_text(
        "\n".join([",".join(COLUMNS), "a,4,,0,7,55", "b,2,,0,,102", f"{held_out},5,,0,9,30"]) + "\n", encoding="utf-8"
    )

    def never():
        raise AssertionError("only relabelled prompts need a relabeller")

    written = prompts_of(PoolConfig(prompts="writer", marksheet=str(marksheet)), split, never)
    assert written.patients == sorted([patient_hash("a"), patient_hash("b")])
    assert isinstance(prompts_of(PoolConfig(prompts="writer"), split, never), WriterPrompts)
    for policy in ("training", "override"):
        prompts = prompts_of(PoolConfig(prompts=policy), split, never)
        assert set(prompts.patients) == {patient_hash(subject["patient_id"]) for subject in split.train}
        assert overrides_class(PoolConfig(prompts=policy), tiny_pipeline.denoiser.conditioning) == (
            policy == "override"
        )
    pool = build_pool(tiny_pipeline, [], tmp_path / "pool", reports=prompts, override_class=True)
    assert "the class vector is told; the requested class is the label; requested {0: 3, 1: 5}" in describe_pool(pool)


REPORTS = """report,label,spacing
"Lesion, left PZ, PI-RADS 4.",1,5 5 8
No lesion. PI-RADS 1.,0,
TZ lesion PI-RADS 5,1,"5, 5, 8"
"""


def build_from(arguments, csv, out, *words):
    return main([*arguments, "--out", str(out), "--pool.reports", str(csv), *words])


def test_a_pool_from_a_file_of_reports_has_one_volume_a_row(arguments, tmp_path, capsys):
    csv = tmp_path / "reports.csv"
    csv.write_text(REPORTS, encoding="utf-8")
    assert build_from(arguments, csv, tmp_path / "pool", "--pool.per_class", "7") == 0
    assert "kept {0: 1, 1: 2}" in capsys.readouterr().out
    pool = SyntheticPool.open(tmp_path / "pool")
    assert [entry["recipe"]["report"] for entry in pool.entries(1)] == [
        "Lesion, left PZ, PI-RADS 4.",
        "TZ lesion PI-RADS 5",
    ]
    assert pool.header["prompts"]["policy"] == "reports"
    assert pool.header["prompts"]["patients"] is None  # nobody says whose reports they are
    csv.write_text("patient_id," + REPORTS.replace("\n", "\np1,").removesuffix("p1,"), encoding="utf-8")
    assert build_from(arguments, csv, tmp_path / "known") == 0
    assert SyntheticPool.open(tmp_path / "known").header["prompts"]["patients"] == [patient_hash("p1")]


@pytest.mark.parametrize("column", ["report", "label"])
def test_a_file_of_reports_under_another_heading_is_told_to_rename_it(column, tmp_path):
    csv = tmp_path / "reports.csv"
    csv.write_text(REPORTS.replace(column, "Text", 1), encoding="utf-8")
    with pytest.raises(InputError, match=f"rename .* to {column}"):
        read_report_file(csv)


def test_rows_that_cannot_be_used_are_named_and_left_out_only_where_asked(arguments, tmp_path, capsys, caplog):
    csv = tmp_path / "reports.csv"
    csv.write_text(
        REPORTS + "\n,1,\nreport,2,\nreport,one,\nreport,,\nreport,0,1 1 1\nreport,0,5 5\n", encoding="utf-8"
    )
    assert build_from(arguments, csv, tmp_path / "pool") == 2
    errors = capsys.readouterr().err
    assert "6 of 9 rows" in errors
    assert all(f"row {number} (" in errors for number in range(6, 12))
    assert not (tmp_path / "pool").exists()
    assert build_from(arguments, csv, tmp_path / "pool", "--pool.unusable", "leave_out") == 0
    named = [record for record in caplog.records if record.name.endswith("report_file")]
    assert len(named) == 6
    assert len(SyntheticPool.open(tmp_path / "pool")) == 3
    csv.write_text("report,label\n,1\n", encoding="utf-8")
    assert build_from(arguments, csv, tmp_path / "none", "--pool.unusable", "leave_out") == 2
    assert "1 of 1 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file of reports"),
        ("text,label\na,1\n", "no column 'report'"),
        ("report,label\n", "has no rows"),
    ],
)
def test_a_file_that_is_none_of_reports_is_refused(arguments, tmp_path, capsys, text, message):
    csv = tmp_path / "reports.csv"
    if text is not None:
        csv.write_text(text, encoding="utf-8")
    assert build_from(arguments, csv, tmp_path / "pool") == 2
    assert message in capsys.readouterr().err


def test_reports_of_a_file_and_the_writer_exclude_each_other():
    for settings in ({"reports": "x.csv", "prompts": "writer"}, {"unusable": "leave_out"}):
        with pytest.raises(InputError):
            PoolConfig(**settings)
