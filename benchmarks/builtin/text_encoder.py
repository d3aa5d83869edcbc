"""Train the text encoder of builtin/ccella-tiny to read reports, and judge it by reports written by hand.

    OMP_NUM_THREADS=1 python benchmarks/builtin/text_encoder.py --encoder subword --minutes 15 --out runs/reader

CCELLA's text encoder is a frozen language model of 4.8 billion parameters. This one has about half a million, is
trained on an endless stream of reports by the report grammar (:mod:`synthaug.data.reports.wording`), and is then frozen
too. Its task is to say, from the state of EVERY token, what the report as a whole states: category, side, zone, level
and size of a finding, volumes, and the PSA. An adapter that averages any tokens then finds these facts at once.

The folder can be given as ``generator.text_encoder.path``. Beside the weights stands ``reading.json``: shares read
right on new reports of the grammar and on the reports written by hand (``tests/handwritten``), which no training sees.
``--encoder`` chooses what is compared at equal minutes: ``subword`` (byte pairs of the grammar's own texts, ours),
``byte`` (the byte-level T5 of the package) and ``minilm`` (all-MiniLM-L6-v2, frozen; only its readout is trained).

``--begin FOLDER`` goes on from an encoder that was trained here. What is read off its states stays as it is, so that
the states keep their meaning: a generator that was trained with the old encoder can be given the new one.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from synthaug.config import MeasurementConfig, TextEncoderConfig
from synthaug.data.phantom import draw_findings
from synthaug.data.reports.writers import ProstateFindings, write_measurement_report, write_prostate_report
from synthaug.generate.stored.record import versions
from synthaug.ground.files import write_json
from synthaug.ground.seeding import derive_seed, numpy_generator
from synthaug.models.pretrained import read_weights
from synthaug.models.text_encoder import build_text_encoder, encode_tokens, small_t5, tokenize

sys.path.append(str(Path(__file__).parents[1] / "studies" / "handwritten"))

from reports import prostate_rows
from slips import with_another_finding, with_elsewhere, with_slips

Kind = Literal["subword", "byte", "minilm"]
SIDES, ZONES, LEVELS = ("left", "right"), ("peripheral", "transition"), ("base", "midgland", "apex")
CHOICES = {"pirads": 5, "side": 3, "zone": 3, "level": 4}
"""Facts that are one of several, with the number of answers; the first of a place is "nowhere"."""
AMOUNTS = ("size_mm", "gland_ml", "psa", "volume_mm3")
"""Facts that are numbers, read as logarithms."""
WEIGHTS = {"pirads": 2.0, "side": 1.5, "zone": 1.5, "level": 1.0}
AMOUNT_WEIGHTS = {"size_mm": 2.0, "gland_ml": 0.05, "psa": 0.05, "volume_mm3": 3.0}
"""Of each fact in the loss; volume and PSA of a gland are hardly seen in an image, and hard to read."""
TYPICAL = {"size_mm": 15.0, "gland_ml": 40.0, "psa": 7.0, "volume_mm3": 3000.0}
BATCH = 64
SORTED = 8
"""Batches that are drawn at once and sorted by length."""
READOUT = "readout.safetensors"
"""Beside the encoder: the linear map from a state to what it says."""
VALIDATION = 400
"""New reports of the grammar that are read at the end."""
MEASURED_BENIGN = 0.5
"""Share of benign findings with a size, lest every size be read as a lesion's."""
WITH_ANOTHER = 0.15
"""Share of reports that tell a benign finding beside the index lesion, or a lesion that is gone."""
WITH_ELSEWHERE = 0.25
"""Share of reports of a lesion that call the other side, or the other zone, normal."""
WITH_SLIPS = 0.4
"""Share of reports with slips of the pen beyond the grammar's own (``slips.py``)."""
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
HIPPOCAMPUS = {
    "side": MeasurementConfig(name="hippocampus", side="stays", synonyms=("hippocampus", "HC")),
    "volume_mm3": MeasurementConfig(
        name="hippocampal volume",
        unit="mm3",
        synonyms=("volume", "vol", "hippocampus volume"),
        bands={"very small": 2600, "small": 2900, "average": 3200, "large": 3500},
        above="very large",
    ),
}
"""As in configs/ccella-hippocampus.yaml."""


@dataclass(frozen=True)
class Told:
    """A report and what it states: answers by number, -1 = not stated; amounts as they are, NaN = not stated."""

    report: str
    choices: tuple[int, ...]
    amounts: tuple[float, ...]


def prostate_case(findings: ProstateFindings, report: str) -> Told:
    """A report of a prostate."""
    places = [
        1 + among.index(value) if value else 0
        for among, value in ((SIDES, findings.side), (ZONES, findings.zone), (LEVELS, findings.level))
    ]
    numbers = (findings.size_mm, findings.gland_volume_ml, findings.psa)
    stated = tuple(float("nan") if value is None else float(value) for value in numbers)
    return Told(report, (findings.pirads - 1, *places), (*stated, float("nan")))


def hippocampus_case(side: str, volume_mm3: float, report: str) -> Told:
    """A report of a hippocampus."""
    return Told(report, (-1, 1 + SIDES.index(side), -1, -1), (float("nan"),) * 3 + (volume_mm3,))


def drawn_case(number: int, *, part: str) -> Told:
    """Report ``number`` of the endless stream ``part``: three of four of prostates, in any style."""
    seed = derive_seed("reader", part, number)
    draw = numpy_generator("reader", seed)
    if number % 4 == 3:
        row: dict[str, object] = {"side": SIDES[int(draw.integers(2))], "volume_mm3": _any_volume(draw)}
        report = write_measurement_report(row, HIPPOCAMPUS, seed=seed, style="any")
        told = hippocampus_case(str(row["side"]), float(row["volume_mm3"]), report)  # type: ignore[arg-type]
    else:
        findings = draw_findings(int(draw.integers(2)), seed=seed)
        if findings.pirads == 2 and draw.random() < MEASURED_BENIGN:
            findings = replace(findings, size_mm=float(draw.integers(5, 20)))
        told = prostate_case(findings, write_prostate_report(findings, seed=seed, style="any"))
    if number % 4 != 3 and told.choices[0] != 1 and draw.random() < WITH_ANOTHER:
        told = replace(told, report=with_another_finding(told.report, positive=told.choices[0] > 1, draw=draw))
    side, zone = (choice - 1 for choice in told.choices[1:3])
    if number % 4 != 3 and told.choices[0] > 1 and min(side, zone) >= 0 and draw.random() < WITH_ELSEWHERE:
        told = replace(told, report=with_elsewhere(told.report, SIDES[1 - side], ZONES[1 - zone], draw=draw))
    if draw.random() < WITH_SLIPS:
        told = Told(with_slips(told.report, draw), told.choices, told.amounts)
    return told


def _any_volume(draw: np.random.Generator) -> float:
    """A hippocampal volume in mm³: half of them as in people, half even, lest rare numbers not be learnt."""
    return float(draw.normal(3050, 550) if draw.random() < 0.5 else draw.uniform(1500, 4800))


def subword_tokenizer(*, vocabulary: int, texts: int) -> PreTrainedTokenizerFast:
    """Byte pairs of lower-case text, numbers two digits at a time, the end of a report as a token of its own.

    A diameter in millimetres is one token. The second two digits and the decimals have tokens of their own: 3100 is
    ``31 ~00`` and 3.14 is ``3 .14``. The exponent of a unit is no number: mm³ is ``mm cubic``.
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
    pairs.train_from_iterator((drawn_case(k, part="vocabulary").report for k in range(texts)), trainer)
    pairs.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=pairs, pad_token="<pad>", eos_token="</s>")


def new_encoder(options: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder before training, with its tokenizer."""
    path = "minilm" if options.encoder == "minilm" else None
    if options.begin:
        found = TextEncoderConfig(path=str(options.begin), max_tokens=options.max_tokens)
        encoder, tokenizer = build_text_encoder(found)
        return encoder.requires_grad_(True), tokenizer
    config = TextEncoderConfig(path=path, width=options.width, layers=options.layers, max_tokens=options.max_tokens)
    if options.encoder != "subword":
        return build_text_encoder(config)
    tokenizer = subword_tokenizer(vocabulary=options.vocabulary, texts=options.vocabulary * 10)
    tokenizer.model_max_length, tokenizer.truncation_side = options.max_tokens, "left"
    encoder = small_t5(config, vocabulary=len(tokenizer))
    tell_numbers(encoder.get_input_embeddings().weight, tokenizer)
    return encoder, tokenizer


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


class Reader(nn.Module):
    """An encoder, and what is read off each of its states."""

    def __init__(self, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, frozen: bool) -> None:
        super().__init__()
        self.encoder, self.tokenizer, self.frozen = encoder, tokenizer, frozen
        width = encoder.config.hidden_size
        # States of a frozen encoder were not made to be read off linearly.
        self.readout: nn.Module = nn.Linear(width, sum(CHOICES.values()) + len(AMOUNTS))
        if frozen:
            self.readout = nn.Sequential(
                nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, self.readout.out_features)
            )
            encoder.requires_grad_(False)

    def forward(self, reports: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """What each token says (B, L, facts), and which tokens are a report's own (B, L)."""
        ids = tokenize(self.tokenizer, reports)
        own = ids != self.tokenizer.pad_token_id
        longest = int(own.sum(1).max())
        ids, own = ids[:, :longest], own[:, :longest]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if self.frozen:
                states = self.encoder(input_ids=ids, attention_mask=own.long()).last_hidden_state
            else:
                states = encode_tokens(self.encoder, ids)
        return self.readout(states), own

    def keep_readout(self, folder: Path) -> None:
        """Take over what is read off the states of an encoder that was trained here, and train it no further."""
        self.readout.load_state_dict(read_weights(folder / READOUT))
        self.readout.requires_grad_(False)

    def keep_silent(self, spoken: int) -> None:
        """Let all but the first ``spoken`` components of a state be 0, so that it holds little but what is read off it.

        What is left cannot tell one wording from another, and a generator meets no state that it has not learnt.
        """
        if not self.frozen:
            with torch.no_grad():
                self.encoder.get_submodule("encoder.final_layer_norm").weight[spoken:] = 0

    def read(self, reports: Sequence[str]) -> torch.Tensor:
        """What the tokens of a report say on average (B, facts)."""
        said, own = self(reports)
        return (said * own.unsqueeze(2)).sum(1) / own.sum(1, keepdim=True)


def loss_of(said: torch.Tensor, own: torch.Tensor, told: Sequence[Told]) -> torch.Tensor:
    """Cross-entropies and squared errors of all tokens, each report weighed alike."""
    weight = (own / own.sum(1, keepdim=True) / len(told)).flatten()
    *answers, amounts = said.split([*CHOICES.values(), len(AMOUNTS)], dim=2)
    total = said.new_zeros(())
    for number, (name, logits) in enumerate(zip(CHOICES, answers, strict=True)):
        right = torch.tensor([each.choices[number] for each in told])[:, None].expand(own.shape)
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), right.flatten(), ignore_index=-1, reduction="none")
        total += WEIGHTS[name] * (losses * weight).sum()
    wanted = logarithms(told)[:, None, :].expand_as(amounts)
    errors = torch.where(wanted.isnan(), 0.0, (amounts - wanted.nan_to_num()) ** 2)
    errors = (errors * torch.tensor([AMOUNT_WEIGHTS[name] for name in AMOUNTS])).sum(2)
    return total + (errors.flatten() * weight).sum()


def logarithms(told: Sequence[Told]) -> torch.Tensor:
    """Amounts (N, 4) as logarithms of multiples of what is typical, three deviations about 1."""
    typical = torch.tensor([TYPICAL[name] for name in AMOUNTS])
    return 3 * torch.log(torch.tensor([each.amounts for each in told]) / typical)


def batches_alike(first: int, shuffle: np.random.Generator) -> list[list[Told]]:
    """The next batches of the endless stream, each of reports about as long as one another, so that few are padded."""
    told = [drawn_case(first + k, part="training") for k in range(BATCH * SORTED)]
    told.sort(key=lambda each: len(each.report))
    return [told[BATCH * int(k) : BATCH * (int(k) + 1)] for k in shuffle.permutation(SORTED)]


def train(reader: Reader, *, minutes: float, learning_rate: float, spoken: int, seed: int) -> int:
    """Train for so long on the processor, the rate falling to 0 as the time runs out; the steps that were done."""
    parameters = [parameter for parameter in reader.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    start, step = time.process_time(), 0
    waiting: list[list[Told]] = []
    shuffle = numpy_generator("reader", seed, "batches")
    while (passed := (time.process_time() - start) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, step / 100) * 0.5 * (1 + np.cos(np.pi * passed))
        waiting = waiting or batches_alike(seed * 10**9 + BATCH * step, shuffle)
        told = waiting.pop()
        loss = loss_of(*reader([each.report for each in told]), told)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        reader.keep_silent(spoken)
        step += 1
        if step % 100 == 0:
            print(f"{step} steps, {60 * minutes * passed:.0f} s, loss {loss.item():.3f}", flush=True)
    return step


@torch.no_grad()
def judged(reader: Reader, told: Sequence[Told]) -> dict[str, Any]:
    """Shares of facts read right, and correlations of amounts, over reports that state them."""
    said = torch.cat([reader.read([each.report for each in told[k : k + 32]]) for k in range(0, len(told), 32)])
    *answers, amounts = said.split([*CHOICES.values(), len(AMOUNTS)], dim=1)
    found: dict[str, Any] = {"n": len(told)}
    categories = torch.tensor([each.choices[0] for each in told])
    is_positive = answers[0].softmax(1)[:, 2:].sum(1) > 0.5
    for name, rows in (("positive", categories >= 2), ("negative", (categories >= 0) & (categories < 2))):
        found[f"class_{name}"] = float((is_positive == (categories >= 2))[rows].float().mean())
    for number, (name, logits) in enumerate(zip(CHOICES, answers, strict=True)):
        right = torch.tensor([each.choices[number] for each in told])
        stated = right > 0 if number else right >= 0
        found[name] = float((logits.argmax(1) == right)[stated].float().mean())
    wanted = logarithms(told)
    for number, name in enumerate(AMOUNTS):
        stated = ~wanted[:, number].isnan()
        if stated.sum() > 2:
            found[name] = float(np.corrcoef(wanted[stated, number], amounts[stated, number])[0, 1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge, print and write."""
    options = _options(arguments)
    torch.manual_seed(options.seed)
    encoder, tokenizer = new_encoder(options)
    reader = Reader(encoder, tokenizer, frozen=options.encoder == "minilm")
    if options.begin:
        reader.keep_readout(options.begin)
    reader.keep_silent(options.spoken)
    training = {name: getattr(options, name) for name in ("minutes", "learning_rate", "spoken", "seed")}
    steps = train(reader, **training)
    reader.eval()
    record = {
        "date": date.today().isoformat(),
        "versions": versions(),
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "begin")}
        | {"begun": bool(options.begin)},
        "steps": steps,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "grammar": judged(reader, [drawn_case(k, part="validation") for k in range(VALIDATION)]),
        "development": judged(
            reader, [prostate_case(row.findings, row.report) for row in prostate_rows("prostate-development")]
        ),
        "handwritten": judged(reader, [prostate_case(row.findings, row.report) for row in prostate_rows()]),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    encoder.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    save_file(reader.readout.state_dict(), options.out / READOUT)
    write_json(options.out / "reading.json", record)
    for part in ("grammar", "development", "handwritten"):
        print(part, {name: round(value, 3) for name, value in record[part].items()})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=get_args(Kind), default="subword")
    parser.add_argument("--begin", type=Path, help="folder of an encoder to go on from")
    parser.add_argument("--minutes", type=float, default=15.0, help="of processor time that the training takes")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument(
        "--spoken", type=int, default=24, help="components of a state that are not 0 (19 facts are read)"
    )
    parser.add_argument("--vocabulary", type=int, default=2048, help="of the subword encoder")
    parser.add_argument("--max-tokens", type=int, default=768, help="longer reports lose their beginning")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
