import numpy as np
import pytest
import torch

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity import features as features_module
from latentcraft.simulator.fidelity.features import EfficientNetLite, Features, load_features
from latentcraft.simulator.fidelity.metrics import perceptual
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.world import VoxelWorld


class Mean:
    """A network that sees the mean colour."""

    name = "mean"

    def __call__(self, frames: np.ndarray) -> Features:
        pixels = torch.from_numpy(frames).float().permute(0, 3, 1, 2)
        return Features((pixels,), pixels.mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> EfficientNetLite:
    pytest.importorskip("efficientnet_lite_pytorch")
    return EfficientNetLite()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    world = VoxelWorld(num_worlds=2)
    return world.reset([Start(seed=HELD_OUT_SEED), Start(seed=HELD_OUT_SEED + 1)])[:, -1]


def test_maps_shrink_and_pooled_features_are_one_vector_a_frame(net: EfficientNetLite, frames: np.ndarray):
    seen = net(frames)
    assert [tuple(one.shape) for one in seen.maps] == [
        (2, 16, 48, 80), (2, 24, 24, 40), (2, 40, 12, 20), (2, 112, 6, 10), (2, 320, 3, 5),
    ]  # fmt: skip
    assert seen.pooled.shape == (2, 1280) and torch.isfinite(seen.pooled).all()


def test_distance_grows_with_blur(net: EfficientNetLite, frames: np.ndarray):
    def blurred(times: int) -> np.ndarray:
        x = torch.from_numpy(frames).float().permute(0, 3, 1, 2)
        for _ in range(times):
            x = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return x.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()

    true = net(frames)
    same, little, much = (perceptual(net(blurred(times)), true).mean() for times in (0, 1, 6))
    other = perceptual(net(frames[::-1]), true).mean()
    assert same == pytest.approx(0, abs=1e-6)
    assert 0 < little < much < 2 * other


def test_the_network_is_an_interface(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features_module, "Mean", Mean, raising=False)
    load_features.cache_clear()
    plugged = load_features(f"{features_module.__name__}:Mean")
    assert plugged.name == "mean"
    assert plugged(np.full((1, 4, 4, 3), 7, np.uint8)).pooled.tolist() == [[7, 7, 7]]


@pytest.mark.parametrize("name", ["vgg", "no_such_module_here:net", "latentcraft:no_such_net"])
def test_an_unknown_network_is_named(name: str):
    with pytest.raises(UserError, match=f"features={name}"):
        load_features(name)
