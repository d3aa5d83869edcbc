"""``synthaug metrics --real A --synthetic B`` on manifests, pools and bare folders, and what it refuses."""

import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio
from small_pool import build_pool
from taps_wheel import needs_taps

from synthaug.bench.commands import main
from synthaug.data.phantom import make_subjects
from synthaug.models.extractors import taps

GRID = ["--shape", "[16, 16, 8]", "--spacing_mm", "[5, 5, 8]", "--resamples", "20"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve phantoms a folder with manifest.csv; "bare" holds the files of "synthetic" without it."""
    made = {}
    for seed, name in enumerate(["real", "synthetic", "bare"]):
        folder = tmp_path_factory.mktemp(name)
        rows = []
        for subject in make_subjects(12, seed=min(seed, 1), shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0)):
            file = f"{subject['subject_id']}.nii.gz"
            subject["t2w"].save(folder / file)
            rows.append({"subject_id": subject["subject_id"], "t2w": file, "label": subject["label"]})
        if name != "bare":
            pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
        made[name] = folder
    return made


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["metrics", *map(str, arguments), *GRID])
    return code, *capsys.readouterr()


def test_two_manifests_are_compared_by_class_and_written(folders, capsys, tmp_path):
    out = tmp_path / "out"
    code, printed, complaint = run(capsys, "--real", folders["real"], "--synthetic", folders["synthetic"], "--out", out)
    assert (code, complaint) == (0, "")
    assert {"fid", "coverage", "all", "Extractor"} <= set(printed.replace(",", " ").split())
    record = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert set(record["distances"]) == {"all", "0", "1"}
    assert record["left_out"]["0"] == ["precision", "recall", "density", "coverage"]
    assert record["copies"] is None
    assert "real to real" in (out / "metrics.html").read_text(encoding="utf-8")


def test_bare_nifti_files_and_copies_of_training_volumes(folders, capsys, tmp_path):
    code, printed, _ = run(
        capsys,
        *("--real", folders["real"], "--synthetic", folders["bare"], "--training", folders["synthetic"]),
        *("--out", tmp_path),
    )
    assert code == 0
    assert "Copies of the volumes given as training: 12 of 12, 100.0%" in printed
    record = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert record["copies"]["copies"] == [True] * 12
    assert set(record["distances"]) == {"all"}  # bare files have no class


def test_a_pool_is_a_folder_of_synthetic_volumes(folders, capsys, tiny_pipeline, tiny_subjects, tmp_path):
    pool = build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool")
    code, printed, _ = run(capsys, "--real", folders["real"], "--synthetic", pool.path)
    assert code == 0
    assert "fid" in printed
    code, _, complaint = run(capsys, "--real", folders["bare"], "--synthetic", pool.path, "--images", "[adc]")
    assert code == 2
    assert "the pool has images t2w, not adc; see --images." in complaint


def test_unusable_folders_are_named_in_one_line(folders, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    sides = ["--real", folders["real"], "--synthetic", tmp_path / "empty"]
    code, _, complaint = run(capsys, *sides, "--out", tmp_path / "new" / "out")
    assert code == 2
    assert not (tmp_path / "new").exists()
    assert "neither manifest.csv, nor a pool, nor NIfTI files" in complaint
    assert complaint.count("\n") == 1
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "empty" / "flat.nii.gz")
    code, _, complaint = run(capsys, "--real", folders["real"], "--synthetic", tmp_path / "empty")
    assert code == 2
    assert "flat.nii.gz" in complaint
    assert "constant" in complaint


def test_subjects_stay_unread_until_they_are_used(folders):
    from synthaug.bench.single.image_comparison import _lazily
    from synthaug.config import PreprocessConfig
    from synthaug.data.preprocess import build_preprocessing
    from synthaug.metrics.volumes import VolumeSet

    transform = build_preprocessing(PreprocessConfig(shape=(16, 16, 8), spacing_mm=(5, 5, 8)), ["t2w"])
    dataset = _lazily(str(folders["real"]), images=["t2w"], transform=transform)
    volumes = VolumeSet.of(dataset, ["t2w"])
    assert sorted(set(volumes.groups)) == ["0", "1"]
    assert volumes[3].shape == (1, 16, 16, 8)
    assert not any(isinstance(s["t2w"], tio.ScalarImage) and s["t2w"]._loaded for s in dataset.dry_iter())


def test_an_extractor_is_chosen_by_name_and_needs_its_weights(folders, capsys, tmp_path):
    sides = ["--real", folders["real"], "--synthetic", folders["synthetic"]]
    code, _, complaint = run(capsys, *sides, "--extractor", "medicalnet")
    assert code == 2
    assert complaint.count("\n") == 1
    assert "needs weights" in complaint
    code, _, complaint = run(capsys, *sides, "--extractor", "radimagenet", "--weights", tmp_path / "none.pt")
    assert code == 2
    assert "none.pt: no such weights file" in complaint
    code, _, complaint = run(capsys, *sides, "--extractor", "inception")
    assert code == 2


@needs_taps
def test_taps_compares_folders_and_centres_crops(folders, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(taps, "_shared_network", BrightVoxels)
    for name in ("real", "synthetic"):
        shutil.copytree(folders[name], tmp_path / name)
        pd.read_csv(folders[name] / "manifest.csv").head(4).to_csv(tmp_path / name / "manifest.csv", index=False)
    sides = ["--real", tmp_path / "real", "--synthetic", tmp_path / "synthetic"]
    fine = ["--shape", "[16, 16, 8]", "--spacing_mm", "[0.8, 0.8, 3]", "--resamples", "5"]
    code = main(["metrics", *map(str, sides), *fine, "--extractor", "taps", "--centre", "prostate"])
    printed, complaint = capsys.readouterr()
    assert (code, complaint) == (0, "")
    assert "Extractor taps-segresnet" in printed


class BrightVoxels(torch.nn.Module):
    """Stands where the network finds the gland, which phantoms of this size do not show."""

    def forward(self, shown):
        return shown - shown.amax() / 2
