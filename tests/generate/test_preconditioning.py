"""The linear predictor in front of the network: unit variances, exact Gaussians, and nothing at all where it is off."""

import math

import pytest
import torch

from synthaug.generate.diffusion import SCHEDULERS, corrupt, network_time, published_signal, training_scheduler
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.preconditioning import balance, coefficients, denoise, told_time

PREDICTIONS = ["epsilon", "v_prediction", "flow_prediction"]
DEVIATIONS = [0.5, 3.0]


def images(n: int, seed: int = 0) -> torch.Tensor:
    """(n, 2, 1, 1, 1), each channel with its own deviation."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 1, 1, 1, generator=draw) * torch.tensor(DEVIATIONS).view(1, 2, 1, 1, 1)


@pytest.mark.parametrize("step", [1, 60, 400, 998])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_network_sees_and_answers_unit_variance(prediction, step):
    scheduler = training_scheduler(prediction)
    clean, steps = images(40_000), torch.full((40_000,), step)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(9))
    noisy, wanted = corrupt(scheduler, clean, noise, steps)
    inward, skip, outward = coefficients(scheduler, DEVIATIONS, network_time(scheduler, steps))
    answer = (wanted - skip * noisy) / outward
    torch.testing.assert_close((inward * noisy).std(0).flatten(), torch.ones(2), atol=0.02, rtol=0)
    torch.testing.assert_close(answer.std(0).flatten(), torch.ones(2), atol=0.02, rtol=0)
    # Nothing linear is left to learn: the answer has no correlation with what is seen.
    assert (answer * noisy * inward).mean(0).abs().max() < 0.02


class Silent(torch.nn.Module):
    """A network that answers zero."""

    dtype = torch.float32
    linear = None

    def forward(self, latents, time, **conditions):
        return torch.zeros_like(latents)


@pytest.mark.parametrize("name", ["ddim", "dpm_solver", "unipc"])
def test_a_silent_network_draws_noise_with_the_deviation_of_each_channel(name):
    trained = training_scheduler("v_prediction")
    sampler = SCHEDULERS[name].from_config(trained.config)
    sampler.set_timesteps(100)
    drawn = torch.randn(4000, 2, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    for time in sampler.timesteps:
        predicted = denoise(Silent(), sampler, DEVIATIONS, drawn, time.expand(len(drawn)))
        drawn = sampler.step(predicted, time, drawn).prev_sample
    torch.testing.assert_close(drawn.std(0).flatten(), torch.tensor(DEVIATIONS), atol=0, rtol=0.05)


def test_every_time_weighs_alike_in_the_loss_of_a_silent_network():
    scheduler = training_scheduler("v_prediction")
    clean = images(20_000)
    for step in (1, 300, 900):
        times = torch.full((len(clean),), step)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(step))  # not that of the images
        noisy, wanted = corrupt(scheduler, clean, noise, times)
        error = wanted - denoise(Silent(), scheduler, DEVIATIONS, noisy, times)
        loss = error.square() / balance(scheduler, DEVIATIONS, times, power=2)
        assert loss.mean().item() == pytest.approx(1, abs=0.05)


def test_off_means_the_network_alone():
    class Answering(Silent):
        def forward(self, latents, time, **conditions):
            return 3 * latents

    latents = images(4)
    scheduler = training_scheduler("epsilon")
    assert torch.equal(denoise(Answering(), scheduler, [], latents, torch.zeros(4)), 3 * latents)
    assert balance(scheduler, [], torch.zeros(4), power=2) == 1.0


def test_an_old_folder_keeps_its_deviations_and_draws_the_same_after_saving(old_folder, tmp_path):
    pipeline = CCELLAPipeline.from_pretrained(old_folder)
    pipeline.save_pretrained(tmp_path)
    again = CCELLAPipeline.from_pretrained(tmp_path)
    for each in (pipeline, again):
        each.set_progress_bar_config(disable=True)
    assert list(again.config.latent_deviations) == [0.5, 1.0, 2.0, 1.0]
    assert again.fingerprint == pipeline.fingerprint
    one, other = (each(["PI-RADS 5"], seeds=[3], num_inference_steps=3).volumes for each in (pipeline, again))
    assert torch.equal(one, other)
    again.register_to_config(latent_deviations=[])
    again._fingerprint = None
    assert again.fingerprint != pipeline.fingerprint
    assert not torch.equal(again(["PI-RADS 5"], seeds=[3], num_inference_steps=3).volumes, one)


def test_a_network_of_velocities_is_a_flow_that_is_told_the_time_of_equal_noise(old_folder):
    pipeline = CCELLAPipeline.from_pretrained(old_folder)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        pipeline.with_scheduler("dpm_solver_sde")
        return pipeline(["PI-RADS 5", ""], seeds=[3, 4], num_inference_steps=20).volumes

    as_velocity = draw()
    pipeline.scheduler = training_scheduler("flow_prediction")
    # The steps of the diffusion sampler are rounded to whole timesteps, the flow's are not.
    torch.testing.assert_close(draw(), as_velocity, atol=0.02, rtol=0)


@pytest.mark.parametrize("time", [1, 40, 500, 999])
def test_the_told_time_of_a_flow_has_the_same_ratio_of_signal_to_noise(time):
    share = torch.tensor([float(time)])
    told = told_time(training_scheduler("flow_prediction"), DEVIATIONS, share).item()
    kept = published_signal()
    wanted = ((1000 - time) / time) ** 2
    ratios = kept / (1 - kept)
    if 0 <= told <= 999:
        assert ratios[math.ceil(told)] <= wanted * 1.001
        assert ratios[math.floor(told)] >= wanted * 0.999
    else:  # beyond the schedule: continued, in order
        assert (wanted > ratios[0]) if told < 0 else (wanted < ratios[-1])


def test_the_time_told_rises_with_the_flows_own():
    told = told_time(training_scheduler("flow_prediction"), DEVIATIONS, torch.arange(1.0, 1001.0))
    assert torch.isfinite(told).all()
    assert (told.diff() > 0).all()
    assert told[0] < 0 < 999 < told[-1]
