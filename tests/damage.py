"""Accidents that befall files: bytes that change, values that are something else, keys that go missing."""

import copy
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import nibabel
import yaml

TOKENS = [
    *(b"nan", b"inf", b"-1", b"1e999", b"0.5", b"", b"\0", b"\xff\xfe", b"\xc3", b'"', b"'", b",", b"\n", b"\r", b"\t"),
    *(b"../x", b"/etc/passwd", b"null", b"true", b"{}", b"[]", b"{", b"]", b": ", b"- ", b"&a *a", b"!!python/object"),
    *(b"9" * 400, b"x" * 5000, "é".encode(), "e\u0301".encode(), "\u202e".encode(), b"=1+1", b"[" * 2000),
]
VALUES = [
    *(None, True, False, 0, -1, 1, 3, 0.5, 1e-30, 1e30, 2**63, 10**40, math.nan, math.inf, -math.inf),
    *("", " ", "x", "x" * 5000, "../x", "/etc/passwd", "a\0b", "1", "nan", "1,5", "é", "\u202e", "null"),
    *([], [None], [1, 2, 3], [-1], [[]], {}, {"x": 1}, {"": None}),
]


def damaged(content: bytes, name: str, choose: random.Random) -> bytes:
    """The content of a file of that name after an accident."""
    suffix = Path(name).suffix
    if suffix in (".json", ".yaml") and choose.random() < 0.7:
        tree = yaml.safe_load(content) if suffix == ".yaml" else json.loads(content)
        for _ in range(choose.randint(1, 2)):
            tree = altered(tree, choose)
        return (yaml.safe_dump(tree) if suffix == ".yaml" else json.dumps(tree)).encode()
    if suffix == ".jsonl" and choose.random() < 0.7:
        lines = content.splitlines()
        place = choose.randrange(len(lines))
        lines[place] = json.dumps(altered(json.loads(lines[place]), choose)).encode()
        return b"\n".join(lines) + b"\n"
    if suffix == ".csv" and choose.random() < 0.5:
        return with_another_cell(content, choose)
    if suffix == ".nii" and choose.random() < 0.8:
        return with_another_header(content, choose)
    return mutated(content, choose)


def mutated(content: bytes, choose: random.Random) -> bytes:
    """The content after one to three changes of bytes or lines."""
    for _ in range(choose.randint(1, 3)):
        content = choose.choice(ACCIDENTS)(content, choose)
    return content


def _flip(content: bytes, choose: random.Random) -> bytes:
    if not content:
        return content
    at = choose.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << choose.randrange(8)]) + content[at + 1 :]


def _cut(content: bytes, choose: random.Random) -> bytes:
    return content[: choose.randrange(len(content) + 1)]


def _put(content: bytes, choose: random.Random) -> bytes:
    at, over = choose.randrange(len(content) + 1), choose.choice([0, 1, 8, 64])
    return content[:at] + choose.choice(TOKENS) + content[at + over :]


def _repeat(content: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(content) + 1)
    return content[: at + choose.choice([1, 8, 64])] + content[at:]


def _shuffle_lines(content: bytes, choose: random.Random) -> bytes:
    lines = content.split(b"\n")
    choose.shuffle(lines)
    return b"\n".join(lines)


def _repeat_line(content: bytes, choose: random.Random) -> bytes:
    lines = content.split(b"\n")
    lines.insert(choose.randrange(len(lines)), choose.choice(lines))
    return b"\n".join(lines)


ACCIDENTS = [_flip, _cut, _put, _put, _repeat, _shuffle_lines, _repeat_line]


def altered(tree: Any, choose: random.Random) -> Any:
    """Nested values with one of them replaced, taken out, or given a neighbour."""
    tree = copy.deepcopy(tree)
    places = [*_places(tree)]
    if not places:
        return choose.choice(VALUES)
    holder, key = choose.choice(places)
    accident = choose.choice(["replace", "replace", "replace", "remove", "add", "swap"])
    if accident == "replace":
        holder[key] = choose.choice(VALUES)
    elif accident == "remove":
        del holder[key]
    elif accident == "add" and isinstance(holder, dict):
        holder[choose.choice(["", "x", f"{key} ", f"{key}s"])] = choose.choice(VALUES)
    elif accident == "add":
        holder.append(choose.choice(VALUES))
    else:
        other, place = choose.choice(places)
        if not _holds(holder[key], other) and not _holds(other[place], holder):
            holder[key], other[place] = other[place], holder[key]
    return tree


def _places(tree: Any):
    """Each value below, as what holds it and its key there."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def _holds(tree: Any, part: Any) -> bool:
    return tree is part or any(_holds(holder[key], part) for holder, key in _places(tree))


def with_another_cell(content: bytes, choose: random.Random) -> bytes:
    """A CSV with another value in one or two cells, its header among them."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(choose.randint(1, 2)):
        row = choose.choice(rows)
        value = str(choose.choice([*VALUES, choose.choice(choose.choice(rows)).upper()]))
        row[choose.randrange(len(row))] = f'"{value}"' if choose.random() < 0.5 else value
    return "\n".join(map(",".join, rows)).encode() + b"\n"


def with_another_header(content: bytes, choose: random.Random) -> bytes:
    """A NIfTI file with other numbers in one to three fields of its header."""
    fields = nibabel.Nifti1Header.template_dtype.fields
    for _ in range(choose.randint(1, 3)):
        kind, at = fields[choose.choice(sorted(fields))]
        size = kind.base.itemsize
        at += size * choose.randrange(kind.itemsize // size)
        number = choose.choice([0, -1, 1, 2, 255, 2**15 - 1, math.nan, math.inf, 1e-30, 1e30, choose.uniform(-9, 9)])
        as_float = kind.base.kind == "f" or not math.isfinite(number) or abs(number) > 2**15
        bytes_ = struct.pack("<f", number) if as_float else struct.pack("<i", int(number))
        content = content[:at] + bytes_[:size] + content[at + len(bytes_[:size]) :]
    return content
