"""Going back, branching and handing over: a session around fake worlds, and the store under it."""

import os
from pathlib import Path

import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.agents import timeline
from latentcraft.agents.other import NOTHING, OTHERS, RECORDED, SAME
from latentcraft.agents.players import EXPLORER
from latentcraft.agents.session import YOU, Session
from latentcraft.agents.shot import BRANCH, BRANCH_TRUTH, PLAYED, TRUTH
from latentcraft.agents.stage import Stage
from latentcraft.agents.store import BLOCK, StateStore
from latentcraft.agents.timeline import STATE_EVERY, from_jpeg, to_jpeg
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.simulator.protocol import Start, WorldState

START = Start(seed=3)


def make_session(truth: bool = True, minutes: float = 1, **spec) -> Session:
    stage = Stage(
        FakeWorld(**spec),
        make_twin=lambda world: FakeWorld(**spec),
        make_truth=lambda world: FakeWorld(**spec) if truth else None,
    )
    session = Session(stage, minutes=minutes)
    session.begin(START)
    return session


def hands(number: int) -> np.ndarray:
    """Return different actions for each number, no button among them."""
    actions = noop(1, 4)
    actions[..., YAW] = number % 29
    return actions


def play(session: Session, first: int, last: int) -> list[np.ndarray]:
    return [session.step(hands(number)).frames[0].copy() for number in range(first, last)]


def test_blocks_are_stored_once_and_room_is_used_again():
    store, rng = StateStore(), np.random.default_rng(0)
    big = rng.integers(0, 256, (4, BLOCK), np.uint8)
    arrays = {
        "big": big,
        "odd": rng.normal(size=(3, 5)),
        "flag": np.array(True),
        "bits": rng.random((3, 5)) < 0.5,
        "none": np.zeros((0, 7), np.int16),
    }
    one = store.put(WorldState("fake", {"tick": 1}, arrays))
    size = store.size
    changed = big.copy()
    changed[2] += 1
    two = store.put(WorldState("fake", {"tick": 2}, {**arrays, "big": changed}))
    assert store.size == size + BLOCK
    for kept, expected in ((one, big), (two, changed)):
        state = store.get(kept)
        for name, array in {**arrays, "big": expected}.items():
            np.testing.assert_array_equal(state.arrays[name], array)
        assert {name: (a.dtype, a.shape) for name, a in state.arrays.items()} == {
            name: (a.dtype, a.shape) for name, a in arrays.items()
        }
    store.drop(one)
    for _ in range(20):
        three = store.put(WorldState("fake", {}, {"big": rng.integers(0, 256, (1, BLOCK), np.uint8)}))
        store.drop(three)
    assert store.size == size + BLOCK
    np.testing.assert_array_equal(store.get(two).arrays["big"], changed)
    store.close()


def test_jpegs_are_as_good_as_the_pictures():
    y, x = np.mgrid[:96, :160]
    frame = np.stack([x * 1.5, y * 2.5, 128 + 60 * np.sin(x / 9)], -1).astype(np.uint8)
    assert np.abs(from_jpeg(to_jpeg(frame)).astype(int) - frame).mean() < 1.5


@pytest.mark.parametrize("back", [1, STATE_EVERY - 1, STATE_EVERY, 3 * STATE_EVERY + 2])
def test_going_back_leads_to_the_same_future(back: int):
    session = make_session()
    frames = play(session, 0, 40)
    number = session.timeline.end - 1 - back
    shot = session.go_back(number)
    np.testing.assert_array_equal(shot.frame, frames[39 - back][-1])
    np.testing.assert_array_equal(shot.beside[TRUTH], frames[39 - back][-1])
    assert shot.facts.ticks == 4 * (40 - back) and session.timeline.end == number + 1
    np.testing.assert_array_equal(play(session, 40 - back, 40), frames[40 - back :])
    other = play(session, 50, 52)
    shot = session.go_back(session.timeline.end - 3)  # and back again, over what was played anew
    np.testing.assert_array_equal(shot.frame, frames[39][-1])
    np.testing.assert_array_equal(play(session, 50, 52), other)
    session.close()


@pytest.mark.parametrize("thin_after", [1000, 60])
def test_every_chunk_of_the_last_minutes_can_be_gone_back_to_and_no_more_is_kept(
    thin_after: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(timeline, "THIN_AFTER", thin_after)
    session = make_session(truth=False, minutes=0.6)  # 180 chunks
    frames = play(session, 0, 400)
    assert 180 <= session.timeline.end - session.timeline.first <= 180 + 4 * STATE_EVERY
    size = session.timeline.bytes_on_disk
    frames += play(session, 400, 800)
    assert session.timeline.bytes_on_disk <= size + 3 * BLOCK
    states = [i for i in range(session.timeline.first, session.timeline.end) if session.timeline[i].kept]
    assert len(states) < (28 if thin_after > 180 else 20) and max(np.diff(states)) <= 2 * STATE_EVERY
    for chunk in range(799, 619, -7):
        assert (session.go_back(chunk + 1).frame == frames[chunk][-1]).all()
    session.close()


def test_going_back_past_a_new_game():
    session = make_session()
    frames = play(session, 0, 10)
    session.begin(Start(seed=4))
    play(session, 0, 10)
    shot = session.go_back(10)
    assert shot.facts.start == START
    np.testing.assert_array_equal(shot.frame, frames[9][-1])
    session.close()


def test_two_futures():
    session = make_session()
    play(session, 0, 5)
    session.branch()
    assert session.other.name == NOTHING  # the fake world has no noise
    info = session.step(hands(7)).infos[0]
    assert set(info["beside"]) == {TRUTH, BRANCH, BRANCH_TRUTH}
    assert (info["beside"][BRANCH] == info["beside"][BRANCH_TRUTH]).all()
    session.let_other(SAME)
    chunk = session.step(hands(8))
    world = FakeWorld()
    world.reset([START])
    for actions in (*map(hands, range(5)), noop(1, 4), hands(8)):
        expected = world.step(actions).frames[0]
    np.testing.assert_array_equal(chunk.infos[0]["beside"][BRANCH], expected)
    shot = session.swap()
    np.testing.assert_array_equal(shot.frame, expected[-1])
    chunk = session.step(hands(9))
    np.testing.assert_array_equal(chunk.frames[0], world.step(hands(9)).frames[0])
    here = session.timeline.end - 1
    session.branch()
    assert set(session.step(hands(10)).infos[0]["beside"]) == {TRUTH}
    shot = session.go_back(here)  # the branch is back too
    assert set(shot.beside) == {TRUTH, BRANCH, BRANCH_TRUTH} and session.stage.branched
    shot = session.go_back(5)
    assert set(shot.beside) == {TRUTH} and not session.stage.branched
    session.close()


def test_a_branch_after_going_back_repeats_what_was_done():
    session = make_session()
    frames = play(session, 0, 20)
    session.go_back(10)
    session.branch()
    assert session.other.name == RECORDED
    for chunk in range(10, 20):
        beside = session.step(hands(25)).infos[0]["beside"]
        np.testing.assert_array_equal(beside[BRANCH], frames[chunk])
    session.branch()
    session.go_back(5)
    session.step(hands(9))
    session.branch()
    assert session.other.name == NOTHING  # time went on since, though what was done can still be chosen
    session.let_other(RECORDED)
    assert (session.step(hands(9)).infos[0]["beside"][BRANCH] != frames[6]).any()
    seen = set()
    for _ in OTHERS:
        seen.add(session.other.name)
        session.next_other()
        session.step(hands(1))
    assert seen >= {SAME, NOTHING, EXPLORER}
    session.close()


def test_rewards_and_ends_are_summed():
    session = make_session(task="navigate")
    actions = noop(1, 4)
    actions[..., BUTTON_INDEX["forward"]] = 1
    for _ in range(4):
        facts = session.step(actions).infos[0]["facts"]
    assert facts.reward == facts.ticks == 16 and facts.terminated
    assert session.go_back(1).facts.reward == 4
    session.close()


def test_states_leave_and_come_back():
    session = make_session()
    frames = play(session, 0, 12)
    state, facts = session.state()
    play(session, 30, 40)
    shot = session.resume(state, facts)
    np.testing.assert_array_equal(shot.frame, frames[11][-1])
    assert shot.facts.ticks == 48
    with pytest.raises(UserError):
        session.resume(WorldState("fake", {PLAYED: {"world": "other", "meta": {}}}, {}), facts)
    session.step(hands(0))
    session.close()


def test_a_dream_is_gone_back_to_exactly_at_any_quality(tiny_checkpoint: Path):
    from latentcraft.simulator.worlds import make_world

    world = make_world("dream", checkpoint=tiny_checkpoint, steps=2)
    session = Session(Stage(world))
    first = session.begin(Start(seed=900_001))
    assert set(first.beside) == {TRUTH}
    frames = []
    for number in range(12):
        if number == 10:
            session.stage.steps = 1
        frames.append(session.step(hands(number)).frames[0].copy())
    session.stage.steps = 4
    for chunk in (11, 8, 3):  # played again at the quality each was dreamed with
        np.testing.assert_array_equal(session.go_back(chunk + 1).frame, frames[chunk][-1])
        assert session.stage.steps == 4
    session.branch()
    assert session.other.name == RECORDED
    session.let_other(SAME)
    chunk = session.step(hands(4))
    assert set(chunk.infos[0]["beside"]) == {TRUTH, BRANCH, BRANCH_TRUTH} and chunk.infos[0]["facts"].uncertainty > 0
    assert (chunk.infos[0]["beside"][BRANCH_TRUTH] == chunk.infos[0]["beside"][TRUTH]).all()
    assert (chunk.infos[0]["beside"][BRANCH] != chunk.frames[0]).any()
    session.close()
    session.stage.close()
    world.close()


# --- who plays ------------------------------------------------------------------------------------------------------


class Spinner:
    """A policy for the tests; made by name."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def act(self, frames: np.ndarray) -> np.ndarray:
        self.seen.append(frames)
        actions = noop(len(frames))
        actions[:, YAW] = 3
        return actions


class Broken:
    def act(self, frames: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("never works")


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> str:
    import sys
    import types

    module = types.ModuleType("some_policies")
    module.Spinner, module.Broken, module.nothing = Spinner, Broken, 3
    monkeypatch.setitem(sys.modules, "some_policies", module)
    return "some_policies"


def test_a_policy_plays_until_a_button_is_pressed(policies: str):
    session = make_session()
    session.hand_over(f"{policies}:Spinner")
    info = session.step(hands(9)).infos[0]  # a moved mouse is no wish to play
    assert (info["actions"][:, YAW] == 3).all() and info["facts"].player == f"{policies}:Spinner"
    pressed = hands(9)
    pressed[0, 0, BUTTON_INDEX["jump"]] = 1
    info = session.step(pressed).infos[0]
    assert (info["actions"] == pressed[0]).all() and session.player == YOU
    assert "you play" in session.notes.get()
    session.close()


def test_the_explorer_and_scripts_play():
    session = make_session()
    session.hand_over(EXPLORER)
    actions = [session.step(hands(0)).infos[0]["actions"] for _ in range(30)]
    assert any(part.any() for part in actions)
    session.begin(Start(seed=3))
    assert session.player == EXPLORER
    again = [session.step(hands(0)).infos[0]["actions"] for _ in range(30)]
    np.testing.assert_array_equal(actions, again)
    session.hand_over("wall")
    count = 0
    while session.player != YOU:
        session.step(hands(0))
        count += 1
        assert count < 500
    assert count > 10 and "wall is done" in session.notes.get()
    session.hand_over("wall")
    session.go_back(5)
    assert session.player == YOU
    session.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nobody", "no player 'nobody'"), ("no_such_module:x", "no_such_module"), ("some_policies:nothing", "cannot load"),
     ("some_policies:Gone", "Gone"), ("gone.yaml", "gone.yaml")],
)  # fmt: skip
def test_bad_players_are_named(name: str, reason: str, policies: str):
    session = make_session()
    with pytest.raises(UserError, match=reason):
        session.hand_over(name)
    assert session.player == YOU
    session.close()


def test_a_policy_that_fails_gives_the_game_back(policies: str):
    session = make_session()
    session.hand_over(f"{policies}:Broken")
    session.step(hands(0))
    assert session.player == YOU and "ZeroDivisionError: never works" in session.notes.get()
    session.close()


def test_no_files_are_left_open_or_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        session = make_session()
        play(session, 0, 30)
        session.close()
        session.stage.close()
    assert len(os.listdir("/proc/self/fd")) == before and not list(tmp_path.iterdir())
