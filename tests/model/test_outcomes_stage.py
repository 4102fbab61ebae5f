"""The heads' stage: they learn what dreams should pay, and nothing else changes."""

import pytest
import torch
from small_nets import frozen

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.model.dit import DiTConfig, SpacetimeDiT
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import LatentDataset
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.outcomes import HEADS, OutcomesStage, OutcomesStageConfig, gather, overheard
from latentcraft.model.train.rollout import dream_along

CONFIG = OutcomesStageConfig(
    steps=30, clips=24, batch=16, chunks=8, optimizer=OptimizerConfig(other_lr=0.03, warmup=1, ema=0.8)
)  # fmt: skip


def paying(share: float) -> LatentDataset:
    """Random pictures of chop, which pays in ``share`` of all ticks."""
    torch.manual_seed(0)
    data = random_dataset(400, (4, 6), 8)
    data.task[:] = TASK_INDEX["chop"]
    data.terminated[:] = False
    data.rewards[:] = (torch.rand(len(data.rewards), generator=torch.Generator().manual_seed(1)) < share).float()
    return data


def small(*, heads: bool = True) -> tuple[Guesser, SpacetimeDiT]:
    torch.manual_seed(0)
    return Guesser(*frozen()), SpacetimeDiT(DiTConfig(width=32, depth=3, head_size=16, context=5), heads=heads)


def stage_on(data: LatentDataset, *, heads: bool = True, idle: bool = False) -> OutcomesStage:
    guesser, dit = small(heads=heads)
    return OutcomesStage(CONFIG, data, data, guesser, dit, seed=0, dtype=torch.float32, idle=idle)


def test_heads_learn_how_often_dreams_should_pay_and_the_rest_of_the_net_stays(tmp_path):
    stage = stage_on(paying(0.5))
    before = {name: value.clone() for name, value in stage.dit.state_dict().items()}
    first = stage.validate(0, tmp_path)
    for step in range(60):
        stage.train_step(step, 60)
    stage.optimizer.copy_average_to(stage.average)
    last = stage.validate(60, tmp_path)
    assert last["held_out"] < first["held_out"] / 2
    assert last["told"] == pytest.approx(last["made"], rel=0.25)
    for name, value in stage.result().state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith(HEADS)), name


def test_only_what_was_dreamed_counts_and_only_up_to_the_end():
    data = paying(0.25)
    data.terminated[1] = True  # of clips that begin at frame 0 nothing after the truth is left
    guesser, dit = small()
    dreams = gather(data, guesser, dit, CONFIG, 20, torch.Generator().manual_seed(0))
    # A clip has 8 chunks, of which 1 or 2 are true; 20 are two batches.
    assert 20 * 6 - 12 <= len(dreams.features) <= 20 * 7
    assert dreams.valid.any(-1).all() and dreams.features.shape[1:] == (2 * 3, 32)
    clips = data.sample(16, 8, 4, torch.Generator().manual_seed(0), event_share=0.0)
    paid = {tuple(row.tolist()) for row in clips.rewards.flatten(0, 1)}
    assert all(tuple(row.tolist()) in paid for row in dreams.rewards[:90])


def test_what_heads_are_asked_is_overheard():
    data = paying(0.25)
    guesser, dit = small()
    generator = torch.Generator().manual_seed(0)
    clips = data.sample(2, 3, 4, generator)
    with torch.no_grad(), overheard(dit) as asked:
        *_, last = dream_along(dit, guesser, clips, torch.ones(2, dtype=torch.int64), generator, steps=1, told=False)
    assert "outcomes" not in vars(dit) and len(asked) == 3  # as each chunk is committed
    again = dit.outcomes(*asked[-1], (2, 3))
    assert torch.equal(again.reward[:, 0], last.outcomes.reward)


def test_it_goes_on_where_it_stopped():
    states = []
    for pause in (None, 2):
        stage = stage_on(paying(0.25))
        for step in range(4):
            if step == pause:
                state = stage.state_dict()
                stage = stage_on(paying(0.25))
                stage.load_state_dict(state)
            stage.train_step(step, 4)
        states.append(stage.result().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_needs_heads_and_something_that_pays():
    with pytest.raises(UserError, match="outcomes.clips and outcomes.batch must be 1 or more"):
        OutcomesStageConfig(clips=0)
    with pytest.raises(UserError, match="outcomes.steps needs a net with reward and termination heads"):
        stage_on(paying(0.25), heads=False)
    data = paying(0.25)
    data.task[:] = TASK_INDEX["free"]
    with pytest.raises(UserError, match="the episodes have no task that pays"):
        stage_on(data)


def test_episodes_of_some_tasks_keep_their_events():
    data = random_dataset(300, (4, 6), 8)
    data.terminated[:] = False
    spans = torch.tensor([[0, 100], [100, 100], [200, 100]])
    for (first, length), task in zip(spans.tolist(), ("chop", "free", "build"), strict=True):
        data.task[first : first + length] = TASK_INDEX[task]
    whole = LatentDataset(
        data.latents, data.actions, data.rewards, data.terminated, data.task, data.eyes, data.changes,
        data.spots, spans,
        events=torch.tensor([[50, 0], [150, 1], [250, 2]]), deeds=torch.tensor([[260, 2]]),
    )  # fmt: skip
    part = whole.of_tasks([TASK_INDEX["chop"], TASK_INDEX["build"]])
    assert part.spans.tolist() == [[0, 100], [200, 100]]
    assert part.events.tolist() == [[50, 0], [250, 1]] and part.deeds.tolist() == [[260, 1]]
    assert TASK_INDEX["free"] not in part.sample(64, 4, 4, torch.Generator().manual_seed(0)).task.tolist()


def test_dreams_along_clips_have_maps_of_blocks(tiny_checkpoint, monkeypatch):
    """As in play; of a true past nothing that a map guesses is shown."""
    world = load_checkpoint(tiny_checkpoint)
    data = random_dataset(200, (4, 6), 8)
    data.eyes[:] = torch.tensor([0.5, 70.0, 0.5, 0.0, 10.0]).double()
    generator = torch.Generator().manual_seed(0)
    clips = data.sample(2, 4, 4, generator)
    asked, looked = [], Guesser.look_ahead

    def noting(self, places, *, given=False):
        asked.append(given)
        looked(self, places, given=given)
        assert all(place.eye is None or place.blocks.centre is not None for place in places)

    monkeypatch.setattr(Guesser, "look_ahead", noting)
    for _ in dream_along(world.dit, world.guesser, clips, torch.tensor([1, 3]), generator, steps=1):
        pass
    assert asked == [True, True, False, True, False, True, False, False]
