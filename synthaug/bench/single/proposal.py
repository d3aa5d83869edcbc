"""Where ``synthaug check`` writes the config that it proposes: never over one that somebody has changed."""

import codecs
import locale
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from synthaug.ground.errors import InputError
from synthaug.ground.files import content_hash

MARK = "# Written by `synthaug check`"
SEALED = re.compile(re.escape(MARK) + r" \(([0-9a-f]{16})\)\. .*\n")


def sealed(body: str) -> str:
    """The file of a proposed config: its first line names what follows, so that a change can be told.

    Example:
        >>> unchanged(sealed("preprocess: {}\\n")), unchanged(sealed("preprocess: {}\\n") + "study: {}\\n")
        (True, False)
    """
    return f"{MARK} ({content_hash(body)}). Read it, change it, and run it behind a preset.\n{body}"


def as_yaml(section: Mapping[str, Any]) -> str:
    """A section of a config; letters beyond ASCII as they are, or as escapes where Python reads no files as UTF-8.

    jsonargparse reads the config in the encoding of the machine, on Windows often another.
    """
    letters = codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8"
    return yaml.safe_dump(dict(section), sort_keys=False, default_flow_style=None, width=110, allow_unicode=letters)


def unchanged(text: str) -> bool:
    """Whether a file is as check wrote it."""
    head = SEALED.match(text)
    return head is not None and head[1] == content_hash(text[head.end() :])


def place_for(path: Path) -> Path:
    """Where the proposal goes: ``path``, or beside it where a proposal there was changed since.

    Raises:
        InputError: Something else is there, or both places hold changed proposals.
    """
    for target in (path, path.with_name(f"{path.stem}.proposed{path.suffix}")):
        if not target.exists():
            return target
        text = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else ""
        if not text.startswith(MARK):
            raise InputError(f"{target}: is there already and was not written by check; give another --out.")
        if unchanged(text):
            return target
    raise InputError(f"{path}: was changed since check wrote it, and so was {target}; give another --out.")
