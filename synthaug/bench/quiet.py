"""Libraries' messages that do not concern whoever runs a command."""

import contextlib
import logging
import os
from collections.abc import Iterator

from synthaug.ground.silence import silenced


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries' warnings and bars for things that are as they should be stay out of a normal run.

    Of several processes (``torchrun``) the first alone warns: all see the same data and settings.
    """
    from transformers.utils import logging as transformers_logging  # late: it imports torch

    transformers_logging.disable_progress_bar()
    for name in ("diffusers", "transformers", "mlflow", "alembic", "torch", "monai"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with silenced([] if leads() else ["synthaug"]):
        yield


def leads() -> bool:
    """Whether this is the process that tells, of those that train together."""
    return os.environ.get("RANK", "0") == "0"
