"""What deeds pay: for which tasks they are all that pays, what is learned, and what chunks are paid then."""

from dataclasses import replace

import pytest
import torch

from latentcraft.model.deeds import FRAMES, DeedConfig, DeedNet
from latentcraft.model.latents import LatentDataset
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.outcomes import expected_reward
from latentcraft.model.tasks import TASK_INDEX, TASKS
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.deeds import DeedStage, DeedStageConfig, deeds_of, tasks_of_deeds
from latentcraft.model.train.take_over import take_over

CHOP, EXPLORE = TASK_INDEX["chop"], TASK_INDEX["explore"]
EVERY, FRAMES_EACH = 6, 48


def felling(episodes: int = 40) -> LatentDataset:
    """Chop in even episodes, where a deed in every sixth tick pays 1 if the middle was bright in the frame before; in
    odd ones explore, paid now and then, whatever hands do.
    """
    count = episodes * FRAMES_EACH
    data = random_dataset(count, (6, 8), 8)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(data.latents.shape, generator=generator)
    number, tick = torch.arange(count) // FRAMES_EACH, torch.arange(count) % FRAMES_EACH
    deed, chop = tick % EVERY == EVERY - 1, number % 2 == 0
    bright = torch.rand(count, generator=generator) < 0.5
    latents[:, 2:4, 3:5, 0] = torch.where(bright, 2.0, -2.0)[:, None, None]
    changes = torch.zeros(count, 2)
    changes[:, 0] = deed.float()
    paid = torch.where(chop, deed & bright.roll(1), tick % 7 == 3).float()
    at = deed.nonzero()[:, 0]
    return replace(
        data, latents=latents.half(), changes=changes, rewards=paid, task=torch.where(chop, CHOP, EXPLORE),
        spans=torch.tensor([[first, FRAMES_EACH] for first in range(0, count, FRAMES_EACH)]),
        deeds=torch.stack([at, at // FRAMES_EACH], -1),
    )  # fmt: skip


def test_tasks_that_pay_for_deeds_only_are_told_from_others():
    data = felling()
    assert [TASKS[index] for index in tasks_of_deeds(data).nonzero()[:, 0]] == ["chop"]
    few = replace(data, rewards=data.rewards * (torch.arange(len(data.rewards)) < FRAMES_EACH))
    assert not tasks_of_deeds(few).any()  # a handful of payments tells nothing
    deeds = deeds_of(data, tasks_of_deeds(data))
    assert (data.task[deeds] == CHOP).all() and len(deeds) == 20 * FRAMES_EACH // EVERY
    known = DeedNet(DeedConfig(width=8, features=8))
    known.by_deeds[TASK_INDEX["build"]] = True
    config = DeedStageConfig(model=DeedConfig(width=8, features=8))
    stage = DeedStage(config, data, data, seed=0, dtype=torch.float32, known=known)
    assert take_over(known, stage)
    assert [TASKS[index] for index in stage.result().by_deeds.nonzero()[:, 0]] == ["chop", "build"]
    early = replace(data, deeds=torch.tensor([[FRAMES - 1, 0], [FRAMES_EACH * 2 + EVERY - 1, 2]]))
    early.changes[FRAMES - 1, 0] = 1
    assert deeds_of(early, tasks_of_deeds(data)).tolist() == [FRAMES_EACH * 2 + EVERY - 1]  # it needs pictures before


@pytest.fixture(scope="module")
def learned() -> tuple[DeedNet, dict[str, float]]:
    data = felling()
    quick = OptimizerConfig(matrix_lr=0.01, other_lr=4e-3, warmup=5, ema=0.9)
    config = DeedStageConfig(
        steps=120, batch=64, wear_share=0.0, model=DeedConfig(window=4, width=16, features=16), optimizer=quick
    )
    stage = DeedStage(config, data, data, seed=0, dtype=torch.float32)
    for step in range(120):
        stage.train_step(step, 120)
    stage.optimizer.copy_average_to(stage.average)
    figures = stage.validate(120, None)  # type: ignore[arg-type]
    return stage.result(), figures


def test_it_learns_what_pays_from_the_picture_before(learned: tuple[DeedNet, dict[str, float]]):
    net, figures = learned
    assert figures["paid_found"] > 0.95 and figures["unpaid_found"] > 0.95
    assert net.by_deeds.nonzero()[:, 0].tolist() == [CHOP]


def test_chunks_are_paid_for_deeds_alone_and_other_tasks_by_the_head(learned: tuple[DeedNet, dict[str, float]]):
    net, _ = learned
    bright, dark = torch.zeros(6, 8, 8), torch.zeros(6, 8, 8)
    bright[2:4, 3:5, 0], dark[2:4, 3:5, 0] = 2.0, -2.0
    past = torch.stack([bright] * 4)[None].repeat(3, 1, 1, 1, 1)
    latents = torch.stack([dark, bright, bright, dark])[None].repeat(3, 1, 1, 1, 1)
    changes = torch.zeros(3, 4, 2)
    changes[0, 0, 0] = changes[0, 1, 0] = changes[0, 3, 0] = 1  # after bright, after dark, after bright
    changes[2, :, 0] = 1
    said = torch.randn(3, 4, 14, generator=torch.Generator().manual_seed(0))
    task = torch.tensor([CHOP, CHOP, EXPLORE])
    settled = net.settled(said.clone(), past, latents, changes, task)
    paid = expected_reward(settled)
    assert paid[0, [0, 3]].min() > 0.8 and paid[0, 1] < 0.2
    assert abs(float(paid[0, 2])) < 1e-4 and not (paid[1].abs() > 1e-4).any()  # nothing done, nothing paid
    assert torch.equal(settled[2], said[2])
    alone = net.settled(said[:1].clone(), past[:1], latents[:1], changes[:1], task[:1])
    assert torch.equal(alone, settled[:1])
