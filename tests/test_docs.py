"""Recipes train, and pages name what there is. That the site builds is seen by ``mkdocs build --strict`` in .ci/run."""

import dataclasses
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from small_pool import build_pool

import synthaug as sa
from synthaug.bench.commands import COMMANDS
from synthaug.bench.single.pool_commands import POOL_COMMANDS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RECIPES = sorted(DOCS.glob("recipes/*.py"))


@pytest.fixture(scope="module")
def pool(tiny_pipeline, tiny_subjects, tmp_path_factory):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path_factory.mktemp("docs") / "pool")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_a_network_on_real_and_synthetic_volumes(path, tiny_subjects, pool):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    before = network[2].weight.detach().clone()
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    trained = recipe.train(tiny_subjects, pool, network, batch_size=4, epochs=2)
    assert {shape[1:] for shape in seen} == {(1, 16, 16, 8)}
    assert sum(shape[0] for shape in seen) >= 2 * len(tiny_subjects)
    assert not torch.equal(trained[2].weight.detach().cpu(), before)


def test_every_recipe_stands_in_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = re.findall(r'--8<-- "docs/(recipes/\w+\.py)"', text)
    assert sorted(shown) == [str(path.relative_to(DOCS)) for path in RECIPES]


def named_settings(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every setting of a config as it is typed, and every section."""
    for name, of in get_type_hints(kind).items():
        yield prefix + name
        if dataclasses.is_dataclass(of):
            yield from named_settings(of, f"{prefix}{name}.")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_settings_and_names_in_a_page_are_there(page):
    text = page.read_text(encoding="utf-8")
    settings = {*named_settings(sa.Config)}
    typed = set(re.findall(r"--([a-z]+\.[a-z_.]+)", text)) | set(re.findall(r'"([a-z]+\.[a-z_]+)":', text))
    assert not typed - settings
    commands = set(re.findall(r"(?<!import )\bsynthaug ([a-z][a-z-]+) ", text)) - {"bench"}
    assert not commands - {*COMMANDS}
    assert not set(re.findall(r"\bsynthaug pool ([a-z]+)", text)) - {*POOL_COMMANDS}
    assert not set(re.findall(r"\bsa\.([A-Za-z_]+)", text)) - {*sa.__all__, "NAME"}
    for path in re.findall(r"`((?:benchmarks|configs|synthaug|docs)/[\w/.-]+)`", text):
        assert (DOCS.parent / path).exists(), path


def test_every_page_is_in_the_navigation():
    """The reference and the notebooks' pages are made when the site is built."""
    settings = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = {target for entry in settings["nav"] for target in entry.values() if isinstance(target, str)}
    assert listed - {"api.md"} == {page.name for page in PAGES}
