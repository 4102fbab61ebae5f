"""Returns of policies in held-out games: each game by itself, with intervals, in a table and as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_world import FakeWorld

from latentcraft.__main__ import main
from latentcraft.agents.learning.evaluate import AgentEvaluateConfig, Row, rank_orders, spearman
from latentcraft.agents.learning.moves import MOVES, move_vectors
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import save_policy
from latentcraft.agents.learning.returns import play_games
from latentcraft.agents.learning.sight import SightConfig
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.simulator.fidelity.figures import Figure

TINY = PolicyConfig(SightConfig((16, 24), 2), (4, 4, 4), 16)
SEEDS = [900000, 900001, 900002]


def walker(move: str = "forward") -> PolicyNet:
    """A net that always plays one move."""
    net = PolicyNet(TINY).eval()
    torch.nn.init.zeros_(net.moves.weight)
    net.moves.bias.data[[name for name, _ in MOVES].index(move)] = 50
    return net


def test_returns_count_until_the_end():
    played = play_games(walker(), SEEDS, world=FakeWorld(3, "chop", (16, 24)), task="chop", length=5)
    assert played.returns.tolist() == [20, 20, 20] and played.lengths.tolist() == [5, 5, 5] and not played.ended.any()
    played = play_games(walker(), SEEDS, world=FakeWorld(3, "navigate", (16, 24)), task="navigate", length=5)
    assert played.returns.tolist() == [10, 10, 10]  # it ends at tick 10, and what comes after does not pay
    assert played.lengths.tolist() == [3, 3, 3] and played.ended.all()


def test_random_play_is_the_seeds_and_even():
    forward = move_vectors(4)[:, BUTTON_INDEX["forward"]].mean()
    one = play_games("random", SEEDS, world=FakeWorld(3, "chop", (16, 24)), task="chop", length=200)
    assert np.abs(one.returns / 800 - forward).max() < 0.1 and len(set(one.returns)) > 1
    other = play_games("random", SEEDS[::-1], world=FakeWorld(3, "chop", (16, 24)), task="chop", length=200)
    assert one.returns.tolist() == other.returns[::-1].tolist()


def test_a_name_is_a_players_or_a_files(tmp_path: Path):
    path = tmp_path / "walker.safetensors"
    save_policy(path, walker(), {})
    named = play_games(str(path), SEEDS, world=FakeWorld(3, "chop", (16, 24)), task="chop", length=5)
    own = play_games(walker(), SEEDS, world=FakeWorld(3, "chop", (16, 24)), task="chop", length=5)
    assert named.returns.tolist() == own.returns.tolist()
    with pytest.raises(UserError, match="nobody"):
        play_games("nobody", SEEDS, task="chop", length=5)


def test_a_game_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    net = PolicyNet(TINY).eval()
    together = play_games(net, SEEDS, task="chop", length=6, batch=3)
    alone = play_games(net, SEEDS, task="chop", length=6, batch=2)
    assert together.returns.tolist() == alone.returns.tolist()


def test_spearman():
    assert spearman(np.array([1, 2, 3, 4]), np.array([1, 4, 9, 16])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3, 4]), np.array([4, 3, 2, 1])) == pytest.approx(-1)
    assert spearman(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(0.9486833)  # scipy's value
    assert np.isnan(spearman(np.ones(4), np.arange(4)))


def test_rank_orders_pair_policies_by_name():
    figure = Figure(0, 0, 0, 1)

    def row(policy: str, world: str, mean: float, **story) -> Row:
        return Row(policy, world, [mean], Figure(mean, mean, mean, 1), None, figure, 1.0, story)

    inside = [row(name, "dream", value) for name, value in (("a", 1), ("b", 2), ("c", 3))]
    outside = [row(name, "voxel", value, **{"return": value}) for name, value in (("c", 5), ("a", 9), ("b", 7))]
    orders = rank_orders(inside + outside)
    assert orders["rank correlation of returns, dream and voxel"].value == pytest.approx(-1)
    assert orders["rank correlation of the return in training with that in voxel"].value == pytest.approx(1)
    assert len(orders) == 2 and rank_orders(inside[:2]) == {}


def test_the_command_writes_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture):
    kept = tmp_path / "run" / "checkpoints"
    for step, move in enumerate(("noop", "forward", "attack")):
        save_policy(kept / f"{step:09}.safetensors", walker(move), {"made": "ppo", "return": float(step)})
    out = tmp_path / "report.json"
    words = [f"policies=[random,explorer,{tmp_path / 'run'}]", "checkpoints=true", "seeds=900000-900002", "length=4"]
    assert main(["agent", "evaluate", *words, f"out={out}"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("chop: return of 3 held-out games of up to 4 steps") and page.count("over random") == 4
    assert "over 3 policies" in page and f"written to {out}" in page
    report = json.loads(out.read_text())
    assert [row["policy"].split("/")[-1] for row in report["rows"]] == [
        "random", "explorer", "000000000.safetensors", "000000001.safetensors", "000000002.safetensors",
    ]  # fmt: skip
    assert all(len(row["returns"]) == 3 and row["mean"]["low"] <= row["mean"]["high"] for row in report["rows"])
    assert report["seeds"] == SEEDS and report["machine"]
    assert [figure["value"] for figure in report["rank_correlations"].values()] == [None]  # nobody was paid in 16 ticks


@pytest.mark.parametrize(
    "words, named",
    [
        (["seeds=5"], "seed 5 may have been learned from"),
        (["policies=[nobody]"], "no player 'nobody'"),
        (["policies=[none.safetensors]"], "no policy at none.safetensors"),
        (["worlds=[voxel,voxel]"], "no world named twice"),
        (["policies=[.]", "checkpoints=true"], "has no checkpoints/"),
        (["length=0"], "length"),
    ],
)
def test_bad_keys_are_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture):
    assert main(["agent", "evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_nothing_is_played_for_nobody():
    with pytest.raises(UserError, match="policies and worlds must not be empty"):
        AgentEvaluateConfig(policies=())
