"""Two Ray nodes on this machine, and a worker that is killed: pools and studies are those of one process."""

import contextlib
import os
import signal
import threading

import psutil
import pytest
from small_pool import tree
from tiny_study import TOO_FAST, bench, descendants, found, without_cells

from synthaug.bench.commands import main

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two nodes of a core each, which this process has begun."""
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # its workers would wait long on a busy machine
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        cluster.shutdown()


class Killer:
    """While it is open: kills the first worker that is busy with a task, and remembers on which nodes workers were."""

    def __init__(self, task, begun):
        self.task, self.begun = task, begun
        """Name of the task; whether there is something to lose yet."""
        self.killed, self.nodes, self._ended = None, set(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join(timeout=60)

    def _watch(self):
        while not self._ended.wait(0.02):
            for pid, title in descendants(os.getpid()).items():
                if self.task in title:
                    with contextlib.suppress(psutil.Error, ProcessLookupError):
                        self.nodes.add(psutil.Process(pid).ppid())
                        if self.killed is None and self.begun():
                            os.kill(pid, signal.SIGKILL)
                            self.killed = pid


def test_two_nodes_one_of_whose_workers_is_killed_make_the_pool_of_one_process(two_nodes, tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "generator")
    words = ["pool", "build", "--generator", str(tmp_path / "generator"), "--pool.per_class", "16"]
    words += ["--data.phantom.n", "24", "--data.phantom.shape", "[16,16,8]", "--data.phantom.spacing_mm", "[5,5,8]"]
    words += ["--pool.sampling.steps", "4", "--pool.sampling.micro_batch", "4", "--pool.threads", "1"]
    manifest = tmp_path / "two" / "manifest.jsonl"
    with Killer("build_shard", lambda: manifest.is_file() and manifest.stat().st_size) as killer:
        assert main([*words, "--out", str(tmp_path / "two"), "--executor", "ray", "--workers", "2"]) == 0
    assert killer.killed
    assert len(killer.nodes) == 2
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_a_killed_worker_and_failing_cells_leave_what_one_process_finds(two_nodes, tmp_path, capfd):
    assert bench(tmp_path / "whole") == 0
    here, there = (without_cells(tmp_path / "whole", tmp_path / name) for name in ("here", "there"))
    more = [*TOO_FAST, "--classifier.training.steps", "60"]
    assert bench(here, *more) == 1
    assert capfd.readouterr().err.count("the loss is nan") == 2
    with Killer("run_remote_cell", lambda: any(there.glob("cells/*.checkpoint"))) as killer:
        assert bench(there, *more, "--executor", "ray", "--workers", "2") == 1
    assert killer.killed
    assert capfd.readouterr().err.count("the loss is nan") == 2
    assert found(there) == found(here)
    assert len(found(there)["records"]) == 2
