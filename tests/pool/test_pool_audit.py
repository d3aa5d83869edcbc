"""The audit of a pool: planted copies are marked, told and dropped; a grown pool is refused; nobody is named."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from conftest import IMAGES, TINY_PREPROCESSING
from mlflow.tracking import MlflowClient
from small_pool import build_pool, plant

from synthaug.bench.commands import main
from synthaug.bench.studies.measuring import measure_images
from synthaug.config import Config, DataConfig, MetricsConfig, PoolConfig, SplitConfig
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.ground.errors import InputError
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.prompts import TrainingPrompts
from synthaug.pool.review.audit import audit_pool, find_obstacle, marked_copies, without_copies
from synthaug.pool.verdicts import AUDIT, dropped_among, dropped_from
from synthaug.study.stages.preparation import Study


def ids(pool, label):
    return [entry["id"] for entry in pool.entries(label)]


@pytest.fixture(scope="module")
def held_out():
    raw = make_subjects(60, seed=5, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    done = preprocess(raw, TINY_PREPROCESSING, IMAGES)
    for subject in done:
        subject["patient_id"] = f"unseen-{subject['patient_id']}"
    return done


@pytest.fixture
def planted(tiny_pipeline, tiny_subjects, tmp_path) -> tuple[SyntheticPool, set[str]]:
    """A pool in which the second volume of each class is a mirrored training volume."""
    pool = build_pool(tiny_pipeline, [], tmp_path / "pool", reports=TrainingPrompts(tiny_subjects))
    copied = set()
    for label in pool.classes:
        entry = pool.entries(label)[1]
        plant(pool, entry, tiny_subjects[label]["t2w"].data.flip(1))
        copied.add(entry["id"])
    return SyntheticPool.open(pool.path), copied


def test_copies_are_marked_and_left_out(planted, tiny_subjects, held_out, tmp_path):
    pool, copies = planted
    audit = audit_pool(pool, tiny_subjects, held_out, pictures=tmp_path / "pairs.png")
    record = json.loads((pool.path / AUDIT).read_text(encoding="utf-8"))
    assert copies <= marked_copies(pool)
    assert {name for name, found in record["volumes"].items() if found["correlation"] > 0.99} == copies
    assert all(record["volumes"][name]["mirrored"] for name in copies)
    assert record["share"] == audit.share()[0]
    assert len(without_copies(pool)) == len(pool) - len(marked_copies(pool))
    kept = {subject["subject_id"] for subject in without_copies(pool)}
    assert not kept & {f"synthetic-{name}" for name in copies}
    assert (tmp_path / "pairs.png").stat().st_size > 1000
    # The pool can be handed on: patients stand in it as hashes alone.
    assert not any(
        subject["patient_id"] in (pool.path / AUDIT).read_text(encoding="utf-8") for subject in tiny_subjects
    )


def test_pictures_that_cannot_be_written_are_refused_before_the_audit(
    planted, tiny_subjects, held_out, tmp_path, capsys
):
    pool, _ = planted
    with pytest.raises(InputError, match=r"pairs\.xyz"):
        audit_pool(pool, tiny_subjects, held_out, pictures=tmp_path / "pairs.xyz")
    assert not (pool.path / AUDIT).exists()
    words = ["pool", "audit", str(pool.path), "--data.root", str(tmp_path / "absent"), "--pictures", "pairs"]
    assert main(words) == 2
    assert "pairs" in capsys.readouterr().err


def test_only_dropped_copies_are_left_out_when_a_pool_is_opened(planted, tiny_subjects, held_out):
    pool, copies = planted
    audit_pool(pool, tiny_subjects, held_out)
    marked = SyntheticPool.open(pool.path)
    assert (marked.identity, marked.dropped) == (pool.identity, 0)
    audit_pool(pool, tiny_subjects, held_out, drop=True)
    audit_pool(SyntheticPool.open(pool.path), tiny_subjects, held_out)  # once more, without a word on dropping
    opened = SyntheticPool.open(pool.path)
    dropped = set(dropped_from(pool.path))
    assert copies <= dropped == marked_copies(SyntheticPool.open(pool.path, whole=True))
    assert (len(opened), opened.dropped) == (len(pool) - len(dropped), len(dropped))
    assert {s["subject_id"] for s in opened.subjects()} == {s["subject_id"] for s in without_copies(pool)}
    for label in pool.classes:  # the others keep their order
        assert ids(opened, label) == [name for name in ids(pool, label) if name not in dropped]
    assert opened.identity != pool.identity
    assert opened.summary()["generated"] == pool.summary()["generated"]
    assert SyntheticPool.open(pool.path, whole=True).identity == pool.identity


def test_a_pool_that_was_not_audited_or_grew_is_not_called_clean(planted, tiny_pipeline, tiny_subjects, held_out):
    pool, _ = planted
    with pytest.raises(InputError, match="not audited"):
        without_copies(pool)
    audit_pool(pool, tiny_subjects, held_out)
    more = {"reports": TrainingPrompts(tiny_subjects), "per_class": {0: 4, 1: 5}}
    grown = build_pool(tiny_pipeline, [], pool.path, **more)
    with pytest.raises(InputError, match="does not know 1 volumes"):
        without_copies(grown)
    audit_pool(grown, tiny_subjects, held_out, drop=True)
    reader = SyntheticPool.open(pool.path)
    with pytest.raises(InputError, match="does not know 1 volumes of the pool, which has grown since"):
        build_pool(tiny_pipeline, [], pool.path, **more | {"per_class": {0: 4, 1: 6}})
    for read in (lambda: SyntheticPool.open(pool.path), reader.refresh):
        with pytest.raises(InputError, match=r"does not know 1 volumes.*run synthaug pool audit again"):
            read()
    audit_pool(reader, tiny_subjects, held_out)
    assert SyntheticPool.open(pool.path).dropped >= 2


def test_volumes_that_were_turned_down_need_no_verdict(tmp_path):
    (tmp_path / AUDIT).write_text(json.dumps({"dropped": True, "volumes": {"a": {"copy": True}}}), encoding="utf-8")
    assert dropped_among(tmp_path, [{"id": "a", "label": 0}, {"id": "b", "label": None}]) == {"a"}
    with pytest.raises(InputError, match="does not know 1 volumes"):
        dropped_among(tmp_path, [{"id": "b", "label": 1}])


@pytest.mark.parametrize("text", ["[]", '{"volumes": {"a": {}}}', '{"volumes": {}, "dropped": "yes"}', "{"])
def test_a_file_that_is_no_audit_is_refused(tmp_path, text):
    (tmp_path / AUDIT).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"audit.json: (is not the audit of a pool|not valid JSON|holds a list)"):
        dropped_from(tmp_path)


def test_patients_on_both_sides_are_refused(planted, tiny_subjects):
    with pytest.raises(InputError, match="both a training and a held-out patient"):
        audit_pool(planted[0], tiny_subjects, tiny_subjects)


def test_an_audit_that_would_say_nothing_is_not_made(planted, tiny_subjects, held_out):
    pool, _ = planted
    assert find_obstacle(pool, tiny_subjects, held_out[:9]) is None
    assert "8 held-out patients are too few" in find_obstacle(pool, tiny_subjects, held_out[:8])
    assert "trained on 12 other patients" in find_obstacle(pool, held_out[:12], held_out[12:])
    with pytest.raises(InputError, match="trained on 12 other patients, none of them here"):
        audit_pool(pool, held_out[:12], held_out[12:])
    assert not (pool.path / AUDIT).exists()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The generator's twelve patients on disk, to train with, and thirty others, held out."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for seed, n in ((0, 12), (5, 30)):
        drawn = make_subjects(n, positive_fraction=0.5, seed=seed, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
        for place, subject in enumerate(drawn):
            name = f"{seed}-{place}"
            subject["t2w"].save(folder / f"{name}.nii.gz")
            patient = subject["patient_id"] if seed == 0 else f"unseen-{place}"
            part = "train" if seed == 0 else "val" if place < 10 else "test"
            rows.append((name, patient, f"{name}.nii.gz", subject["label"], subject["report"], part))
    columns = ["subject_id", "patient_id", "t2w", "label", "report", "part"]
    table = pd.DataFrame(rows, columns=columns)
    table.drop(columns="part").to_csv(folder / "manifest.csv", index=False)
    table[["subject_id", "part"]].to_csv(folder / "split.csv", index=False)
    return folder


def subset(data, folder, rows):
    """Some rows of the data in a folder of their own."""
    folder.mkdir()
    for name in ("split.csv", "manifest.csv"):
        pd.read_csv(data / name)[rows].to_csv(folder / name, index=False)
    for name in pd.read_csv(folder / "manifest.csv")["t2w"]:
        (folder / name).symlink_to(data / name)
    return folder


@pytest.fixture
def of_data(data):
    return ["--data.root", str(data), "--data.report", "report", "--split.file", str(data / "split.csv")]


def study(pool, of_data, out, capsys):
    """The summary of a study of a given pool."""
    words = ["bench", *of_data, "--pool.path", str(pool.path), "--out", str(out), "--study.name", "tiny"]
    words += ["--preprocess.shape", "[16,16,8]", "--preprocess.spacing_mm", "[5,5,8]", "--metrics.bootstrap", "20"]
    words += ["--study.regimes", "[real, mixed]", "--study.seeds", "[0]", "--metrics.permutations", "20"]
    words += ["--classifier.channels", "[4,4,8,8]", "--classifier.evaluate_every", "2"]
    words += ["--classifier.training.steps", "2", "--classifier.training.warmup", "0"]
    assert main(words) == 0, capsys.readouterr().err
    capsys.readouterr()
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    left_out = [row["metric"] for row in summary["image_metrics_left_out"]]
    assert left_out == ["class_shown", "realism"]  # too few volumes
    return next(row for row in summary["image_metrics"] if row["metric"] == "copies")


def test_the_bench_tells_the_share_of_planted_copies_until_they_are_dropped(planted, of_data, tmp_path, capsys):
    pool, copies = planted
    out = tmp_path / "run"
    row = study(pool, of_data, out, capsys)
    assert row["value"] >= 2 / 8
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert (row["n_real"], row["n_held_out"], row["n_synthetic"], row["n_not_compared"]) == (12, 30, 8, 0)
    assert row["false_alarms"] == pytest.approx(3 / 31)
    told = (out / "report.html").read_text(encoding="utf-8").split('<h3 id="copies">Copies of training patients')[1]
    assert f"{round(8 * row['value'])} of 8 volumes" in told
    assert not (pool.path / AUDIT).exists()  # a study only reads the pool that it is given

    assert main(["pool", "audit", str(pool.path), *of_data, "--drop"]) == 0
    printed = capsys.readouterr().out
    marked = set(dropped_from(pool.path))
    assert copies <= marked
    assert printed.count("\n") == 1
    assert f"{len(marked)} of 8 volumes ({len(marked) / 8:.1%}, 95 % interval " in printed
    assert SyntheticPool.open(pool.path).dropped == len(marked)

    row = study(pool, of_data, out, capsys)
    assert (row["value"], row["n_synthetic"]) == (0, 8 - len(marked))
    assert f"{len(marked)} left out as copies" in (out / "report.html").read_text(encoding="utf-8")
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.kind = 'study'")
    told = {run.data.metrics["images/copies"] for run in runs}
    assert told == {0, len(marked) / 8}  # without the copies it is another study


def test_a_study_with_too_few_held_out_patients_says_why_it_tells_no_share(planted, data, tmp_path):
    few = subset(data, tmp_path / "few", slice(0, 20))
    split = pd.read_csv(few / "split.csv")
    split.loc[16:, "part"] = "test"
    split.to_csv(few / "split.csv", index=False)
    config = Config(
        data=DataConfig(root=str(few), report="report"),
        split=SplitConfig(file=str(few / "split.csv")),
        preprocess=TINY_PREPROCESSING,
        pool=PoolConfig(path=str(planted[0].path)),
        metrics=MetricsConfig(bootstrap=20),
    )
    study = Study.read(config, tmp_path, lambda name, total: lambda *_: None)
    rows, reasons = measure_images(study, study.given)
    assert "copies" not in {row.metric for row in rows}
    told = {each["metric"]: each["reason"] for each in reasons}
    assert set(told) == {"class_shown", "copies", "realism"}
    assert "8 held-out patients are too few" in told["copies"]
    study.config = replace(config, metrics=MetricsConfig(bootstrap=20, copies=False, realism="off"))
    assert [each["metric"] for each in measure_images(study, study.given)[1]] == ["class_shown"]
    once, _ = measure_images(study, study.given)
    study.split = replace(study.split, test=study.split.test * 3)
    often, _ = measure_images(study, study.given)  # of each patient one volume is drawn, here of three that are alike
    assert [(row.metric, row.estimate, row.n_real) for row in often] == [
        (row.metric, row.estimate, row.n_real) for row in once
    ]
    assert {row.more["n_further_of_patients"] for row in often} == {2 * len(study.split.test) // 3}
    assert all("n_further_of_patients" not in row.more for row in once)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/absent"], "no synthetic pool there"),
        (["{pool}", "--data.images", "[adc]"], "the pool has images ['t2w'], and data.images is ['adc']"),
        (["{pool}", "--false_alarms", "0"], "false_alarms=0.0 must lie between 0 and 1"),
        (["{pool}", "--split.file", ""], "its generator was trained on patient"),
        (["{pool}", "--data.root", "{tmp}"], "no such manifest"),
        (["{pool}", "--dorp"], "--dorp"),
        ([], "pool"),
    ],
)
def test_unusable_input_ends_with_one_line(planted, of_data, tmp_path, capsys, words, message):
    pool, _ = planted
    given = [word.replace("{tmp}", str(tmp_path)).replace("{pool}", str(pool.path)) for word in words]
    assert main(["pool", "audit", *of_data, *given]) == 2
    printed, complaint = capsys.readouterr()
    assert (printed, complaint.count("\n")) == ("", 1)
    assert message in complaint
    assert not (pool.path / AUDIT).exists()


def test_a_pool_is_audited_by_the_config_of_a_whole_study(planted, of_data, tmp_path):
    pool, _ = planted
    config = tmp_path / "study.yaml"
    config.write_text("pool: {per_class: 4}\ngenerator: {variant: ccella}\nstudy: {name: own}\n", encoding="utf-8")
    assert main(["pool", "audit", str(pool.path), "--config", str(config), *of_data]) == 0
    assert (pool.path / AUDIT).is_file()


def test_the_line_names_patients_of_the_generator_that_are_not_at_hand(planted, data, tmp_path, capsys):
    pool, _ = planted
    folder = subset(data, tmp_path / "fewer", slice(2, None))
    words = ["--data.root", str(folder), "--split.file", str(folder / "split.csv")]
    assert main(["pool", "audit", str(pool.path), *words]) == 0
    assert "2 other patients" in capsys.readouterr().out
    assert json.loads((pool.path / AUDIT).read_text(encoding="utf-8"))["n_not_compared"] == 2
    assert SyntheticPool.open(pool.path).dropped == 0
