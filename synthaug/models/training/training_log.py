"""A training's own record: one line of JSON every few steps (``stats.jsonl``)."""

import json
import sys
import time
from pathlib import Path


class TrainingLog:
    """Appends step, losses, learning rate, seconds and peak memory to a file.

    Args:
        path: The file.
        stage: What is trained; stands in every line.
        every: Steps between lines; losses are means over them.

    Example:
        >>> import tempfile
        >>> log = TrainingLog(Path(tempfile.mkdtemp()) / "stats.jsonl", stage="level 0", every=2)
        >>> log.resume(0)
        >>> log.step(1, {"loss": 3.0}, last=False)
        >>> log.step(2, {"loss": 1.0}, last=True)
        >>> line = json.loads(log.path.read_text(encoding="utf-8"))
        >>> line["stage"], line["step"], line["loss"]
        ('level 0', 2, 2.0)
    """

    def __init__(self, path: Path, *, stage: str, every: int = 10) -> None:
        self.path, self.stage, self.every = path, stage, every
        self._sums: dict[str, float] = {}
        self._count, self._before = 0, 0.0

    def resume(self, step: int) -> None:
        """Begin, or go on after ``step``; lines of later steps, which a killed training left, are dropped."""
        kept, self._before = [], 0.0
        if self.path.is_file():
            lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if self._stays(json.loads(line), step)]
            own = [json.loads(line) for line in kept if json.loads(line)["stage"] == self.stage]
            self._before = own[-1]["seconds"] if own else 0.0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._started = time.monotonic()

    def step(self, step: int, values: dict[str, float], *, last: bool) -> None:
        """Take up a step's values; write them when due."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if step % self.every == 0 or last:
            self.write(step, {name: total / self._count for name, total in self._sums.items()})
            self._sums, self._count = {}, 0

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one line."""
        line = {"stage": self.stage, "step": step, **{name: round(value, 6) for name, value in values.items()}}
        line |= {"seconds": round(self._before + time.monotonic() - self._started, 2), "peak_mb": peak_memory_mb()}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{json.dumps(line)}\n")

    def _stays(self, line: dict, step: int) -> bool:
        return line["stage"] != self.stage or line["step"] <= step


def peak_memory_mb() -> int:
    """Largest resident size of this process so far."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        used = psutil.Process().memory_info()
        return getattr(used, "peak_wset", used.rss) // 1024**2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kibibytes on Linux, bytes on macOS
    return peak // (1024**2 if sys.platform == "darwin" else 1024)
