"""What is minimised: the autoencoder's loss and CCELLA's joint loss (arXiv 2506.10230)."""

from collections.abc import Sequence
from typing import Literal

import torch
from diffusers import SchedulerMixin
from monai.losses import FocalLoss
from torch import nn

from synthaug.generate.diffusion import corrupt, network_time
from synthaug.generate.preconditioning import balance, denoise, told_time
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.text_encoder import encode_tokens


class AutoencoderObjective(nn.Module):
    """L1 reconstruction + KL of the posterior to a unit Gaussian."""

    def __init__(self, autoencoder: ImageAutoencoder, kl_weight: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.kl_weight = kl_weight

    def forward(self, volumes: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """volumes (B, C, X, Y, Z), unit noise of the latent's shape -> loss and its parts."""
        mean, deviation = self.autoencoder.posterior(volumes)
        rebuilt = self.autoencoder.decode_unscaled(mean + deviation * noise)
        l1 = (rebuilt - volumes).abs().mean()
        kl = 0.5 * (mean.square() + deviation.square() - 2 * deviation.log() - 1).flatten(1).sum(1).mean()
        return l1 + self.kl_weight * kl, {"l1": l1.detach(), "kl": kl.detach()}


class DiffusionObjective(nn.Module):
    """CCELLA's joint loss: L1 of the predicted noise, velocity or flow + weight * focal loss of the class logits.

    The focal loss (alpha 0.75, gamma 2, softmax) is averaged over the cases that have a report.

    Ours: the squared error in place of the L1, whose minimum is the median and leaves out what is rare at a place; and
    + weight * squared error of the layout that the report lets expect (:class:`CCELLADenoiser`), 1 for an expectation
    of nothing. What a report says of a place is a small share of the denoising loss and is learned late from it alone.

    Args:
        denoiser: What is trained.
        text_encoder: Trained with it; None = texts come as hidden states.
        scheduler: Noise levels and prediction type.
        class_weight: Of the focal loss.
        distance: "l1" or "mse".
        layout_weight: Of the error of the expected layout, where the denoiser has one.
        deviations: Of the latent channels, for preconditioning; empty = none. Each time then weighs alike.
    """

    def __init__(
        self,
        denoiser: CCELLADenoiser,
        text_encoder: nn.Module | None,
        scheduler: SchedulerMixin,
        class_weight: float,
        *,
        distance: Literal["l1", "mse"] = "l1",
        layout_weight: float = 0.0,
        deviations: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder
        self.scheduler = scheduler
        self.class_weight = class_weight if denoiser.conditioning.class_loss else 0.0
        self.distance = distance
        self.deviations = list(deviations)
        self.layout_weight = layout_weight if denoiser.config.layout_shape else 0.0
        self.focal = FocalLoss(gamma=2.0, alpha=0.75, use_softmax=True, to_onehot_y=True, reduction="none")

    def forward(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        labels: torch.Tensor,
        report_weight: torch.Tensor,
        spacing_mm: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """All rows of one batch; ``text`` holds token ids where the text encoder is trained, else hidden states."""
        denoiser = self.denoiser
        noisy, wanted = corrupt(self.scheduler, latents, noise, timesteps)
        time = network_time(self.scheduler, timesteps)
        context, logits = self.read(text, time)
        given = labels if denoiser.conditioning.class_input == "true" else None
        predicted = denoise(
            denoiser,
            self.scheduler,
            self.deviations,
            noisy,
            time,
            context=context,
            class_vector=denoiser.class_vector(logits, given),
            spacing_mm=spacing_mm,
        )
        error, power = predicted - wanted, 1 if self.distance == "l1" else 2
        loss = (error.abs().pow(power) / balance(self.scheduler, self.deviations, time, power=power)).mean()
        values: dict[str, torch.Tensor] = {self.distance: loss.detach()}
        reading, parts = self.reading_loss(context, logits, latents=latents, labels=labels, weight=report_weight)
        return loss + reading, values | parts

    def read(self, text: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Context and class logits of token ids where the text encoder is trained, else of hidden states."""
        time = told_time(self.scheduler, self.deviations, time)
        if self.text_encoder is not None:
            text = encode_tokens(self.text_encoder, text)
        return self.denoiser.read(text, time)

    def reading_loss(
        self,
        context: torch.Tensor | None,
        logits: torch.Tensor | None,
        *,
        latents: torch.Tensor,
        labels: torch.Tensor,
        weight: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What is asked of the adapter alone: the class, and the layout where there is one; weighted, and the parts."""
        loss = latents.new_zeros(())
        values: dict[str, torch.Tensor] = {}
        if logits is not None:
            focal = (self.focal(logits.float(), labels.unsqueeze(1)).mean(1) * weight).mean()
            loss = loss + self.class_weight * focal
            values |= {"focal": focal.detach(), "class_accuracy": (logits.argmax(1) == labels).float().mean()}
        if self.layout_weight and context is not None:
            deviations = torch.tensor(self.deviations or [1.0], device=latents.device)
            wanted = self.denoiser.layout_of(latents, deviations)
            layout = (self.denoiser.expected_layout(context) - wanted).square().mean()
            loss = loss + self.layout_weight * layout
            values |= {"layout": layout.detach()}
        return loss, values


class ReadingObjective(nn.Module):
    """The part of CCELLA's joint loss that needs no U-Net; takes the same batches (ours)."""

    def __init__(self, joint: DiffusionObjective) -> None:
        super().__init__()
        self.joint = joint

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        labels: torch.Tensor,
        report_weight: torch.Tensor,
        **_: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Arguments as those of :class:`DiffusionObjective`."""
        joint = self.joint
        context, logits = joint.read(text, network_time(joint.scheduler, timesteps))
        return joint.reading_loss(context, logits, latents=latents, labels=labels, weight=report_weight)
