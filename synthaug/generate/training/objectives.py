"""What is minimised: the autoencoder's loss and CCELLA's joint loss (arXiv 2506.10230)."""

from typing import Literal

import torch
from diffusers import SchedulerMixin
from monai.losses import FocalLoss
from torch import nn

from synthaug.generate.diffusion import corrupt, network_time
from synthaug.generate.preconditioning import balance, denoise, told_time
from synthaug.models.autoencoder import ImageAutoencoder
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.text_encoder import encode_tokens, trimmed


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

    The focal loss (alpha 0.75, gamma 2, softmax) is averaged over the cases that have a report. Ours: the squared error
    in place of the L1, whose minimum is the median and leaves out what is rare at a place; EDM's loss; and the finer
    levels of a cascade. Their reports are encoded once, by the adapter of the coarsest level.

    Args:
        denoiser: What is trained.
        text_encoder: Trained with it; None = texts come as hidden states.
        scheduler: Noise levels and prediction type.
        class_weight: Of the focal loss.
        distance: "l1" or "mse".
        level: Which level of the denoiser.
    """

    def __init__(
        self,
        denoiser: CCELLADenoiser,
        text_encoder: nn.Module | None,
        scheduler: SchedulerMixin,
        class_weight: float,
        *,
        distance: Literal["l1", "mse"] = "l1",
        level: int = 0,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder
        self.scheduler = scheduler
        self.class_weight = class_weight if denoiser.conditioning.class_loss else 0.0
        self.distance = distance
        self.level = level
        self.focal = FocalLoss(gamma=2.0, alpha=0.75, use_softmax=True, to_onehot_y=True, reduction="none")

    def forward(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        labels: torch.Tensor,
        report_weight: torch.Tensor,
        spacing_mm: torch.Tensor,
        text: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        class_vector: torch.Tensor | None = None,
        guide: torch.Tensor | None = None,
        moves: torch.Tensor | None = None,
        texture: torch.Tensor | None = None,
        unconditional: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """All rows of one batch -> the loss and its parts.

        ``text`` holds token ids where the text encoder is trained, else hidden states; at finer levels ``context`` and
        ``class_vector`` take its place. ``unconditional`` says which rows are told no modality (NV-Generate).
        """
        noisy, wanted = corrupt(self.scheduler, latents, noise, timesteps)
        time = network_time(self.scheduler, timesteps)
        told = {"text": text, "context": context, "class_vector": class_vector, "guide": guide}
        told |= {"moves": moves, "texture": texture}
        predicted, logits = self.predict(
            noisy, time, labels=labels, spacing_mm=spacing_mm, unconditional=unconditional, **told
        )
        error = predicted - wanted
        power = 1 if self.distance == "l1" else 2
        linear = self.denoiser.linear if self.level == 0 else None
        loss = (error.abs().pow(power) / balance(self.scheduler, (), time, power=power, linear=linear)).mean()
        values: dict[str, torch.Tensor] = {self.distance: loss.detach()}
        if logits is not None:
            focal = (self.focal(logits.float(), labels.unsqueeze(1)).mean(1) * report_weight).mean()
            loss = loss + self.class_weight * focal
            values |= {"focal": focal.detach(), "class_accuracy": (logits.argmax(1) == labels).float().mean()}
        return loss, values

    def predict(
        self,
        noisy: torch.Tensor,
        time: torch.Tensor,
        *,
        labels: torch.Tensor,
        text: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        class_vector: torch.Tensor | None = None,
        **conditions: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What is made of noisy latents at a time of the scheduler's, and the class logits where a text is read."""
        logits = None
        if text is not None:
            context, logits = self.read(text, time)
            given = labels if self.denoiser.conditioning.class_input == "true" else None
            class_vector = self.denoiser.class_vector(logits, given)
        told = {"context": context, "class_vector": class_vector, "level": self.level, **conditions}
        return denoise(self.denoiser, self.scheduler, (), noisy, time, **told), logits

    def read(self, text: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Context and class logits of token ids where the text encoder is trained, else of hidden states."""
        if self.text_encoder is not None:
            text = encode_tokens(self.text_encoder, trimmed(self.text_encoder, text))
        return self.denoiser.read(text, told_time(self.scheduler, (), time))
