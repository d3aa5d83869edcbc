"""The contract of every generator: each variant under each objective, drawn by each scheduler that suits it."""

import pytest
import torch
from conftest import IMAGES, TINY_PREPROCESSING, tiny_generator_config
from diffusers import FlowMatchEulerDiscreteScheduler

from synthaug.config import TrainingConfig
from synthaug.generate.diffusion import (
    SAMPLERS_OF_DIFFUSION,
    SAMPLERS_OF_FLOWS,
    SCHEDULERS,
    corrupt,
    network_time,
    training_scheduler,
)
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training import train_ldm
from synthaug.ground.errors import InputError
from synthaug.models.variants import VARIANTS

OBJECTIVES = {
    "epsilon": SAMPLERS_OF_DIFFUSION,
    "v_prediction": SAMPLERS_OF_DIFFUSION,
    "flow_prediction": SAMPLERS_OF_FLOWS,
}
REPORTS = ["PI-RADS 5, left", "", "PI-RADS 1"]
SEEDS = [0, 7, 8]


@pytest.fixture(scope="module", params=[(v, o) for v in VARIANTS for o in OBJECTIVES], ids="-".join)
def generator(request, tiny_subjects, tiny_autoencoder):
    variant, objective = request.param
    pipeline = train_ldm(
        tiny_subjects,
        tiny_autoencoder,
        tiny_generator_config(variant=variant, prediction=objective, training=TrainingConfig(steps=1, batch_size=4)),
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


def test_every_suited_scheduler_draws_the_same_volume_whatever_its_neighbours(generator, tmp_path):
    conditioning = VARIANTS[generator.denoiser.config.variant]
    objective = generator.record["generator"]["prediction"]
    drawn = {}
    for name in OBJECTIVES[objective]:
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
    for name in OBJECTIVES[objective]:
        assert torch.equal(draw(again.with_scheduler(name), [0, 1, 2]).volumes, drawn[name].volumes)


def test_schedulers_of_another_process_are_refused(generator):
    objective = generator.record["generator"]["prediction"]
    kind = "a rectified flow" if objective == "flow_prediction" else "a diffusion model"
    for name in SCHEDULERS.keys() - set(OBJECTIVES[objective]):
        with pytest.raises(InputError, match=f"Scheduler '{name}' cannot sample {kind}"):
            generator.with_scheduler(name)


def test_a_scheduler_of_another_process_put_there_by_hand_is_refused(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    pipeline = CCELLAPipeline.from_pretrained(tmp_path)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    with pytest.raises(InputError, match="Scheduler 'flow_euler' cannot sample a diffusion model"):
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


@pytest.mark.parametrize(("objective", "name"), [(o, n) for o, names in OBJECTIVES.items() for n in names])
def test_a_sampler_with_the_best_predictions_finds_mean_and_deviation_of_the_images(objective, name):
    trained = training_scheduler(objective)
    sampler = SCHEDULERS[name].from_config(trained.config)
    sampler.set_timesteps(200 if name == "ddpm" else 40)
    drawn = torch.randn(4000, 1, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    for time in sampler.timesteps:
        drawn = sampler.step(best_prediction(trained, drawn, time), time, drawn).prev_sample
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.1)
    assert drawn.std().item() == pytest.approx(VARIANCE**0.5, abs=0.1)
