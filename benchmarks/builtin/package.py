"""Put a trained generator into the package: half-precision weights, record, card with its measured figures.

    python benchmarks/builtin/package.py --name ccella-tiny --pipeline runs/ccella-tiny/generator-… \\
        --config configs/ccella-tiny.yaml [--facts facts.yaml]
    python benchmarks/builtin/package.py --name ccella-tiny --evaluation evaluation.json

The first command ships the weights. The second adds the figures that ``evaluate.py`` (phantoms) or
``benchmarks/studies/generator/evaluate.py`` (people) measured of ``builtin/NAME``; those of other weights are refused.
Facts are what the weights cannot tell: license, source, notes, ``limit_mb``, the notice that stands beside them,
``sampler`` (arguments of ``with_scheduler``, chosen on validation), and what is read as well as reports of the
training: other styles (``also_reads``) and, where the text encoder was trained on them, slips (``slips: true``).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from evaluate import summary
from slips import with_slips

import synthaug
from synthaug.bench.options.parsing import read_config
from synthaug.config import Config, DataConfig
from synthaug.config.data import ReportStyle
from synthaug.data.phantom import findings_of
from synthaug.data.relabel.relabeller import Relabeller
from synthaug.data.reports.writers import write_prostate_report
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.stored.familiarity import READ, Familiarity
from synthaug.generate.stored.record import ALIASES, PUBLIC_SETS
from synthaug.generate.stored.told import Guidance, sampling_of
from synthaug.generate.training.examples import some_reports
from synthaug.ground.files import atomic_folder, read_json, write_json
from synthaug.ground.people import patient_hash, public_id, public_sets
from synthaug.ground.seeding import numpy_generator
from synthaug.study.stages.cohort import draw_split, load_subjects

LIMIT_MB = 12.0
"""What a builtin generator may weigh, in 10^6 bytes of safetensors, unless its facts say otherwise."""
NOTICE = "LICENSE.txt"


def main() -> None:
    """Ship weights, or add figures to those that are shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="what follows builtin/")
    parser.add_argument("--pipeline", type=Path, help="folder of the trained generator")
    parser.add_argument("--config", type=Path, help="config that it was trained with: its recipe")
    parser.add_argument(
        "--facts", type=Path, help="YAML with license, source, notes, notice, sampler, also_reads, slips, limit_mb"
    )
    parser.add_argument("--evaluation", type=Path, help="JSON that an evaluate.py wrote for the packaged weights")
    options = parser.parse_args()
    folder = Path(synthaug.__file__).parent / "builtin" / options.name
    if options.evaluation:
        print(f"{folder.name}: figures of {add_figures(folder, options.evaluation)}")
        return
    if not options.pipeline or not options.config:
        parser.error("weights are shipped by --pipeline and --config, figures added by --evaluation")
    facts = yaml.safe_load(options.facts.read_text(encoding="utf-8")) if options.facts else {}
    weight, fingerprint = ship(folder, options.pipeline, options.config, facts)
    print(f"{folder.name}: {weight:.2f} MB, fingerprint {fingerprint}")


def ship(folder: Path, trained: Path, recipe: Path, facts: dict[str, Any]) -> tuple[float, str]:
    """Write a builtin's folder; returns its weight in 10^6 bytes and its fingerprint."""
    sampler = facts.get("sampler", {"name": "dpm_solver_sde"})
    pipeline = CCELLAPipeline.from_pretrained(trained).with_scheduler(**sampler)
    pipeline.autoencoder.half()
    pipeline.denoiser.half()
    pipeline.record["recipe"] = recipe.read_text(encoding="utf-8")
    config = read_config(["--config", str(recipe)])
    if config.data.public:
        pipeline.record |= public_patients(config, len(pipeline.record["patients"]))
    pipeline.record |= {name: facts[name] for name in ("license", "source", "notes", "git_commit") if name in facts}
    styles, slips = facts.get("also_reads", []), facts.get("slips", False)
    if styles or slips:
        reports = [report for style in [config.data.style, *styles] for report in training_reports(config, style)]
        if slips:
            draw = numpy_generator("familiarity slips")
            reports += [with_slips(report, draw) for report in reports]
        pipeline.familiarity = Familiarity.fit(pipeline.text_encoder, pipeline.tokenizer, reports)
    pipeline.text_encoder.half()
    with atomic_folder(folder) as temporary:
        pipeline.save_pretrained(temporary)
        compute_in_float32(temporary / "text_encoder" / "config.json")
        shipped = CCELLAPipeline.from_pretrained(temporary)
        shipped.save_card(temporary)
        if "notice" in facts:
            (temporary / NOTICE).write_text(facts["notice"], encoding="utf-8")
        weight, limit = sum(path.stat().st_size for path in temporary.rglob("*.safetensors")) / 1e6, LIMIT_MB
        if weight > facts.get("limit_mb", limit):
            raise SystemExit(f"{weight:.2f} MB of weights; this builtin may weigh {facts.get('limit_mb', limit):g} MB.")
    return weight, shipped.fingerprint


def add_figures(folder: Path, evaluation: Path) -> str:
    """Put figures into record and card of a builtin; returns its fingerprint.

    Raises:
        SystemExit: They were measured of other weights.
    """
    shipped, figures = CCELLAPipeline.from_pretrained(folder), read_json(evaluation)
    judged = figures.get("fingerprint", figures.get("generator"))
    if judged != shipped.fingerprint:
        raise SystemExit(f"{evaluation} is of {judged}, not of {shipped.fingerprint}.")
    told = told_of_people(figures) if "size" in figures else told_of_phantoms(figures)
    shipped.record["evaluation"] = {"summary": told, "figures": figures}
    shipped.save_card(folder)
    return shipped.fingerprint


def compute_in_float32(path: Path) -> None:
    """Say in a text encoder's config that its half-precision weights are loaded as float32."""
    write_json(path, read_json(path) | {"dtype": "float32"})


def sampler_of(figures: dict[str, Any]) -> str:
    """How volumes were drawn, for the card."""
    sampling = sampling_of({"evaluation": {"figures": figures}})
    return f"{sampling.scheduler} {sampling.steps}, {Guidance.of(sampling)}"


def told_of_phantoms(figures: dict[str, Any]) -> str:
    """What benchmarks/builtin/evaluate.py found, for the card."""
    how = figures["settings"]
    made = f"{figures['date']}, seed {how['seed']}, {how['n']} drawn volumes, {sampler_of(figures)}."
    return "\n".join([*(f"- {line}" for line in summary(figures)), "", made])


def told_of_people(figures: dict[str, Any]) -> str:
    """What benchmarks/studies/generator/evaluate.py found on held-out people, for the card."""
    size, copies, realism = figures["size"], figures["copies"], figures["realism"]
    rows = [
        f"FID to held-out people over that of training people, {kind}: {each['ratio']:.2f} "
        f"({each['low']:.2f} to {each['high']:.2f})"
        for kind, each in (("seeded", figures["fid_seeded"]), ("taps", figures["fid_taps"]))
    ]
    rows.append(
        f"size asked against size read, r: {size['synthetic']['pearson']:.2f}; the same reader on real volumes "
        f"{size['real']['pearson']:.2f}"
    )
    if side := figures.get("side"):
        rows.append(f"side read right: {side['synthetic']:.2f}; in real volumes {side['real']:.2f}")
    by_texture, by_network = (realism[judge]["value"] for judge in ("statistics", "cnn"))
    rows += [
        f"told from real volumes, AUROC: by texture statistics {by_texture:.2f}, by a small network {by_network:.2f}",
        f"share called copies: {copies['share']:.3f} (expected from a generator without copies "
        f"{copies['expected_false_alarms']:.2f})",
    ]
    n = figures["n"]
    prompts = f"{n['synthetic']} volumes prompted with reports of held-out people"
    made = f"{figures['date']}, seed {figures['seed']}, {prompts}, {sampler_of(figures)}."
    return "\n".join([*(f"- {row}" for row in rows), "", made])


def public_patients(config: Config, trained: int) -> dict[str, list[str]]:
    """Hashes of the training patients and of their images' names, by which anybody can tell whether they were seen.

    A training without ``data.public`` hashed them by a key of its own.
    """
    training = draw_split(config.split, load_subjects(config.data)).train
    hashes = sorted({patient_hash(subject["patient_id"]) for subject in training})
    if len(hashes) != trained:
        raise SystemExit(f"{config.data.root}: {len(hashes)} training patients, but the generator saw {trained}.")
    images = [patient_hash(public_id(str(config.data.public), subject["subject_id"])) for subject in training]
    sets = public_sets(subject["patient_id"] for subject in training)
    return {"patients": hashes, PUBLIC_SETS: sets, ALIASES: sorted(images)}


def training_reports(config: Config, style: ReportStyle) -> list[str]:
    """Reports of a config's training patients in a style, of phantoms without drawing them."""
    data = replace(config.data, style=style)
    if data.root is None:
        subjects = [phantom_report(data, k) for k in range(min(data.phantom.n, READ))]
    else:
        subjects = draw_split(config.split, load_subjects(data)).train
    relabeller = Relabeller.fit(subjects, data, config.generator.geometry)
    return some_reports(subjects, relabeller, at_most=READ)


def phantom_report(data: DataConfig, k: int) -> dict[str, Any]:
    """A phantom patient without the image; its class need not be that of the training."""
    name = f"phantom-{data.phantom.seed}-{k:04d}"
    found = findings_of(name, k % 2, difficulty=data.phantom.difficulty)
    assert found is not None
    report = write_prostate_report(found[0], seed=found[1], style=data.style)
    return {"subject_id": name, "label": k % 2, "report": report}


if __name__ == "__main__":
    main()
