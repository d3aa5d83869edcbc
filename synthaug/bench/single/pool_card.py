"""``synthaug pool card``: the scorecard of a pool, as a page and as JSON."""

# What is needed is imported when it runs, as in :mod:`synthaug.bench.single.pool_commands`.
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from synthaug.config import ClassifierConfig, DataConfig, GeneratorConfig, SplitConfig

if TYPE_CHECKING:
    from synthaug.pool.pool import SyntheticPool
    from synthaug.pool.review.scorecard import RealSide


def card(
    folder: str,
    split: SplitConfig,
    data: DataConfig | None = None,
    generator: str | GeneratorConfig | None = None,
    classifier: str | ClassifierConfig | None = None,
    out: str | None = None,
) -> None:
    """Write the scorecard of a pool: seven criteria, each entry a figure or what is needed for it.

    Args:
        folder: Folder of the pool.
        split: Copies are searched in the training part; the other parts are the reference of image metrics.
        data: Subjects of the generator's training, and others; none = entries that need them are not measured.
        generator: Folder, builtin name or hub id of the generator; none = without licence, card and cut reports.
            The section of a study's config says how one is trained, and names none; so with ``classifier``.
        classifier: A .safetensors file of a study's real arm, which predicts the class; none = class not checked.
        out: Folder for card.html and card.json; none = that of the pool.
    """
    from synthaug.classify.weights import load_classifier
    from synthaug.generate.pipeline import CCELLAPipeline
    from synthaug.ground.files import usable_folder, without_new_folders, write_json
    from synthaug.pool.pool import SyntheticPool
    from synthaug.pool.review.scorecard import score_pool
    from synthaug.report.card import write_card

    opened = SyntheticPool.open(folder)
    with without_new_folders(Path(out or opened.path)):
        place = usable_folder(Path(out)) if out else opened.path
        made = score_pool(
            opened,
            real=None if data is None else real_side(opened, data, split),
            generator=CCELLAPipeline.from_pretrained(generator) if isinstance(generator, str) else None,
            auditor=load_classifier(classifier) if isinstance(classifier, str) else None,
        )
        write_json(place / "card.json", made.to_json())
        write_card(place / "card.html", made, opened)
    measured = sum(not entry.needs for entry in made.entries)
    print(f"card: {place / 'card.html'}, {measured} of {len(made.entries)} entries measured")


def real_side(pool: "SyntheticPool", data: DataConfig, split: SplitConfig) -> "RealSide":
    """The subjects, preprocessed as the pool's volumes were born; InputError if the generator saw a held-out one."""
    from synthaug.data.preprocess import preprocess
    from synthaug.models.extractors.taps import crop_centre
    from synthaug.pool.review.scorecard import RealSide
    from synthaug.study.stages.cohort import draw_split, load_subjects
    from synthaug.study.stages.leaks import refuse_generator_leaks
    from synthaug.study.stages.pools import preprocessing_of, require_images

    if data.root is None:
        logging.getLogger(__name__).warning("No data.root: the pool is compared with generated prostates.")
    require_images(pool, data.images)
    drawn = draw_split(split, load_subjects(data), data)
    refuse_generator_leaks(pool, drawn)
    born = preprocessing_of(pool)
    training, held_out = (
        preprocess(part, born, pool.images, centre=crop_centre(born))
        for part in (drawn.train, [*drawn.val, *drawn.test])
    )
    return RealSide(held_out, training)
