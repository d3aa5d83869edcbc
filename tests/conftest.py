"""Phantoms and one tiny trained pipeline, made once a session and shared by every test that needs them."""

import importlib
import os
import random
import sys
import tempfile
import threading
from pathlib import Path

import nbmake.nb_run
import numpy as np
import pytest
import torch
from monai.transforms import Randomizable
from nbclient import NotebookClient
from tqdm import tqdm
from traitlets.config import Config

from synthaug.config import (
    AdapterConfig,
    AutoencoderConfig,
    DenoiserConfig,
    GeneratorConfig,
    LevelConfig,
    PreprocessConfig,
    TextEncoderConfig,
    TrainingConfig,
)
from synthaug.data.phantom import make_subjects
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.levels import fit_space
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.autoencoder import train_autoencoder
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.memory import collect_rarely
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser

# Two test processes share the cores, and commands and notebooks that they start are processes too: with a thread a core
# in each of them all wait for each other (a notebook of 80 s took 340 s). Read when these load torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Patients of tests are hashed with a key of the tests' own: the suite leaves the user's config folder alone.
os.environ["SYNTHAUG_KEY"] = "the test suite's"

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
IMAGES = ["t2w"]
TINY_PREPROCESSING = PreprocessConfig(spacing_mm=(5.0, 5.0, 8.0), shape=(16, 16, 8))
TINY_AUTOENCODER = AutoencoderConfig(
    channels=(8,), patch=4, latent_channels=4, norm_groups=4, training=TrainingConfig(steps=3, batch_size=4)
)


def tiny_generator_config(**changes) -> GeneratorConfig:
    """A CCELLA of a few thousand weights that trains for three steps; ``changes`` replace its fields."""
    tiny = {
        "denoiser": DenoiserConfig(channels=(32,), attention=(True,), head_channels=16),
        "adapter": AdapterConfig(width=32, queries=4, blocks=6, heads=2, sinusoids=16, class_width=8),
        "text_encoder": TextEncoderConfig(width=16, layers=1, heads=2, max_tokens=64),
        "latents": "autoencoder",
        "prediction": "v_prediction",
        "report_dropout": 0.0,
        "training": TrainingConfig(steps=3, batch_size=4, precision="float32"),
    }
    return GeneratorConfig(**(tiny | changes))


def tiny_cascade_config(**changes) -> GeneratorConfig:
    """The same over a cascade of two levels, 4 x 4 x 2 and 16 x 16 x 8 voxels."""
    level = {"denoiser": DenoiserConfig(channels=(32,), attention=(True,), head_channels=16)}
    levels = [
        LevelConfig(pooling=4, linear_components=16, **level),
        LevelConfig(patch=2, fine_channels=2, low_frequencies=2, texture=2, **level),
    ]
    return tiny_generator_config(**({"latents": "cascade", "prediction": None, "levels": levels} | changes))


def client_over_files(*args, **settings) -> NotebookClient:
    """nbclient's, whose kernel listens on sockets in the file system.

    A port that is looked up before a kernel starts can be another program's by the time the kernel binds it: then the
    notebook failed after 60 seconds.
    """
    sockets = Path(tempfile.mkdtemp()) / "kernel"
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(sockets)}})
    return NotebookClient(*args, config=config, startup_timeout=300, **settings)


def pytest_configure(config):
    """Files go to the test processes in their order, not those of many tests first: a notebook is one test."""
    collect_rarely()
    nbmake.nb_run.NotebookClient = client_over_files
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist's
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """The longest files first, lest one process run a notebook when the others have nothing left to do."""
    items.sort(key=lambda item: (item.path.suffix != ".ipynb", item.path.name != "test_ray.py"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Bits depend on the thread count, and tests share their cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_progress_bars():
    """No process that a test kills takes the bars' lock with it: tqdm's own is shared with forked processes."""
    tqdm.set_lock(threading.RLock())


@pytest.fixture(autouse=True)
def fixed_chance():
    """What a test draws without a seed of its own is the same in every run and whatever ran before it.

    MONAI's transforms share one random state, which is seeded by the operating system.
    """
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what libraries draw from
    torch.manual_seed(0)
    Randomizable.R.seed(0)


@pytest.fixture(scope="session")
def tiny_subjects():
    """Twelve preprocessed phantoms of (1, 16, 16, 8), half of them positive."""
    raw = make_subjects(12, positive_fraction=0.5, seed=0, shape=(16, 16, 8), spacing_mm=(5.0, 5.0, 8.0))
    return preprocess(raw, TINY_PREPROCESSING, IMAGES)


@pytest.fixture(scope="session")
def tiny_autoencoder(tiny_subjects):
    """An autoencoder after three steps."""
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    return train_autoencoder(volumes, TINY_AUTOENCODER)


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_subjects, tiny_autoencoder):
    """A CCELLA pipeline after three steps, micro-batch 4; tests must not change it."""
    return train_ldm(
        tiny_subjects,
        tiny_autoencoder,
        tiny_generator_config(),
        preprocessing=TINY_PREPROCESSING,
        images=IMAGES,
        micro_batch=4,
    )


@pytest.fixture(scope="session")
def tiny_cascade(tiny_subjects):
    """A CCELLA pipeline over a cascade after three steps a level, micro-batch 4; tests must not change it."""
    config = tiny_cascade_config()
    volumes = torch.stack([stack_images(subject, IMAGES) for subject in tiny_subjects])
    settings = {"preprocessing": TINY_PREPROCESSING, "images": IMAGES, "micro_batch": 4}
    return train_ldm(tiny_subjects, fit_space(volumes, config), config, **settings)


@pytest.fixture(scope="session")
def old_folder(tiny_pipeline, tmp_path_factory):
    """A generator with all that version 0.1 trained and this one only loads and draws from.

    A layout, a linear predictor, and in the autoencoder a shortcut, a mean latent and residual noise.
    """
    size = {"channels": (8,), "latent_channels": 4, "residual_blocks": 1, "norm_groups": 4, "patch": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        space = ImageAutoencoder(**size, shortcut=True, centre_shape=(4, 4, 2), residual_deviation=0.05)
        denoiser = CCELLADenoiser(
            **tiny_pipeline.denoiser.settings | {"layout_shape": (4, 4, 2), "layout_components": 3}
        )
        for tensor in (space.centre, denoiser.layout_basis, denoiser.unet.out[2].conv.weight.data):
            tensor.copy_(0.3 * torch.randn(tensor.shape))
    parts = {name: getattr(tiny_pipeline, name) for name in ("text_encoder", "tokenizer", "scheduler")}
    settings = {"images": IMAGES, "spacing_mm": (5.0, 5.0, 8.0), "shape": (16, 16, 8), "micro_batch": 2}
    folder = tmp_path_factory.mktemp("old")
    CCELLAPipeline(space, denoiser, **parts, **settings, latent_deviations=(0.5, 1.0, 2.0, 1.0)).save_pretrained(folder)
    return folder


@pytest.fixture
def import_script(monkeypatch):
    """Import a script of ``benchmarks/`` by folder and name, as Python does that runs it.

    Studies have scripts of the same names, and one process tests them all: none outlives its test.
    """

    def imported(folder: str, name: str):
        monkeypatch.syspath_prepend(BENCHMARKS / folder)
        return importlib.import_module(name)

    _forget_scripts()
    yield imported
    _forget_scripts()


def _forget_scripts() -> None:
    for name, module in list(sys.modules.items()):
        if BENCHMARKS in Path(getattr(module, "__file__", None) or "").parents:
            del sys.modules[name]
