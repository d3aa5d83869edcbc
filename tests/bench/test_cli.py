"""The commands: unusable input ends with one clear line, exit code 2 and nothing written."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from synthaug import __version__
from synthaug.bench.commands import COMMANDS, SPINS, exit_code, main, run_command
from synthaug.bench.options.help import OPTIONS
from synthaug.bench.options.parsing import config_of, parsed, read_config, study_parser
from synthaug.config import Config
from synthaug.config.files.presets import FOLDER, PRESETS
from synthaug.study.grid import describe_cells
from synthaug.study.records import read_summary

ROOT = Path(__file__).parents[2]
SMALL = ["--preprocess.shape", "[16,16,8]", "--preprocess.spacing_mm", "[1,1,1]"]
SMALL += ["--generator.variant", "radmaisi"]  # the data below has no reports
REAL_ONLY = ["--study.regimes", "[real]", "--study.seeds", "[0]", "--metrics.bootstrap", "20"]
REAL_ONLY += ["--classifier.training.steps", "2", "--classifier.training.warmup", "0"]


@pytest.fixture
def data(tmp_path):
    """Forty usable subjects."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["subject_id,patient_id,t2w,label,age"]
    for number in range(40):
        name = f"images/{number:02d}.nii"
        nibabel.save(nibabel.Nifti1Image(rng.random((16, 16, 8), dtype=np.float32), np.eye(4)), folder / name)
        lines.append(f"s{number:02d},p{number:02d},{name},{number % 2},{50 + number}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def rewrite(data, pattern, new):
    path = data / "manifest.csv"
    path.write_text(re.sub(pattern, new, path.read_text(encoding="utf-8")), encoding="utf-8")


def replace_image(data, array):
    nibabel.save(nibabel.Nifti1Image(np.asarray(array, dtype=np.float32), np.eye(4)), data / "images/03.nii")


def nan_image(data):
    array = np.random.default_rng(0).random((16, 16, 8))
    array[0, 0, 0] = np.nan
    replace_image(data, array)


def two_part_patient(data):
    lines = ["subject_id,part"]
    lines += [f"s{number:02d},{'train' if number < 20 else 'val' if number < 30 else 'test'}" for number in range(40)]
    (data / "split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rewrite(data, "p00", "p39")


def copied_images(data):
    for number in range(1, 20):
        name = f"images/{number:02d}.nii"
        nibabel.save(nibabel.load(data / "images/00.nii"), data / f"{name}.gz")  # other bytes, the same voxels
        (data / name).unlink()
        rewrite(data, name, f"{name}.gz")


UNUSABLE = {
    "one image under two names": (copied_images, [], "has the same image as subject"),
    "a fold that is not there": (lambda d: None, ["--split.folds", "3", "--split.fold", "3"], "must lie in 0..2"),
    "a fold of no folds": (
        lambda d: None,
        ["--study.axes", '{"split.fold": [0, 1]}'],
        "split.fold=1 cannot be: split.fold=1 must lie in 0..0; split.folds=0",
    ),
    "more folds than patients of a class": (lambda d: None, ["--split.folds", "21"], "into 21 folds"),
    "nothing left to fine-tune": (
        lambda d: None,
        ["--study.regimes", "[real, finetuned]", "--study.pretrain_share", "[1.0]"],
        "study.pretrain_share=[1.0]",
    ),
    "missing column": (lambda d: rewrite(d, "t2w,label", "t2,label"), [], "no column 't2w'"),
    "missing file": (lambda d: (d / "images/03.nii").unlink(), [], "row 5: 03.nii: no such file"),
    "corrupt image": (lambda d: (d / "images/03.nii").write_bytes(b"x" * 400), [], "03.nii: not a readable NIfTI"),
    "2D image": (lambda d: replace_image(d, np.eye(16)), [], "03.nii: shape (16, 16) is not one 3D"),
    "NaN": (nan_image, [], "03.nii: holds NaN"),
    "zero-size image": (lambda d: replace_image(d, np.zeros((16, 0, 8))), [], "03.nii: has zero size"),
    "constant image": (lambda d: replace_image(d, np.ones((16, 16, 8))), [], "03.nii: every voxel is 1"),
    "one class only": (lambda d: rewrite(d, r",1,(\d+)\n", r",0,\1\n"), [], "two classes needed"),
    "duplicate subject": (lambda d: rewrite(d, "s05,", "s04,"), [], "row 7: subject 's04' stands twice"),
    "patient in two splits": (two_part_patient, ["--split.file", "{data}/split.csv"], "patient 'p39' stands in both"),
    "unknown config key": (lambda d: None, ["--generator.varient", "maisi"], "--generator.varient"),
    "unknown key in a file": (
        lambda d: (d / "c.yaml").write_text("study: {seed: [1]}", encoding="utf-8"),
        ["--config", "{data}/c.yaml"],
        "seed",
    ),
    "a key twice in a file": (
        lambda d: (d / "c.yaml").write_text("study:\n  seeds: [1]\n  seeds: [2]\n", encoding="utf-8"),
        ["--config", "{data}/c.yaml"],
        "key 'seeds' stands twice (lines 2 and 3)",
    ),
    "ranges for what is no image": (
        lambda d: None,
        ["--preprocess.ranges", '{"adc": [0, 3000]}'],
        "preprocess.ranges: 'adc' is no image",
    ),
    "missing config file": (lambda d: None, ["--config", "{data}/absent.yaml"], "absent.yaml"),
    "unknown variant": (lambda d: None, ["--generator.variant", "stable"], "stable"),
    "value out of range": (lambda d: None, ["--split.test", "1.5"], "split.test=1.5"),
    "shape that does not divide": (
        lambda d: None,
        ["--generator.latents", "autoencoder", "--preprocess.shape", "[18,16,8]"],
        "multiple of 8",
    ),
    "no reports for a generator that needs them": (
        lambda d: None,
        ["--generator.variant", "ccella"],
        "No training subject of class 0 has a report",
    ),
    "no reports for a generator that is told the class but reads them": (
        lambda d: None,
        ["--generator.variant", "decoupled"],
        "No training subject of class 0 has a report",
    ),
    "volumes too small for the classifier": (
        lambda d: None,
        ["--classifier.network", "efficientnet-b0"],
        "cannot take volumes of (16, 16, 8)",
    ),
    "axis that is no setting": (
        lambda d: None,
        ["--study.axes", '{"classifier.netwrk": [resnet10]}'],
        "there is no setting 'classifier.netwrk'",
    ),
    "axis value that cannot be": (
        lambda d: None,
        ["--study.axes", '{"classifier.network": [resnet10, resnet19]}'],
        "classifier.network=resnet19 cannot be",
    ),
    "axis value too much for the data": (
        lambda d: None,
        ["--study.axes", '{"split.train": [1, 500]}'],
        "split.train=500 asks for 500 training patients; possible are 2 (one a class) to 22",
    ),
    "volumes too small for one classifier of an axis": (
        lambda d: None,
        ["--study.axes", '{"classifier.network": [resnet10, efficientnet-b0]}'],
        "cannot take volumes of (16, 16, 8)",
    ),
    "missing manifest": (lambda d: None, ["--data.manifest", "absent.csv"], "no such manifest"),
    "report and measurements": (
        lambda d: None,
        ["--data.report", "age", "--data.measurements", '{"age": {"name": "age"}}'],
        "not both",
    ),
    "measurement not a number": (
        lambda d: rewrite(d, ",50\n", ",old\n"),
        ["--data.measurements", '{"age": {"name": "age"}}'],
        "'old'",
    ),
    "unwritable output": (
        lambda d: (d / "out").write_text("a file, not a folder", encoding="utf-8"),
        ["--out", "{data}/out"],
        "cannot write there",
    ),
    "too few patients": (lambda d: rewrite(d, r"s0[5-9].*\n|s[1-3].*\n", ""), [], "Cannot split"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_input_ends_with_one_line_and_nothing_written(data, tmp_path, capsys, name):
    damage, options, message = UNUSABLE[name]
    damage(data)
    before = sorted(tmp_path.rglob("*"))
    given = ["--data.root", str(data), "--out", str(tmp_path / "run"), *SMALL]
    code = run_command("bench", [*given, *(option.replace("{data}", str(data)) for option in options)])
    errors = capsys.readouterr().err
    assert code == 2
    assert message in errors
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith("stage ")]
    assert len(lines) == 1  # beside the bars that a slow machine shows
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "expected"), [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_idle_threads_of_a_command_sleep_soon_unless_told_otherwise(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what the command sets is taken back too
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert run_command("pool", ["no-such-action"]) == 2
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_dry_run_lists_the_cells_and_writes_nothing(tmp_path, capsys):
    small = ["--data.phantom.n", "24", *SMALL[:4]]
    assert run_command("bench", ["--dry-run", *small, "--study.seeds", "[0, 7]", "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert lines[6].startswith("6 cells; about ")
    assert all(stage in lines[6] for stage in ("generator", "pool", "classifiers"))
    assert lines[3].split()[:3] == ["real", "seed", "7"]
    assert not (tmp_path / "run").exists()


def listed(*words):
    """The lines of a dry run, but for its estimate, which takes long and is tried above."""
    return [cell.line() for cell in describe_cells(read_config(words, exits=False))]


def test_dry_run_lists_the_values_of_every_axis():
    axes = '{"split.train": [1, 0.5, 16], "classifier.balance": [oversampled, weighted], "split.seed": [0, 1]}'
    options = ["--study.axes", axes, "--study.synthetic_fraction", "[0.25, 0.5]", "--study.seeds", "[0]"]
    lines = listed(*options)
    assert len(lines) == 3 * 2 * 2 * 4  # real, synthetic and two mixed regimes of each
    assert "real       seed 0  split.train 16  classifier.balance weighted  split.seed 1" in lines


def test_dry_run_lists_fine_tuning_and_folds():
    options = ["--study.regimes", "[real, finetuned]", "--study.pretrain_share", "[0.25, 0.5]", "--study.seeds", "[0]"]
    options += ["--split.folds", "5", "--study.axes", '{"split.fold": [0, 1, 2, 3, 4]}']
    lines = listed(*options)
    assert len(lines) == 5 * 3
    assert "finetuned  seed 0  synthetic fraction 0.25  split.fold 4" in lines


def test_printed_config_is_a_config(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_command("bench", ["--print_config"])
    assert stopped.value.code in (0, None)
    (tmp_path / "all.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    printed = parsed(study_parser("bench"), ["--config", str(tmp_path / "all.yaml")])
    assert config_of(printed) == read_config(["--preset", "demo"])


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_parses(path):
    cells = describe_cells(read_config(["--config", str(path)], exits=False))
    assert "real" in {cell.regime for cell in cells}


def test_a_dry_run_reads_the_data(data, capsys):
    options = ["--data.root", str(data), "--dry-run", *SMALL, *REAL_ONLY, "--classifier.channels", "[4, 4, 4, 4]"]
    assert run_command("bench", options) == 0
    assert "problems: none" in capsys.readouterr().out
    nan_image(data)
    (data / "images/05.nii").unlink()
    assert run_command("bench", options) == 2
    shown = capsys.readouterr().out
    assert [line.split()[:2] for line in shown.splitlines() if "images/" in line] == [
        ["5", "images/03.nii"],
        ["7", "images/05.nii"],
    ]
    assert run_command("bench", [*options, "--data.manifest", "absent.csv"]) == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--split.train", "4000"], "split.train"),
        (["--classifier.pooling", "64"], "larger volumes"),
        (["--study.regimes", "[real, mixed]", "--generator.variant", "ccella", "--data.report", "null"], "report"),
        (["--study.axes", '{"split.train": [4, 4000]}'], "split.train"),
    ],
)
def test_a_dry_run_refuses_what_the_study_would_refuse(data, tmp_path, capsys, words, named):
    options = ["--data.root", str(data), *SMALL, *REAL_ONLY, "--classifier.channels", "[4, 4, 4, 4]"]
    assert run_command("bench", [*options, *words, "--dry-run", "--out", str(tmp_path / "run")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_reader_who_leaves_early_is_no_fault():
    words = "lambda: print('word ' * 10**5) or 0"
    code = f"import sys; from synthaug.bench.commands import exit_code; sys.exit(exit_code({words}, 'bench', []))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_the_report_of_a_study_that_is_not_finished_says_so(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("study: {name: begun}\n", encoding="utf-8")
    assert main(["report", "--out", str(tmp_path)]) == 2
    assert "not finished" in capsys.readouterr().err


def test_overview_and_unknown_commands(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)
    assert main(["bnech"]) == 2
    assert ", ".join(COMMANDS) in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], *([command, "--help"] for command in ("bench", "pool", "metrics"))])
def test_help_fits_a_screen(words, capsys):
    assert main(words) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 40


@pytest.mark.parametrize(
    "words",
    ["check", "import", "report", "metrics --real a", "pool build", "pool adopt", "pool audit", "pool verify"],
)
def test_help_of_other_commands_fits_a_screen_and_names_what_they_need(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words.split(), "--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert 5 < len(lines) <= 40
    assert words != "pool build" or any(line.startswith("  --generator ") for line in lines)
    assert max(map(len, lines)) <= 130
    with pytest.raises(SystemExit):
        main([*words.split(), "--help-all"])
    assert len(capsys.readouterr().out.splitlines()) > len(lines) - 5


def test_every_option_of_the_brief_help_is_one(capsys):
    assert main(["bench", "--help"]) == 0
    brief = capsys.readouterr().out
    assert main(["bench", "--help-all"]) == 0
    whole = capsys.readouterr().out
    assert len(OPTIONS) == 10
    assert all(f"  {option}" in brief for option in OPTIONS)
    assert all(name in brief for name in PRESETS)
    assert all(f"{option} " in whole or f"{option}]" in whole for option in OPTIONS if option != "--preset")


@pytest.mark.parametrize("words", [["--version"], ["bench", "--version"]])
def test_version(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out.split() == ["synthaug", __version__]


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["bench", "--pool.per_clas", "3"], "--pool.per_class?"),
        (["bench", "--generator.varient", "maisi"], "--generator.variant?"),
        (["bench", "--seeds", "[0]"], "--study.seeds?"),
        (["bench", "--config", "{folder}/seed.yaml"], "study.seeds?"),
        (["bench", "--config", "{folder}/stdy.yaml"], "study.seeds?"),
        (["bench", "--preset", "cpus"], "cpu?"),
        (["bnech"], "bench?"),
    ],
)
def test_what_is_misspelt_is_refused_and_the_nearest_is_told(words, near, tmp_path, capsys):
    (tmp_path / "seed.yaml").write_text("study: {seed: [1]}", encoding="utf-8")
    (tmp_path / "stdy.yaml").write_text("stdy: {seeds: [1]}", encoding="utf-8")
    assert main([word.replace("{folder}", str(tmp_path)) for word in words]) == 2
    assert near in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [(["import"], "--unet, --autoencoder, --output"), (["bench", "--data.phantom", "null"], "data.phantom: ")],
)
def test_options_that_lack_or_hold_nothing_are_named_as_they_are_typed(words, told, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.count(told) == 1


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"nv-generate-mr"}))
def test_a_preset_is_a_study_and_later_words_win(name):
    lines = listed("--preset", name, "--study.seeds", "[7]")
    assert lines[0].split()[:3] == ["real", "seed", "7"]
    assert not any(line.split()[1:3] == ["seed", "0"] for line in lines)
    config = read_config([f"--preset={name}"])
    assert config.study.name == name
    assert (config.preprocess.percentiles == (0.0, 99.5)) == name.startswith("published")


def test_a_preset_whose_weights_are_not_there_says_how_to_get_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command("bench", ["--preset", "nv-generate-mr", "--dry-run"]) == 2
    assert "synthaug import" in capsys.readouterr().err


def test_every_preset_says_what_it_is_for():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PRESETS)
    assert all(
        path.read_text(encoding="utf-8").startswith(f"# --preset {path.stem}:") for path in FOLDER.glob("*.yaml")
    )


def test_help_tells_the_meaning_of_settings_without_importing_torch():
    code = (
        "import sys; from synthaug.bench.commands import main\n"
        "try: main(['bench', '--help-all'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=True)
    settings = (ROOT / "synthaug/config/study.py").read_text(encoding="utf-8")
    meaning = re.search(r'synthetic_fraction: .*\n +"""(.{30})', settings)[1]  # what stands under the field
    assert meaning in done.stdout


def test_what_settings_and_tables_show_is_refused_before_torch_is_imported(tmp_path):
    (tmp_path / "manifest.csv").write_text("subject_id,label\na,0\n", encoding="utf-8")
    refused = [
        ["pool", "verifi"],
        ["pool", "build", "--out", f"{tmp_path}/p", "--pool.per_clas", "3"],
        *(
            ["bench", "--out", f"{tmp_path}/out", *words]
            for words in (
                ["--study.axes", '{"split.trian": [1]}'],
                ["--data.root", f"{tmp_path}/absent"],
                ["--data.root", str(tmp_path)],
            )
        ),
    ]
    code = (
        "import json, sys; from synthaug.bench.commands import main\n"
        "print([main(words) for words in json.loads(sys.argv[1])], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, json.dumps(refused)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
    assert done.stdout.strip() == f"{[2] * len(refused)} False"
    assert len(done.stderr.splitlines()) == len(refused)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_defaults_are_a_valid_study():
    assert Config().study.regimes == ["real", "synthetic", "mixed"]


def test_a_study_of_own_files_tells_its_subgroups(data, tmp_path):
    rewrite(data, ",age\n", ",hand\n")
    rewrite(data, r",[01],(\d)\d\n", lambda row: f"{row[0][:2]},{'left' if int(row[1]) % 2 else 'right'}\n")
    out = tmp_path / "run"
    options = ["--data.root", str(data), "--out", str(out), *SMALL, *REAL_ONLY, "--metrics.subgroups", "[hand]"]
    assert run_command("bench", options) == 0
    rows = json.loads((out / "summary.json").read_text(encoding="utf-8"))["subgroups"]
    assert {(row["column"], row["value"], row["regime"]) for row in rows} == {
        ("hand", "left", "real"),
        ("hand", "right", "real"),
    }
    assert sum(row["n_test"] for row in rows) == 12
    assert "Subgroups of test patients" in (out / "report.html").read_text(encoding="utf-8")


def test_every_site_is_tested_once_by_the_others(data, tmp_path, capsys):
    rewrite(data, ",age\n", ",site\n")
    rewrite(data, r",[01],\d(\d)\n", lambda row: f"{row[0][:2]},{'ABBB'[int(row[1]) // 3]}\n")
    out = tmp_path / "run"
    options = ["--data.root", str(data), "--out", str(out), *SMALL, *REAL_ONLY, "--split.site", "site"]
    assert run_command("bench", options) == 2
    assert "A, B" in capsys.readouterr().err
    assert run_command("bench", [*options, "--split.held_out", "C"]) == 2
    assert run_command("bench", [*options, "--study.axes", '{"split.held_out": [A, B]}']) == 0
    [arm] = read_summary(out).arms  # sites are repeats of one arm
    assert (arm.repeats, arm.n_test) == (2, 40)


@pytest.mark.parametrize("words", [[], ["--out", "new"], ["--out=new"]])
def test_pool_without_action_or_study_lists_its_actions(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pool", *words]) == 2
    assert "build, adopt, verify" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("action", ["adopt", "audit", "build", "card"])
def test_the_help_of_actions_on_pools_shows_where_the_data_is(action, capsys):
    with pytest.raises(SystemExit):
        main(["pool", action, "--help"])
    shown = capsys.readouterr().out
    assert [shown.count(f"--data.{name} ") for name in ("root", "images", "report")] == [1, 1, 1]
    assert "--help " not in shown.replace("--help-all", "")


def test_an_argument_that_is_no_option_is_not_taken_for_another(capsys):
    assert main(["check", "--source", "folder"]) == 2
    complaint = capsys.readouterr().err
    assert "--source" in complaint
    assert "--out" not in complaint
    assert "without --source" in complaint
    assert main(["check", "folder", "--patien", "id"]) == 2
    assert "--patient?" in capsys.readouterr().err


def test_a_fault_is_one_line_exit_70_and_a_traceback_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert exit_code(lambda: {}["verdict"], "bench", ["--out", "run"]) == 70
    [line] = capsys.readouterr().err.strip().splitlines()
    [log] = tmp_path.glob("synthaug-fault-*.log")
    assert str(log) in line
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert log.stat().st_mode & 0o077 == 0


def test_a_full_disk_is_one_line(capsys):
    def fill():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.jsonl")

    assert exit_code(fill, "bench", []) == 2
    assert "x.jsonl" in capsys.readouterr().err


JUNK = {
    "bytes": lambda path: path.write_bytes(b"junk" * 1000),
    "nothing": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a list": lambda path: torch.save([1], path),
    "numbers": lambda path: torch.save({"unet_state_dict": {"unet.conv_in.conv.weight": 3}, "scale_factor": 1}, path),
    "no number": lambda path: torch.save({"unet_state_dict": {}, "scale_factor": "much"}, path),
    "flat": lambda path: torch.save(
        {"unet_state_dict": {"unet.conv_in.conv.weight": torch.ones(1)}, "scale_factor": 1}, path
    ),
    "numbered": lambda path: torch.save({"unet_state_dict": {3: torch.ones(1)}, "scale_factor": 1}, path),
    "an empty archive": lambda path: zipfile.ZipFile(path, "w").close(),
}


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_not_imported(name, tmp_path, capsys):
    JUNK[name](tmp_path / "junk.pt")
    options = ["--unet", str(tmp_path / "junk.pt"), "--autoencoder", str(tmp_path / "junk.pt")]
    options += ["--variant", "radmaisi", "--output", str(tmp_path / "out")]
    assert run_command("import", options) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["junk.pt"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--split.train", "abc"], "split.train: Expected a number. Got value: abc"),
        (["--preprocess.shape", "3,3,3"], "preprocess.shape: Expected a list such as [1, 2]. Got value: 3,3,3"),
        (["--classifier.balance", "over"], "Expected one of 'oversampled', 'weighted', 'none'. Got value: over"),
        (["--data.classes", "[2, 3]"], "data.classes: Expected text. Got value: 2; put names in quotes"),
        (["--data.classes", "[no, yes]"], "data.classes: Expected text. Got value: False; put names in quotes"),
        (["--config", "gone.yaml"], "gone.yaml: config: File does not exist"),
        (
            ["--classifier.training.warmup", "500"],
            "bench: classifier.training.warmup=500 must be below classifier.training.steps=",
        ),
        (["--autoencoder.training.batch_size", "0"], "bench: autoencoder.training.batch_size=0 must lie in"),
        (["--generator.adapter.width", "0"], "bench: generator.adapter.width=0 must lie in"),
    ],
)
def test_unusable_values_are_told_with_their_section_and_without_words_of_a_library(words, told, capsys):
    assert main(["bench", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", ["metrics", "bench"])
@pytest.mark.parametrize("words", [["--out", "{out}"], ["--out={out}"], ["--dry-run", "--out", "{out}"]])
def test_without_settings_the_study_in_the_folder_goes_on(command, words, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("data: {root: not-there}\n", encoding="utf-8")
    assert main([command, *(word.replace("{out}", str(tmp_path)) for word in words)]) == 2
    assert "not-there" in capsys.readouterr().err
