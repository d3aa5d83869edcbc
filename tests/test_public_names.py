"""Public names: seen by ``dir``, by editors and by type checkers, imported when they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import synthaug as sa
from synthaug.bench.studies.finished import Study
from synthaug.ground.errors import InputError

ROOT = Path(__file__).parents[1]
SCRIPT = """
from pathlib import Path

import synthaug as sa

subjects = sa.load_manifest("manifest.csv", images=["t2w"], report="report")
split: sa.Split = sa.split_subjects(subjects, test=0.3, seed=0)
sa.save_split(split, Path("split.csv"))
grid = sa.PreprocessConfig(shape=(64, 64, 16), spacing_mm=(1.5, 1.5, 3.0))
train = sa.preprocess(split.train, grid, ["t2w"])
pool: sa.SyntheticPool = sa.SyntheticPool.open("pool")
sampler = sa.SyntheticSampler(train, pool, batch_size=8)
for batch in sampler.loader(num_workers=0):
    print(batch["label"])
pipe = sa.CCELLAPipeline.from_pretrained("builtin/ccella-tiny")
volumes = pipe(["", ""], seeds=[0, 1]).volumes.float()
try:
    study: sa.Study = sa.run_study(sa.load_config("config.yaml", preset="cpu"), "runs/mine")
    print(study.summary.verdict.sentence(), study.to_frame().shape, study.report.name)
except sa.InputError as error:
    print(error)
"""


def test_the_three_lists_of_names_are_one():
    tree = ast.parse(Path(sa.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname: (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(typed) == set(sa.__all__) == set(sa._HOME)
    assert all(typed[name] == (sa._HOME[name], name) for name in sa.__all__)
    assert sa.__all__ == sorted(sa.__all__)
    assert set(sa.__all__) <= set(dir(sa))


def test_names_are_seen_without_importing_torch():
    code = "import sys, synthaug as sa; assert 'run_study' in dir(sa) and sa.Config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_script_with_public_names_is_typed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    # Libraries are passed over: the script's own calls are what is checked.
    skipped = "torch.*,torchio.*,monai.*,diffusers.*,transformers.*,pandas.*,sklearn.*,scipy.*,mlflow.*,accelerate.*"
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {ROOT}\n[mypy-synthaug.*]\nfollow_imports = silent\n[mypy-{skipped},numpy.*,nibabel.*]\n"
        "follow_imports = skip\n",
        encoding="utf-8",
    )
    (tmp_path / "wrong.py").write_text(SCRIPT.replace('images=["t2w"]', "images=3"), encoding="utf-8")
    words = ["--strict", "--cache-dir", str(tmp_path / "cache"), "script.py", "wrong.py"]
    command = [sys.executable, "-m", "mypy", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert len(errors) == 1, done.stdout
    assert errors[0].startswith("wrong.py")
    assert "[arg-type]" in errors[0]


def test_a_study_is_read_back_and_shows_itself():
    study = Study.read(ROOT / "benchmarks/studies/hippocampus")
    assert study.report.name == "report.html"
    assert {"arm", "metric", "value"} <= set(study.to_frame().columns)
    assert study.summary.arms[0].label in study._repr_html_()
    assert study.verdict in str(study)
    with pytest.raises(InputError, match="no summary"):
        Study.read(ROOT / "docs")


def test_settings_are_loaded_from_files_over_a_preset(tmp_path):
    (tmp_path / "mine.yaml").write_text("study: {seeds: [5]}\n", encoding="utf-8")
    config = sa.load_config(tmp_path / "mine.yaml", preset="cpu")
    assert (config.study.seeds, config.study.name) == ([5], "cpu")
    (tmp_path / "mine.yaml").write_text("study: {seed: [5]}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine.yaml: .*study\.seed"):
        sa.load_config(tmp_path / "mine.yaml")


def test_a_generator_draws_the_seeds_and_a_tuple_comes_back_where_asked_for(tmp_path):
    pipe = sa.CCELLAPipeline.from_pretrained("builtin/ccella-tiny", torch_dtype=torch.float32)
    asked = {"num_inference_steps": 2}
    drawn = pipe([""], generator=torch.Generator().manual_seed(3), **asked)
    volumes, probabilities, seeds = pipe([""], seeds=drawn.seeds, return_dict=False, **asked)
    assert torch.equal(drawn.volumes, volumes)
    assert torch.equal(drawn.class_probabilities, probabilities)
    assert seeds == drawn.seeds
    each = [torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)]
    assert pipe(["", ""], generator=each, **asked).seeds[0] == seeds[0]
    with pytest.raises(InputError):
        pipe([""], **asked)
    with pytest.raises(InputError):
        pipe([""], seeds=[0], generator=each[0], **asked)
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    with pytest.raises(InputError):
        sa.CCELLAPipeline.from_pretrained(tmp_path / "half")
    again = sa.CCELLAPipeline.from_pretrained(tmp_path / "half", variant="fp16", torch_dtype=torch.bfloat16)
    assert again.denoiser.dtype == again.autoencoder.dtype == torch.bfloat16
