"""The touch: moments are gathered with what the nets make of them, and it alone learns what they left behind."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_nets import frozen

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.body import BodyConfig
from latentcraft.model.cells import hold
from latentcraft.model.depth import DepthConfig
from latentcraft.model.dit import DiTConfig, SpacetimeDiT, before
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import LatentDataset
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.scene import Scene, SceneConfig
from latentcraft.model.touch import Touch
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.touch import CONTEXT, Moments, TouchStage, TouchStageConfig, gather

QUICK = OptimizerConfig(matrix_lr=0.02, other_lr=3e-3, warmup=3, decay_share=0.3, ema=0.9)


def holes(frames: int = 400) -> LatentDataset:
    """A still picture in which every dug hole shows the same, until the picture is whole again."""
    data = random_dataset(frames, (12, 20), 8)
    still, hole = Autoencoder.normalise(torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(0)))
    data.latents[:] = still.half()
    data.changes[:] = 0
    dug = torch.arange(30, frames - 8, 17)
    data.changes[dug, 0] = 1
    for frame in dug.tolist():
        data.latents[frame : frame + 8, 4:8, 8:12] = hole.half()
    return replace(data, deeds=torch.stack([dug, torch.zeros_like(dug)], -1))


def small() -> SpacetimeDiT:
    torch.manual_seed(0)
    return SpacetimeDiT(DiTConfig(width=32, depth=3, head_size=16, context=5, touch_width=16)).requires_grad_(False)


def stage_on(data: LatentDataset, **changes: object) -> TouchStage:
    torch.manual_seed(0)
    codec, motion = frozen()
    dit = small()
    options: dict[str, object] = {
        "steps": 60, "batch": 8, "moments": 12, "own_share": 0.0, "own_chunks": 1, "wear_share": 0.0, "optimizer": QUICK
    }  # fmt: skip
    config = TouchStageConfig(**options | changes)  # type: ignore[arg-type]
    return TouchStage(config, data, data, Guesser(codec, motion), dit, seed=0, dtype=torch.float32)


def test_moments_are_gathered_with_the_guess_of_what_was_before():
    data, dit = holes(), small()
    codec, motion = frozen()
    guesser = Guesser(codec, motion)
    config = TouchStageConfig(own_share=0.0, own_chunks=1, wear_share=0.0)

    def gathered(data: LatentDataset, count: int, config: TouchStageConfig = config) -> Moments:
        return gather(data, guesser, dit, config, count, torch.Generator().manual_seed(0))

    moments = gathered(data, 5)
    assert len(moments.latents) == 5 and moments.guess.changes.flatten(1).any(1).all()
    assert len(gathered(data, 1000).latents) == len(data.deeds)
    # One of them again, by hand.
    only = replace(data, deeds=data.deeds[:1])
    moments = gathered(only, 5)
    at = int((moments.guess.changes[0, :, 0] > 0).nonzero()[0])
    start = int(data.deeds[0, 0]) - at - 4 * CONTEXT
    clip = data.clips(torch.tensor([start]), 3, 4)
    guess = guesser.along(before(clip.latents), clip.actions, changes=clip.changes)
    assert torch.equal(moments.latents, clip.latents[:, -1].half())
    assert torch.equal(moments.past, clip.latents[:, -2].half())
    torch.testing.assert_close(moments.guess.mean, guess.mean[:, -1].half())
    # The same moment after a dream: the truth is what it was, what was before is not.
    dreamed = gathered(only, 5, replace(config, own_share=1.0))
    assert torch.equal(dreamed.latents, moments.latents) and torch.equal(dreamed.guess.changes, moments.guess.changes)
    assert not torch.equal(dreamed.past, moments.past)


def test_it_learns_what_holes_look_like_and_nothing_else_moves(tmp_path):
    stage = stage_on(holes())
    rest = copy.deepcopy({k: v for k, v in stage.dit.state_dict().items() if not k.startswith("touch.")})
    stage.optimizer.copy_average_to(stage.average)
    first = stage.validate(0, tmp_path)
    assert first["from_noise"] == pytest.approx(first["guessed"])  # it begins with the guess
    for step in range(60):
        stage.train_step(step, 60)
    stage.optimizer.copy_average_to(stage.average)
    assert stage.validate(60, tmp_path)["from_noise"] < first["from_noise"] / 2
    assert (tmp_path / "touch-000060.png").exists()
    after = stage.result().state_dict()
    assert all(torch.equal(value, after[name]) for name, value in rest.items())
    assert after["touch.write.weight"].any()


def test_it_draws_what_was_changed_where_that_was():
    """Told of one cell or another, it draws otherwise there; from the start it makes nothing of any."""
    touch = Touch(width=16, condition=32, frames=4, channels=8)
    generator = torch.Generator().manual_seed(0)
    for name, weight in touch.named_parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=generator)
        if name == "met.weight":
            torch.nn.init.zeros_(weight)
    chunks = torch.randn(1, 4, 12, 20, 8, generator=generator)
    guess = Guess.of_nothing(chunks)
    guess.changes[0, 1, 0] = 1
    eye, holds = np.array([0.5, 1.62, 0.5, 0.0, 40.0]), guess.holds.clone()
    holds[0, 1:, 0] = torch.from_numpy(hold(np.array([0, -1, 2]), eye, 70.0))
    told = guess._replace(holds=holds)
    inputs = chunks, torch.randn(1, 32, generator=generator)
    with torch.no_grad():
        assert torch.equal(touch(chunks, guess, *inputs), touch(chunks, told, *inputs))
        torch.nn.init.normal_(touch.met.weight, std=0.1, generator=generator)
        elsewhere = inputs[0].clone()
        elsewhere[:, :, -2:, -2:] += 5  # what is held in the corner is known everywhere
        near = (touch(chunks, told, *inputs) - touch(chunks, told, elsewhere, inputs[1])).abs().amax((0, 1, -1))
        old = {name: part for name, part in touch.state_dict().items() if name not in ("met.weight", "glance.weight")}
        apart = (touch(chunks, guess, *inputs) - touch(chunks, told, *inputs)).abs().amax((0, 1, -1))
    assert apart[6, 10] > 10 * apart[0, 0]  # the sky is far from any cell
    assert near.min() > 0
    touch.load_state_dict(old)  # of before there were cells
    assert not touch.met.weight.any() and not touch.glance.weight.any()


def test_moments_know_where_the_hand_worked_unless_they_are_to_guess():
    data, dit = holes(), small()
    data.eyes[:] = torch.tensor([0.5, 65.62, 0.5, 0.0, 40.0], dtype=torch.float64)
    data.spots[data.changes[:, 0] > 0, 0] = torch.tensor([0.0, 63.0, 2.0])
    codec, motion = frozen()
    torch.manual_seed(0)
    scene = Scene(SceneConfig(DepthConfig(widths=(8,) * 3, depths=(1,) * 3), BodyConfig(width=16)))
    guesser = Guesser(codec, motion, scene.requires_grad_(False).eval())

    def holds(share: float) -> torch.Tensor:
        config = TouchStageConfig(own_share=0.0, wear_share=0.0, guessed_share=share)
        guess = gather(data, guesser, dit, config, 8, torch.Generator().manual_seed(0)).guess
        return guess.holds[guess.changes > 0].float()

    assert (holds(0.0)[:, :3] - torch.tensor([-0.5, -2.62, 1.5])).abs().max() < 0.01
    guessed = holds(1.0)
    assert guessed.isfinite().all() and (guessed[:, :3] - torch.tensor([-0.5, -2.62, 1.5])).abs().amax(1).min() > 0.5


def test_it_goes_on_where_it_was():
    unbroken, broken = (stage_on(holes()) for _ in range(2))
    figures = [unbroken.train_step(step, 4) for step in range(4)]
    for step in range(2):
        broken.train_step(step, 4)
    again = stage_on(holes())
    again.load_state_dict(broken.state_dict())
    assert [again.train_step(step, 4) for step in (2, 3)] == figures[2:]


def test_what_cannot_be_learned_from_is_named():
    data = holes()
    with pytest.raises(UserError, match=r"no episode tells what a hand did; record some, or set touch.steps=0"):
        stage_on(replace(data, changes=torch.full_like(data.changes, torch.nan)))
    trained = stage_on(data)
    state = trained.state_dict() | {"grounds": "another"}
    with pytest.raises(UserError, match="on the guesses of other nets"):
        trained.load_state_dict(state)
