"""What matter learns from is what the recording says, and it learns it."""

import numpy as np
import pytest
import torch

from latentcraft.__main__ import main
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, CHANGES, HOTBAR_SLOTS
from latentcraft.model.aim import MOST
from latentcraft.model.depth import DepthConfig, DepthNet
from latentcraft.model.episodes import list_episodes
from latentcraft.model.held import slots_of
from latentcraft.model.matter import FACES, TEXELS, MatterConfig
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.train.matter import PIXELS, MatterStage, MatterStageConfig, gather

SIZE = (48, 80)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "data"
    keys = ["episodes=3", "ticks=160", "workers=0", "hands=1.0", "task=free", f"frame_size=[{SIZE[0]},{SIZE[1]}]"]
    assert main(["record", f"out={out}", "seed=31", *keys]) == 0
    torch.manual_seed(0)
    depth = DepthNet(DepthConfig(widths=(8, 8, 8), depths=(1, 1, 1))).eval()
    return gather(list_episodes(out), depth, SIZE, np.random.default_rng(0))


def test_slots_follow_the_keys():
    actions = np.zeros((6, ACTION_SIZE), np.float32)
    actions[1, BUTTON_INDEX["hotbar.4"]] = actions[4, BUTTON_INDEX["hotbar.9"]] = 1
    assert slots_of(actions).tolist() == [0, 3, 3, 3, 8, 8]


def test_what_is_gathered_is_what_was_recorded(gathered):
    cells, aims = gathered.cells, gathered.aims
    k = len(cells.kind)
    assert k >= 10 and set(cells.kind.tolist()) == set(range(len(CHANGES)))
    assert cells.around.shape == (k, FACES, 12, 12, 4) and cells.colour.shape == (k, 2 * PIXELS, 3)
    assert 0 <= cells.texel.min() and cells.texel.max() < FACES * TEXELS**2 and cells.slot.max() < HOTBAR_SLOTS
    placed = cells.kind == CHANGES.index("placed")
    assert cells.solid[placed].all() and 0.2 < cells.solid[~placed].float().mean() < 1
    assert len(aims.target) >= 10 and aims.flat.shape[1:3] == (MOST, 5)
    assert aims.there.gather(1, aims.target[:, None]).all()
    # Of blocks that nobody held nobody knows the look.
    assert gathered.shape.shape == SIZE and gathered.looks.shape == (HOTBAR_SLOTS, 3, *SIZE)


def test_it_learns_and_goes_on_where_it_stopped(gathered, tmp_path):
    config = MatterStageConfig(
        batch=8, model=MatterConfig(width=32, channels=8), optimizer=OptimizerConfig(other_lr=5e-3, warmup=2, ema=0.9)
    )
    shape = torch.zeros(SIZE, dtype=torch.bool)
    shape[40:44, 70:76] = True
    data = gathered._replace(shape=shape, looks=torch.rand(HOTBAR_SLOTS, 3, *SIZE))
    stage = MatterStage(config, data, data, seed=0, dtype=torch.float32)
    stage.optimizer.copy_average_to(stage.average)
    first = stage.validate(0, tmp_path)
    for step in range(20):
        stage.train_step(step, 40)
    kept = {name: torch.clone(part) if torch.is_tensor(part) else part for name, part in stage.state_dict().items()}
    kept = torch.load(_saved(kept, tmp_path / "state.pt"), weights_only=True)
    for step in range(20, 40):
        stage.train_step(step, 40)
    trained = stage.result()
    last = stage.validate(40, tmp_path)
    assert last["dug"] < 0.8 * first["dug"] and last["placed"] < 0.8 * first["placed"]
    assert last["aimed"] > first["aimed"] and last["solid"] > 0.5
    other = MatterStage(config, data._replace(shape=~shape), data, seed=0, dtype=torch.float32)
    other.load_state_dict(kept)
    assert other.network.config.sprite == trained.config.sprite == (40, 70, 4, 6)
    for step in range(20, 40):
        other.train_step(step, 40)
    again = other.result().state_dict()
    assert all(torch.equal(part, again[name]) for name, part in trained.state_dict().items())


def _saved(state, path):
    torch.save(state, path)
    return path


def test_nothing_to_learn_from_is_none(tmp_path):
    depth = DepthNet(DepthConfig(widths=(8, 8, 8), depths=(1, 1, 1))).eval()
    assert gather([], depth, SIZE, np.random.default_rng(0)) is None
