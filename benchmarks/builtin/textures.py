"""Add told textures to the finest level of a trained cascade and train it further; the others stay as they are.

    python benchmarks/builtin/textures.py --pipeline FOLDER --config configs/ccella-hippocampus.yaml --steps 2000 \
        --rate 1e-3 --out runs/textured

The config gives the number of components (``texture`` of its last level) and the training people. What is added answers
0 until it is trained, so that the level begins where it was. A killed run goes on with ``begun`` in --out: give another
generator or config another folder.
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synthaug.bench.options.parsing import read_config
from synthaug.bench.studies.progress import Bars
from synthaug.config import Config, GeneratorConfig
from synthaug.generate.pipeline import CCELLAPipeline
from synthaug.generate.training.examples import Examples
from synthaug.ground.files import atomic_folder
from synthaug.ground.seeding import torch_generator
from synthaug.models.denoiser import CCELLADenoiser
from synthaug.models.pretrained import load_strictly
from synthaug.study.stages.making import make_generator
from synthaug.study.stages.preparation import Study


def with_texture(denoiser: CCELLADenoiser, components: int, patch: int) -> CCELLADenoiser:
    """The denoiser whose finest level is told textures, with the same weights."""
    settings = copy.deepcopy(denoiser.settings)
    settings["levels"][-1] |= {"texture": components, "patch": patch}
    told = CCELLADenoiser(**settings)
    load_strictly(told, {**told.state_dict(), **denoiser.state_dict()}, source="the trained generator")
    return told.eval()


def begin(pipeline: CCELLAPipeline, study: Study) -> CCELLAPipeline:
    """The pipeline with textures, fitted to the training people and not trained yet."""
    level = study.config.generator.levels[-1]
    pipeline.register_modules(denoiser=with_texture(pipeline.denoiser, level.texture, level.patch))
    examples = Examples(study.split.train, pipeline, trained_text=False)
    examples.fit(torch_generator("linear", study.config.generator.training.seed))
    pipeline.record["generator"]["levels"][-1]["texture"] = level.texture
    return pipeline


def trained_on(config: Config, begun: Path, out: Path, *, steps: int, rate: float) -> CCELLAPipeline:
    """The generator after its training went on, at its finest level but for a step of each other one."""
    *coarser, finest = config.generator.levels
    levels = [*(replace(level, steps=1) for level in coarser), replace(finest, steps=steps)]
    training = replace(config.generator.training, learning_rate=rate, warmup=0)
    generator = GeneratorConfig(pretrained=str(begun), levels=levels, training=training)
    return make_generator(Study.start(replace(config, generator=generator), out, Bars().stage))


def main(arguments: Sequence[str] | None = None) -> None:
    """Add, train, put the coarser levels back, and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", required=True, help="folder of the trained generator")
    parser.add_argument("--config", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    config = read_config(["--config", options.config])
    original = CCELLAPipeline.from_pretrained(options.pipeline)
    finest = f"finer.{len(original.denoiser.unets) - 2}."
    begun = options.out / "begun"
    if not begun.is_dir():
        study = Study.start(config, options.out, Bars().stage)
        with atomic_folder(begun) as temporary:
            begin(CCELLAPipeline.from_pretrained(options.pipeline), study).save_pretrained(temporary)
    trained = trained_on(config, begun, options.out, steps=options.steps, rate=options.rate)
    kept = {name: value for name, value in original.denoiser.state_dict().items() if not name.startswith(finest)}
    load_strictly(trained.denoiser, {**trained.denoiser.state_dict(), **kept}, source=options.pipeline)
    trained.register_modules(text_encoder=original.text_encoder)
    with atomic_folder(options.out / "textured") as temporary:
        trained.save_pretrained(temporary)
    print(options.out / "textured")


if __name__ == "__main__":
    main()
