"""Patients by keyed hashes (HMAC-SHA-256): folders that travel can tell whom they saw and name nobody.

The key is one secret of the institution for all its data: ``SYNTHAUG_KEY``, else a file in the user's config folder,
made at the first use. Without it the hashes cannot be turned back by trying ids. Phantoms and public data sets have a
published key, so that anybody can tell whether they were seen.
"""

import functools
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from synthaug.ground.errors import InputError

VARIABLE = "SYNTHAUG_KEY"
PUBLISHED_KEY = b"synthaug: patients of public data sets and phantoms"
PUBLIC = "public"
"""Beginning of the ids of public patients, and of their hashes."""
PHANTOM = re.compile(r"phantom-\d+-\d{4,}")
OLD_HASH = re.compile(r"[0-9a-f]{16}")
"""Hashes of earlier versions had no key."""


def public_id(data_set: str, patient_id: str) -> str:
    """The id of a patient of a public data set; data sets are told apart by their letters and digits.

    Example:
        >>> public_id("PROSTATEx", "0001") == public_id("prostate-X", "0001")
        True
    """
    return f"{PUBLIC}:{re.sub(r'[^a-z0-9]', '', data_set.lower())}:{patient_id}"


def public_sets(patient_ids: Iterable[str]) -> list[str]:
    """The public data sets of patients, as their ids name them; phantoms are of none.

    Example:
        >>> public_sets([public_id("PROSTATEx", "0001"), "phantom-1-0001", "patient 7"])
        ['prostatex']
    """
    return sorted({each.split(":")[1] for each in patient_ids if each.startswith(f"{PUBLIC}:")})


def is_public(patient_id: str) -> bool:
    """Whether the id is a phantom's or that of a patient of a public data set."""
    return patient_id.startswith(f"{PUBLIC}:") or PHANTOM.fullmatch(patient_id) is not None


def plain_id(patient_id: str) -> str:
    """The id as the manifest has it, without the public data set.

    Example:
        >>> plain_id(public_id("PROSTATEx", "0001")), plain_id("a:b:c")
        ('0001', 'a:b:c')
    """
    return patient_id.split(":", 2)[-1] if patient_id.startswith(f"{PUBLIC}:") else patient_id


def patient_hash(patient_id: str) -> str:
    """How checkpoints and pools remember a patient.

    Raises:
        InputError: There is no key and none can be kept.

    Example:
        >>> patient_hash("public:prostatex:0001")
        'public-e0fe29b402d59a52040418af0b7b6cca'
    """
    if is_public(patient_id):
        return _keyed(PUBLISHED_KEY, PUBLIC, patient_id)
    key = _own_key()
    return _keyed(key, _name_of(key), patient_id)


def hashes_of(patient_id: str) -> set[str]:
    """All hashes that a record may hold of a patient: keyed and, from earlier versions, unkeyed.

    A public patient is also known by the plain id: from before ``data.public`` was set, and in files of reports.
    """
    plain = plain_id(patient_id)
    found = {hashlib.sha256(f"patient:{each}".encode()).hexdigest()[:16] for each in (patient_id, plain)}
    if is_public(patient_id):
        found.add(patient_hash(patient_id))
    if is_public(plain):  # a phantom was never hashed with another key
        return found
    key = _known_key()
    return found if key is None else {*found, _keyed(key, _name_of(key), plain)}


def can_be_told(hashes: Iterable[str]) -> bool:
    """Whether our patients could be found among these: they are not hashed with another institution's key."""
    key = _known_key()
    ours = {PUBLIC} if key is None else {PUBLIC, _name_of(key)}
    return all(OLD_HASH.fullmatch(each) or each.split("-")[0] in ours for each in hashes)


def pseudonym(name: str) -> str:
    """What a subject or patient is called where others read; the same for one name everywhere in the institution."""
    return f"id-{hmac.digest(_own_key(), f'pseudonym:{name}'.encode(), 'sha256').hex()[:12]}"


def seal(patient_id: str, *words: str) -> str:
    """A mark of what was written of a patient, which shows whether it was changed since; whoever has the key can tell.

    Example:
        >>> seal("phantom-1-0001", "test") == seal("phantom-1-0001", "train")
        False
    """
    key = PUBLISHED_KEY if is_public(patient_id) else _own_key()
    name = PUBLIC if is_public(patient_id) else _name_of(key)
    return f"{name}-{hmac.digest(key, repr(['seal', patient_id, *words]).encode(), 'sha256').hex()[:16]}"


def can_be_checked(mark: str) -> bool:
    """Whether a mark was made with a key that is known here."""
    key = _known_key()
    return mark.split("-")[0] in ({PUBLIC} if key is None else {PUBLIC, _name_of(key)})


def _keyed(key: bytes, name: str, patient_id: str) -> str:
    return f"{name}-{hmac.digest(key, f'patient:{patient_id}'.encode(), 'sha256').hex()[:32]}"


def _name_of(key: bytes) -> str:
    """Eight hex digits that tell one key from another."""
    return hmac.digest(key, b"name of the key", "sha256").hex()[:8]


def _own_key() -> bytes:
    """The institution's key, made where there is none."""
    found = _known_key()
    if found is None:
        _make(key_path())
        found = _known_key()
    if found is None:
        raise InputError(f"{key_path()}: the key of patients' hashes cannot be kept there; set {VARIABLE}.")
    return found


def _known_key() -> bytes | None:
    given, path = os.environ.get(VARIABLE), key_path()
    if given:
        return given.encode()
    return _read(path, path.stat().st_mtime) if path.is_file() else None


def key_path() -> Path:
    """Where the key is kept if the environment has none."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "synthaug" / "key"


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: float) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: the key of patients' hashes cannot be read ({error.strerror}).") from error
    if len(key) < 16:
        raise InputError(f"{path}: is too short for the key of patients' hashes; restore it, or set {VARIABLE}.")
    return key


def _make(path: Path) -> None:
    """Write a new key; of several processes that do so at once one wins for all."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    except OSError as error:
        raise InputError(
            f"{path}: the key of patients' hashes cannot be kept there ({error.strerror}); set {VARIABLE} to a secret "
            "of your institution."
        ) from error
