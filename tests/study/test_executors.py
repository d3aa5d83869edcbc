"""Cells run here, by two benches or by Ray, killed or not: each is run once, and the study finds the same."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_study import STUDY, TOO_FAST, bench, forked, found, kill_when, without_cells
from torch.optim.optimizer import register_optimizer_step_post_hook
from two_processes import in_two_processes

from synthaug.bench.commands import run_command
from synthaug.config import Config, DataConfig, ExecutionConfig, StudyConfig
from synthaug.ground.errors import InputError
from synthaug.pool.ledger import release
from synthaug.study.folder.claims import claimed, try_claim
from synthaug.study.folder.results import placed
from synthaug.study.folder.standing import finished_summary, inputs_of, mark_finished
from synthaug.study.records import read_summary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a study that one bench ran without a break."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    assert bench(out) == 0
    return out


def test_two_benches_on_one_folder_make_everything_once_and_find_the_same(unbroken, tmp_path):
    log = tmp_path / "log"

    def note(*_):
        """A line for each step of an optimiser, from whichever process."""
        with log.open("a") as stream:
            stream.write("step\n")

    hook = register_optimizer_step_post_hook(note)
    pair = [forked(bench, tmp_path / "out") for _ in range(2)]
    for child in pair:
        child.join(timeout=300)
    assert [child.exitcode for child in pair] == [0, 0]
    hook.remove()
    classifier, generator = (STUDY[stage]["training"]["steps"] for stage in ("classifier", "generator"))
    assert len(log.read_text(encoding="utf-8").split()) == 2 * classifier + 2 * generator  # two cells, two levels
    assert found(tmp_path / "out") == found(unbroken)
    assert (tmp_path / "out/finished.json").is_file()


@pytest.mark.parametrize(
    ("sign", "cells"),
    [("generator-*.checkpoint", 0), ("pool-*/volumes/*", 0), ("cells/[!.]*.json", 1), ("summary.json", 2)],
    ids=["in the generator", "in the pool", "between cells", "in the report"],
)
def test_a_bench_killed_at_any_stage_ends_as_an_unbroken_one(unbroken, tmp_path, sign, cells):
    out = tmp_path / "out"
    kill_when(forked(bench, out), out, sign)
    assert len(list(out.glob("cells/[!.]*.json"))) >= cells
    assert not (out / "finished.json").exists()
    assert bench(out) == 0
    assert found(out) == found(unbroken)
    assert not list(out.rglob(".*.json"))
    assert not list(out.rglob("*.checkpoint"))


def test_what_a_bench_killed_after_it_stored_the_generator_left_is_removed(unbroken, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(unbroken, out)
    (out / "finished.json").unlink()
    [pool] = out.glob("pool-*/")
    shutil.rmtree(pool)
    [generator] = out.glob("generator-*/")
    for suffix in (".checkpoint", ".level0", ".precision"):
        generator.with_suffix(suffix).touch()
    assert bench(out) == 0
    assert found(out) == found(unbroken)
    assert sorted(path.name for path in out.glob("generator-*")) == sorted(
        path.name for path in unbroken.glob("generator-*")
    )


def test_failed_cells_are_reported_and_the_rest_goes_on(tmp_path, capfd):
    assert bench(tmp_path / "out", "--study.regimes", "[real]", *TOO_FAST) == 1
    [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("failed:")]
    assert line.startswith("failed: real seed 0: Training stopped at step")
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert (summary["cells"], len(summary["failed"])) == (1, 1)
    assert not (tmp_path / "out/finished.json").exists()


def test_when_every_cell_fails_one_line_says_so(tmp_path, capfd):
    options = ["--study.regimes", "[real]", "--classifier.training.learning_rate", "1.0e+30"]
    assert bench(tmp_path / "out", *options) == 1
    [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("synthaug")]
    assert line.startswith("synthaug bench: each of the 1 cells failed; the first, real seed 0: Training stopped")


def test_a_pool_too_small_for_any_distance_is_told_and_ends_no_study(tmp_path):
    out = tmp_path / "out"
    assert bench(out, "--pool.per_class", "1", "--study.regimes", "[mixed]", "--classifier.training.steps", "2") == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    (row,) = (row for row in summary["image_metrics_left_out"] if row["metric"] == "distances")
    assert "2 synthetic volumes are too few" in row["reason"]
    assert row["reason"] in (out / "report.html").read_text(encoding="utf-8")


def test_whoever_has_a_claim_is_waited_for_and_that_is_told_once(tmp_path, capfd):
    record = tmp_path / "cells" / "ab.json"
    record.parent.mkdir()
    half = record.with_name(".999.ab.json")
    half.write_text("{", encoding="utf-8")
    held = try_claim(tmp_path, record)
    assert not half.exists()  # left by whoever had it before and was killed
    assert try_claim(tmp_path, record) is None
    threading.Timer(1.2, release, [held]).start()
    with claimed(tmp_path, record, what="training a generator"):
        assert try_claim(tmp_path, record) is None
    assert capfd.readouterr().err.count("training a generator") == 1
    release(try_claim(tmp_path, record))
    assert not list((tmp_path / "claims").iterdir())


def test_results_of_another_study_in_the_folder_are_kept_and_that_is_told(tmp_path, capfd):
    with placed(tmp_path, {"seeds": [0]}):
        (tmp_path / "summary.json").write_text("first", encoding="utf-8")
    with placed(tmp_path, {"seeds": [0]}):
        assert (tmp_path / "summary.json").read_text(encoding="utf-8") == "first"
    assert capfd.readouterr().err == ""
    with placed(tmp_path, {"seeds": [1]}):
        assert not (tmp_path / "summary.json").exists()
    [kept] = (tmp_path / "earlier").iterdir()
    assert (kept / "summary.json").read_text(encoding="utf-8") == "first"
    assert (kept / "config.yaml").read_text(encoding="utf-8") == "seeds:\n- 0\n"
    assert str(kept) in capfd.readouterr().err
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "seeds:\n- 1\n"


def test_a_rerun_of_a_finished_study_imports_no_torch_and_changes_no_file(unbroken):
    out = unbroken
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code = (
        "import sys; from synthaug.bench.commands import main\n"
        "assert main(['bench', *sys.argv[1:]]) == 0\n"
        "assert not {'torch', 'mlflow', 'pandas', 'matplotlib'} & sys.modules.keys()"
    )
    words = ["--config", str(out.with_suffix(".yaml")), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["verdict"] in done.stdout
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.fixture
def finished(unbroken, tmp_path):
    """A study of a manifest that was marked as finished: (config, folder)."""
    data, out = tmp_path / "data", tmp_path / "data/runs/mine"
    out.mkdir(parents=True)
    for path in (data / "manifest.csv", data / "01.nii", out / "summary.json", out / "cell.json"):
        path.write_text("{}", encoding="utf-8")
    shutil.copy(unbroken / "summary.json", out)
    config = Config(data=DataConfig(root=str(data)))
    (out / "mlflow.db").touch()
    files = [out / "summary.json", out / "cell.json", out / "audit.json"]
    mark_finished(out, inputs_of(config, out), files, present=[out / "mlflow.db"])
    return config, out


def test_a_finished_study_is_seen_by_its_files(finished):
    (finished[1] / "mlflow.db").write_text("as its interface may", encoding="utf-8")
    assert finished_summary(*finished) == read_summary(finished[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda data, out, patch: (out / "cell.json").unlink(),
        lambda data, out, patch: (out / "cell.json").write_text("{}\n", encoding="utf-8"),
        lambda data, out, patch: (out / "audit.json").write_text("{}", encoding="utf-8"),
        lambda data, out, patch: (out / "mlflow.db").unlink(),
        lambda data, out, patch: (data / "01.nii").write_text("other", encoding="utf-8"),
        lambda data, out, patch: (data / "02.nii").write_text("{}", encoding="utf-8"),
        lambda data, out, patch: os.utime(data / "manifest.csv", ns=(0, 0)),
        lambda data, out, patch: patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1"),
    ],
    ids=[
        "record gone",
        "record changed",
        "pool audited",
        "tracking gone",
        "image changed",
        "image added",
        "manifest touched",
        "other server",
    ],
)
def test_whatever_changed_is_gone_through_anew(finished, monkeypatch, change):
    config, out = finished
    change(Path(config.data.root), out, monkeypatch)
    assert finished_summary(config, out) is None


@pytest.mark.parametrize("looked", [{"package": ROOT / "tests"}, {"most_files": 1}], ids=["version", "too many files"])
def test_another_version_and_too_many_files_are_gone_through_anew(finished, looked):
    config, out = finished
    mark_finished(out, inputs_of(config, out, **looked), [out / "summary.json"])
    assert finished_summary(config, out) is None


def test_another_setting_is_another_study(finished):
    config, out = finished
    assert finished_summary(Config(data=config.data, study=StudyConfig(seeds=[9])), out) is None


@pytest.mark.parametrize("settings", [{"workers": 0}, {"gpus_per_cell": -0.5}])
def test_executions_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        ExecutionConfig(**settings)


def as_a_rank(rank, command, words):
    """A command's exit code in a process of several that train together."""
    code = run_command(command, words)
    sys.stdout.flush()
    return code


def test_two_ranks_classify_together_and_the_main_one_writes(unbroken, tmp_path, capfd):
    out = without_cells(unbroken, tmp_path / "out")
    words = ["--config", str(unbroken.with_suffix(".yaml")), "--out", str(out)]
    assert in_two_processes(as_a_rank, "classify", words) == [0, 0]
    assert capfd.readouterr().out.count("report: ") == 1
    together, alone = found(out)["records"], found(unbroken)["records"]
    assert together.keys() == alone.keys()
    for name, record in together.items():
        ours, theirs = record["predictions"], alone[name]["predictions"]
        assert [row["subject_id"] for row in ours] == [row["subject_id"] for row in theirs]
