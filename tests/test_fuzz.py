"""Damaged input is used, or refused in one line that names the file or key; nothing is written, and it is quick.

``SYNTHAUG_FUZZ_TIMES=20`` makes twenty times as many accidents, ``SYNTHAUG_FUZZ=3`` begins elsewhere. What once ended
otherwise has a test of its own, without chance, where its root is.
"""

import contextlib
import functools
import json
import os
import random
import resource
import shutil
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from conftest import TINY_PREPROCESSING
from damage import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentError
from small_pool import build_pool
from tiny_study import STUDY

from synthaug.bench.commands import run_command
from synthaug.bench.options.parsing import config_of, parsed, study_parser
from synthaug.config import Config, MetricsConfig
from synthaug.data.reading.manifest import load_manifest
from synthaug.data.splits import Split, load_split
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import patients_known
from synthaug.generate.stored.told import measured_sampling
from synthaug.ground.errors import InputError
from synthaug.ground.files import write_json
from synthaug.pool.pool import SyntheticPool
from synthaug.study.folder.standing import finished_summary, inputs_of, mark_finished
from synthaug.study.outlook.costs import FOLDER, STAGE_KINDS, total_costs
from synthaug.study.records import CellRecord, Prediction, read_summary
from synthaug.study.stages.leaks import protocol_of, refuse_generator_leaks, refuse_leaks
from synthaug.study.stages.pools import describe_pool, preprocessing_of
from synthaug.study.summary.aggregate import summarise

SECONDS = 5.0
MOST_MEMORY = 8 * 2**30
"""Bytes that the process may take beyond those it has: damaged sizes must not fill a machine."""
MANY = {"manifest": 52, "image": 52, "settings": 20, "pool": 52, "study": 52, "generator": 12}
"""Accidents of each kind."""
TIMES = int(os.environ.get("SYNTHAUG_FUZZ_TIMES", "1"))
"""So many times as many accidents."""
BEGIN = 10**6 * int(os.environ.get("SYNTHAUG_FUZZ", "0"))
SPLIT = Split([{"patient_id": "phantom-0-0000"}], [{"patient_id": "v"}], [{"patient_id": "t"}])


def read_data(folder: Path) -> None:
    """What a study reads of its data."""
    subjects = load_manifest(folder / "manifest.csv", ["t2w"], report="report")
    load_split(folder / "split.csv", subjects)


def read_settings(folder: Path) -> Config:
    """What a command does with a config before any work."""
    return config_of(parsed(bench_options(), ["--config", str(folder / "study.yaml")]))


bench_options = functools.cache(lambda: study_parser("bench"))


def read_pool(folder: Path) -> None:
    """What a study does with a ready pool."""
    pool = SyntheticPool.open(folder, preprocessing=TINY_PREPROCESSING)
    refuse_generator_leaks(pool, SPLIT)
    protocol_of(pool.header["trained_on_patients"], SPLIT, known=patients_known(pool.header))
    assert preprocessing_of(pool)
    assert describe_pool(pool)
    assert pool.identity
    for label in pool.classes:
        pool.subject(label, 0)["t2w"].load()


def draw(folder: Path) -> None:
    """What a study does with a trained generator."""
    pipeline = CCELLAPipeline.from_pretrained(folder)
    seen = pipeline.record.get("patients", [])
    refuse_leaks(seen, SPLIT, source=str(folder))
    protocol_of(seen, SPLIT, known=patients_known(pipeline.record))
    measured_sampling(pipeline.record)
    pipeline.set_progress_bar_config(disable=True)
    try:
        pipeline(["Lesion."], seeds=[0], num_inference_steps=1)
    except InputError as error:  # of weights that are finite and draw what is not; whoever calls knows the folder
        raise InputError(f"{folder}: {error}") from error


def read_study(folder: Path) -> None:
    """What a command does with the folder of a finished study."""
    finished_summary(Config(), folder)
    summary = read_summary(folder)
    assert summary.verdict.sentence()
    assert json.dumps(summary.to_json())
    for rows in ("arms", "contrasts", "images"):
        summary.to_frame(rows)
    cells = [CellRecord.read(path) for path in (folder / "cells").iterdir()]
    with contextlib.suppress(InputError):  # of cells that contradict each other the subject is named
        summarise(cells, [], QUICK)
    total_costs(folder)


QUICK = MetricsConfig(bootstrap=5, permutations=5)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study's records: two cells, the summary, costs, the stamp."""
    folder, rng, records = tmp_path_factory.mktemp("fuzz-study"), np.random.default_rng(0), []
    for regime, fraction in (("real", None), ("mixed", 0.5)):
        scores = rng.uniform(size=8)
        rows = tuple(Prediction(f"s{n}", f"p{n}", n % 2, (1 - each, each)) for n, each in enumerate(scores.tolist()))
        shares = {"synthetic_fraction": fraction, "n_train": 9, "protocol": "same cohort"}
        records.append(CellRecord(regime, 0, id=regime, predictions=rows, history=({"step": 4},), **shares))
        write_json(folder / "cells" / f"{regime}.json", records[-1].to_json())
    write_json(folder / "summary.json", summarise(records, [], QUICK).to_json())
    stages = {kind: {"pool": 3.0} for kind in STAGE_KINDS}
    write_json(folder / FOLDER / "1.json", {"wall_seconds": 9.0, "joules": {"cpu": 2.0}, **stages})
    mark_finished(folder, inputs_of(Config(), folder), [folder / "summary.json"])
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen subjects of two classes, dealt out."""
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    folder.mkdir()
    lines, parts = ["subject_id,patient_id,t2w,label,report,age"], ["subject_id,patient_id,part"]
    for number in range(16):
        voxels = np.random.default_rng(number).random((8, 8, 4), dtype=np.float32)
        name = f"{number}.nii.gz" if number == 3 else f"{number}.nii"
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([5, 5, 8, 1])), folder / name)
        lines.append(f'"s{number}",p{number},{name},{number % 2},"Lesion, {number} mm.",{50 + number}')
        parts.append(f"s{number},p{number},{('train', 'train', 'val', 'test')[number // 4]}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "split.csv").write_text("\n".join(parts) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz-settings")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz-pool") / "pool"
    per_class = {0: 1, 1: 2}
    return build_pool(tiny_pipeline, tiny_subjects, folder, per_class=per_class).path


@pytest.fixture(scope="module", params=["tiny_pipeline", "tiny_cascade"])
def generator(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz-generator") / "generator"
    request.getfixturevalue(request.param).save_pretrained(folder)
    return folder


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_size) for path in folder.rglob("*") if path.is_file())


def room() -> int:
    """Bytes of addresses that the process may have."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return pages * resource.getpagesize() + MOST_MEMORY


def complaint_of(use, folder: Path) -> str:
    """What is said of damaged input; "" = it could be used."""
    before, begun = listing(folder), time.process_time()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (room(), limits[1]))
    try:
        use(folder)
    except (InputError, ArgumentError) as error:
        said = " ".join(str(error).split())  # as commands print it
        assert str(folder) in said, said
        return said
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        assert time.process_time() - begun < SECONDS
        assert listing(folder) == before
    return ""


def fuzz(use, folder: Path, files, *, examples: int) -> None:
    """Damage one of the files at a time, use the folder, and mend it."""
    known = {path: path.read_bytes() for path in files}
    use(folder)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32), st.sampled_from(sorted(known)))
    def one(seed, path):
        try:
            path.write_bytes(damaged(known[path], path.name, random.Random(BEGIN + seed)))
            complaint_of(use, folder)
        finally:
            path.write_bytes(known[path])

    one()


def fuzz_manifest(folder, examples):
    fuzz(read_data, folder, [folder / "manifest.csv", folder / "split.csv"], examples=examples)


def fuzz_image(folder, examples):
    fuzz(read_data, folder, [folder / "1.nii", folder / "3.nii.gz"], examples=examples)


def fuzz_settings(folder, examples):
    fuzz(read_settings, folder, [folder / "study.yaml"], examples=examples)


def fuzz_pool(folder, examples):
    whole = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]  # locks are empty
    fuzz(read_pool, folder, whole, examples=examples)


def fuzz_generator(folder, examples):
    fuzz(draw, folder, [path for path in folder.rglob("*") if path.is_file()], examples=examples)


def fuzz_study(folder, examples):
    fuzz(read_study, folder, [path for path in folder.rglob("*.json") if path.is_file()], examples=examples)


KINDS = [
    *((fuzz_manifest, "data"), (fuzz_image, "data"), (fuzz_settings, "config"), (fuzz_pool, "pool")),
    (fuzz_study, "study"),
    (fuzz_generator, "generator"),
]


@pytest.mark.parametrize(("kind", "given"), KINDS[:-1], ids=[kind.__name__ for kind, _ in KINDS[:-1]])
def test_a_sample_of_damaged_input_is_used_or_refused(kind, given, request):
    kind(request.getfixturevalue(given), TIMES * MANY[kind.__name__.removeprefix("fuzz_")])


def test_a_sample_of_damaged_generators_is_used_or_refused(generator):
    fuzz_generator(generator, TIMES * MANY["generator"])


def run_bench(folder: Path, said: Path) -> int:
    """A study's command in a process of its own; returns its exit code."""
    child = os.fork()
    if not child:
        code = 99
        try:
            with said.open("w", encoding="utf-8") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
                sys.stdout = sys.stderr = stream
                words = ["--config", str(folder / "study.yaml"), "--out", str(folder / "out")]
                code = run_command("bench", words)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def through_the_command_line(data: Path, tmp_path: Path, seed: int) -> None:
    """Exit 2 and one line, at the latest because of an output folder that cannot be."""
    folder = tmp_path / f"{seed}"
    shutil.copytree(data, folder)
    content = STUDY | {"data": {"root": str(folder), "report": "report"}, "split": {"file": str(folder / "split.csv")}}
    (folder / "study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "out").write_text("a file, where nothing can be written", encoding="utf-8")
    target = folder / ["manifest.csv", "2.nii", "study.yaml", "split.csv"][seed % 4]
    if seed >= 0:
        target.write_bytes(damaged(target.read_bytes(), target.name, random.Random(BEGIN + seed)))
    before = listing(folder)
    code = run_bench(folder, tmp_path / f"{seed}.log")
    said = (tmp_path / f"{seed}.log").read_text(encoding="utf-8")
    errors = [line for line in said.splitlines() if line.startswith("synthaug")]
    assert (code, len(errors)) == (2, 1), (seed, said)
    assert "Traceback" not in said
    assert listing(folder) == before
    shutil.rmtree(folder)


def test_a_sample_through_the_command_line(data, tmp_path):
    for seed in (-1, *range(1, 1 + 2 * TIMES)):
        through_the_command_line(data, tmp_path, seed)
