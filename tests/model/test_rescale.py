"""Pictures of any size reach nets at the one they know, and what is said of them finds its way back."""

import pytest
import torch

from latentcraft.model.depth import DepthConfig, DepthNet
from latentcraft.model.rescale import as_before, as_wide
from latentcraft.model.scene import SceneConfig


@pytest.mark.parametrize(("height", "width"), [(48, 80), (64, 96), (192, 320), (80, 48)])
def test_every_pixel_gets_what_was_said_of_where_it_is(height: int, width: int):
    """Each pixel tells its own place; through the net's size and back it is off by half a pixel of the coarser one."""
    down, across = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    wide = as_wide(torch.stack([down, across, down])[None], 160, 16)
    assert wide.shape[3] == 160 and wide.shape[2] % 16 == 0 and 0 <= wide.shape[2] - height * 160 / width < 16
    for place, side in ((down, height), (across, width)):
        back = as_before(wide[:, 0 if place is down else 1] + 2, height, width)[0] - 2
        assert back.shape == (height, width)
        assert (back - place).abs().max() < 2 * 2 / min(side, side * 160 / width)


def test_pictures_of_the_known_size_and_of_nets_that_know_none_are_left_alone():
    picture = torch.rand(1, 3, 32, 48)
    assert as_wide(picture, 48, 16) is picture and as_wide(picture, None, 16) is picture
    said = torch.rand(1, 32, 48)
    assert as_before(said, 32, 48) is said


def test_a_depth_net_is_shown_the_width_it_learned_from():
    net = DepthNet(DepthConfig(widths=(8, 8, 8), depths=(1, 1, 1), picture=48)).eval()
    shown: list[tuple[int, ...]] = []
    net.stem.register_forward_pre_hook(lambda _, inputs: shown.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        for size in ((32, 48), (64, 96), (16, 24), (48, 64)):
            distances = net.distances(torch.rand(2, 3, *size) * 2 - 1, torch.zeros(2))
            assert distances.shape == (2, *size)
    assert shown == [(8, 12)] * 3 + [(12, 12)]  # folded by four; 36 rows and as many more as make up a multiple of 16


def test_nets_of_earlier_checkpoints_learned_from_pictures_as_wide_as_the_checkpoints():
    said = {"depth": {"widths": [8, 8, 8], "depths": [1, 1, 1]}, "body": {}, "whereabouts": {"width": 8}}
    config = SceneConfig.from_dict(said, 112)
    assert config.whereabouts is not None
    assert (config.depth.picture, config.whereabouts.picture) == (112, 112)
    said["depth"]["picture"] = 80  # what a net says of itself counts
    assert SceneConfig.from_dict(said, 112).depth.picture == 80


def test_a_plane_stays_even_and_an_edge_sharp_in_larger_pictures():
    """Of a floor that ends at a wall far behind it, of pictures twice as large."""
    rows = torch.arange(48.0)
    floor = (400 / (48 + 2 * rows)).flip(0)[None, :, None].expand(1, 48, 80).clone()  # inverse distances grow evenly
    floor[:, :, 40:] = 60.0
    large = as_before(floor, 96, 160)[0]
    inverse = 1 / large[4:-4, :76]
    assert (inverse.diff(dim=0) > 0).all() or (inverse.diff(dim=0) < 0).all()  # no steps two rows high
    assert (inverse.diff(dim=0).diff(dim=0).abs() < 1e-5).all()
    assert ((large[:, 80:] - 60).abs() < 1e-4).all() and large[:, :80].max() < 20
