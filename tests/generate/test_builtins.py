"""What ships: weights of a bounded size with licence and figures, which draw what they are asked for."""

import re
from pathlib import Path

import pytest
import torch

import synthaug
from synthaug import CCELLAPipeline
from synthaug.ground.people import OLD_HASH

FOLDER = Path(synthaug.__file__).parent / "builtin"
LIMITS_MB = {"ccella-tiny": 12, "ccella-hippocampus": 20}


@pytest.mark.parametrize("name", LIMITS_MB)
def test_a_builtin_is_small_and_its_card_tells_what_was_measured_of_these_weights(name):
    folder = FOLDER / name
    weight = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6
    assert 1 < weight <= LIMITS_MB[name]
    assert (folder / "training.json").stat().st_size < 50_000  # many hashes are in a file of their own
    pipeline = CCELLAPipeline.from_pretrained(f"builtin/{name}")
    record, fingerprint = pipeline.record, pipeline.fingerprint
    figures = record["evaluation"]["figures"]
    assert figures.get("fingerprint", figures.get("generator")) == fingerprint
    assert all(patient.startswith("public-") or OLD_HASH.fullmatch(patient) for patient in record["patients"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert fingerprint in card
    assert record["evaluation"]["summary"] in card


def test_the_hippocampus_tells_licence_and_source_in_card_and_beside_the_weights():
    folder = FOLDER / "ccella-hippocampus"
    for text in (
        (folder / "README.md").read_text(encoding="utf-8"),
        (folder / "LICENSE.txt").read_text(encoding="utf-8"),
    ):
        assert "CC" in text
        assert "BY-SA" in text
        assert "Task04" in text
    assert "side A" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hippocampus():
    pipe = CCELLAPipeline.from_pretrained("builtin/ccella-hippocampus")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_typed_sentences_draw_hippocampi_of_the_asked_class(hippocampus):
    reports = ["Left hippocampus, volume 2200 mm³.", "Right hippocampus 4.1 ml, large."]
    drawn = hippocampus(reports, seeds=[0, 1], num_inference_steps=4)
    assert drawn.volumes.shape == (2, 1, 32, 40, 24)
    assert drawn.class_probabilities.argmax(1).tolist() == [1, 0]  # smaller than the median, and not
    alone = hippocampus(reports[1:], seeds=[1], num_inference_steps=4)
    assert torch.equal(alone.volumes[0], drawn.volumes[1])


def test_half_precision_draws_nearly_the_same(hippocampus):
    half = CCELLAPipeline.from_pretrained("builtin/ccella-hippocampus", torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    case = {"seeds": [0], "num_inference_steps": 4}
    volumes = half(["Left hippocampus, volume 2200 mm³."], **case).volumes
    assert volumes.dtype == torch.float32
    assert (volumes - hippocampus(["Left hippocampus, volume 2200 mm³."], **case).volumes).abs().mean() < 0.02


@pytest.fixture(scope="module")
def example():
    """What the first example of the documentation's page on generators leaves behind."""
    page = (Path(__file__).parents[2] / "docs" / "generators.md").read_text(encoding="utf-8")
    left: dict = {}
    exec(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0], left)
    return left


def test_the_example_of_the_documentation_is_read_and_drawn(example):
    out, pipe = example["out"], example["pipe"]
    assert out.class_probabilities.argmax(1).tolist() == [1, 0]
    assert not any(out.unlike)
    assert out.volumes.shape == (2, 1, 32, 32, 16)
    # From the same noise, what the lesion darkens lies on the patient's left: low rows, as axis X runs left to right.
    darker = (out.volumes[1] - out.volumes[0])[0].clamp(min=0.15) - 0.15
    assert darker[:16].sum() > 2 * darker[16:].sum()
    words = ["R mid PZ 20 mm, P5", "No lesion in the left PZ. Negative study, score 1."]
    assert pipe(words, seeds=[0, 1], num_inference_steps=2).class_probabilities.argmax(1).tolist() == [1, 0]
