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

Half of the prostate reports are put together from clauses (``clauses.py``), of which it is known whether they affirm a
finding or deny one. An inner layer is asked that of every token. This is what tells "PZ clear. TZ: lesion" from its
opposite.

``--begin FOLDER`` goes on from an encoder that was trained here. What is read off its states stays as it is, so that
the states keep their meaning: a generator that was trained with the old encoder can be given the new one. Where the
folder does not tell how they are read, as in a builtin, that is learnt first, for a tenth of the time.

``--teacher FOLDER`` serves the same end for a new encoder, of any number of layers ("reader" = that of the builtin).
Its states shall be those that the teacher has, on average, for a report by the grammar alone that states the same.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from cases import AMOUNTS, CHOICES, Told, drawn_case, prostate_case
from clauses import DOES
from safetensors.torch import save_file
from subword import subword_tokenizer, tell_numbers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from synthaug.config import TextEncoderConfig
from synthaug.generate.stored.record import versions
from synthaug.ground.files import write_json
from synthaug.ground.seeding import numpy_generator
from synthaug.models.pretrained import read_weights
from synthaug.models.text_encoder import build_text_encoder, encode_tokens, small_t5, tokenize

sys.path.append(str(Path(__file__).parents[1] / "studies" / "handwritten"))

from reports import prostate_rows

Kind = Literal["subword", "byte", "minilm"]
WEIGHTS = {"pirads": 2.0, "side": 1.5, "zone": 1.5, "level": 1.0}
AMOUNT_WEIGHTS = {"size_mm": 2.0, "gland_ml": 0.05, "psa": 0.05, "volume_mm3": 3.0}
"""Of each fact in the loss; volume and PSA of a gland are hardly seen in an image, and hard to read."""
TYPICAL = {"size_mm": 15.0, "gland_ml": 40.0, "psa": 7.0, "volume_mm3": 3000.0}
CLAUSES_WEIGHT, TEACHER_WEIGHT = 0.5, 1.0
"""Of what clauses do, and of the distance to the teacher in its own deviations, in the loss."""
BATCH = 64
SORTED = 8
"""Batches that are drawn at once and sorted by length."""
READOUT = "readout.safetensors"
"""Beside the encoder: the linear map from a state to what it says."""
VALIDATION = 400
"""New reports of the grammar that are read at the end."""


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
    texts = (drawn_case(k, part="vocabulary").report for k in range(10 * options.vocabulary))
    tokenizer = subword_tokenizer(texts, vocabulary=options.vocabulary)
    tokenizer.model_max_length, tokenizer.truncation_side = options.max_tokens, "left"
    encoder = small_t5(config, vocabulary=len(tokenizer))
    tell_numbers(encoder.get_input_embeddings().weight, tokenizer)
    return encoder, tokenizer


@dataclass(frozen=True)
class States:
    """What an encoder makes of reports."""

    last: torch.Tensor
    """States that a generator is given, (B, L, width)."""
    inner: torch.Tensor
    """States of the layer that is asked what clauses do, (B, L, width)."""
    own: torch.Tensor
    """Which tokens are a report's own, (B, L)."""
    places: torch.Tensor | None
    """The first character of each token, (B, L); None where the tokenizer does not tell it."""


class Reader(nn.Module):
    """An encoder, and what is read off each of its states."""

    def __init__(self, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, frozen: bool) -> None:
        super().__init__()
        self.encoder, self.tokenizer, self.frozen = encoder, tokenizer, frozen
        width = encoder.config.hidden_size
        # States of a frozen encoder were not made to be read off linearly.
        self.readout: nn.Module = nn.Linear(width, sum(CHOICES.values()) + len(AMOUNTS))
        self.clauses = nn.Linear(width, len(DOES))
        if frozen:
            self.readout = nn.Sequential(
                nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, self.readout.out_features)
            )
            encoder.requires_grad_(False)

    def forward(self, reports: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """What each token says (B, L, facts), and which tokens are a report's own (B, L)."""
        states = self.states(reports)
        return self.readout(states.last), states.own

    def states(self, reports: Sequence[str]) -> States:
        """The states of tokens, all reports at once: those of training are of like length."""
        has_places = self.tokenizer.is_fast
        found = self.tokenizer(
            list(reports), padding=True, truncation=True, return_tensors="pt", return_offsets_mapping=has_places
        )
        ids = found.input_ids
        own = ids != self.tokenizer.pad_token_id
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            layers = self.encoder(input_ids=ids, attention_mask=own.long(), output_hidden_states=True).hidden_states
        # Two layers remain to gather what the affirming clauses say.
        places = found.offset_mapping[..., 0] if has_places else None
        return States(layers[-1], layers[max(1, len(layers) - 3)], own, places)

    def keep_readout(self, folder: Path, learn: Callable[[], object]) -> None:
        """Take over what is read off the states of an encoder that was trained here, and train it no further.

        Where the folder does not hold it, ``learn`` trains it while the encoder is frozen.
        """
        if (folder / READOUT).exists():
            self.readout.load_state_dict(read_weights(folder / READOUT))
        else:
            self.encoder.requires_grad_(False)
            learn()
            self.encoder.requires_grad_(True)
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


def loss_of(reader: Reader, told: Sequence[Told], teacher: "Teacher | None" = None) -> torch.Tensor:
    """Cross-entropies and squared errors of all tokens, each report weighed alike."""
    states = reader.states([each.report for each in told])
    said, own = reader.readout(states.last), states.own
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
    total += (errors.flatten() * weight).sum()
    if states.places is not None and any(each.ends for each in told):
        does = clause_of(told, states.places).masked_fill(~own, -1)
        logits = reader.clauses(states.inner).flatten(0, 1)
        losses = nn.functional.cross_entropy(logits, does.flatten(), ignore_index=-1, reduction="none")
        total += CLAUSES_WEIGHT * (losses * weight).sum()
    if teacher is not None:
        distances = teacher.distances(states.last, [each.plain for each in told])
        total += TEACHER_WEIGHT * (distances.flatten() * weight).sum()
    return total


def clause_of(told: Sequence[Told], places: torch.Tensor) -> torch.Tensor:
    """What the clause of each token (B, L) does, as an index into ``DOES``; -1 = not known.

    Args:
        told: Reports with the ends of their clauses.
        places: The first character of each token, (B, L).
    """
    does = torch.full(places.shape, -1)
    for row, each in enumerate(told):
        if each.ends:
            ends = torch.tensor([end for end, _ in each.ends])
            kinds = torch.tensor([DOES.index(kind) for _, kind in each.ends])
            does[row] = kinds[torch.bucketize(places[row].contiguous(), ends, right=True).clamp(max=len(ends) - 1)]
    return does


class Teacher:
    """An encoder whose states another one shall have."""

    def __init__(self, path: str, spoken: int) -> None:
        self.encoder, self.tokenizer = build_text_encoder(TextEncoderConfig(path=path))
        self.spoken = spoken
        self.deviations = self.means([drawn_case(k, part="teacher").plain for k in range(VALIDATION)]).std(0) + 1e-3

    @torch.no_grad()
    def means(self, reports: Sequence[str]) -> torch.Tensor:
        """Mean states of reports (B, spoken)."""
        ids = tokenize(self.tokenizer, reports)
        own = (ids != self.tokenizer.pad_token_id).unsqueeze(2)
        return ((encode_tokens(self.encoder, ids) * own).sum(1) / own.sum(1))[:, : self.spoken]

    def distances(self, states: torch.Tensor, plain: Sequence[str]) -> torch.Tensor:
        """Mean squared distance of each state (B, L, width) to that of the plain report, in deviations, (B, L)."""
        return (((states[..., : self.spoken] - self.means(plain)[:, None]) / self.deviations) ** 2).mean(2)


def logarithms(told: Sequence[Told]) -> torch.Tensor:
    """Amounts (N, 4) as logarithms of multiples of what is typical, three deviations about 1."""
    typical = torch.tensor([TYPICAL[name] for name in AMOUNTS])
    return 3 * torch.log(torch.tensor([each.amounts for each in told]) / typical)


def batches_alike(first: int, shuffle: np.random.Generator) -> list[list[Told]]:
    """The next batches of the endless stream, each of reports about as long as one another, so that few are padded."""
    told = [drawn_case(first + k, part="training") for k in range(BATCH * SORTED)]
    told.sort(key=lambda each: len(each.report))
    return [told[BATCH * int(k) : BATCH * (int(k) + 1)] for k in shuffle.permutation(SORTED)]


def train(
    reader: Reader, teacher: Teacher | None = None, *, minutes: float, learning_rate: float, spoken: int, seed: int
) -> int:
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
        loss = loss_of(reader, told, teacher)
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
    training = {name: getattr(options, name) for name in ("minutes", "learning_rate", "spoken", "seed")}
    if options.begin:
        fit = partial(train, reader, **(training | {"minutes": options.minutes / 10, "learning_rate": 1e-2}))
        reader.keep_readout(options.begin, fit)
    reader.keep_silent(options.spoken)
    steps = train(reader, Teacher(options.teacher, options.spoken) if options.teacher else None, **training)
    reader.eval()
    record = {
        "date": date.today().isoformat(),
        "versions": versions(),
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "begin", "teacher")}
        | {"begun": bool(options.begin), "taught": bool(options.teacher)},
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
    parser.add_argument("--teacher", help="folder of the encoder whose states the new one shall have, or reader")
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
