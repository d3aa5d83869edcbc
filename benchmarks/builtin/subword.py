"""A tokenizer of byte pairs in which numbers keep their value: what our text encoder sees of a report."""

import re
from collections.abc import Iterable

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

NUMBERS_WRITTEN = {
    r"(?<=[mc]m) ?\^?3(?!\d)": " cubic",
    r"(?<=\d),(?=\d{3}(?!\d))": "",
    r"(?<=\d),(?=\d)": ".",
    r"(?<=^\d\d|\D\d\d)(?=\d)": "~",
    r"(?<=\D) (?=\d)": "",
}
"""How numbers are rewritten before they become tokens: units, thousands, decimals, the second two digits, spaces."""
WORDS = r"(?:~|(?<=\d)\.)?\d{1,2}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s"
NUMBER = re.compile(r"([~.]?)(\d{1,2})")


def subword_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte pairs of lower-case text, numbers two digits at a time, the end of a report as a token of its own.

    A diameter in millimetres is one token. The second two digits and the decimals have tokens of their own, where the
    texts have them often enough: 3100 is ``31 ~00`` and 3.14 is ``3 .14``. The exponent of a unit is no number: mm³ is
    ``mm cubic``.
    """
    pairs = Tokenizer(models.BPE())
    rewrite = [normalizers.Replace(Regex(pattern), text) for pattern, text in NUMBERS_WRITTEN.items()]
    pairs.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), *rewrite])
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator(texts, trainer)
    pairs.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=pairs, pad_token="<pad>", eos_token="</s>")


@torch.no_grad()
def tell_numbers(embedding: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokens of numbers begin with their value in six components of the embedding (vocabulary, width).

    Otherwise each of the hundred must be learnt by itself.
    """
    size = 2 * embedding.std()
    for token, row in tokenizer.get_vocab().items():
        if number := NUMBER.fullmatch(token):
            # One decimal counts as two: .5 is .50.
            value = int(number[2]) * (10 if number[1] == "." and len(number[2]) == 1 else 1)
            turns = torch.tensor([2 * np.pi * value / 10, 2 * np.pi * value / 100])
            told = torch.tensor([np.log(value + 1) / np.log(10) - 1, value / 50 - 1])
            embedding[row, :6] = size * torch.cat([told, turns.sin(), turns.cos()])
