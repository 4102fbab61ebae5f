"""What the way to somewhere pays: for which tasks that is all, what is learned, and what chunks are paid then."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentcraft.model.camera import axes
from latentcraft.model.goals import GoalConfig, GoalNet, moved_by
from latentcraft.model.latents import LatentDataset
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.outcomes import Outcomes, expected_reward
from latentcraft.model.tasks import TASK_INDEX, TASKS
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.goals import GoalStage, GoalStageConfig, living, tasks_of_goals, ticks_of
from latentcraft.model.train.take_over import take_over

NAVIGATE, SHAPED, EXPLORE = (TASK_INDEX[name] for name in ("navigate", "navigate-shaped", "explore"))
EACH, ENDS = 48, 40
SMALL = GoalConfig(width=16, finds=8, features=16)


def seeking(episodes: int = 60) -> LatentDataset:
    """Three tasks by turns. The eye looks anywhere and walks ahead, 0.2 m a tick; where a bright spot is seen, that is
    1 m nearer for each metre, elsewhere as much farther. The shaped task pays a tenth of it, and 1 more at the end, the
    plain one that alone: tick 40, when the spot is seen twice. The third pays now and then.
    """
    count = episodes * EACH
    data = random_dataset(count, (6, 8), 8)
    generator = torch.Generator().manual_seed(0)
    latents = 0.5 * torch.randn(data.latents.shape, generator=generator)
    number, tick = torch.arange(count) // EACH, torch.arange(count) % EACH
    seen, at = torch.rand(count, generator=generator) < 0.5, torch.randint(48, (count,), generator=generator)
    seen |= tick == ENDS - 1
    latents.flatten(1, 2)[torch.arange(count)[seen], at[seen], 0] += 4
    last = torch.arange(count)[tick == ENDS - 1]
    latents.flatten(1, 2)[last, at[last], 1] += 4
    task = torch.tensor([NAVIGATE, SHAPED, EXPLORE])[number % 3]
    ended = (tick >= ENDS) & (task != EXPLORE)
    first_end = (tick == ENDS) & (task != EXPLORE)
    eyes = torch.zeros(count, 5, dtype=torch.float64)
    eyes[:, 3] = 360 * torch.rand(count, generator=generator)
    yaw = torch.deg2rad(eyes[:, 3]).roll(1)
    step = 0.2 * torch.stack([-yaw.sin(), yaw.cos()], -1)
    step[tick == 0] = 0
    walked = step.view(episodes, EACH, 2).cumsum(1).flatten(0, 1)
    eyes[:, 0], eyes[:, 2] = walked.unbind(-1)
    nearer = torch.where(seen.roll(1), 0.02, -0.02) * (tick > 0) * (~ended | first_end)
    paid = first_end.float() + (task == SHAPED) * nearer + (task == EXPLORE) * (tick % 7 == 3)
    return replace(
        data, latents=latents.half(), rewards=paid, terminated=ended, task=task, eyes=eyes,
        spans=torch.tensor([[first, EACH] for first in range(0, count, EACH)]),
    )  # fmt: skip


def test_tasks_that_pay_for_the_way_only_are_told_from_others():
    data = seeking()
    assert [TASKS[index] for index in tasks_of_goals(data).nonzero()[:, 0]] == ["navigate", "navigate-shaped"]
    few = replace(data, terminated=data.terminated & (torch.arange(len(data.latents)) < 10 * EACH))
    assert not tasks_of_goals(few)[NAVIGATE]  # a handful of ends tells nothing
    standing = replace(data, eyes=data.eyes.clone())
    standing.eyes[:, :3] = 0
    assert not tasks_of_goals(standing)[SHAPED]  # what is paid for standing is not paid for the way
    blind = replace(data, eyes=torch.full_like(data.eyes, torch.nan))
    assert not tasks_of_goals(blind).any() and not len(living(blind))
    ticks = ticks_of(data, tasks_of_goals(data))
    assert len(ticks) == 40 * ENDS and not ((ticks % EACH == 0) | (ticks % EACH > ENDS)).any()


def test_ways_are_told_in_the_cameras_own_axes():
    eyes = np.array([[1.0, 2, 3, 30, 10], [1.4, 2, 3.1, 80, 0], [1.0, 2.5, 3.3, -20, 0]])
    told = moved_by(torch.from_numpy(eyes))
    for tick in (0, 1):
        step = eyes[tick + 1, :3] - eyes[tick, :3]
        right, _, ahead = (step[None] @ axes(eyes[tick, 3], 0.0))[0]
        np.testing.assert_allclose(told[tick], [right, ahead], atol=1e-6)


@pytest.fixture(scope="module")
def learned() -> tuple[GoalNet, dict[str, float]]:
    data = seeking()
    quick = OptimizerConfig(matrix_lr=0.01, other_lr=4e-3, warmup=5, ema=0.9)
    config = GoalStageConfig(batch=64, noise=0.1, wear_share=0.0, model=SMALL, optimizer=quick)
    stage = GoalStage(config, data, data, seed=0, dtype=torch.float32)
    for step in range(300):
        stage.train_step(step, 300)
    stage.optimizer.copy_average_to(stage.average)
    return stage.result(), stage.validate(300, None)  # type: ignore[arg-type]


def test_it_learns_where_it_pays_to_go(learned: tuple[GoalNet, dict[str, float]]):
    net, figures = learned
    assert figures["explained"] > 0.8 and figures["ends_found"] > 0.6 and figures["false_ends"] < 0.5
    assert net.by_goals.nonzero()[:, 0].tolist() == [NAVIGATE, SHAPED]
    assert float(net.prize[NAVIGATE]) == pytest.approx(1, abs=0.01)


def test_a_stage_that_goes_on_keeps_what_was_known():
    data, known = seeking(), GoalNet(SMALL)
    known.by_goals[TASK_INDEX["build"]] = True
    known.prize[TASK_INDEX["build"]], known.pace, known.unit = 3.0, torch.tensor(0.7), torch.tensor(0.3)
    stage = GoalStage(GoalStageConfig(model=SMALL), data, data, seed=0, dtype=torch.float32, known=known)
    assert take_over(known, stage)
    mine = [TASKS[index] for index in stage.result().by_goals.nonzero()[:, 0]]
    assert mine == ["navigate", "navigate-shaped", "build"]
    assert float(stage.result().prize[TASK_INDEX["build"]]) == 3.0
    assert torch.equal(stage.result().look.weight, known.look.weight)
    assert float(stage.result().pace) == pytest.approx(0.7) and float(stage.result().unit) == pytest.approx(0.3)


def test_chunks_are_paid_for_the_way_and_other_tasks_by_the_head(learned: tuple[GoalNet, dict[str, float]]):
    net, _ = learned
    dark = torch.zeros(6, 8, 8)
    bright, end = dark.clone(), dark.clone()
    bright[3, 5, 0] = end[1, 2, 0] = end[1, 2, 1] = 4.0
    past = torch.stack([dark, dark, dark, bright])[None].repeat(4, 1, 1, 1, 1)
    latents = torch.stack([dark, end, dark, dark])[None].repeat(4, 1, 1, 1, 1)
    moved = torch.tensor([0.0, 0.2]).repeat(4, 4, 1)
    moved[0, 3], moved[3] = 0.0, torch.nan
    generator = torch.Generator().manual_seed(0)
    said = Outcomes(torch.randn(4, 4, 14, generator=generator), torch.randn(4, 4, generator=generator))
    task = torch.tensor([SHAPED, NAVIGATE, EXPLORE, SHAPED])
    settled = net.settled(said, past, latents, moved, task)
    paid = expected_reward(settled.reward)
    assert paid[0, 0] > 0.01 and paid[0, 1] < -0.01 and paid[0, 2] > 0.5 and abs(float(paid[0, 3])) < 0.005
    assert paid[1, 2] > 0.5 and paid[1, [0, 1, 3]].abs().max() < 0.2
    assert (settled.terminated[:2].sigmoid() > 0.5).tolist() == [[False, False, True, False]] * 2
    for index in (2, 3):  # another task; an eye that is lost
        assert torch.equal(settled.reward[index], said.reward[index])
        assert torch.equal(settled.terminated[index], said.terminated[index])
    alone = net.settled(Outcomes(said.reward[:1], said.terminated[:1]), past[:1], latents[:1], moved[:1], task[:1])
    assert torch.equal(alone.reward, settled.reward[:1]) and torch.equal(alone.terminated, settled.terminated[:1])
