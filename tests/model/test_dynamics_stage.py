"""The transformer's stage: whose past it learns from, and when only the critic does."""

import torch
from small_nets import frozen

from latentcraft.model.dit import DiTConfig
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.train.adversary import AdversaryConfig
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.dynamics import DynamicsStage, DynamicsStageConfig

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
