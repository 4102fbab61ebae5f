"""Policies in files and at play: what they do follows from what they see, and foreign files are refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_world import FakeWorld
from safetensors import safe_open
from safetensors.torch import save_file

from latentcraft.agents.learning.moves import MOVES, held_moves, move_vectors, nearest_moves
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet, strengths_and_places
from latentcraft.agents.learning.policy import LearnedPolicy, choose_moves, load_policy_file, save_policy
from latentcraft.agents.learning.sight import Sight, SightConfig, shrink
from latentcraft.agents.players import PolicyPlayer, make_player
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import Start

TINY = PolicyConfig(SightConfig((16, 24), 2), (4, 4, 4), 16)


@pytest.fixture
def net() -> PolicyNet:
    torch.manual_seed(3)
    net = PolicyNet(TINY)
    torch.nn.init.normal_(net.moves.weight)  # decided enough to tell pictures apart
    return net.eval()


@pytest.fixture
def path(net: PolicyNet, tmp_path: Path) -> Path:
    save_policy(tmp_path / "p.safetensors", net, {"made": "here"})
    return tmp_path / "p.safetensors"


def changed(path: Path, *, metadata: dict | None = None, tensors: dict | None = None) -> Path:
    """Write ``path`` anew with other metadata or tensors."""
    with safe_open(str(path), "pt") as file:
        before, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(held | (tensors or {}), str(path), before | (metadata or {}))
    return path


def test_a_file_holds_everything(net: PolicyNet, path: Path):
    saved = load_policy_file(path)
    assert saved.provenance == {"made": "here"} and saved.net.config == TINY and not saved.net.training
    for name, value in net.state_dict().items():
        assert torch.equal(saved.net.state_dict()[name], value.half().float())


def test_a_net_that_finds_things_says_where_they_are_and_is_kept_so(tmp_path: Path):
    found = torch.zeros(2, 3, 5, 9)
    found[0, 1, 0, 8], found[1, 1, 4, 0] = 40, 40  # top right, bottom left
    told = strengths_and_places(found)
    torch.testing.assert_close(told[:, [4, 7]], torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    torch.testing.assert_close(told[:, [0, 3, 6]], torch.zeros(2, 3))  # of what is alike everywhere: the middle
    assert (told[:, 1] > 30).all()
    finder = PolicyNet(replace(TINY, finds=3)).eval()
    save_policy(tmp_path / "f.safetensors", finder, {})
    again = load_policy_file(tmp_path / "f.safetensors").net
    seen = torch.randint(0, 256, (2, *TINY.sight.shape), dtype=torch.uint8)
    assert again.config == finder.config
    torch.testing.assert_close(again(seen)[0], finder(seen)[0], rtol=0.01, atol=1e-3)


def test_files_that_are_no_policy_are_refused_by_name(path: Path, tmp_path: Path, tiny_checkpoint: Path):
    with pytest.raises(UserError, match="no policy at .*none.safetensors; train one"):
        load_policy_file(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="tiny.safetensors is no learned policy"):
        load_policy_file(tiny_checkpoint)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="torn.safetensors is not a readable policy"):
        load_policy_file(torn)


@pytest.mark.parametrize(
    "metadata, tensors, message",
    [
        ({"moves": json.dumps(["noop"])}, {}, "other moves"),
        ({}, {"moves.bias": torch.zeros(5)}, "damaged"),
        ({}, {"extra": torch.zeros(5)}, "damaged"),
        ({"config": json.dumps({"sight": {"size": [7, 9], "stack": 2}, "channels": [4, 4, 4], "features": 16})}, {},
         "multiples of 8"),
        ({"config": "{}"}, {}, "damaged"),
        ({"config": "no json"}, {}, "damaged"),
    ],
)  # fmt: skip
def test_foreign_shapes_are_refused_by_name(path: Path, metadata: dict, tensors: dict, message: str):
    with pytest.raises(UserError, match=f"p.safetensors .*{message}"):
        load_policy_file(changed(path, metadata=metadata, tensors=tensors))


def test_a_player_sees_as_training_did(net: PolicyNet):
    rng = np.random.default_rng(0)
    chunks = rng.integers(0, 256, (5, 4, 96, 160, 3), np.uint8)
    player, sight = LearnedPolicy(net, temperature=0), Sight(TINY.sight, 1)
    for number, chunk in enumerate(chunks):
        seen = sight.see(chunk[-1:]) if number else sight.begin(chunk[-1:])
        move = net.logits(torch.from_numpy(seen)).argmax(1).numpy()
        assert np.array_equal(player.act(chunk), np.repeat(held_moves(move, 4), 4, 0))
    player.reset()
    assert np.array_equal(player.act(chunks[0]), LearnedPolicy(net, temperature=0).act(chunks[0]))


def test_moves_are_drawn_as_often_as_the_net_says(net: PolicyNet):
    seen = np.full((1, *TINY.sight.shape), 128, np.uint8)
    even = (np.arange(4000) + 0.5) / 4000
    drawn = np.concatenate([choose_moves(net, seen, even[i : i + 1], 1.0) for i in range(0, 4000, 10)])
    said = net.logits(torch.from_numpy(seen)).softmax(1)[0].numpy()
    assert np.abs(np.bincount(drawn, minlength=len(MOVES)) / len(drawn) - said).max() < 0.01
    assert choose_moves(net, seen, np.array([1.0]), 1.0)[0] == len(MOVES) - 1
    assert choose_moves(net, seen, np.array([0.99]), 0)[0] == said.argmax()


def test_the_window_takes_a_policy_file(path: Path):
    world = FakeWorld(1, "chop", (96, 160))
    frames = world.reset([Start(seed=1)])[0]
    one, same, other = (make_player(str(path), world, seed) for seed in (0, 0, 1))
    assert isinstance(one, PolicyPlayer)
    acted = [[player.act(world, frames) for _ in range(20)] for player in (one, same, other)]
    assert all(actions.shape == (4, 20) for actions in acted[0])
    assert np.array_equal(acted[0], acted[1]) and not np.array_equal(acted[0], acted[2])
    with pytest.raises(UserError, match="no policy at gone.safetensors"):
        make_player("gone.safetensors", world, 0)


def test_every_move_is_the_nearest_to_itself_and_camera_turns_add_up():
    vectors = move_vectors(4)
    assert nearest_moves(np.repeat(vectors[:, None], 4, 1)).tolist() == list(range(len(MOVES)))
    turn = [name for name, _ in MOVES].index("turn +36")
    assert vectors[turn, -1] * 4 == 36 and nearest_moves(np.full((1, 4, 20), 0) + 5 * vectors[turn])[0] == turn
    with pytest.raises(UserError, match="whole numbers from 0"):
        held_moves(np.array([len(MOVES)]), 4)


def test_small_pictures_are_means():
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    small = shrink(frames, (16, 24))
    assert small.shape == (2, 3, 16, 24) and small.flags.c_contiguous
    assert abs(int(small[1, 2, 3, 4]) - frames[1, 6:8, 8:10, 2].mean()) <= 0.5
    assert np.abs(shrink(frames[:, :30], (16, 24)).astype(int) - 128).mean() < 50  # not a whole factor
    with pytest.raises(UserError, match="multiples of 8"):
        SightConfig((10, 24))
