"""What a command does not print."""

import logging

import pytest

from synthaug.bench.quiet import quiet


@pytest.mark.parametrize(("rank", "warns"), [(None, True), ("0", True), ("1", False)])
def test_of_several_processes_the_first_alone_warns(rank, warns, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    own = logging.getLogger("synthaug.generate")
    with quiet():
        assert own.isEnabledFor(logging.WARNING) == warns
        assert own.isEnabledFor(logging.ERROR)
    assert own.isEnabledFor(logging.WARNING)
