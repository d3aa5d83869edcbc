"""What a person sees while a study works: a bar for each of its stages."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from synthaug.config import Config
from synthaug.models.training.processes import processes
from synthaug.study.outlook.costs import StageClock


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that a study passes, in order, if nothing of it is there yet.

    Example:
        >>> stages_of(Config())
        ('preparation', 'generator', 'pool', 'classifiers', 'statistics', 'image metrics', 'report')
    """
    made: list[str] = []
    if config.study.synthetic and not (config.pool.path or config.study.pretrained_on):
        if not config.pool.generator:
            own = config.generator.latent_design.trained and not config.generator.pretrained
            made += ["autoencoder", "generator"] if own else ["generator"]
        made += ["pool"]
    last = ["image metrics"] if config.study.synthetic else []
    return ("preparation", *made, "classifiers", "statistics", *last, "report")


UNSEEN_SECONDS = 2.0
"""A stage of one step that ends sooner shows no bar."""


class Bars(StageClock):
    """A progress bar a stage, with its number and the time left; remembers what each stage took.

    Args:
        stages: Those that are to come; the number of any other is not told.
    """

    def __init__(self, stages: Sequence[str] = ()) -> None:
        super().__init__()
        self.stages = stages

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A stage of one step; a quick one shows no bar, so that what refuses its input leaves one clear line."""
        step = self.stage(name, 1, delay=UNSEEN_SECONDS)
        try:
            yield
        except BaseException:
            step(0)
            raise
        step()

    def stage(self, name: str, total: int, *, delay: float = 0) -> Callable[..., None]:
        """Start a stage; the result is called after each step, or with the number of steps behind and the values.

        Args:
            name: Of the stage.
            total: Its steps.
            delay: Seconds before its bar is shown; a quicker stage shows none.
        """
        note = self.begin(name)
        quiet = not processes().is_main_process
        look = {"unit": "step", "dynamic_ncols": True, "mininterval": 0.5, "disable": quiet, "delay": delay}
        place = f"stage {self.stages.index(name) + 1} of {len(self.stages)}, " if name in self.stages else ""
        bar = tqdm(total=total, desc=f"{place}{name:<13}", file=sys.stderr, **look)
        done = 0

        def step(count: int = 1, values: dict[str, float] | None = None) -> None:
            nonlocal done
            # Training loops report the step's number and values; pools and cells report how many are done.
            advance = count - done if values is not None else count
            done += advance
            bar.update(advance)
            note()
            if done >= total:
                bar.close()

        return step
