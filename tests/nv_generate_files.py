"""Files as NVIDIA's NV-Generate has them, of random weights at reduced width, written by MONAI's own classes."""

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

CHANNELS = (32, 32, 32, 32)
SCALE_FACTOR = 0.75
SHAPE, SPACING_MM = (16, 16, 32), (10.625, 10.625, 2.8125)
"""Of tiny volumes over the field of view of a prostate; the tiny autoencoder halves each side."""


def make_unet() -> DiffusionModelUNetMaisi:
    """The published U-Net, narrower, with no weights of zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        unet = DiffusionModelUNetMaisi(
            spatial_dims=3,
            in_channels=4,
            out_channels=4,
            num_channels=CHANNELS,
            attention_levels=(False, False, True, True),
            num_head_channels=(0, 0, 32, 32),
            num_res_blocks=2,
            include_spacing_input=True,
            num_class_embeds=128,
            resblock_updown=True,
            include_fc=True,
        )
        for parameter in unet.parameters():
            if not parameter.any():  # MONAI begins with residual blocks and an output of zero, which nothing can change
                torch.nn.init.normal_(parameter, std=0.05)
    return unet.eval()


def make_vae() -> AutoencoderKlMaisi:
    """The published autoencoder, narrower and with one level less."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return AutoencoderKlMaisi(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            num_channels=(8, 16),
            latent_channels=4,
            num_res_blocks=(2, 2),
            attention_levels=(False, False),
            norm_num_groups=4,
            norm_eps=1e-6,
            use_convtranspose=False,
            num_splits=1,
            norm_float16=False,
        ).eval()


def write_files(folder, *, name="diff_unet_3d_rflow-mr.pt", **changes) -> tuple[str, str]:
    """Paths of a U-Net's and an autoencoder's file; ``changes`` replace values of the first."""
    checkpoint = {
        "epoch": 9,
        "loss": 0.1,
        "num_train_timesteps": 1000,
        "scale_factor": torch.tensor(SCALE_FACTOR),
        "unet_state_dict": make_unet().state_dict(),
    }
    unet, vae = folder / name, folder / "autoencoder_v2.pt"
    torch.save(checkpoint | changes, unet)
    torch.save({"unet_state_dict": make_vae().state_dict()}, vae)
    return str(unet), str(vae)
