"""What a pool asks of its generator is looked at before one is trained, whichever generator it is to be."""

import pytest
from conftest import TINY_PREPROCESSING, tiny_generator_config
from tiny_study import bench

from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, GeneratorConfig, PoolConfig, SamplingConfig
from synthaug.data.splits import Split
from synthaug.generate.diffusion import SOLVERS_OF_EDM
from synthaug.generate.stored.told import measured_sampling
from synthaug.generate.training.continuing import with_own_design
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.recipe import with_sampling
from synthaug.report.text.methods import SCHEDULERS
from synthaug.study.stages.checks import check_study
from synthaug.study.stages.pools import open_pretrained

NO_SPLIT = ["--split.file", "no/split.csv"]
IMPOSSIBLE = [
    ("maisi", ["--pool.sampling.guidance", "2"], "guidance"),
    ("maisi", ["--pool.labels", "predicted"], "predicts no class"),
    ("radmaisi", ["--pool.labels", "agreed"], "predicts no class"),
    ("decoupled", ["--pool.labels", "predicted"], "predicts no class"),
    ("ellamaisi", ["--pool.prompts", "override"], "takes no class"),
]


@pytest.mark.parametrize(("variant", "words", "named"), IMPOSSIBLE)
def test_what_a_variant_cannot_do_is_refused_by_its_settings(variant, words, named):
    with pytest.raises(InputError, match=named):
        check_study(read_config(["--generator.variant", variant, *words]))


@pytest.mark.parametrize("words", [["--generator.variant", "maisi", "--pool.labels", "agreed"], NO_SPLIT])
def test_a_dry_run_of_phantoms_refuses_what_the_study_would(tmp_path, words, capsys):
    assert bench(tmp_path / "run", "--dry-run", *words) == 2
    assert bench(tmp_path / "run", *words) == 2
    dry, wet = capsys.readouterr().err.strip().splitlines()[-2:]
    assert dry == wet


@pytest.mark.parametrize(
    ("changes", "sampling", "named"),
    [
        ({"unet": "frozen"}, {}, "one level"),
        ({}, {"guided_levels": 3, "guidance": 2.0}, "guided_levels"),
        ({"report_dropout": 0.0}, {"guidance": 2.0}, "report_dropout"),
    ],
)
def test_what_a_pretrained_generator_cannot_do_is_refused_when_it_is_opened(
    tiny_cascade, tiny_subjects, tmp_path, changes, sampling, named
):
    tiny_cascade.save_pretrained(tmp_path)
    design = with_own_design(GeneratorConfig(pretrained=str(tmp_path), **changes))
    config = Config(preprocess=TINY_PREPROCESSING, pool=PoolConfig(sampling=SamplingConfig(**sampling)))
    with pytest.raises(InputError, match=named):
        open_pretrained(design, config, Split(tiny_subjects, [], []))


@pytest.mark.parametrize("name", SOLVERS_OF_EDM)
def test_a_cascade_takes_every_sampler_that_a_refusal_names(tiny_cascade, name):
    words = ["--pool.sampling.scheduler", name, "--pool.sampling.steps", "2"]
    config = read_config(words)
    check_study(config)
    assert name in SCHEDULERS  # a methods section has words for it
    assert with_sampling(tiny_cascade, config.pool.sampling)(["a"], [0], seeds=[0], num_inference_steps=2)
    record = {"evaluation": {"figures": {"sampling": {"scheduler": name, "steps": 2}}}}
    assert measured_sampling(record) == {"scheduler": name, "steps": 2}


def test_guidance_without_reports_leaves_no_pool(tiny_subjects, tiny_autoencoder, tmp_path):
    settings = tiny_generator_config(variant="radmaisi")
    pipe = train_ldm(tiny_subjects, tiny_autoencoder, settings, preprocessing=TINY_PREPROCESSING, images=["t2w"])
    with pytest.raises(InputError, match="guidance"):
        SyntheticPool.build(
            pipe,
            tmp_path / "pool",
            per_class={0: 1},
            reports={0: [""]},
            sampling=SamplingConfig(steps=1, guidance=2.0),
            override_class=True,
        )
    assert not (tmp_path / "pool").exists()
