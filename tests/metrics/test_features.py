"""Extractors: the same features whatever the batch, the same fingerprint for the same network, no silent NaN."""

import pytest
import torch
from torch import nn

from synthaug.ground.errors import InputError
from synthaug.metrics.features import Extractor, module_extractor, seeded_extractor
from synthaug.metrics.frechet import frechet


class Means(nn.Module):
    """One feature a channel, and a weight to be hashed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, volumes):
        return self.scale * volumes.mean(dim=(2, 3, 4))


def noise(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


EXTRACTORS = {
    "seeded": lambda: seeded_extractor(channels=2, seed=3),
    "module": lambda: module_extractor(Means(), "means"),
    "training mode": lambda: module_extractor(
        nn.Sequential(nn.BatchNorm3d(2), nn.Dropout(0.5), nn.Flatten()).train(), "batch norm and dropout"
    ),
}


@pytest.fixture(params=EXTRACTORS)
def extractor(request) -> Extractor:
    return EXTRACTORS[request.param]()


def test_batch_size_does_not_matter(extractor):
    volumes = noise(4, 2, 16, 16, 8)
    whole = extractor.features(volumes, 4)
    assert whole.dtype == "float64"
    assert whole.shape[0] == 4
    for batch_size in (1, 3, 64):
        assert extractor.features(iter(volumes), batch_size) == pytest.approx(whole, rel=1e-5, abs=1e-5)


def test_fingerprint_ignores_batches_and_follows_what_is_measured(extractor):
    before = extractor.fingerprint
    extractor.features(noise(2, 2, 16, 16, 8))
    assert extractor.fingerprint == before
    others = [
        Extractor("other", extractor.module, extractor.preprocessing, extractor.layer),
        Extractor(extractor.name, extractor.module, "other", extractor.layer),
        Extractor(extractor.name, extractor.module, extractor.preprocessing, "other"),
    ]
    assert len({before, *(other.fingerprint for other in others)}) == 4


def test_fingerprint_follows_weights_and_buffers():
    scaled, normalised = Means(), nn.BatchNorm3d(1)
    first, second = module_extractor(scaled, "means"), module_extractor(normalised, "norm")
    before = first.fingerprint, second.fingerprint
    with torch.no_grad():
        scaled.scale += 1e-6
        normalised.running_mean += 1e-6
    assert first.fingerprint != before[0]
    assert second.fingerprint != before[1]


def test_seeded_extractor_is_named_by_its_seed_alone():
    assert seeded_extractor(seed=0).fingerprint == seeded_extractor(seed=0).fingerprint
    assert len({seeded_extractor(c, seed).fingerprint for c in (1, 2) for seed in (0, 1)}) == 4


def test_seeded_extractor_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = seeded_extractor()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert seeded_extractor().fingerprint == first.fingerprint


def test_seeded_features_rank_blur():
    blur = nn.AvgPool3d(3, stride=1, padding=1, count_include_pad=False)
    volumes = noise(16, 1, 16, 16, 8)
    extractor = seeded_extractor()
    sharp = extractor.features(volumes[:8])
    stages = [volumes[8:], (volumes[8:] + blur(volumes[8:])) / 2, blur(volumes[8:])]
    same, half, whole = (frechet(sharp, extractor.features(stage)) for stage in stages)
    assert 3 * same < half < whole


def test_features_stream():
    """Batches are taken as they are needed: no more than one of them is drawn ahead of the network."""
    drawn, seen = 0, []

    class Watch(nn.Module):
        def forward(self, volumes):
            seen.append((drawn, len(volumes)))
            return volumes.mean(dim=(2, 3, 4))

    def stream():
        nonlocal drawn
        for volume in noise(7, 1, 2, 2, 2):
            drawn += 1
            yield volume

    module_extractor(Watch(), "watch").features(stream(), 3)
    assert seen == [(3, 3), (6, 3), (7, 1)]


def test_integers_are_features_too():
    halves = torch.tensor([0, 1], dtype=torch.uint8).repeat(4).reshape(1, 2, 2, 2)
    assert module_extractor(Means(), "means").features([halves]).tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ([], "no volumes"),
        ([torch.zeros(2, 2, 2)], "Volume 0 has shape"),
        ([noise(1, 2, 2, 2), torch.zeros(1, 2, 2, 3)], "Volume 1 has shape"),
        ([noise(1, 2, 2, 2), torch.full((1, 2, 2, 2), 255.0)], "Volume 1 spans"),
        ([torch.full((1, 2, 2, 2), torch.nan)], "Volume 0 spans"),
        ([noise(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)], "Volume 1 is constant"),
        ([torch.cat([noise(1, 2, 2, 2), torch.full((1, 2, 2, 2), 0.5)])], "Volume 0 is constant: .* channel 1 is 0.5"),
    ],
)
def test_unusable_volumes_are_named(volumes, message):
    with pytest.raises(InputError, match=message):
        module_extractor(Means(), "means").features(volumes)


def test_features_that_are_not_finite_name_their_volume():
    class Inverse(nn.Module):
        def forward(self, volumes):
            return 1 / volumes.amin(dim=(2, 3, 4))

    volumes = [*(0.5 + noise(4, 1, 2, 2, 2) / 2), torch.eye(2).expand(1, 2, 2, 2)]
    with pytest.raises(InputError, match="volume 4"):
        module_extractor(Inverse(), "inverse").features(volumes, 3)


def test_unpooled_output_and_settings_are_refused():
    with pytest.raises(InputError, match="pool or flatten"):
        module_extractor(nn.Identity(), "identity").features(noise(2, 1, 2, 2, 2))
    with pytest.raises(InputError, match="batch_size"):
        module_extractor(Means(), "means").features(noise(2, 1, 2, 2, 2), 0)
    with pytest.raises(InputError, match="channels"):
        seeded_extractor(channels=0)
