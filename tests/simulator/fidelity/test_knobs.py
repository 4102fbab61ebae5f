from pathlib import Path

import numpy as np
import pytest

from latentcraft.errors import UserError
from latentcraft.model import sampler
from latentcraft.model.actions import YAW, noop
from latentcraft.model.checkpoint import WorldModel, load_checkpoint
from latentcraft.model.objective import CONTEXT_SIGNAL
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.fidelity.knobs import Knobs, TunedDream
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start

STARTS = [Start(seed=HELD_OUT_SEED)]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> WorldModel:
    return load_checkpoint(tiny_checkpoint)


def roll(world: DreamWorld, chunks: int = 8) -> np.ndarray:
    actions = noop(1, 4)
    actions[..., YAW] = 2
    return np.concatenate([world.reset(STARTS), *[world.step(actions).frames for _ in range(chunks)]], axis=1)


def test_the_usual_knobs_change_nothing(model: WorldModel):
    usual = roll(DreamWorld(checkpoint=model))
    assert (roll(TunedDream(model)) == usual).all()
    assert Knobs().name == ""


@pytest.mark.parametrize(
    "knobs, name",
    [
        (Knobs(steps=1), "1 step"),
        (Knobs(context=5), "context of 5"),
        (Knobs(noise=0.5), "context noise 0.5"),
        (Knobs(steps=8, noise=0.0), "8 steps, context noise 0"),
    ],
)
def test_knobs_change_the_dream_and_nothing_else(model: WorldModel, knobs: Knobs, name: str):
    before = model.dit.config
    assert knobs.name == name
    assert not (roll(TunedDream(model, knobs=knobs)) == roll(TunedDream(model))).all()
    assert model.dit.config is before and sampler.CONTEXT_SIGNAL == CONTEXT_SIGNAL


def test_a_context_as_long_as_the_rollout_changes_nothing(model: WorldModel):
    longer = Knobs(context=model.dit.config.context + 3)
    chunks = model.dit.config.context - 5  # with the 4 of the warm-up, all that the usual context holds
    usual, changed = roll(TunedDream(model), chunks), roll(TunedDream(model, knobs=longer), chunks)
    assert np.abs(changed.astype(int) - usual).max() <= 1  # other lengths of the softmax round otherwise


def test_skipping_dreams_the_same_without_pictures(model: WorldModel):
    whole, skipping = TunedDream(model), TunedDream(model)
    for world in (whole, skipping):
        world.reset(STARTS)
    shown = whole.step(noop(1, 4)).frames
    skipping.skip(noop(1, 4))
    assert (skipping.reset([None]) == shown[:, -1:]).all() and shown.shape[1] == 4, "the last frame stands still"
    state = skipping.save()
    after = whole.step(noop(1, 4)).frames
    assert (skipping.step(noop(1, 4)).frames == after).all()
    skipping.restore(state)
    assert (skipping.step(noop(1, 4)).frames == after).all()


@pytest.mark.parametrize("noise", [-0.1, 1.5])
def test_noise_is_a_share(noise: float):
    with pytest.raises(UserError, match="context_noise"):
        Knobs(noise=noise)


def test_a_context_shorter_than_the_warm_up_is_refused(model: WorldModel):
    with pytest.raises(UserError, match="context"):
        TunedDream(model, knobs=Knobs(context=4))
