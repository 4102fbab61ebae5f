import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, noop
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.replay import film, make_subject, name_of, play, ticks_of
from latentcraft.simulator.protocol import Start

SEEDS = (900_000, 900_007)


def actions(ticks: int) -> np.ndarray:
    script = noop(2, ticks)
    script[0, ::2, BUTTON_INDEX["forward"]] = 1
    return script


class Skipping(FakeWorld):
    """Notes which chunks were not drawn."""

    skipped = 0

    def skip(self, script: np.ndarray) -> None:
        self.skipped += 1
        self.step(script)


def whole(ticks: int) -> np.ndarray:
    """The frames from the start on, played plainly: entry k is k ticks in."""
    world = FakeWorld(2)
    start = world.reset([Start(seed=seed) for seed in SEEDS])
    parts = [world.step(part).frames for part in np.split(actions(ticks), ticks // 4, axis=1)]
    return np.concatenate([start[:, -1:], *parts], axis=1)


def test_chunks_come_with_the_tick_of_their_first_frame():
    seen: dict[int, np.ndarray] = {}
    seconds = play(FakeWorld(2), SEEDS, actions(10), lambda tick, frames: seen.update({tick: frames.copy()}))
    assert list(seen) == [-3, 1, 5, 9]
    assert np.isfinite(seconds).all() and len(seconds) == 3
    assert (np.concatenate([seen[1], seen[5]], axis=1) == whole(8)[:, 1:]).all()


def test_chunks_nobody_wants_are_skipped_where_the_world_can():
    world = Skipping(2)
    seen: list[int] = []
    seconds = play(world, SEEDS, actions(16), lambda tick, frames: seen.append(tick), wanted={6, 16})
    assert seen == [-3, 5, 13] and world.skipped == 2
    assert np.isnan(seconds).tolist() == [True, False, True, False]


@pytest.mark.parametrize("kind", [FakeWorld, Skipping])
def test_a_film_holds_the_frames_at_its_ticks(kind: type[FakeWorld]):
    world = kind(2)
    ticks = [-2, 0, 3, 4, 9]
    frames, seconds = film(world, SEEDS, actions(16), ticks)
    expected = whole(12)
    assert frames.shape == (2, 5, 16, 32, 3)
    assert (frames[:, 1:] == expected[:, [0, 3, 4, 9]]).all()
    assert len(seconds) == 3, "played no longer than needed"


def test_the_start_alone():
    frames, _ = film(FakeWorld(2), SEEDS, actions(8), [0])
    assert (frames[:, 0] == whole(4)[:, 0]).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="2 games"):
        play(FakeWorld(2), SEEDS[:1], actions(8), lambda tick, frames: None)
    with pytest.raises(UserError, match="stubborn made a world of 1 games where 3"):
        make_subject(Subject("stubborn", lambda games, task: FakeWorld(1)), 3)


def test_times():
    assert [ticks_of(seconds) for seconds in (0.2, 1.0, 60.0)] == [4, 20, 1200]
    assert [name_of(seconds) for seconds in (0.2, 1.0, 60.0)] == ["0.2s", "1s", "60s"]
