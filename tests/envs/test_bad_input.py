"""What an environment is given wrong is named in one line, in both worlds and in a batch as in a single game."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(params=["Voxel", "Dream"])
def batch(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> Any:
    env = gymnasium.make_vec(
        f"latentcraft/{request.param}-v0", num_envs=2, frame_size=(32, 48), checkpoint=tiny_checkpoint, steps=1
    )
    yield env
    env.close()


def test_bad_actions_of_a_batch_are_named_and_harm_nothing(batch: Any):
    with pytest.raises(ResetNeeded, match="reset"):
        batch.step({})
    batch.reset(seed=1)
    before = batch.save(0)
    for action, named in (
        ({"camera": np.full((2, 2), np.nan)}, "camera"),
        ({"camera": np.zeros((3, 2))}, "'camera'"),
        ({"forward": np.ones((2, 4), int)}, "'forward'"),
        ({"jump": np.array([0, 3])}, "'jump'"),
        ({"fly": np.ones(2, int)}, "'fly'"),
        (np.zeros((2, 20)), "ndarray"),
    ):
        with pytest.raises(UserError, match=named) as caught:
            batch.step(action)
        assert "\n" not in str(caught.value)
    after = batch.save(0)
    assert after.meta == before.meta and all(
        np.array_equal(after.arrays[key], before.arrays[key]) for key in after.arrays
    )
    batch.step({})
    batch.close()
    with pytest.raises(ClosedEnvironmentError):
        batch.step({})


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
def test_a_checkpoint_that_does_not_know_the_task_is_named(make: Any, tiny_checkpoint: Path, tmp_path: Path):
    model = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "chop-only.safetensors"
    save_checkpoint(path, replace(model, provenance={"tasks": ["chop"]}))
    make("latentcraft/Dream-v0", task="chop", checkpoint=path).close()
    with pytest.raises(UserError, match="never saw task 'build', only chop"):
        make("latentcraft/Dream-v0", task="build", checkpoint=path)


def test_a_checkpoint_without_heads_is_named(tiny_checkpoint: Path):
    from latentcraft.model.dit import SpacetimeDiT
    from latentcraft.simulator.dream.world import DreamWorld

    model = load_checkpoint(tiny_checkpoint)
    headless = replace(model, dit=SpacetimeDiT(model.dit.config, heads=False))
    DreamWorld(checkpoint=headless).close()
    with pytest.raises(UserError, match="no reward and termination heads, which task 'chop' needs"):
        DreamWorld(checkpoint=headless, task="chop")


@pytest.mark.parametrize("world", ["Voxel", "Dream"])
@pytest.mark.parametrize(
    "option, named",
    [({"task": "swim"}, "'swim'"), ({"observation": "smell"}, "'smell'"), ({"frame_size": (33, 48)}, "33"),
     ({"max_uncertainty": -1}, "max_uncertainty")],
)  # fmt: skip
def test_bad_options_are_named(world: str, option: dict[str, Any], named: str, tiny_checkpoint: Path):
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(UserError, match=named):
            make(f"latentcraft/{world}-v0", checkpoint=tiny_checkpoint, **option)
