"""EDM in numbers: Table 1 and Algorithm 2 of arXiv 2206.00364, and samplers that find a Gaussian whose D is known."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import tiny_generator_config

from synthaug.generate.diffusion import SOLVERS_OF_EDM, corrupt, noise_schedule, swap_scheduler, training_scheduler
from synthaug.generate.edm import (
    SIGMA_DATA,
    EDMScheduler,
    draw_sigma,
    loss_weight,
    network_time,
    preconditioning,
)
from synthaug.generate.preconditioning import balance, coefficients, denoise
from synthaug.generate.training.networks import noise_process
from synthaug.ground.errors import InputError

SIGMAS = torch.tensor([0.002, 0.05, 0.5, 3.0, 80.0])
MEAN = 0.3


def best(noisy, sigma):
    """D of images that are normal about MEAN with EDM's deviation: known exactly."""
    kept = SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)
    return MEAN + kept * (noisy - MEAN)


def drawn(solver, steps, *, rows=6000, **settings):
    """Samples of the exact denoiser and how often it was asked."""
    sampler, noise = EDMScheduler(solver, **settings), torch.Generator().manual_seed(1)
    sampler.set_timesteps(steps)
    sample = sampler.first_sample(torch.randn(rows, 1, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    for sigma in sampler.timesteps:
        sample = sampler.step(best(sample, sigma), sigma, sample, generator=noise).prev_sample
    return sample.flatten(), len(sampler.timesteps)


# --- Table 1


def test_the_preconditioning_has_the_papers_values():
    # sigma = 2 beside a deviation of 1/2: sigma^2 + sigma_d^2 = 17/4.
    skip, outward, inward = (float(part) for part in preconditioning(torch.tensor(2.0)))
    assert skip == pytest.approx(1 / 17)
    assert outward == pytest.approx(2 / math.sqrt(17))
    assert inward == pytest.approx(2 / math.sqrt(17))


def test_the_network_sees_and_is_asked_for_unit_variance():
    skip, outward, inward = preconditioning(SIGMAS)
    torch.testing.assert_close(inward**2 * (SIGMAS**2 + SIGMA_DATA**2), torch.ones(5))
    # Its target is (x - c_skip (x + n)) / c_out, of variance ((1 - c_skip)^2 sigma_d^2 + c_skip^2 sigma^2) / c_out^2.
    asked = ((1 - skip) ** 2 * SIGMA_DATA**2 + skip**2 * SIGMAS**2) / outward**2
    torch.testing.assert_close(asked, torch.ones(5), rtol=1e-4, atol=0)


def test_the_loss_weight_is_one_over_c_out_squared():
    assert loss_weight(torch.tensor(0.5)).item() == pytest.approx(8)  # (1/4 + 1/4) / (1/4)^2
    torch.testing.assert_close(loss_weight(SIGMAS) * preconditioning(SIGMAS)[1] ** 2, torch.ones(5))


def test_the_joint_loss_weighs_squared_errors_by_lambda():
    scheduler = training_scheduler("edm")
    weight = 1 / balance(scheduler, (), SIGMAS, power=2)
    torch.testing.assert_close(weight.flatten(), loss_weight(SIGMAS))


def test_training_noise_is_log_normal():
    sigma = draw_sigma(40_000, mean=-0.8, deviation=1.2, generator=torch.Generator().manual_seed(0)).log()
    assert sigma.mean().item() == pytest.approx(-0.8, abs=0.02)
    assert sigma.std().item() == pytest.approx(1.2, abs=0.02)


def test_the_networks_time_rises_with_the_log_of_the_noise():
    times = network_time(SIGMAS)
    assert times[0].item() == pytest.approx(0, abs=1e-2)
    assert times[-1].item() == pytest.approx(1000, abs=1e-2)
    assert (times.diff() > 0).all()


class Zero(torch.nn.Module):
    """An untrained network: its last layer starts at zero."""

    dtype = torch.float32
    linear = None

    def forward(self, latents, time, **conditions):
        return torch.zeros_like(latents)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_an_untrained_network_is_the_best_linear_guess_and_every_noise_level_weighs_one(sigma):
    scheduler, draw = training_scheduler("edm"), torch.Generator().manual_seed(3)
    clean = SIGMA_DATA * torch.randn(20_000, 1, 1, 1, 1, generator=draw)
    times = torch.full((20_000,), sigma)
    noisy, wanted = corrupt(scheduler, clean, torch.randn(clean.shape, generator=draw), times)
    assert torch.equal(wanted, clean)
    guess = denoise(Zero(), scheduler, (), noisy, times)
    torch.testing.assert_close(guess, noisy * SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2))
    loss = ((guess - clean) ** 2 / balance(scheduler, (), times, power=2)).mean()
    assert loss.item() == pytest.approx(1, abs=0.05)


# --- sampling


def test_noise_levels_are_those_of_equation_5():
    sampler = EDMScheduler("euler_ode", sigma_min=0.01, sigma_max=40.0, rho=7.0)
    sampler.set_timesteps(3)
    middle = ((40.0 ** (1 / 7) + 0.01 ** (1 / 7)) / 2) ** 7
    assert sampler.timesteps.tolist() == pytest.approx([40.0, middle, 0.01], rel=1e-5)
    assert sampler.sigmas[-1] == 0
    sampler.set_timesteps(3, sigma_max=5.0)  # a level's own
    assert sampler.timesteps[0].item() == pytest.approx(5)
    assert sampler.first_sample(torch.ones(1)).item() == pytest.approx(5)
    sampler.set_timesteps(3)
    assert sampler.timesteps[0].item() == pytest.approx(40)


@pytest.mark.parametrize("solver", SOLVERS_OF_EDM.values())
def test_every_solver_converges_to_the_images_as_steps_grow(solver):
    errors = []
    for steps in (6, 96):
        found, evaluations = drawn(solver, steps)
        assert evaluations == (2 * steps - 1 if solver == "heun" else steps)
        errors.append(abs(found.std().item() - SIGMA_DATA))
        assert found.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert errors[1] < 0.02
    assert errors[1] <= errors[0] + 0.005


def test_heun_without_churn_has_second_order():
    errors = []
    for steps in (8, 16, 32):
        exact = torch.randn(6000, generator=torch.Generator().manual_seed(0))
        # The probability flow of a Gaussian only scales: from deviation sqrt(sigma_d^2 + sigma_max^2) to sigma_d.
        start = 40.0 * exact
        scale = SIGMA_DATA / math.sqrt(SIGMA_DATA**2 + 40.0**2)
        errors.append((drawn("heun", steps, churn=0.0)[0] - (MEAN + scale * (start - MEAN))).abs().mean().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_churn_raises_the_noise_before_a_step_within_its_range():
    sampler = EDMScheduler("heun", churn=30.0, churn_range=(0.05, 20.0))
    sampler.set_timesteps(20)
    first = [float(sigma) for sigma in sampler.timesteps[::2]]
    for told, sigma in zip(first, sampler.sigmas, strict=False):
        gamma = min(30 / 20, math.sqrt(2) - 1) if 0.05 <= sigma <= 20 else 0
        assert told == pytest.approx(sigma * (1 + gamma), rel=1e-5)


def test_an_ancestral_step_draws_ddpms_posterior():
    sampler = EDMScheduler("ancestral", sigma_min=1.0, sigma_max=2.0)
    sampler.set_timesteps(2)
    sample, clean = torch.full((50_000, 1, 1, 1, 1), 3.0), torch.full((50_000, 1, 1, 1, 1), 0.5)
    noise = torch.Generator().manual_seed(0)
    moved = sampler.step(clean, sampler.timesteps[0], sample, generator=noise).prev_sample
    # q(x_1 | x_2, x_0) with sigmas 1 and 2: mean (1/4) x_2 + (3/4) x_0, variance 1 (4 - 1) / 4.
    assert moved.mean().item() == pytest.approx(0.25 * 3 + 0.75 * 0.5, abs=0.02)
    assert moved.var().item() == pytest.approx(0.75, abs=0.02)


def test_a_deterministic_step_moves_along_the_slope():
    sampler = EDMScheduler("euler_ode", sigma_min=1.0, sigma_max=2.0)
    sampler.set_timesteps(2)
    sample, clean = torch.full((1, 1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1, 1), 0.5)
    # x + (1 - 2) (x - D) / 2
    assert sampler.step(clean, sampler.timesteps[0], sample).prev_sample.item() == pytest.approx(3 - 2.5 / 2)


# --- epsilon scaling


def test_the_predicted_noise_is_divided_by_its_scale():
    sampler = EDMScheduler("euler_ode", sigma_min=1.0, sigma_max=2.0, epsilon_scale=1.25)
    sampler.set_timesteps(2)
    sample, clean = torch.full((1, 1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1, 1), 0.5)
    # D becomes 3 - 2.5 / 1.25 = 1, and 3 + (1 - 2) (3 - 1) / 2 = 2.
    assert sampler.step(clean, sampler.timesteps[0], sample).prev_sample.item() == pytest.approx(2)


@pytest.mark.parametrize("solver", ["heun", "multistep", "multistep_sde"])
def test_scaling_gives_back_what_a_denoiser_removes_too_much(solver):
    def eager(sample, sigma):
        return sample - 1.05 * (sample - best(sample, sigma))

    def spread(scale):
        sampler, noise = EDMScheduler(solver, epsilon_scale=scale), torch.Generator().manual_seed(1)
        sampler.set_timesteps(20)
        sample = sampler.first_sample(torch.randn(6000, 1, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
        for sigma in sampler.timesteps:
            sample = sampler.step(eager(sample, sigma), sigma, sample, generator=noise).prev_sample
        return sample.std().item()

    right = drawn(solver, 20)[0].std().item()
    assert spread(1.05) == pytest.approx(right, rel=1e-3)
    assert spread(1.0) < 0.99 * right


def test_the_scale_belongs_to_the_generator(tmp_path):
    trained = training_scheduler("edm")
    scaled = swap_scheduler(trained, "dpm_solver", epsilon_scale=1.02)
    assert noise_schedule(trained) == noise_schedule(swap_scheduler(trained, "heun")) != noise_schedule(scaled)
    assert swap_scheduler(scaled, "heun").config.epsilon_scale == 1.02
    scaled.save_pretrained(tmp_path)
    assert EDMScheduler.from_pretrained(tmp_path).config.epsilon_scale == 1.02
    for scheduler, scale in ((training_scheduler("epsilon"), 1.02), (trained, 0.0)):
        with pytest.raises(InputError, match="epsilon_scale"):
            swap_scheduler(scheduler, "ddim", epsilon_scale=scale)


@pytest.mark.parametrize("solver", ["heun", "ancestral", "multistep_sde"])
def test_each_row_has_its_own_generator(solver):
    def run(seeds):
        sampler = EDMScheduler(solver)
        sampler.set_timesteps(4)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        rows = [torch.randn(1, 2, 2, 2, generator=generator) for generator in generators]
        sample = sampler.first_sample(torch.stack(rows))
        for sigma in sampler.timesteps:
            sample = sampler.step(best(sample, sigma), sigma, sample, generator=generators).prev_sample
        return sample

    assert torch.equal(run([5, 6, 7]).flip(0), run([7, 6, 5]))
    assert torch.equal(run([6])[0], run([5, 6, 7])[1])


def test_a_second_drawing_forgets_the_first():
    sampler = EDMScheduler("multistep")
    found = []
    for _ in range(2):
        sampler.set_timesteps(5)
        sample = sampler.first_sample(torch.ones(1, 1, 1, 1, 1))
        for sigma in sampler.timesteps[: 3 if not found else 5]:  # the first is broken off
            sample = sampler.step(best(sample, sigma), sigma, sample).prev_sample
        found.append(sample.item())
    fresh = EDMScheduler("multistep")
    fresh.set_timesteps(5)
    sample = fresh.first_sample(torch.ones(1, 1, 1, 1, 1))
    for sigma in fresh.timesteps:
        sample = fresh.step(best(sample, sigma), sigma, sample).prev_sample
    assert found[1] == sample.item()


def test_schedulers_go_by_the_same_names_and_others_are_refused(tmp_path):
    trained = training_scheduler("edm")
    for name, solver in SOLVERS_OF_EDM.items():
        swapped = swap_scheduler(trained, name)
        swapped.save_pretrained(tmp_path / name)
        assert EDMScheduler.from_pretrained(tmp_path / name).config.solver == swapped.config.solver == solver
    for name in ("unipc", "flow_euler"):
        with pytest.raises(InputError, match=rf"{name}.*EDM denoiser"):
            swap_scheduler(trained, name)
    with pytest.raises(InputError, match="heun"):
        swap_scheduler(training_scheduler("epsilon"), "heun")


@pytest.mark.parametrize(("latents", "deviation"), [("cascade", 0.5), ("autoencoder", 1.0)])
def test_a_network_is_told_the_deviation_of_its_latents(latents, deviation, tmp_path):
    process = noise_process(replace(tiny_generator_config(), latents=latents, prediction="edm", levels=[]))
    sampler = swap_scheduler(process, "heun")
    sampler.save_pretrained(tmp_path)
    sampler = EDMScheduler.from_pretrained(tmp_path)
    time = torch.tensor([deviation])
    inward, skip, outward = (float(part) for part in coefficients(sampler, (), time))
    assert (skip, outward) == pytest.approx((0.5, deviation / 2**0.5))  # half of what has as much noise as image
    assert inward == pytest.approx(1 / (deviation * 2**0.5))
