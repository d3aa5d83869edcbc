"""NVIDIA's NV-Generate: its files are imported and draw what MONAI's own classes draw."""

import json

import nibabel
import numpy as np
import pytest
import torch
import torchio as tio
from monai.networks.schedulers.rectified_flow import RFlowScheduler
from nv_generate_files import SCALE_FACTOR, SHAPE, SPACING_MM, make_unet, make_vae, write_files

import synthaug as sa
from synthaug.bench.commands import main
from synthaug.generate.diffusion import corrupt, swap_scheduler, training_scheduler
from synthaug.generate.nvgenerate.fields_of_view import image_extent_mm, tell_grid, tell_images
from synthaug.generate.nvgenerate.flow import MaisiFlowScheduler
from synthaug.ground.errors import InputError
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.nvgenerate.checkpoint import RELEASED

pytestmark = pytest.mark.filterwarnings("ignore:NVIDIA")
GRID = {"shape": SHAPE, "spacing_mm": SPACING_MM}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def imported(files, output, **options):
    sa.import_released(*files, str(output), "nv-generate", norm_groups=4, **{**GRID, **options})
    pipeline = sa.CCELLAPipeline.from_pretrained(output)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def monai_flow():
    """As NVIDIA's configuration makes it."""
    return RFlowScheduler(
        num_train_timesteps=1000,
        use_discrete_timesteps=False,
        use_timestep_transform=True,
        sample_method="uniform",
        scale=1.4,
    )


@torch.no_grad()
def drawn_by_monai(noise, *, modality, spacing_mm, steps, guidance):
    """Latents of MONAI's classes, step by step as NVIDIA's procedure takes them, against class 0 where guided."""
    unet, flow = make_unet(), monai_flow()
    flow.set_timesteps(steps, input_img_size_numel=noise[0, 0].numel())
    following = torch.cat([flow.timesteps[1:], torch.zeros(1, dtype=flow.timesteps.dtype)])
    spacing, latents = 100 * torch.tensor([spacing_mm]), noise
    for time, after in zip(flow.timesteps, following, strict=True):
        told = {"x": latents, "timesteps": torch.Tensor((time,)), "spacing_tensor": spacing}
        velocity = unet(**told, class_labels=torch.tensor([modality]))
        if guidance != 1:
            without = unet(**told, class_labels=torch.tensor([0]))
            velocity = without + guidance * (velocity - without)
        latents, _ = flow.step(velocity, time, latents, after)
    return latents


@pytest.mark.parametrize(("guidance", "shape", "modality"), [(1.0, SHAPE, "t2"), (15.0, (32, 16, 16), "flair")])
def test_thirty_steps_draw_the_latents_that_monai_draws(guidance, shape, modality, files, tmp_path):
    pipeline = imported(files, tmp_path / "out", modality=modality, shape=shape)
    seen = []

    def keep(pipe, step, timestep, values):
        seen.append(values["latents"])
        return values

    pipeline([""], seeds=[5], num_inference_steps=30, guidance_scale=guidance, callback_on_step_end=keep)
    noise = torch.randn(1, 4, *(side // 2 for side in shape), generator=torch.Generator().manual_seed(5))
    label = {"t2": 10, "flair": 11}[modality]
    expected = drawn_by_monai(noise, modality=label, spacing_mm=SPACING_MM, steps=30, guidance=guidance)
    assert (expected - noise).abs().mean() > 0.01  # the network moved them
    assert len(seen) == 30
    torch.testing.assert_close(seen[-1], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("steps", "places"), [(1, 512), (30, 512), (30, 64 * 64 * 32), (1000, 64 * 64 * 32)])
def test_the_sampler_is_monais_with_its_quirks(steps, places):
    ours, theirs = MaisiFlowScheduler(), monai_flow()
    ours.set_timesteps(steps, places=places)
    theirs.set_timesteps(steps, input_img_size_numel=places)
    assert torch.equal(ours.timesteps, theirs.timesteps.float())
    following = [*theirs.timesteps[1:], 0]
    latents, velocity = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)
    for time, mine, after in zip(theirs.timesteps, ours.timesteps, following, strict=True):
        expected = theirs.step(velocity, time, latents, after)[0]
        latents = ours.step(velocity, mine, latents).prev_sample
        assert torch.equal(latents, expected)
    # Each step goes on to the next timestep cut to an integer, so that all of them together pass the image.
    assert latents.item() >= 1.0
    assert (latents.item() > 1.001) == (steps > 1)


def test_training_noise_target_and_times_are_monais():
    flow, theirs = training_scheduler("maisi_flow"), monai_flow()
    latents, noise = torch.randn(2, 3, 4, 8, 8, 8).unbind(0)
    times = torch.tensor([0.5, 400.0, 999.0])
    noisy, wanted = corrupt(flow, latents, noise, times)
    assert torch.equal(noisy, theirs.add_noise(latents, noise, times))
    assert torch.equal(wanted, latents - noise)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = theirs.sample_timesteps(torch.zeros(6, 4, 64, 64, 32))
    drawn = flow.draw_times(6, 64 * 64 * 32, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, expected)


def test_only_its_own_sampler_draws_a_maisi_flow():
    flow = training_scheduler("maisi_flow")
    assert type(swap_scheduler(flow, "flow_euler")) is MaisiFlowScheduler
    with pytest.raises(InputError, match="use flow_euler"):
        swap_scheduler(flow, "dpm_solver_sde")


def test_the_autoencoder_is_monais_with_the_files_scale(files, tmp_path):
    pipeline = imported(files, tmp_path / "out")
    volumes = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean = make_vae().encode(volumes)[0]
        torch.testing.assert_close(pipeline.autoencoder.encode(volumes), SCALE_FACTOR * mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(pipeline.autoencoder.decode(SCALE_FACTOR * mean), make_vae().decode(mean))


def test_a_large_volume_is_encoded_in_tiles():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"channels": (8, 16), "residual_blocks": 1, "norm_groups": 4}
        whole, tiled = ImageAutoencoder(**sizes).eval(), ImageAutoencoder(**sizes, tile=8).eval()
    tiled.load_state_dict(whole.state_dict())
    seen = []
    tiled.vae.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[2:])))
    volumes = torch.rand(2, 1, 32, 16, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = whole.encode(volumes), tiled.encode(volumes)
        small = volumes[:, :, :16]
        torch.testing.assert_close(tiled.encode(small), whole.encode(small))  # it fits in one tile
    assert set(seen) == {(16, 16, 8)}
    assert found.shape == expected.shape
    # The norms see one tile at a time, so the values are near, not equal.
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.9


def test_model_modality_and_licence_are_shown_and_recorded(tmp_path, capsys):
    (tmp_path / "files").mkdir()
    for name, model, modality in (("rflow-mr-brain_v1", "rflow-mr-brain", 9), ("rflow-ct", "rflow-ct", 1)):
        unet, vae = write_files(tmp_path / "files", name=f"diff_unet_3d_{name}.pt")
        words = ["import", "--variant", "nv-generate", "--unet", unet, "--autoencoder", vae, "--norm_groups", "4"]
        words += ["--output", str(tmp_path / model), "--shape", "[16,16,16]", "--spacing_mm", "[1,1,1]"]
        assert main(words) == 0
        licence = RELEASED[model].licence
        assert licence in capsys.readouterr().out
        record = json.loads((tmp_path / model / "training.json").read_text(encoding="utf-8"))
        assert record["license"] == licence
        assert record["nv_generate"]["model"] == model
        assert licence in (tmp_path / model / "README.md").read_text(encoding="utf-8")
        assert (
            json.loads((tmp_path / model / "denoiser/config.json").read_text(encoding="utf-8"))["modality"] == modality
        )


def test_only_rflow_mr_is_non_commercial():
    assert {name for name, model in RELEASED.items() if "non-commercial" in model.licence} == {"rflow-mr"}


def test_a_prostate_is_drawn_unless_another_grid_is_asked_for(files, tmp_path):
    pipeline = imported(files, tmp_path / "out", shape=None, spacing_mm=None)
    extent = [side * size for side, size in zip(pipeline.config.shape, pipeline.config.spacing_mm, strict=True)]
    assert extent == pytest.approx([170, 170, 90])
    assert pipeline.record["nv_generate"] == {
        "model": "rflow-mr",
        "modality": "t2",
        "field_of_view_mm": [170, 170, 90],
    }
    assert pipeline.config.images == ["t2w"]
    assert pipeline.scheduler.config.num_train_timesteps == 1000


@pytest.mark.parametrize(
    ("spoil", "options", "named"),
    [
        (lambda state: state.pop("out.2.conv.bias"), {}, "out.2.conv.bias"),
        (lambda state: state.update(extra=torch.ones(1)), {}, "extra"),
        (lambda state: state.update({"out.2.conv.bias": torch.full((4,), torch.nan)}), {}, "not finite"),
        (lambda state: state.pop("class_embedding.weight"), {}, "modality embedding"),
        (
            lambda state: state.update({"top_region_index_layer.0.weight": state.pop("class_embedding.weight")}),
            {},
            "ddpm-ct",
        ),
        (None, {"modality": "t7"}, "modality"),
        (None, {"modality": "128"}, "1 to 127"),
        (None, {"model": "rflow-ct"}, "rflow-mr"),
        (None, {"images": ["t2w", "adc"]}, "images"),
        (None, {"shape": None}, "spacing_mm"),
        (None, {"shape": (20, 16, 16)}, "multiples of 8"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(spoil, options, named, tmp_path):
    (tmp_path / "files").mkdir()
    state = make_unet().state_dict()
    if spoil:
        spoil(state)
    files = write_files(tmp_path / "files", unet_state_dict=state)
    with pytest.raises(InputError, match=named):
        imported(files, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_file_whose_name_tells_no_model_needs_one(tmp_path):
    (tmp_path / "files").mkdir()
    files = write_files(tmp_path / "files", name="unet.pt")
    with pytest.raises(InputError, match="give model"):
        imported(files, tmp_path / "out")
    assert imported(files, tmp_path / "out", model="rflow-mr").record["nv_generate"]["model"] == "rflow-mr"


def test_guidance_leads_away_from_class_0_without_any_report(files, tmp_path):
    pipeline = imported(files, tmp_path / "out")
    plain, guided = (
        pipeline([""], seeds=[0], num_inference_steps=2, guidance_scale=scale).volumes for scale in (1.0, 15.0)
    )
    assert not torch.equal(plain, guided)


def scan(shape, affine):
    return tio.ScalarImage(tensor=torch.rand(1, *shape), affine=np.asarray(affine, dtype=float))


def test_the_field_of_view_of_an_image_is_told_along_anatomical_axes():
    sagittal = [[0, 0, 3.0, 0], [0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]]  # voxel axes: anterior, inferior, right
    assert nibabel.aff2axcodes(np.array(sagittal)) == ("A", "I", "R")
    assert image_extent_mm(scan((40, 20, 10), sagittal)) == pytest.approx((30, 20, 10))


def test_images_that_leave_the_field_of_view_are_counted(caplog):
    inside, small, large = np.diag([17, 17, 9, 1]), np.diag([17, 17, 6, 1]), np.diag([20, 20, 9, 1])
    subjects = [tio.Subject(t2w=scan((10, 10, 10), affine)) for affine in (inside, inside, small, large)]
    assert tell_images(subjects, "t2w", (170, 170, 90)) == {"smaller": 1, "larger": 1}
    assert len(caplog.records) == 1
    caplog.clear()
    assert tell_images(subjects[:2], "t2w", (170, 170, 90)) == {"smaller": 0, "larger": 0}
    assert not caplog.records


def test_a_grid_of_another_field_of_view_is_told(caplog):
    assert not tell_grid((175, 165, 95), (170, 170, 90), grid="preprocess")
    assert not caplog.records
    assert tell_grid((128, 128, 64), (170, 170, 90), grid="preprocess")
    assert "128 x 128 x 64" in caplog.text
