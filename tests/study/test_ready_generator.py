"""Studies whose pool a ready generator fills as it is, and the demonstration that is one."""

import shutil
from dataclasses import asdict

import pandas as pd
import pytest

from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, DataConfig, PoolConfig, SamplingConfig
from synthaug.config.files.presets import DEMO
from synthaug.data.phantom import make_subjects
from synthaug.data.reading.manifest import make_subject
from synthaug.data.splits import Split
from synthaug.ground.errors import InputError
from synthaug.ground.people import patient_hash, public_id
from synthaug.pool.pool import SyntheticPool
from synthaug.study.events import no_progress
from synthaug.study.records import read_summary
from synthaug.study.stages.checks import ignored_settings
from synthaug.study.stages.making import make_generator, make_pool
from synthaug.study.stages.pools import open_ready_generator
from synthaug.study.stages.preparation import Study


@pytest.fixture
def ready(tiny_pipeline, tmp_path):
    """Folder of a generator of 16 x 16 x 8 voxels, trained on phantoms of seed 0."""
    tiny_pipeline.save_pretrained(tmp_path / "ready")
    return tmp_path / "ready"


def settings_of(ready, *more):
    words = ["--pool.generator", str(ready), "--data.phantom.n", "24", "--data.phantom.seed", "77"]
    for section in ("data.phantom", "preprocess"):
        words += [f"--{section}.shape", "[16,16,8]", f"--{section}.spacing_mm", "[5,5,8]"]
    return [*words, "--pool.per_class", "2", "--pool.sampling.steps", "2", "--pool.sampling.micro_batch", "2", *more]


def study_of(ready, tmp_path, *more):
    return Study.read(read_config(settings_of(ready, *more)), tmp_path / "run", no_progress)


def test_it_fills_the_pool_and_nothing_is_trained(ready, tmp_path):
    study = study_of(ready, tmp_path)
    pool = make_pool(study)
    assert make_generator(study) is study.ready
    assert pool.counts == {0: 2, 1: 2}
    assert study.protocol == "other cohort"
    assert not list((tmp_path / "run").glob("generator-*"))


def test_its_weights_name_the_pool_wherever_they_lie(ready, tmp_path):
    moved = shutil.copytree(ready, tmp_path / "moved")
    first, second = (study_of(folder, tmp_path).pool_folder for folder in (ready, moved))
    assert first == second
    assert study_of(ready, tmp_path, "--pool.seed", "1").pool_folder != first
    assert study_of(ready, tmp_path, "--generator.training.steps", "300").pool_folder == first


def test_sections_that_it_makes_useless_are_named(ready):
    config = read_config(settings_of(ready, "--generator.report_dropout", "0.2"))
    assert any("generator.report_dropout" in line for line in ignored_settings(config))


def test_other_settings_than_those_of_its_card_are_told(tiny_pipeline, ready, tmp_path, caplog, monkeypatch):
    figures = {"settings": {"steps": 3, "guidance": 1.0}}
    record = {**tiny_pipeline.record, "evaluation": {"summary": "", "figures": figures}}
    monkeypatch.setattr(tiny_pipeline, "record", record)
    tiny_pipeline.save_pretrained(ready)
    study_of(ready, tmp_path)
    assert [line for line in caplog.messages if "'steps': 3" in line and "'guidance'" not in line]
    caplog.clear()
    study_of(ready, tmp_path, "--pool.sampling.steps", "3")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--preprocess.shape", "[16,16,16]"], "shape"),
        (["--preprocess.percentiles", "[1,99]"], "percentiles"),
        (["--data.phantom.seed", "0"], "trained on patient"),
        (["--pool.sampling.steps", "1000"], "steps"),
    ],
)
def test_one_that_does_not_fit_is_refused_before_anything_is_written(ready, tmp_path, more, named):
    with pytest.raises(InputError, match=named):
        study_of(ready, tmp_path, *more)
    assert not (tmp_path / "run").exists()


def test_one_of_other_images_or_classes_is_refused_with_what_to_do(ready, tiny_subjects):
    pool = PoolConfig(generator=str(ready))
    split = Split(tiny_subjects, [], [])
    with pytest.raises(InputError, match="rename"):
        open_ready_generator(Config(data=DataConfig(images=["Image"]), pool=pool), split)
    third = make_subject({"t2w": tiny_subjects[0]["t2w"]}, label=2, subject_id="third", patient_id="third")
    with pytest.raises(InputError, match="classes 2, and the data has 3; take"):
        open_ready_generator(Config(pool=pool), Split([*tiny_subjects, third], [], []))


def test_the_bench_without_settings_is_the_demonstration(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        run_command("bench", ["--print_config"])
    printed = capsys.readouterr().out
    config = read_config(["--preset", DEMO])
    assert "generator: builtin/ccella-tiny" in printed
    assert config.pool.generator == "builtin/ccella-tiny"
    assert asdict(read_config([])) == asdict(Config())  # settings that are typed begin from the defaults


def test_the_demonstration_says_what_it_shows(ready, tmp_path, capsys):
    words = settings_of(
        ready, "--study.demonstration", "true", "--split.train", "8", "--classifier.training.steps", "2"
    )
    words += ["--classifier.training.warmup", "0", "--classifier.channels", "[4,4,8,8]", "--metrics.bootstrap", "20"]
    assert run_command("bench", [*words, "--metrics.permutations", "20", "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    kind = read_summary(tmp_path / "run" / "summary.json").verdict.kind
    assert "8 training patients" in told.out
    assert ("Not clear" in told.out) == (kind != "helped")
    assert "stage 2 of 6" in told.err
    assert read_summary(tmp_path / "run" / "summary.json").cells == 9


def test_reports_of_a_file_name_the_pool_by_what_they_say(ready, tmp_path):
    """The same path with other reports is another pool; another path with the same reports is the same one."""
    said = ["report,label", "Lesion on the left.,1", "No lesion.,0"]

    def folder_of(name, lines):
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return study_of(ready, tmp_path, "--pool.reports", str(tmp_path / name)).pool_folder

    first = folder_of("reports.csv", said)
    assert folder_of("moved.csv", said) == first
    assert folder_of("reports.csv", [*said[:2], "No lesion at all.,0"]) != first


def test_training_reports_name_the_pool_of_a_ready_generator(ready, tmp_path):
    """Its weights say nothing of who prompts it, so that two splits in one folder need two pools."""
    folders = {study_of(ready, tmp_path, "--split.seed", str(seed)).pool_folder for seed in (0, 1)}
    assert len(folders) == 2
    written = {
        study_of(ready, tmp_path, "--split.seed", str(seed), "--pool.prompts", "writer").pool_folder for seed in (0, 1)
    }
    assert len(written) == 1


@pytest.fixture
def own_data(tmp_path):
    """A folder of 24 subjects of 16 x 16 x 8 voxels with ids of one's own, and its settings."""
    people = make_subjects(24, positive_fraction=0.5, seed=5, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    rows = []
    for number, subject in enumerate(people):
        subject["t2w"].save(tmp_path / f"{number}.nii")
        case = {"subject_id": f"case_{number:02d}", "patient_id": f"p{number}", "label": subject["label"]}
        rows.append({**case, "t2w": f"{number}.nii", "report": subject["report"], "blank": ""})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return ["--data.root", str(tmp_path), "--data.report", "report"]


def of_public_people(tiny_pipeline, folder, monkeypatch, names):
    """The generator as if trained on people of a public data set, whose images have these names there."""
    people = [patient_hash(public_id("Some Set", f"person-{name}")) for name in names]
    aliases = [patient_hash(public_id("Some Set", name)) for name in names]
    told = {"patients": people, "public_data_sets": ["someset"], "aliases": aliases}
    monkeypatch.setattr(tiny_pipeline, "record", {**tiny_pipeline.record, **told})
    tiny_pipeline.save_pretrained(folder)


def test_whether_people_of_a_public_data_set_are_ours_is_unknown_until_it_is_said(
    tiny_pipeline, ready, own_data, tmp_path, monkeypatch, caplog
):
    of_public_people(tiny_pipeline, ready, monkeypatch, ["another"])
    for public, protocol in ((None, "unknown cohort"), ("own", "other cohort"), ("Some Set", "other cohort")):
        caplog.clear()
        study = study_of(ready, tmp_path, *own_data, *(["--data.public", public] if public else []))
        assert study.protocol == protocol
        assert any("someset" in line and "data.public" in line for line in caplog.messages) == (public is None)
        pool = make_pool(study)
        header = pool.header
        assert (header["public_data_sets"], len(header["aliases"])) == (["someset"], 1)
        given = study_of(ready, tmp_path, *own_data, "--pool.path", str(pool.path)) if public is None else study
        assert given.protocol == protocol


@pytest.mark.parametrize("public", [[], ["--data.public", "some-set"]])
def test_people_of_a_public_data_set_are_found_by_the_names_of_their_images(
    tiny_pipeline, ready, own_data, tmp_path, monkeypatch, public
):
    of_public_people(tiny_pipeline, ready, monkeypatch, [f"case_{number:02d}" for number in range(24)])
    with pytest.raises(InputError, match="trained on patient"):
        study_of(ready, tmp_path, *own_data, *public)


@pytest.mark.parametrize("public", [[], ["--data.public", "some-set"]])
def test_reports_of_a_file_are_refused_before_any_work_where_they_are_of_held_out_patients(
    ready, own_data, tmp_path, public
):
    everyone = study_of(ready, tmp_path, *own_data, *public).split
    csv = tmp_path / "reports.csv"

    def study_with(name):
        csv.write_text(f"report,label,patient_id\nlesion,1,{name}\nno lesion,0,none\n", encoding="utf-8")
        return study_of(ready, tmp_path, *own_data, *public, "--pool.reports", str(csv))

    held_out, known = (part[0]["patient_id"].split(":")[-1] for part in (everyone.test, everyone.train))
    assert study_with(known.upper()).own_prompts.patients == [patient_hash(known)]
    for name in (held_out, held_out.upper(), held_out.replace("p", "P00")):
        with pytest.raises(InputError, match="test part"):
            study_with(name)


def test_one_that_goes_by_reports_is_refused_where_there_are_none(ready, own_data, tmp_path):
    blank = [*own_data[:2], "--data.report", "blank"]
    with pytest.raises(InputError, match="report"):
        study_of(ready, tmp_path, *blank)
    assert not (tmp_path / "run").exists()


def test_a_pool_of_empty_reports_is_refused_unless_the_class_is_told(tiny_pipeline, tmp_path):
    for reports, named in (({0: ["text"], 1: ["", ""]}, "class 1"), ({0: [""], 1: [""]}, "class 0")):
        with pytest.raises(InputError, match=named):
            SyntheticPool.build(tiny_pipeline, tmp_path / "pool", per_class={0: 2, 1: 2}, reports=reports)
        assert not (tmp_path / "pool").exists()
    sampling = SamplingConfig(steps=1, micro_batch=4)
    told = {"reports": {0: [""], 1: [""]}, "override_class": True, "sampling": sampling}
    assert SyntheticPool.build(tiny_pipeline, tmp_path / "pool", per_class={0: 1, 1: 1}, **told).counts == {0: 1, 1: 1}


def test_relabelled_prompts_name_another_pool_and_depend_on_the_moves(ready, tmp_path):
    plain, moved, without = (
        study_of(ready, tmp_path, *more)
        for more in (
            [],
            ["--pool.prompts", "relabelled"],
            [
                "--pool.prompts",
                "relabelled",
                "--generator.geometry.zooms",
                "[1.0]",
                "--generator.geometry.flip",
                "false",
            ],
        )
    )
    texts = [sum(map(len, study.prompts.texts.values())) for study in (plain, moved, without)]
    assert texts[0] == texts[2] < texts[1]
    assert len({study.pool_folder for study in (plain, moved, without)}) == 3
    assert set(moved.prompts.patients) == set(plain.prompts.patients)
