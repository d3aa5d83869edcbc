"""Geometric moves: shape kept, exact where nothing is interpolated, splines where something is, told as numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthaug.config import GeometryConfig
from synthaug.data.voxels.geometry import CONDITIONS, NEUTRAL, Allowed, Geometry, apply_geometry, draw_geometry
from synthaug.ground.errors import InputError
from synthaug.ground.seeding import torch_generator

GRID = GeometryConfig().zooms


def a_volume(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator("a volume", seed))


geometries = st.builds(
    Geometry,
    shift=st.tuples(*[st.integers(-4, 4)] * 3),
    mirrored=st.booleans(),
    zoom=st.sampled_from(GRID),
    rotation_deg=st.sampled_from([0.0, -6.0, 3.0]),
)


@settings(max_examples=30, deadline=None)
@given(geometry=geometries)
def test_shape_type_and_range_are_kept_and_channels_move_alike(geometry):
    volume = a_volume(1, 9, 8, 6)
    moved = apply_geometry(torch.cat([volume, volume]), geometry)
    assert moved.shape == (2, 9, 8, 6)
    assert moved.dtype == torch.float32
    assert torch.equal(moved[0], moved[1])
    assert volume.min() <= moved.min() <= moved.max() <= volume.max()
    assert torch.equal(volume, a_volume(1, 9, 8, 6))  # the original is not touched


@settings(max_examples=30, deadline=None)
@given(geometry=geometries)
def test_conditions_are_bounded_and_zero_exactly_where_nothing_is_done(geometry):
    told = geometry.conditions()
    assert len(told) == len(CONDITIONS)
    assert all(-1 <= value <= 1 for value in told)
    assert (not any(told)) == geometry.neutral
    assert told[CONDITIONS.index("interpolated")] == (geometry.zoom != 1 or geometry.rotation_deg != 0)


def test_neutral_tells_zeros_and_changes_nothing():
    volume = a_volume(2, 5, 4, 3)
    assert NEUTRAL.conditions() == (0.0,) * len(CONDITIONS)
    assert torch.equal(apply_geometry(volume, NEUTRAL), volume)


@settings(max_examples=20, deadline=None)
@given(shift=st.tuples(*[st.integers(-2, 2)] * 3), mirrored=st.booleans())
def test_shifts_and_mirroring_only_move_values(shift, mirrored):
    volume = a_volume(1, 7, 6, 5)
    moved = apply_geometry(volume, Geometry(shift, mirrored=mirrored))
    assert set(moved.flatten().tolist()) <= set(volume.flatten().tolist())
    inner = apply_geometry(moved, Geometry(tuple(-step for step in shift)))[:, 2:-2, 2:-2, 2:-2]
    assert torch.equal(inner, (volume.flip(1) if mirrored else volume)[:, 2:-2, 2:-2, 2:-2])


def test_mirroring_twice_gives_the_volume_back():
    volume = a_volume(1, 7, 6, 5)
    mirrored = Geometry(mirrored=True)
    assert torch.equal(apply_geometry(apply_geometry(volume, mirrored), mirrored), volume)
    assert torch.equal(apply_geometry(volume, mirrored), volume.flip(1))  # left-right is the first axis


def test_a_shift_repeats_the_edge():
    line = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    assert apply_geometry(line, Geometry((0, 2, 0))).flatten().tolist() == [1, 1, 1, 2]
    assert apply_geometry(line, Geometry((0, -1, 0))).flatten().tolist() == [2, 3, 4, 4]


@pytest.mark.parametrize("zoom", [0.9, 1.075])
def test_a_zoom_is_one_cubic_spline_interpolation_the_shift_included(zoom):
    volume, shift = a_volume(1, 12, 10, 7), np.array([2, -1, 1])
    centre = (np.array(volume.shape[1:]) - 1) / 2
    wanted = ndimage.affine_transform(
        volume[0].double().numpy(), np.eye(3) / zoom, offset=centre - (centre + shift) / zoom, order=3, mode="nearest"
    ).clip(volume.min().item(), volume.max().item())
    moved = apply_geometry(volume, Geometry(tuple(shift.tolist()), zoom=zoom))
    np.testing.assert_allclose(moved[0].numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("zoom", GRID)
def test_a_zoomed_ball_has_the_zoomed_volume(zoom):
    axes = [torch.arange(side) - (side - 1) / 2 for side in (40, 36, 32)]
    radius = sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij")).sqrt()
    ball = (10.5 - radius).clamp(0, 1)[None]
    ratio = apply_geometry(ball, Geometry(zoom=zoom)).sum() / ball.sum()
    assert ratio.item() == pytest.approx(zoom**3, rel=0.01)


def test_a_rotation_turns_by_its_angle_in_millimetres():
    """A bright spot anterior of the centre goes to the left; in voxels twice as far where X is half as wide."""
    volume = torch.zeros(1, 41, 41, 3)
    volume[0, 20, 30] = 1
    moved = apply_geometry(volume, Geometry(rotation_deg=15), spacing_mm=(0.5, 1, 1))[0, :, :, 1]
    x, y = (int(place) for place in torch.nonzero(moved == moved.max())[0])
    assert (x, y) == (20 - round(10 * np.sin(np.pi / 12) / 0.5), 20 + round(10 * np.cos(np.pi / 12)))


def test_draws_are_seeded_and_stay_within_what_is_allowed():
    config = GeometryConfig(rotations_deg=(-6.0, 0.0, 6.0))
    one, again, other = ([draw_geometry(config, torch_generator(seed, k)) for k in range(99)] for seed in "aab")
    assert one == again != other
    assert {each.zoom for each in one} == set(GRID)
    assert {step for each in one for step in each.shift} == {-2, -1, 0, 1, 2}
    assert {each.mirrored for each in one} == {False, True}
    assert {each.rotation_deg for each in one} == {-6.0, 0.0, 6.0}
    held = [draw_geometry(config, torch_generator("a", k), Allowed(False, (1.0, 0.9))) for k in range(99)]
    assert {(each.mirrored, each.zoom) for each in held} == {(False, 1.0), (False, 0.9)}
    assert [each.shift for each in held] == [each.shift for each in one]  # what is allowed moves no other draw


def test_moves_are_drawn_as_often_as_asked():
    generator = torch_generator("often")
    config = GeometryConfig(zooms=(1.0, 1.1), probability=0.3)
    drawn = [draw_geometry(config, generator) for _ in range(4000)]
    assert np.mean([each.mirrored for each in drawn]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([each.zoom == 1.1 for each in drawn]) == pytest.approx(0.15, abs=0.03)
    assert np.mean([any(each.shift) for each in drawn]) == pytest.approx(0.3 * (1 - 1 / 125), abs=0.03)


def test_who_moves_always_is_mirrored_half_the_time():
    generator = torch_generator("always")
    config = GeometryConfig(zooms=(1.0, 1.1), probability=1.0)
    drawn = [draw_geometry(config, generator) for _ in range(4000)]
    assert np.mean([each.mirrored for each in drawn]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([each.zoom == 1.1 for each in drawn]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 5},
        {"shift": -1},
        {"zooms": (0.9, 1.1)},
        {"zooms": (1.0, 1.5)},
        {"zooms": (1.0, 1.1, 1.1)},
        {"rotations_deg": (3.0,)},
        {"rotations_deg": (0.0, 40.0)},
        {"probability": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        GeometryConfig(**settings)
