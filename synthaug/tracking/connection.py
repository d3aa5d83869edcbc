"""Connection to MLflow: a server, or SQLite in the study's folder. It tolerates outages."""

import contextlib
import functools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from tqdm import tqdm

from synthaug.ground.errors import InputError
from synthaug.ground.files import atomic_path, sqlite_address
from synthaug.ground.locks import locked
from synthaug.ground.silence import silenced
from synthaug.study.folder.tracked import STORE, remember_place, without_password

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
"""MLflow's own would wait for minutes; what cannot be sent now is sent by the next run. The user's values stand."""
SCHEMES = ("", "http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")
"""Kinds of address that MLflow knows beside those of its plugins."""
PASSING = (408, 429)
"""Refusals that a server gives only for a while."""


class Connection:
    """A study's way to MLflow, which is never worth a study: what goes wrong is told in one line and put off.

    Args:
        out: The study's folder; holds ``mlflow.db`` and ``mlartifacts`` unless MLFLOW_TRACKING_URI names a server.
        name: Of the experiment.
    """

    def __init__(self, out: Path, name: str, server: str | None) -> None:
        self.out, self.name, self.server = out.resolve(), name, server
        self.uri = server or sqlite_address(self.out / STORE)
        self.lost = False
        """Whether MLflow was unreachable; nothing is tried again until :meth:`renew`."""
        self.parent: str | None = None
        """Id of the study's run, once known: the parent of runs of trainings."""
        self._told = False
        self._client: MlflowClient | None = None
        self._experiment: str | None = None

    def connect(self) -> MlflowClient:
        """The client, made at the first call: for SQLite that makes the tables."""
        if self._client is None:
            if not self.server:
                _make_store(self.out / STORE)
            self._client = MlflowClient(self.uri) if self.server else _client_of(self.out / STORE)
        return self._client

    def find_experiment(self) -> str:
        """Id of the experiment, made where it is missing; the server is asked once."""
        if self._experiment is None:
            known = self.connect().get_experiment_by_name(self.name)
            if known and known.lifecycle_stage != "active":
                raise InputError(
                    f"The MLflow experiment {self.name!r} is deleted; restore it there or choose another study.name."
                )
            self._experiment = known.experiment_id if known else self._create_experiment()
            if self.server:
                remember_place(self.out, without_password(self.server), self._experiment)
        return self._experiment

    def renew(self, *, quietly: bool = False) -> None:
        """Try again from now on; ``quietly``: an outage that was told is not told again."""
        self.lost, self._told = False, self._told and quietly

    def attempt(self, action: Callable[[], None]) -> bool:
        """Run ``action`` while nobody else logs this folder; False if it was not, or not wholly, done.

        Raises:
            InputError: MLFLOW_TRACKING_URI is wrong, or the server refuses us, before anything was logged.
        """
        if self.lost:
            return False
        try:
            with _alone(self.out), _patience(), quiet():
                action()
        except InputError:
            raise
        except Exception as error:  # whatever a server or its file store does must not cost the study
            self._refuse_settings(error)
            self.lost = True
            self._tell(error)
        return not self.lost

    def runs(self, **tags: str) -> list[Run]:
        """The experiment's runs that have these tags."""
        found: list[Run] = []
        query = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
        token = None
        while True:
            page = self.connect().search_runs([self.find_experiment()], query, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _create_experiment(self) -> str:
        location = None if self.server else (self.out / "mlartifacts").as_uri()
        # MLflow's own word for training of models, as against work on language-model applications.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return self.connect().create_experiment(self.name, artifact_location=location, tags=tags)
        except MlflowException:  # another machine made it a moment ago
            known = self.connect().get_experiment_by_name(self.name)
            if known is None:
                raise
            return known.experiment_id

    def _refuse_settings(self, error: Exception) -> None:
        if self._experiment is None and self.server and isinstance(error, MlflowException):
            status = error.get_http_status_code()
            if 400 <= status < 500 and status not in PASSING:
                raise InputError(
                    f"MLFLOW_TRACKING_URI={_shown(self.server)} is refused ({_reason(error)}); "
                    "name a server that takes runs, or unset it."
                ) from error

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            tqdm.write(
                f"warning: MLflow at {_shown(self.uri)} cannot be reached ({_reason(error)}); the study goes on, "
                "and the same command uploads what is missing.",
                file=sys.stderr,
            )


def stores_of(out: Path) -> list[Path]:
    """MLflow's file in a study's folder, or nothing where a server is named."""
    return [] if os.environ.get("MLFLOW_TRACKING_URI") else [out / STORE]


def _make_store(path: Path) -> None:
    """Make MLflow's tables where there are none: beside their place first, as a killed migration cannot go on."""
    if path.is_file():
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(_empty_store())


@functools.cache
def _empty_store() -> bytes:
    """The file of a store without runs: MLflow makes its tables by a hundred migrations, which take seconds."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        store = Path(folder) / STORE
        _client_of(store).search_experiments(max_results=1)
        return store.read_bytes()


def _client_of(store: Path) -> MlflowClient:
    """MLflow makes the folder of the address too, as it is written: an empty one beside where the two differ."""
    address = sqlite_address(store)
    written = Path(address.removeprefix("sqlite:///")).parent
    new = not written.exists()
    client = MlflowClient(address)
    if new:
        with contextlib.suppress(OSError):
            written.rmdir()
    return client


@functools.cache
def _connection(out: Path, name: str, server: str | None) -> Connection:
    return Connection(out, name, server)


def require_address() -> None:
    """InputError if MLFLOW_TRACKING_URI is an address that no store or server can have; nothing is asked of it."""
    server = os.environ.get("MLFLOW_TRACKING_URI") or ""
    try:
        parts = urlsplit(server)
        fault = _fault_of(parts.scheme.split("+")[0], parts.hostname, parts.port, parts.path.removeprefix("/"))
    except ValueError as error:
        fault = str(error)
    if fault:
        raise InputError(
            f"MLFLOW_TRACKING_URI={_shown(server)} is no address ({fault}); name a server as https://HOST:PORT or a "
            "file as sqlite:///PATH, or unset it."
        )


def _fault_of(scheme: str, host: str | None, port: int | None, file: str) -> str:
    """What is wrong with an address; "" = nothing that shows.

    Example:
        >>> _fault_of("http", None, 5000, ""), _fault_of("https", "tracking.example", None, "")
        ('no host', '')
    """
    if scheme not in SCHEMES and scheme not in entry_points(group="mlflow.tracking_store").names:
        return f"MLflow has no {scheme}: addresses"
    if scheme in ("http", "https") and (not host or re.search(r"\s", host) or port == 0):
        return "no host" if not host else "no such host or port"
    folder = Path(file).parent
    return f"no folder {folder}" if scheme == "sqlite" and not folder.is_dir() else ""


def connect(out: Path, experiment: str) -> Connection:
    """The process's one connection of a folder, so that an outage is waited for and told once."""
    return _connection(out, experiment, os.environ.get("MLFLOW_TRACKING_URI") or None)


def _shown(address: str) -> str:
    """An address without the user and password that may stand in it.

    Example:
        >>> _shown("https://me:secret@tracking.example:5000")
        'https://tracking.example:5000'
    """
    return re.sub(r"//[^/@]*@", "//", address)


def _reason(error: Exception) -> str:
    """What MLflow says, in one short line without addresses, which may hold a password.

    Example:
        >>> _reason(MlflowException("API request failed with exception Max retries exceeded (Connection refused)"))
        'connection refused'
    """
    text = " ".join(str(error).split())
    known = {"refused": "connection refused", "timed out": "no answer in time", "resolve": "unknown host"}
    for sign, meaning in known.items():
        if sign in text:
            return meaning
    code = re.search(r"error code (\d{3})|(\d{3}) (?:Server|Client) Error|too many (\d{3}) error", text)
    if code:
        return f"HTTP status {next(filter(None, code.groups()))}"
    return f"{type(error).__name__}: {_shown(text)[:120]}"


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder's tracking, so that two benches never log one cell twice; the lock ends with the process."""
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".tracking.lock"):
        yield


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    added = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """MLflow and its migrations tell of every table they make; a normal run should not."""
    with silenced(("mlflow", "alembic", "urllib3")):
        yield
