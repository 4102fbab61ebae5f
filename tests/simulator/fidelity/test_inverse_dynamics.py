"""The network that reads actions: its parts on known answers, its file, and the shipped one at work."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, PITCH, YAW, noop
from latentcraft.simulator.fidelity.inverse_dynamics import (
    SHIPPED,
    InverseDynamics,
    InverseDynamicsConfig,
    Reader,
    cost_volume,
    load_inverse_dynamics,
    save_inverse_dynamics,
)
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.world import VoxelWorld

TINY = InverseDynamicsConfig(frame_size=(16, 32), width=6, matched=4, reach=(1, 2), pair_width=8, hidden=12)


@pytest.fixture
def network() -> InverseDynamics:
    torch.manual_seed(0)
    return InverseDynamics(TINY).requires_grad_(False).eval()


def frames(count: int, games: int = 2, size: tuple[int, int] = (16, 32)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (games, count, *size, 3), np.uint8)


def test_the_cost_volume_is_every_shifted_dot_product():
    torch.manual_seed(0)
    after, before = torch.randn(2, 5, 4, 6), torch.randn(2, 5, 4, 6)
    found = cost_volume(after, before, (1, 2)).unflatten(1, (3, 5))
    padded = F.pad(before, (2, 2, 1, 1))
    for down in range(3):
        for across in range(5):
            moved = padded[:, :, down : down + 4, across : across + 6]
            assert torch.allclose(found[:, down, across], (after * moved).sum(1), atol=1e-5)


def test_the_cost_volume_is_largest_where_the_picture_came_from():
    torch.manual_seed(0)
    before = F.normalize(torch.randn(1, 16, 6, 12), dim=1)
    after = before.roll(2, 3)  # everything moved two cells to the right: it came from the left
    best = cost_volume(after, before, (1, 3)).unflatten(1, (3, 7))[0, :, :, :, 2:].sum((2, 3))
    assert divmod(int(best.argmax()), 7) == (1, 3 - 2)


def test_reading_chunk_by_chunk_is_reading_at_once(network: InverseDynamics):
    seen = frames(13)
    whole, chunked = Reader(network), Reader(network)
    whole.start(seen[:, :1])
    whole.add(seen[:, 1:])
    chunked.start(seen[:, :1])
    for at in (1, 5, 9):
        chunked.add(seen[:, at : at + 4])
    assert chunked.actions().held.shape == (2, 12, 9) and chunked.actions().camera.shape == (2, 12, 2)
    assert np.allclose(whole.actions().camera, chunked.actions().camera, atol=1e-5)
    assert torch.allclose(whole.features(), chunked.features(), atol=1e-5)


def test_frames_before_the_start_are_seen_but_not_reported(network: InverseDynamics):
    seen = frames(13)
    alone, before = Reader(network), Reader(network)
    alone.start(seen[:, 4:5])
    alone.add(seen[:, 5:])
    before.start(seen[:, :5])
    before.add(seen[:, 5:])
    assert alone.actions().camera.shape == before.actions().camera.shape
    assert torch.allclose(alone.features(), before.features(), atol=1e-5)
    assert not np.allclose(alone.actions().camera[:, 0], before.actions().camera[:, 0])


def test_other_frame_sizes_are_read_too(network: InverseDynamics):
    reader = Reader(network)
    reader.start(frames(1, size=(96, 160)))
    reader.add(frames(4, size=(96, 160)))
    assert reader.actions().held.shape == (2, 4, 9)


def test_a_saved_network_reads_the_same(network: InverseDynamics, tmp_path: Path):
    network.half().float()  # what the file keeps
    network.thresholds, network.provenance = (0.25,) * 9, {"steps": 3}
    save_inverse_dynamics(tmp_path / "net.safetensors", network)
    loaded = load_inverse_dynamics(tmp_path / "net.safetensors")
    assert (loaded.config, loaded.thresholds, loaded.provenance) == (TINY, (0.25,) * 9, {"steps": 3})
    pixels = network.shrink(torch.from_numpy(frames(5)))
    for mine, its in zip(network(pixels), loaded.float()(pixels), strict=True):
        assert torch.allclose(mine, its, atol=0.02)  # the picture part may have been rounded to bf16


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0not json at all!", None])
def test_files_that_are_no_network_are_named(content: bytes | None, tmp_path: Path, tiny_checkpoint: Path):
    path = tiny_checkpoint if content is None else tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=path.name):
        load_inverse_dynamics(path)
    with pytest.raises(UserError, match="mode=inverse"):
        load_inverse_dynamics(tmp_path / "missing.safetensors")


def test_the_network_is_small_enough_to_ship():
    network = InverseDynamics()
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000
    assert SHIPPED.stat().st_size < 2_000_000


def test_the_shipped_network_reads_turns_and_steps_off_the_reference_world():
    actions = noop(3, 48)
    actions[0, 8:40, BUTTON_INDEX["forward"]] = 1
    actions[1, 8:28, YAW], actions[1, 28:48, YAW] = 4, -2.5
    actions[2, 8:18, PITCH], actions[2, 28:48, BUTTON_INDEX["attack"]] = 2, 1
    world = VoxelWorld(num_worlds=3)
    reader = Reader(load_inverse_dynamics())
    reader.start(world.reset([Start(seed=HELD_OUT_SEED + i) for i in (1, 2, 3)]))
    for at in range(0, 48, 4):
        reader.add(world.step(actions[:, at : at + 4]).frames)
    held, camera = reader.actions()
    error = np.linalg.norm(camera - actions[..., PITCH:], axis=-1)
    assert np.median(error[1, 8:]) < 0.8 and np.median(error[2, 8:18]) < 0.8
    assert np.median(error[0]) < 0.3
    # From tick 28 on the player is held up by a step, and pushing on does not show.
    assert held[0, 10:28, BUTTON_INDEX["forward"]].mean() > 0.8
    # The slow turn at the end of game 1 is taken for one while walking (precision of forward on held-out games: 0.86).
    assert held[1, :26, BUTTON_INDEX["forward"]].mean() < 0.1
    assert held[2, :, BUTTON_INDEX["forward"]].mean() < 0.1
    assert held[2, 30:46, BUTTON_INDEX["attack"]].mean() > 0.8
