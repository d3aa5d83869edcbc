"""Libraries' messages that do not concern whoever runs a command."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries' warnings and bars for things that are as they should be stay out of a normal run."""
    from transformers.utils import logging as transformers_logging  # late: it imports torch

    transformers_logging.disable_progress_bar()
    for name in ("diffusers", "transformers", "mlflow", "alembic", "torch", "monai"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
