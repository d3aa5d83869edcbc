"""What a study costs: seconds and memory of each stage, and the machine's energy where it tells it; kept beside it."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pynvml
import torch

from synthaug.ground.files import read_record, write_json

FOLDER = "costs"
"""Of a study's folder: a file a session, because two sessions may work on one study at once."""
SAMPLE_SECONDS = 5.0
"""Between two looks at the counters: those of a processor start again from 0 after some minutes under load."""
SAVE_SECONDS = 30.0
"""A killed session loses the costs of at most so long."""
POWERCAP = Path("/sys/class/powercap")
PROCESS = Path("/proc/self")
JOULES_A_KWH = 3.6e6
STAGE_KINDS = ("seconds", "processor_seconds", "peak_mib")
"""What is told of each stage."""


@dataclass(frozen=True)
class Costs:
    """Of all sessions of a study."""

    seconds: Mapping[str, float]
    """By stage."""
    wall_seconds: float
    """From start to end, summed over sessions."""
    joules: Mapping[str, float]
    """By what was measured, processor or gpu; absent where no session knew it."""
    measured_seconds: Mapping[str, float]
    """How much of ``wall_seconds`` each of ``joules`` covers."""
    processor_seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage, of all threads of this process."""
    peak_mib: Mapping[str, float] = field(default_factory=dict)
    """By stage, the most resident memory of this process; absent where the system does not tell it."""

    def energy_words(self) -> dict[str, str]:
        """The energy of processor and GPU for people; what is not known is said to be so.

        Example:
            >>> costs = Costs({}, wall_seconds=7200, joules={"gpu": 1.8e6}, measured_seconds={"gpu": 3600})
            >>> costs.energy_words()["gpu"]
            '0.5 kWh in the 50 % of the time in which it was measured'
            >>> costs.energy_words()["processor"]
            'not known on this machine'
        """
        words = {}
        for part in ("processor", "gpu"):
            if part not in self.joules:
                words[part] = "not known on this machine"
                continue
            share = self.measured_seconds[part] / max(self.wall_seconds, 1e-9)
            partly = f" in the {100 * share:.0f} % of the time in which it was measured" if share < 0.99 else ""
            words[part] = f"{self.joules[part] / JOULES_A_KWH:.3g} kWh{partly}"
        return words


class StageClock:
    """Wall and processor seconds and peak resident memory of each stage of this process.

    The peak is the high-water mark of the system, reset when a stage begins. Other tools, such as ``/usr/bin/time``,
    then see the peak since that reset.

    Example:
        >>> clock = StageClock()
        >>> with clock.timed("pool"):
        ...     pass
        >>> list(clock.seconds), list(clock.processor_seconds)
        (['pool'], ['pool'])
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count what is done in it as the stage; a stage may come again."""
        note = self.begin(name)
        try:
            yield
        finally:
            note()

    def begin(self, name: str) -> Callable[[], None]:
        """Start to count; the result is called to count up to now, as often as one likes."""
        started, started_processor = time.monotonic(), time.process_time()
        before, before_processor = self.seconds.get(name, 0.0), self.processor_seconds.get(name, 0.0)
        known = _restart_peak()

        def note() -> None:
            self.seconds[name] = before + time.monotonic() - started
            self.processor_seconds[name] = before_processor + time.process_time() - started_processor
            if known:
                self.peak_mib[name] = max(_peak_mib(), self.peak_mib.get(name, 0.0))

        return note


class CostMeter:
    """Measures a session of a study from entering to leaving, in a thread of its own.

    Args:
        out: The study's folder.
        clock: Of the stages so far; read again and again.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for _ in range(2):
        ...     clock = StageClock()
        ...     clock.seconds["pool"] = 2.0
        ...     with CostMeter(folder, clock):
        ...         pass
        >>> total_costs(folder).seconds
        {'pool': 4.0}
    """

    def __init__(self, out: Path, clock: StageClock) -> None:
        self._path = out / FOLDER / f"{time.time_ns()}-{os.getpid()}.json"
        self._clock = clock
        self._meters: dict[str, ProcessorMeter | GpuMeter] = {"processor": ProcessorMeter(), "gpu": GpuMeter()}
        self._ended, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="costs", daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.save()

    def save(self) -> None:
        """Write what the session has cost so far."""
        with self._writing:
            energy = {name: meter.read() for name, meter in self._meters.items()}
            spent = {
                **{
                    kind: {name: round(value, 1) for name, value in dict(getattr(self._clock, kind)).items()}
                    for kind in STAGE_KINDS
                },
                "wall_seconds": round(time.monotonic() - self._started, 1),
                "joules": {name: round(value, 1) for name, value in energy.items() if value is not None},
            }
            write_json(self._path, spent)

    def _watch(self) -> None:
        saved = time.monotonic()
        while not self._ended.wait(SAMPLE_SECONDS):
            with self._writing:
                for meter in self._meters.values():
                    meter.read()
            if time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                self.save()


def total_costs(out: Path) -> Costs:
    """The costs of all sessions of a study so far."""
    sessions = [read_record(path, _session) for path in sorted((out / FOLDER).glob("[0-9]*.json"))]
    stages: dict[str, dict[str, float]] = {kind: {} for kind in STAGE_KINDS}
    joules: dict[str, float] = {}
    measured: dict[str, float] = {}
    for session in sessions:
        for kind, total in stages.items():
            for name, value in session.get(kind, {}).items():
                so_far = total.get(name, 0.0)
                total[name] = max(so_far, value) if kind == "peak_mib" else so_far + value
        for name, value in session["joules"].items():
            joules[name] = joules.get(name, 0.0) + value
            measured[name] = measured.get(name, 0.0) + session["wall_seconds"]
    wall = sum(session["wall_seconds"] for session in sessions)
    return Costs(wall_seconds=wall, joules=joules, measured_seconds=measured, **stages)


def _session(told: dict[str, Any]) -> dict[str, Any]:
    """A session's file, whose numbers are numbers."""
    of_stages = [told.get(kind, {}) for kind in STAGE_KINDS]
    for value in [told["wall_seconds"], *(value for each in (told["joules"], *of_stages) for value in each.values())]:
        float(value + 0)
    return told


class ProcessorMeter:
    """Joules of all processor packages since it was made, as RAPL's counters of the Linux kernel tell them.

    Args:
        root: Where the kernel shows them; often to root alone.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        zones = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
        # intel-rapl:0 is a package (AMD's too); intel-rapl:0:1 is a part of it.
        self._zones = [zone for zone in zones if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        self._joules = 0.0
        try:
            self._last = [_counter(zone, "energy_uj") for zone in self._zones]
            self._ranges = [_counter(zone, "max_energy_range_uj") for zone in self._zones]
        except OSError:
            self._zones = []

    def read(self) -> float | None:
        """Joules so far; None = not known here."""
        if not self._zones:
            return None
        now = [_counter(zone, "energy_uj") for zone in self._zones]
        spent = [(new - old) % (size + 1) for new, old, size in zip(now, self._last, self._ranges, strict=True)]
        self._last = now
        self._joules += sum(spent) * 1e-6
        return self._joules


class GpuMeter:
    """Joules of the GPUs that CUDA shows this process since it was made, from the power that their driver tells."""

    def __init__(self) -> None:
        self._joules = 0.0
        self._watts = self._power()
        self._time = time.monotonic()

    def read(self) -> float | None:
        """Joules so far; None = not known here."""
        if self._watts is None:
            return None
        watts, now = self._power(), time.monotonic()
        if watts is not None:
            self._joules += (self._watts + watts) / 2 * (now - self._time)
            self._watts, self._time = watts, now
        return self._joules

    def _power(self) -> float | None:
        """Watts of all GPUs now; None = not known."""
        if not torch.cuda.is_available():
            return None
        try:
            return sum(torch.cuda.power_draw(gpu) for gpu in range(torch.cuda.device_count())) / 1000
        except (pynvml.NVMLError, RuntimeError, ModuleNotFoundError):  # no sensor; AMD's library is not installed
            return None


def _restart_peak() -> bool:
    """Set the process's high-water mark of resident memory back; False where that cannot be done."""
    try:
        (PROCESS / "clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def _peak_mib() -> float:
    """The high-water mark of resident memory."""
    found = re.search(r"VmHWM:\s+(\d+)", (PROCESS / "status").read_text(encoding="utf-8"))
    return int(found[1]) / 1024 if found else 0.0


def _counter(zone: Path, name: str) -> int:
    return int((zone / name).read_text(encoding="utf-8"))
