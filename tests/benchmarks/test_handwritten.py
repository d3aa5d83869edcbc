"""The reports written by hand, by which generators are judged."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from handwritten_reports import rows_of

from synthaug.config import PreprocessConfig
from synthaug.data.reports.writers import ProstateFindings


@pytest.mark.parametrize(("name", "least"), [("prostate", 80), ("hippocampus", 20)])
def test_there_are_enough_and_no_two_are_alike(name, least):
    rows = rows_of(name)
    assert len({row["report"].lower() for row in rows}) == len({row["name"] for row in rows}) == len(rows) >= least


def test_the_truth_beside_a_prostate_report_is_whole():
    for row in rows_of("prostate"):
        size = float(row["size_mm"]) if row["size_mm"] else None
        stated = ProstateFindings(
            int(row["pirads"]), row["zone"] or None, row["side"] or None, row["level"] or None, size
        )
        assert stated.label == int(row["label"]), row["name"]
        if stated.label:
            assert all((stated.zone, stated.side, stated.level, stated.size_mm)), row["name"]


def test_the_truth_beside_a_hippocampus_report_is_whole():
    for row in rows_of("hippocampus"):
        assert row["side"] in ("left", "right"), row["name"]
        assert 2000 < float(row["volume_mm3"]) < 4500, row["name"]


def test_denials_name_the_places_of_the_auditor(import_script):
    reports = import_script("studies/handwritten", "reports")
    assert reports.PLACES == import_script("builtin", "patients").PLACES
    rows = {row.name: row for row in reports.prostate_rows()}
    assert rows["p051"].denied == (0, 1, 2, 3)
    assert rows["p047"].denied == (1, 2, 3)
    assert rows["p001"].denied == ()
    for row in rows.values():  # a report never denies what it states
        where = (row.findings.side, row.findings.zone)
        if row.findings.label:
            assert reports.PLACES.index(where) not in row.denied, row.name


def test_the_judge_of_prostates_writes_every_figure(import_script, tiny_pipeline, tmp_path, capsys):
    tiny_pipeline.save_pretrained(tmp_path / "tiny")
    out = tmp_path / "figures.json"
    arguments = ["--pipeline", str(tmp_path / "tiny"), "--out", str(out), "--quick", "--quiet", "--steps", "2"]
    judge = import_script("studies/handwritten", "prostate")
    judge.main([*arguments, "--draws", "1"])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert set(record["goals"]) == set(judge.TARGETS)
    assert set(record["drawn"]) == set(record["phantoms"])
    assert record["n"] == {"reports": 8, "volumes": 8}
    for share in ("class_seen", "half_and_zone", "denied_not_drawn"):
        assert record["drawn"][share]["low"] <= record["drawn"][share]["value"] <= record["drawn"][share]["high"]
    assert len(capsys.readouterr().out.strip().splitlines()) == len(judge.TARGETS)


def test_extents_grow_with_the_lesion(import_script):
    judge = import_script("studies/handwritten", "prostate")
    config = PreprocessConfig()
    normal = judge.draw_normal(config, n=16)
    rows = [row for row in judge.prostate_rows() if row.findings.label][:1] * 2
    rows = [replace(row, findings=replace(row.findings, size_mm=size)) for row, size in zip(rows, (8, 24), strict=True)]
    volumes = judge.volumes_of([judge.Patient(row.findings, 3, 0.5) for row in rows], config)
    small, large = (judge.extent(volume, normal, row, config) for volume, row in zip(volumes, rows, strict=True))
    assert large > 2 * small


@pytest.fixture
def hippocampus_config(tmp_path):
    """Twelve volumes of blobs whose size and half follow the columns, and the config that reads them."""
    rows = ["subject_id,patient_id,t2w,label,side,volume_mm3"]
    for k in range(12):
        volume = torch.rand(16, 16, 8, generator=torch.Generator().manual_seed(k))
        half = slice(0, 8) if k % 2 else slice(8, 16)
        volume[half, : 4 + k // 2] += 3
        nib.save(nib.Nifti1Image(volume.numpy(), np.diag([5.0, 5.0, 8.0, 1.0])), tmp_path / f"{k}.nii")
        rows.append(f"s{k},p{k},{k}.nii,{int(k < 6)},{'left' if k % 2 else 'right'},{2400 + 100 * k}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    settings = {
        "data": {
            "root": str(tmp_path),
            "measurements": {
                "side": {"name": "hippocampus", "side": "stays"},
                "volume_mm3": {"name": "hippocampal volume", "unit": "mm3"},
            },
        },
        "split": {"test": 0.5, "val": 0.2},
        "preprocess": {"shape": [16, 16, 8], "spacing_mm": [5.0, 5.0, 8.0]},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_the_judge_of_hippocampi_holds_wordings_against_the_template(
    import_script, tiny_pipeline, hippocampus_config, tmp_path
):
    tiny_pipeline.save_pretrained(tmp_path / "tiny")
    out = tmp_path / "figures.json"
    arguments = ["--pipeline", str(tmp_path / "tiny"), "--config", str(hippocampus_config), "--out", str(out)]
    import_script("studies/handwritten", "hippocampus").main(
        [*arguments, "--quick", "--quiet", "--steps", "2", "--draws", "2"]
    )
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["n"] == {"reports": 3, "volumes": 6, "real": 6}
    assert set(record["handwritten"]) == set(record["template"]) >= {"size_pearson", "side_phi", "side_right"}
    assert set(record["goals"]) == {"size_pearson", "size_spearman", "side_phi"}


def test_the_judge_of_hippocampi_holds_every_style_against_the_template(
    import_script, tiny_pipeline, hippocampus_config, tmp_path
):
    tiny_pipeline.save_pretrained(tmp_path / "tiny")
    out = tmp_path / "figures.json"
    arguments = ["--pipeline", str(tmp_path / "tiny"), "--config", str(hippocampus_config), "--out", str(out)]
    script = import_script("studies/handwritten", "hippocampus")
    script.main([*arguments, "--styles", "--quick", "--quiet", "--steps", "1", "--draws", "1"])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert "handwritten" not in record
    assert len(record["goals"]) == 3 * len(script.STYLES)
    assert all(record[style].keys() == record["template"].keys() for style in script.STYLES)
    told = record["goals"]["telegraphic side_phi"]
    assert told["value"] == record["telegraphic"]["side_phi"]
    assert told["target"] == pytest.approx(0.9 * record["template"]["side_phi"])
