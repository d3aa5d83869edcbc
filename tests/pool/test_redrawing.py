"""Volumes drawn anew are those of the pool; one that only looks listed is told."""

import pytest
from small_pool import build_pool, plant

from synthaug.bench.commands import main
from synthaug.ground.errors import InputError
from synthaug.pool.pool import SyntheticPool
from synthaug.pool.review.redrawing import redraw


@pytest.fixture
def pool(tiny_pipeline, tiny_subjects, tmp_path):
    return build_pool(tiny_pipeline, tiny_subjects, tmp_path / "pool")


def forge(pool):
    """Brighten one volume and list the hash of what it has become; the pool opened anew, and the volume's id."""
    entry = pool.entries(pool.classes[0])[0]
    plant(pool, entry, pool.subject(pool.classes[0], 0)["t2w"].data + 0.1)
    return SyntheticPool.open(pool.path), entry["id"]


def test_volumes_drawn_anew_have_the_same_bytes(pool, tiny_pipeline):
    redrawn = redraw(pool, tiny_pipeline)
    assert len(redrawn) == len(pool)
    assert all(each.same_bytes and each.difference == 0 for each in redrawn)
    few = redraw(pool, tiny_pipeline, count=2)
    assert [each.id for each in few] == [redrawn[0].id, redrawn[-1].id]


def test_a_volume_that_another_took_the_place_of_is_told_though_its_hash_is_listed(pool, tiny_pipeline):
    forged, name = forge(pool)
    forged.verify()  # which sees nothing
    told = [each for each in redraw(forged, tiny_pipeline) if not each.same_bytes]
    assert [each.id for each in told] == [name]
    assert told[0].difference == pytest.approx(0.1, abs=1e-5)


def test_only_the_generator_that_drew_a_pool_draws_it_anew(pool, tiny_pipeline):
    for name, value in (("checkpoint", "0" * 16), ("device", "cuda"), ("dtype", "torch.float16")):
        other = SyntheticPool(pool.path, {**pool.header, name: value}, [])
        with pytest.raises(InputError, match=name):
            redraw(other, tiny_pipeline)
    with pytest.raises(InputError, match="at least 1"):
        redraw(pool, tiny_pipeline, count=0)


def test_the_command_line_draws_anew_where_it_is_given_the_generator(pool, tiny_pipeline, tmp_path, capsys):
    tiny_pipeline.save_pretrained(tmp_path / "tiny")
    command = ["pool", "verify", str(pool.path), "--generator", str(tmp_path / "tiny"), "--redraw", "3"]
    assert main(command) == 0
    assert "3 volumes" in capsys.readouterr().out
    for wrong in (["--generator", str(tmp_path / "typo")], ["--redraw", "0"]):
        assert main([*command, *wrong]) == 2
        assert not capsys.readouterr().out  # before the volumes are read
    forge(pool)
    assert main(command) == 2
    assert "0.1" in capsys.readouterr().err
