"""The transformer's stage: whose past it learns from, where an anchored net learns, and when only the critic does."""

import copy
from dataclasses import replace

import pytest
import torch
from small_nets import frozen

from latentcraft.errors import UserError
from latentcraft.model.dit import DiTConfig, SpacetimeDiT
from latentcraft.model.guesser import Guesser
from latentcraft.model.motion import Guess
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.train.adversary import AdversaryConfig
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.dynamics import HAND, DynamicsStage, DynamicsStageConfig, worked_on
from latentcraft.model.train.run import take_over

QUICK = OptimizerConfig(other_lr=3e-3, warmup=1, decay_share=0.1)


class Clueless(Guesser):
    """Knows nothing."""

    def __call__(self, past: torch.Tensor, *args: object, **options: object) -> Guess:
        return Guess.of_nothing(past)


def test_own_rollouts_begin_with_the_truth_and_guidance_shows_it_where_nothing_is_known():
    torch.manual_seed(0)
    model = DiTConfig(width=32, depth=3, head_size=16, context=5)
    data = random_dataset(200, (4, 6), 8)
    codec, motion = frozen()
    clips = data.sample(4, 12, 4, torch.Generator().manual_seed(0))
    known = torch.ones(4, dtype=torch.bool)
    rollouts = {}
    for share in (0.0, 1.0):
        config = DynamicsStageConfig(compile=False, guided_share=share, model=model)
        stage = DynamicsStage(config, data, data, codec, motion, seed=0, dtype=torch.float32)
        stage.guess = Clueless(codec, motion)
        rollouts[share] = stage.own_rollout(clips, known, torch.Generator().manual_seed(0))
    assert torch.equal(rollouts[1.0], clips.latents)
    strayed = (rollouts[0.0] != clips.latents).flatten(2).any(2)
    assert not strayed[:, 0].any()
    assert strayed[:, -1].all()


def test_an_anchored_net_learns_where_hands_work_and_stays_what_it_was_elsewhere():
    torch.manual_seed(0)
    model = DiTConfig(width=32, depth=3, head_size=16, context=5)
    codec, motion = frozen()
    config = DynamicsStageConfig(batch=2, compile=False, own_share=0.0, anchor=True, outcome_weight=0.0, model=model)
    losses = []
    for changed in (0.0, 1.0):
        data = random_dataset(200, (4, 6), 8)
        data.changes[:] = changed
        with pytest.raises(UserError, match="dynamics.anchor=true holds on to a checkpoint; give begin="):
            DynamicsStage(config, data, data, codec, motion, seed=0, dtype=torch.float32)
        begun = SpacetimeDiT(model).requires_grad_(False)
        stage = DynamicsStage(config, data, data, codec, motion, seed=0, dtype=torch.float32, anchor=begun)
        take_over(begun, stage)
        losses.append(stage.train_step(0, 4)["loss"])
    assert losses[0] < 1e-4 < losses[1] / 10


def test_hands_change_what_is_around_the_middle_from_then_to_the_end_of_the_chunk():
    changes = torch.zeros(1, 3, 4, 2)
    changes[0, 1, 2, 1] = 1
    changes[0, 2] = torch.nan  # nobody knows: nothing
    where = worked_on(changes, 12, 20)[0, ..., 0]
    assert where[1, :, 5, 9].tolist() == [False, False, True, True]
    assert not where[[0, 2]].any() and not where[:, :, :, :3].any() and where[1, 2, 1, 9]


def test_what_only_knows_of_the_hand_learns_alone_and_nothing_else_of_the_net_moves():
    torch.manual_seed(0)
    model = DiTConfig(
        width=32, depth=3, head_size=16, context=5, refiner_width=16, refiner_layers=1, hand=True
    )  # fmt: skip
    codec, motion = frozen()
    config = DynamicsStageConfig(
        batch=2, compile=False, own_share=0.0, outcome_weight=0.0, only_hand=True, model=model, optimizer=QUICK
    )
    with pytest.raises(UserError, match="dynamics.only_hand=true needs dynamics.model.hand=true"):
        replace(config, model=replace(model, hand=False))
    data = random_dataset(200, (4, 6), 8)
    data.changes[:] = 0
    data.changes[::8, 0] = 1
    stage = DynamicsStage(config, data, data, codec, motion, seed=0, dtype=torch.float32)
    before = copy.deepcopy(stage.network.state_dict())
    for step in range(3):
        stage.train_step(step, 3)
    after = stage.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(HAND) for name in moved)
    assert any(name.startswith("hand_refiner") for name in moved)


def test_while_the_critic_learns_alone_the_transformer_stays_as_it_is():
    torch.manual_seed(0)
    data = random_dataset(200, (4, 6), 8)
    codec, motion = frozen()
    config = DynamicsStageConfig(
        batch=2, copies=1, compile=False, own_share=0.0, optimizer=QUICK,
        model=DiTConfig(width=32, depth=3, head_size=16, context=5),
        adversary=AdversaryConfig(width=16, dilations=(1,), optimizer=QUICK, alone=2),
    )  # fmt: skip
    stage = DynamicsStage(config, data, data, codec, motion, seed=0, dtype=torch.float32)
    assert stage.adversary is not None
    for step, alone in enumerate((True, True, False)):
        before = {name: master.clone() for name, master in stage.optimizer.masters.items()}
        critic = {name: master.clone() for name, master in stage.adversary.optimizer.masters.items()}
        figures = stage.train_step(step, 4)
        assert (figures["norm"] == 0) == alone
        assert all(torch.equal(before[name], master) for name, master in stage.optimizer.masters.items()) == alone
        assert not all(torch.equal(critic[name], own) for name, own in stage.adversary.optimizer.masters.items())
