"""Whom was a generator trained on? Attacks on generators by n and minutes trained, each beside a blind generator.

    python benchmarks/studies/privacy/run.py --config benchmarks/studies/privacy/phantoms.yaml --out runs/privacy \
        --n 16 32 --scales 0.25 1 --deals 2 --shadows 4 --json benchmarks/studies/privacy/phantoms.json

People are dealt into members, others, and a third group of the same size. A generator is trained on the members, the
control on the third group. Both are attacked for members against others: by their denoising loss, by the nearest of
their volumes, and with shadow generators, trained on random halves of members and others. The control knows
neither group, so that its attacks must give 0.5. ``--scales`` shorten the training of the config. Copies of members
that were shifted, cropped, rescaled or mirrored are then looked for by the memorisation gate.

Any config with ``data.root`` does, real patients too; any setting can follow: ``--generator.variant radmaisi``.
Generators are kept in ``--out`` and found again.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from deals import Deal, deal_people, planted

from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, GeneratorConfig
from synthaug.data.preprocess import preprocess
from synthaug.data.reading.manifest import stack_images
from synthaug.generate.levels import fit_space, levels_of
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.record import git_commit
from synthaug.generate.stored.told import arguments_of
from synthaug.generate.training.ldm import train_ldm
from synthaug.generate.training.subject_losses import subject_losses
from synthaug.ground.files import atomic_folder, content_hash, write_json
from synthaug.ground.seeding import derive_seed
from synthaug.metrics.copies.membership import judge_attack, nearest_scores, shadow_scores
from synthaug.metrics.copies.memorisation import CopyDetector
from synthaug.metrics.features import seeded_extractor
from synthaug.models.extractors.taps import crop_centre
from synthaug.pool.recipe import with_sampling
from synthaug.study.stages.cohort import load_subjects

MINUTES = "minutes.json"
SIDE = 16
"""Voxels a side that volumes are averaged down to before the nearest is looked for."""
Scores = dict[str, np.ndarray]
"""Of each candidate, by attack."""


class Attacked:
    """The candidates of a deal, the generators that are trained around them, and what these give away."""

    def __init__(self, config: Config, deal: Deal, options: argparse.Namespace) -> None:
        self.config, self.deal, self.options = config, deal, options
        self.candidates = [*deal.members, *deal.others]
        self.members = np.arange(len(self.candidates)) < len(deal.members)
        self.people = [subject["patient_id"] for subject in self.candidates]

    def scores(self, scale: float) -> tuple[Scores, Scores, float]:
        """Scores of every attack on the generator of the members and on the control; minutes of a training."""
        config = shortened(self.config, scale)
        found, minutes = {}, 0.0
        shadows, inside = self._shadows(config)
        for name, people in (("target", self.deal.members), ("control", self.deal.third)):
            pipe, took = self._trained(config, people)
            minutes = took if name == "target" else minutes
            found[name] = self._attack(pipe, shadows, inside)
        return found["target"], found["control"], minutes

    def _attack(self, pipe: CCELLAPipeline, shadows: np.ndarray, inside: np.ndarray) -> Scores:
        losses = subject_losses(pipe, self.candidates, draws=self.options.draws)
        scores = {f"loss of level {level}": -losses[:, level] for level in range(losses.shape[1])}
        scores["loss"] = -losses.mean(axis=1)
        if len(shadows):
            scores["shadow models"] = shadow_scores(losses.mean(axis=1), shadows, inside)
        drawn = self._drawn(pipe)
        images = self.config.data.images
        known = [stack_images(subject, images).float() for subject in self.candidates]
        scores["nearest voxels"] = nearest_scores(small(known), small(drawn))
        extractor = seeded_extractor(channels=len(images))
        scores["nearest features"] = nearest_scores(extractor.features(known), extractor.features(drawn))
        return scores

    def _shadows(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Losses of each shadow on each candidate, and whether it was trained on it: (k, n) each."""
        losses, inside = [], []
        for number in range(self.options.shadows):
            seen = self.deal.half(number)
            pipe, _ = self._trained(config, [each for each in self.candidates if each["patient_id"] in seen])
            losses.append(subject_losses(pipe, self.candidates, draws=self.options.draws).mean(axis=1))
            inside.append([person in seen for person in self.people])
        return np.array(losses), np.array(inside)

    def _drawn(self, pipe: CCELLAPipeline) -> list[torch.Tensor]:
        """Volumes of one generator, prompted with the reports of candidates in turn."""
        count, sampling = self.options.volumes, self.config.pool.sampling
        prompts = [self.candidates[number % len(self.candidates)] for number in range(count)]
        takes_class = pipe.denoiser.conditioning.class_input == "true"
        drawn = with_sampling(pipe, sampling)(
            [each["report"] for each in prompts],
            [each["label"] for each in prompts] if takes_class else None,
            seeds=[derive_seed("privacy study", number) for number in range(count)],
            **arguments_of(sampling),
        )
        return list(drawn.volumes)

    def _trained(self, config: Config, subjects: Sequence[tio.Subject]) -> tuple[CCELLAPipeline, float]:
        """A generator of these people alone, found again or trained, and the minutes that this took."""
        settings, people = asdict(config.generator), sorted(subject["subject_id"] for subject in subjects)
        folder = self.options.out / f"generator-{content_hash([settings, asdict(config.preprocess), people])}"
        if not folder.is_dir():
            started = time.monotonic()
            images = config.data.images
            volumes = torch.stack([stack_images(subject, images) for subject in subjects])
            pipe = train_ldm(
                subjects,
                fit_space(volumes, config.generator),
                config.generator,
                preprocessing=config.preprocess,
                images=images,
            )
            with atomic_folder(folder) as temporary:
                pipe.save_pretrained(temporary)
                write_json(temporary / MINUTES, (time.monotonic() - started) / 60)
        return CCELLAPipeline.from_pretrained(folder), json.loads((folder / MINUTES).read_text(encoding="utf-8"))


def shortened(config: Config, scale: float) -> Config:
    """The config with a share of the optimiser steps at every level, the schedule along."""
    levels = [
        replace(each, steps=max(2, round(each.steps * scale)))
        for each in levels_of(config.generator, config.preprocess.shape)
    ]
    generator: GeneratorConfig = replace(config.generator, levels=levels, monitor_every=0)
    return replace(config, generator=generator)


def small(volumes: Sequence[torch.Tensor]) -> np.ndarray:
    """Volumes averaged down, as rows (N, voxels)."""
    sides = [min(SIDE, side) for side in volumes[0].shape[1:]]
    pool: Callable[..., torch.Tensor] = torch.nn.functional.adaptive_avg_pool3d
    return np.stack([pool(volume[None], sides).flatten().numpy() for volume in volumes])


def deals_of(config: Config, n: int, options: argparse.Namespace) -> list[Deal]:
    """The deals of ``n`` people a group, preprocessed."""
    subjects = load_subjects(config.data)
    ready = preprocess(subjects, config.preprocess, config.data.images, centre=crop_centre(config.preprocess))
    return [deal_people(ready, n, seed=seed) for seed in range(options.deals)]


def attack_rows(config: Config, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row an attack, n and length of training; deals are taken together."""
    for n in options.n:
        attacked = [Attacked(config, deal, options) for deal in deals_of(config, n, options)]
        for scale in options.scales:
            found = [each.scores(scale) for each in attacked]
            for attack in found[0][0]:
                judged = judge_attack(
                    attack,
                    [target[attack] for target, _, _ in found],
                    [control[attack] for _, control, _ in found],
                    [each.members for each in attacked],
                    [each.people for each in attacked],
                )
                minutes = float(np.mean([took for *_, took in found]))
                yield {"n": n, "scale": scale, "minutes": minutes, "deals": len(found), **judged.to_dict()}


def gate_rows(config: Config, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a kind of planted copy: the share that the gate finds, beside its false alarms among other people."""
    images = config.data.images
    (deal,) = deals_of(config, max(options.n), argparse.Namespace(deals=1))
    volumes = {
        name: [stack_images(subject, images).float() for subject in getattr(deal, name)]
        for name in ("members", "others", "third")
    }
    detector = CopyDetector(volumes["members"], volumes["third"], seeded_extractor(channels=len(images)))
    false = detector.audit(volumes["others"])
    for kind, plant in planted().items():
        audit = detector.audit([plant(volume) for volume in volumes["members"]])
        yield {
            "kind": kind,
            "n": len(audit.copies),
            "found": float(audit.copies.mean()),
            "found_by": {name: float(verdict.mean()) for name, verdict in audit.verdicts().items()},
            "false_alarms": float(false.copies.mean()),
            "promised_false_alarms": audit.false_alarms,
        }


def tell(row: dict[str, Any]) -> str:
    """A row of attacks as one line."""
    target, control = (
        f"{row[name]['value']:.2f} ({row[name]['low']:.2f} to {row[name]['high']:.2f})"
        for name in ("auroc", "control_auroc")
    )
    return (
        f"n {row['n']}, {row['minutes']:.1f} min, {row['attack']}: AUROC {target}, control {control}, "
        f"{row['found']['value']:.0%} found at 1 % false alarms"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command; further words are settings of the config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder that generators are kept in")
    parser.add_argument("--n", type=int, nargs="+", default=[16, 32], help="people a group")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.25, 1.0], help="shares of the config's steps")
    parser.add_argument("--deals", type=int, default=2)
    parser.add_argument("--shadows", type=int, default=4, help="shadow generators; 0 = no such attack")
    parser.add_argument("--volumes", type=int, default=64, help="drawn for the nearest-neighbour attacks")
    parser.add_argument("--draws", type=int, default=2, help="noise volumes at each noise level")
    parser.add_argument("--json", type=Path)
    options, options.set = parser.parse_known_args(arguments)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Every attack, then the gate; what is done so far is written after each."""
    options = parse(arguments)
    config = read_config(["--config", options.config, *options.set])
    asked = {name: getattr(options, name) for name in ("n", "scales", "deals", "shadows", "volumes", "draws")}
    result: dict[str, Any] = {"date": date.today().isoformat(), "commit": git_commit(), **asked, "attacks": []}
    options.out.mkdir(parents=True, exist_ok=True)
    for row in attack_rows(config, options):
        result["attacks"].append(row)
        print(tell(row))
        if options.json:
            write_json(options.json, result)
    result["gate"] = list(gate_rows(config, options))
    for row in result["gate"]:
        print(f"planted, {row['kind']}: {row['found']:.0%} found, {row['false_alarms']:.0%} of other people called so")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
