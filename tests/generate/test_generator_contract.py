"""The contract of every generator: each variant under each objective, drawn by each scheduler that suits it."""

import pytest
import torch
from conftest import IMAGES, TINY_PREPROCESSING, tiny_cascade_config, tiny_generator_config
from diffusers import FlowMatchEulerDiscreteScheduler

from synthaug.config import TrainingConfig
from synthaug.generate.diffusion import (
    SAMPLERS_OF_DIFFUSION,
    SAMPLERS_OF_FLOWS,
    SCHEDULERS,
    SOLVERS_OF_EDM,
    corrupt,
    network_time,
    training_scheduler,
)
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.ldm import train_ldm
from synthaug.ground.errors import InputError
from synthaug.models.variants import VARIANTS

OBJECTIVES = {
    "edm": tuple(SOLVERS_OF_EDM),
    "epsilon": SAMPLERS_OF_DIFFUSION,
    "v_prediction": SAMPLERS_OF_DIFFUSION,
    "flow_prediction": SAMPLERS_OF_FLOWS,
}
REPORTS = ["PI-RADS 5, left", "", "PI-RADS 1"]
SEEDS = [0, 7, 8]


@pytest.fixture(scope="module", params=[(v, o) for v in VARIANTS for o in OBJECTIVES], ids="-".join)
def generator(request, tiny_subjects, tiny_autoencoder, tiny_cascade):
    variant, objective = request.param
    make, space = tiny_generator_config, tiny_autoencoder
    if objective == "edm":
        make, space = tiny_cascade_config, tiny_cascade.autoencoder
    training = TrainingConfig(steps=2 if objective == "edm" else 1, batch_size=4, precision="float32")
    pipeline = train_ldm(
        tiny_subjects,
        space,
        make(variant=variant, prediction=objective, training=training),
        preprocessing=TINY_PREPROCESSING,
        images=IMAGES,
        micro_batch=2,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline, rows, **settings):
    told = VARIANTS[pipeline.denoiser.config.variant].class_input == "true"
    labels = [row % 2 for row in rows] if told else None
    return pipeline(
        [REPORTS[row] for row in rows], labels, seeds=[SEEDS[row] for row in rows], num_inference_steps=3, **settings
    )


def schedulers_to_draw(generator):
    """All that suit it; of EDM's, which know nothing of the variant, all for ccella and one for the others."""
    names = OBJECTIVES[generator.record["generator"]["prediction"]]
    return names if generator.denoiser.config.variant == "ccella" or "unipc" in names else names[-2:-1]


def test_every_suited_scheduler_draws_the_same_volume_whatever_its_neighbours(generator, tmp_path):
    conditioning = VARIANTS[generator.denoiser.config.variant]
    names, drawn = schedulers_to_draw(generator), {}
    for name in names:
        drawn[name] = draw(generator.with_scheduler(name), [0, 1, 2])
        assert drawn[name].volumes.shape == (3, 1, 16, 16, 8)
        assert torch.isfinite(drawn[name].volumes).all()
        assert (drawn[name].class_probabilities is None) == (conditioning.heads == "none")
        for row in (2, 0):
            assert torch.equal(draw(generator, [row]).volumes[0], drawn[name].volumes[row])
    generator.save_pretrained(tmp_path)
    again = CCELLAPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.fingerprint == generator.fingerprint
    for name in names:
        assert torch.equal(draw(again.with_scheduler(name), [0, 1, 2]).volumes, drawn[name].volumes)


def test_schedulers_of_another_process_are_refused(generator):
    objective = generator.record["generator"]["prediction"]
    kind = {"edm": "an EDM denoiser", "flow_prediction": "a rectified flow"}.get(objective, "a diffusion model")
    for name in {**SCHEDULERS, **SOLVERS_OF_EDM}.keys() - set(OBJECTIVES[objective]):
        with pytest.raises(InputError, match=f"Scheduler '{name}' cannot sample {kind}"):
            generator.with_scheduler(name)


def test_a_scheduler_of_another_process_put_there_by_hand_is_refused(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    pipeline = CCELLAPipeline.from_pretrained(tmp_path)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    with pytest.raises(InputError, match="Scheduler 'flow_euler' cannot sample a diffusion model"):
        pipeline(["PI-RADS 4"], seeds=[0])


def test_a_scheduler_of_diffusion_put_there_by_hand_is_refused_for_a_cascade(tiny_cascade, tmp_path):
    tiny_cascade.save_pretrained(tmp_path)
    pipeline = CCELLAPipeline.from_pretrained(tmp_path)
    pipeline.scheduler = training_scheduler("epsilon")
    with pytest.raises(InputError, match="DDPMScheduler cannot sample an EDM denoiser"):
        pipeline(["PI-RADS 4"], seeds=[0])


# --- each sampler undoes each process: where the best prediction is known, it finds the distribution of the images

MEAN, VARIANCE = 2.0, 0.25


def best_prediction(scheduler, noisy, time):
    """E[target | noisy] for normal images: the least-squares line through what ``corrupt`` gives."""
    generator = torch.Generator().manual_seed(int(time))
    images = MEAN + VARIANCE**0.5 * torch.randn(20_000, 1, 1, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    steps = torch.arange(1000)
    step = int(steps[(network_time(scheduler, steps) - time).abs().argmin()])
    seen, wanted = corrupt(scheduler, images, noise, torch.full((len(images),), step))
    seen, wanted = seen.flatten(), wanted.flatten()
    slope = ((seen - seen.mean()) * (wanted - wanted.mean())).mean() / seen.var()
    return wanted.mean() + slope * (noisy - seen.mean())


@pytest.mark.parametrize(
    ("objective", "name"), [(o, n) for o, names in OBJECTIVES.items() for n in names if o != "edm"]
)
def test_a_sampler_with_the_best_predictions_finds_mean_and_deviation_of_the_images(objective, name):
    trained = training_scheduler(objective)
    sampler = SCHEDULERS[name].from_config(trained.config)
    sampler.set_timesteps(200 if name == "ddpm" else 40)
    drawn = torch.randn(4000, 1, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    for time in sampler.timesteps:
        drawn = sampler.step(best_prediction(trained, drawn, time), time, drawn).prev_sample
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.1)
    assert drawn.std().item() == pytest.approx(VARIANCE**0.5, abs=0.1)
