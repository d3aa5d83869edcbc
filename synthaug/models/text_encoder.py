"""Text encoders: any transformers encoder by path or hub id, or a small byte-level T5 that needs no download."""

from collections.abc import Sequence

import torch
from transformers import (
    AutoModelForTextEncoding,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
)

from synthaug.config import TextEncoderConfig
from synthaug.errors import InputError


def build_text_encoder(config: TextEncoderConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An encoder and its tokenizer, which truncates on the left (a report's impression stands at its end).

    Raises:
        InputError: ``config.path`` holds no encoder with safetensors weights.
    """
    if config.path is None:
        tokenizer: PreTrainedTokenizerBase = ByT5Tokenizer(extra_ids=0)
        size = T5Config(
            vocab_size=len(tokenizer),
            d_model=config.width,
            d_kv=config.width // config.heads,
            d_ff=4 * config.width,
            num_layers=config.layers,
            num_heads=config.heads,
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
        encoder: PreTrainedModel = T5EncoderModel(size)
    else:
        try:
            encoder = AutoModelForTextEncoding.from_pretrained(config.path, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(config.path)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"text_encoder.path={config.path!r}: no usable transformers encoder ({reason}).") from error
    tokenizer.truncation_side = "left"
    tokenizer.model_max_length = config.max_tokens
    return encoder, tokenizer


def tokenize(tokenizer: PreTrainedTokenizerBase, reports: Sequence[str]) -> torch.Tensor:
    """Token ids (B, L), every report padded to the tokenizer's length, as published.

    Example:
        >>> _, tokenizer = build_text_encoder(TextEncoderConfig(max_tokens=8))
        >>> tokenize(tokenizer, ["", "PI-RADS 5"]).shape
        torch.Size([2, 8])
    """
    return tokenizer(
        list(reports),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids


def encode_tokens(encoder: PreTrainedModel, token_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, L, width). Padding is attended to, as published."""
    return encoder(input_ids=token_ids, attention_mask=torch.ones_like(token_ids)).last_hidden_state
