"""Seconds in which a training step reads 16 reports, forward and backward: padding masked against attended, one run.

    python benchmarks/speed/reading.py [--quick]

Ours is the byte-level text encoder: reports of like length are encoded together and padding is masked. The reference is
the same network with padding attended to, as published, at the length of the longest report. Texts are prostate reports
in every style of the grammar. The last line printed is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from machine import machine

from synthaug.config import TextEncoderConfig
from synthaug.data.phantom import findings_of
from synthaug.data.reports.writers import write_prostate_report
from synthaug.ground.seeding import torch_generator
from synthaug.models.text_encoder import build_text_encoder, encode_tokens, tokenize, trimmed

TARGET = 2.0
"""Times as quick as the reference."""
BATCH = 16
MAX_TOKENS = 496


def texts(count: int) -> list[str]:
    """Reports of phantoms, half of each class."""
    found = [findings_of(f"phantom-0-{k:04d}", k % 2) for k in range(count)]
    return [write_prostate_report(each[0], seed=each[1], style="any") for each in found if each]


def seconds_to_read(encoder: Any, batches: Sequence[torch.Tensor]) -> float:
    """Median over the batches; the first, which prepares kernels, is not counted."""
    taken = []
    for ids in batches:
        start = time.perf_counter()
        encode_tokens(encoder, trimmed(encoder, ids)).square().mean().backward()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    options = parser.parse_args(arguments)
    rounds, size = (2, 3) if options.quick else (7, 12)
    encoder, tokenizer = build_text_encoder(TextEncoderConfig(max_tokens=MAX_TOKENS))
    ids = tokenize(tokenizer, texts(256))
    draw = torch_generator("reading", 0)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        batches = [ids[torch.randint(len(ids), (BATCH,), generator=draw)] for _ in range(size)]
        for masked in (True, False):
            encoder.config.masks_padding = masked
            taken[masked].append(seconds_to_read(encoder, batches))
    ours, reference = statistics.median(taken[True]), statistics.median(taken[False])
    lengths = (ids != tokenizer.pad_token_id).sum(1).float()
    record = {
        "claim": f"seconds to read {BATCH} reports and go back through the text encoder",
        "ours": ours,
        "reference": reference,
        "ratio": reference / ours,
        "tokens": {"mean": float(lengths.mean()), "longest": int(lengths.max()), "padded_to": MAX_TOKENS},
        "target": TARGET,
        "holds": reference / ours >= TARGET,
        "machine": machine(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
