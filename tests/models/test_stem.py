"""The quicker first layers of a ResNet are MONAI's."""

import copy

import pytest
import torch
from monai.networks.nets import ResNet
from torch import nn
from torch.testing import assert_close

from synthaug.models.parts.stem import StemMaxPool3d, quicken_stem


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (16, 18, 8)), (1, (17, 16, 10)), (3, (16, 16, 8)), (2, (9, 12, 7))]
)
def test_logits_and_gradients_are_monais(channels, shape):
    torch.manual_seed(0)
    theirs = ResNet("basic", [1, 1, 1, 1], [8, 16, 32, 64], n_input_channels=channels, num_classes=2, conv1_t_size=3)
    theirs = theirs.double().to(memory_format=torch.channels_last_3d)
    ours = copy.deepcopy(theirs)
    quicken_stem(ours)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    volumes = torch.rand(3, channels, *shape, dtype=torch.float64)
    found, wanted = ours(volumes), theirs(volumes)
    for logits in (found, wanted):
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1])).backward()
    near = {"atol": 1e-9, "rtol": 1e-6}
    assert_close(found, wanted, **near)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_close(one.grad, other.grad, msg=name, **near)
    assert theirs.conv1.weight.grad.abs().max() > 1e-3
    assert_close(ours.eval()(volumes), theirs.eval()(volumes), **near)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_largest_of_each_window_is_found_whatever_the_layout(layout):
    volumes = torch.randn(2, 3, 9, 8, 7).to(memory_format=layout)
    assert torch.equal(StemMaxPool3d()(volumes), nn.MaxPool3d(3, stride=2, padding=1)(volumes))
