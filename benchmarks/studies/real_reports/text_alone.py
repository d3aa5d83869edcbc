"""What plain readers tell from the reports: regressions on words, and on the mean state of the pre-trained encoder.

They see the training reports of a fold and tell the classes of the left-out ones, as the generator's class heads do.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchio as tio
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from synthaug.config import TextEncoderConfig
from synthaug.models.text_encoder import build_text_encoder, encode_tokens

BYTES = 511
"""What the byte-level encoder sees of a report: the end, in 512 tokens of which one says that it ends."""


def word_reader(*, tail_bytes: int | None = None) -> Pipeline:
    """Logistic regression on words and pairs of words; with ``tail_bytes`` only on the end of each report.

    Example:
        >>> reader = word_reader().fit(["no invasion"] * 3 + ["invasion seen"] * 3, [0, 0, 0, 1, 1, 1])
        >>> reader.predict_proba(["invasion seen", "no invasion"]).argmax(1).tolist()
        [1, 0]
    """
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    shown = FunctionTransformer(_tails, kw_args={"count": tail_bytes})
    return make_pipeline(shown, words, LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000))


def _tails(reports: Sequence[str], count: int | None) -> list[str]:
    """The last ``count`` bytes of each report; None = all."""
    return [report if count is None else report.encode()[-count:].decode(errors="ignore") for report in reports]


def state_reader(encode: Callable[[Sequence[str]], np.ndarray]) -> Pipeline:
    """Logistic regression on one row of numbers a report."""
    regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    return make_pipeline(FunctionTransformer(encode), StandardScaler(), regression)


def mean_states(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[str]], np.ndarray]:
    """The mean last hidden state (n, width) over a report's tokens, without padding; each report is read once."""

    @functools.cache
    @torch.no_grad()
    def row(report: str) -> np.ndarray:
        tokens = tokenizer(report, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt")
        return encode_tokens(encoder, tokens.input_ids)[0].mean(0).numpy()

    return lambda reports: np.stack([row(report) for report in reports])


def readers(max_tokens: int, *, pretrained: bool = True) -> dict[str, Callable[[], Pipeline]]:
    """Untrained readers by name; ``pretrained`` = also one of the hidden states of MiniLM, whose weights are needed."""
    found: dict[str, Callable[[], Pipeline]] = {
        "words": word_reader,
        f"words, last {BYTES} bytes": lambda: word_reader(tail_bytes=BYTES),
    }
    if pretrained:
        encode = mean_states(*build_text_encoder(TextEncoderConfig(path="minilm", max_tokens=max_tokens)))
        found["MiniLM, mean state"] = lambda: state_reader(encode)
    return found


def read_left_out(reader: Pipeline, train: Sequence[tio.Subject], test: Sequence[tio.Subject]) -> np.ndarray:
    """Class probabilities (n, K) of left-out reports."""
    reader.fit([subject["report"] for subject in train], [subject["label"] for subject in train])
    return reader.predict_proba([subject["report"] for subject in test])
