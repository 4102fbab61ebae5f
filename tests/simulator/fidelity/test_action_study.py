"""The study of action following, on worlds whose pictures say which actions they obeyed."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, PITCH, noop
from latentcraft.simulator.fidelity.action_study import (
    ACTION_COLUMNS,
    CLIP_TICKS,
    ActionPlan,
    action_study,
)
from latentcraft.simulator.fidelity.figures import Figure, Subject
from latentcraft.simulator.fidelity.inverse_dynamics import READ_BUTTONS, InverseDynamics, Reading
from latentcraft.simulator.fidelity.rollout import Rollout
from latentcraft.simulator.protocol import HELD_OUT_SEED, Chunk, Start, World, WorldSpec
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (16, 32)
GAMES, TICKS = 4, 41
SHOWN = len(READ_BUTTONS) + 2
SEEDS = tuple(range(HELD_OUT_SEED, HELD_OUT_SEED + GAMES))


class Confessing:
    """A world whose every frame shows, in its first row, the action that led to it; no more."""

    def __init__(self, games: int, *, pictures: bool = True, obeys: str = "all") -> None:
        self.spec = WorldSpec("confessing", games, SIZE, 4)
        self.pictures, self.obeys = pictures, obeys
        self.starts: list[Sequence[Start | None]] = []

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        if not self.pictures and any(start is not None and start.media is not None for start in starts):
            raise UserError("no pictures")
        self.starts.append(starts)
        return self._shown(noop(len(starts), 4))

    def step(self, actions: np.ndarray) -> Chunk:
        assert actions.shape == (self.spec.num_worlds, 4, ACTION_SIZE)
        obeyed = {"all": actions, "none": np.zeros_like(actions), "another's": np.roll(actions, 1, 0)}[self.obeys]
        return Chunk(self._shown(obeyed), *(np.zeros(actions.shape[:2], kind) for kind in (np.float32, bool)), [])

    def close(self) -> None:
        pass

    @staticmethod
    def _shown(actions: np.ndarray) -> np.ndarray:
        frames = np.zeros((*actions.shape[:2], *SIZE, 3), np.uint8)
        frames[:, :, 0, : len(READ_BUTTONS), 0] = actions[..., : len(READ_BUTTONS)] * 255
        frames[:, :, 0, len(READ_BUTTONS) : SHOWN, 0] = 128 + actions[..., PITCH:] * 4
        return frames


class Believing:
    """An inverse dynamics network that reads such frames without error."""

    def shrink(self, frames: Tensor) -> Tensor:
        return frames.permute(0, 1, 4, 2, 3).float()

    def picture(self, pixels: Tensor) -> Tensor:
        return pixels[:, 1:, 0, 0, :SHOWN]

    def decide(self, features: Tensor) -> Reading:
        return Reading((features[..., :-2] > 0).numpy(), ((features[..., -2:] - 128) / 4).numpy())


def plan(clips: int = 3) -> ActionPlan:
    rng = np.random.default_rng(0)
    actions = noop(GAMES, TICKS)
    for one, other in (("forward", "back"), ("left", "right"), ("sneak", "sprint")):
        choice = rng.integers(0, 3, (GAMES, TICKS))
        actions[..., BUTTON_INDEX[one]], actions[..., BUTTON_INDEX[other]] = choice == 1, choice == 2
    for name in ("jump", "attack", "use"):
        actions[..., BUTTON_INDEX[name]] = rng.random((GAMES, TICKS)) < 0.4
    actions[..., PITCH:] = rng.integers(-30, 31, (GAMES, TICKS, 2)) / 4
    actions[:, ::5, PITCH:] = 0
    return ActionPlan(SEEDS, actions, clips, network="believing")


def study(world: Confessing) -> dict[str, Figure]:
    subject = Subject("test", lambda games, task: cast(World, world))
    return action_study(subject, plan(), network=cast(InverseDynamics, Believing()))


@pytest.mark.parametrize("pictures", [True, False])
def test_a_world_that_obeys_scores_one_however_it_starts(pictures: bool):
    world = Confessing(GAMES, pictures=pictures)
    figures = study(world)
    times = ["@4s", "@12s"]  # 41 ticks are two seconds
    assert set(figures) == {column.key for column in ACTION_COLUMNS if not column.key.endswith(tuple(times))}
    for key, figure in figures.items():
        assert figure.count == GAMES
        if "camera" not in key:
            assert figure.value == 1, key
        else:
            assert figure.value == 0, key


def test_a_world_that_plays_anothers_actions_scores_as_chance_does():
    figures = study(Confessing(GAMES, obeys="another's"))
    assert figures["f1"].value < 0.5 and figures["mineworld_f1"].value < 0.5
    assert figures["camera_median"].value > 4 and figures["mineworld_camera"].value > 2


def test_a_world_that_stands_still_finds_nothing():
    figures = study(Confessing(GAMES, obeys="none", pictures=False))
    assert figures["f1"].value == figures["recall"].value == 0
    assert 0.1 < figures["mineworld_f1"].value < 0.4  # "none" is a class there and always read


def test_clips_begin_from_one_true_picture_with_noise_of_their_own(monkeypatch: pytest.MonkeyPatch):
    world = Confessing(GAMES)
    study(world)
    seeds, *clips = world.starts
    assert [start.seed for start in seeds if start] == list(SEEDS)
    noise = [start.noise_seed for clip in clips for start in clip if start]
    assert len(clips) == 3 and len(set(noise)) == len(noise)
    assert all(start.media is not None and start.seed is None for clip in clips for start in clip if start)


def test_the_first_frames_of_clips_are_the_references_before_the_clips_first_action():
    made = plan(clips=3)
    firsts = made.clip_starts()
    assert firsts == [0, 13, TICKS - CLIP_TICKS]
    rollout = Rollout(made.seeds, made.actions)
    rollout.want(made.looks)
    found = rollout.true(SIZE, 4).at(firsts)
    world = VoxelWorld(GAMES, "free", SIZE, chunk=4)
    shown = [world.reset([Start(seed=seed) for seed in SEEDS])[:, -1:]]
    shown += [world.step(made.actions[:, at : at + 4]).frames for at in range(0, 40, 4)]
    course = np.concatenate(shown, 1)  # frame k is what is seen before action k
    assert np.array_equal(found, course[:, firsts])


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="games"):
        ActionPlan(SEEDS, noop(2, TICKS), 2)
    with pytest.raises(UserError, match="ticks"):
        ActionPlan(SEEDS, noop(GAMES, CLIP_TICKS), 2)


def test_the_shipped_network_tells_the_reference_from_a_deaf_world():
    """The real thing, small: two held-out games, and the same with each playing the other's actions."""
    rng = np.random.default_rng(1)
    actions = noop(2, 32)
    actions[0, :, BUTTON_INDEX["forward"]] = 1
    actions[0, 10:20, PITCH + 1] = rng.uniform(2, 6)
    actions[1, 12:28, BUTTON_INDEX["back"]] = 1
    actions[1, :10, PITCH + 1] = -3

    class Deaf(VoxelWorld):
        def step(self, actions: np.ndarray) -> Chunk:
            return super().step(actions[::-1])

    made = ActionPlan(SEEDS[:2], actions, 1)
    true = action_study(Subject("reference", lambda games, task: VoxelWorld(games, task)), made)
    deaf = action_study(Subject("deaf", lambda games, task: Deaf(games, task)), made)
    assert true["button_f1@forward"].value > 0.8 > 0.3 > deaf["button_f1@forward"].value
    assert true["camera_median"].value < 1 < 2 < deaf["camera_median"].value
    assert true["mineworld_f1"].value > deaf["mineworld_f1"].value
    again = action_study(Subject("reference", lambda games, task: VoxelWorld(games, task)), made)
    assert again == true or all(np.isnan(figure.value) or figure == again[key] for key, figure in true.items())
