"""Play without a display: the window's loop, hurried on by a clock of its own."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.agents import headless, play, rollout, vitals
from latentcraft.agents.script import load_script
from latentcraft.agents.session import Session
from latentcraft.agents.slots import slot_path, write_game
from latentcraft.agents.stage import Stage
from latentcraft.agents.video import write_video
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, noop
from latentcraft.simulator.protocol import Start, World

SCRIPT = """
steps:
  - {hold: forward, turn: left 40, for: 10 ticks}
  - {hold: jump + forward, for: 7 ticks}
  - {hold: dig, for: 4 ticks}
"""
PADDED_TICKS = 24


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "little.yaml"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command ``latentcraft play WORDS`` where there is no display."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return lambda *words: play.main(compose_config("play", [*words, f"saves={tmp_path / 'saves'}"]))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[World]]:
    """Let the command play the fake world."""
    worlds: list[World] = []

    def open_world(config: play.PlayConfig) -> World:
        worlds.append(FakeWorld(task=config.task))
        return worlds[-1]

    monkeypatch.setattr(headless, "open_world", open_world)
    yield worlds
    assert all(world.closed for world in worlds)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as video:
        assert video.streams.video[0].average_rate == 20
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


@pytest.mark.parametrize("world", ["dream", "voxel"])
def test_the_film_is_that_of_a_rollout(
    world: str, run, script: Path, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    """Same pictures to the bit, and so the same file."""
    shown: list[np.ndarray] = []
    original = headless.play

    def listening(session, begin, player, write, **options):
        def both(frame: np.ndarray) -> None:
            shown.append(frame.copy())
            write(frame)

        return original(session, begin, player, both, **options)

    monkeypatch.setattr(headless, "play", listening)
    out = tmp_path / "film.mp4"
    words = [f"world={world}", "seed=900003", f"checkpoint={tiny_checkpoint}", "steps=2"]
    words += ["frame_size=[32,48]"] if world == "voxel" else []
    assert run(*words, f"script={script}", f"out={out}", "scale=3") == 0
    config = compose_config("rollout", [*words, f"script={script}"])
    expected = rollout.play(config)[world].film()
    np.testing.assert_array_equal(shown, expected)
    assert frames_of(out).shape == (PADDED_TICKS + 1, 96, 144, 3)
    write_video(tmp_path / "again.mp4", expected, scale=3)
    assert out.read_bytes() == (tmp_path / "again.mp4").read_bytes()


def test_minutes_play_a_script_again_and_again(run, fake, script: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(headless, "TICKS_PER_MINUTE", 40)
    out = tmp_path / "film.mp4"
    assert run(f"script={script}", f"out={out}", "minutes=2.5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "little.yaml" in lines[0] and "2.5 minutes" in lines[0]
    words = r": [\d.]+ frames/s" + (r", \d+ MB, \d+ open files" if Path("/proc/self/fd").exists() else "")
    assert re.fullmatch("minute 1" + words, lines[1]) and re.fullmatch("minute 2" + words, lines[2])
    # A pass of the script, a chunk of nothing, and so on in the same game; the world pays for walking.
    walked = 17 + 17 + 17 + 16
    assert "100 frames in" in lines[3] and f"reward {walked}" in lines[3]
    assert len(frames_of(out)) == 101


def test_the_explorer_plays_as_long_as_asked(run, tmp_path: Path, capsys):
    words = ["world=voxel", "frame_size=[32,48]", "script=null", "players=[explorer]", "out=null"]
    with pytest.raises(UserError, match="explorer would play forever; give minutes"):
        run(*words)
    assert run(*words, "minutes=0.05") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "no film" in lines[0] and "60 frames in" in lines[1]
    assert not list(tmp_path.glob("*.mp4"))


def test_a_saved_game_goes_on(run, fake, script: Path, tmp_path: Path, monkeypatch, capsys):
    session = Session(Stage(FakeWorld()))
    session.begin(Start(seed=77))
    forward = noop(1, 4)
    forward[..., BUTTON_INDEX["forward"]] = 1
    session.step(forward)
    write_game(slot_path(tmp_path / "saves", 2), *session.state())
    actions = rollout.pad_to_chunks(load_script(script).actions, 4)
    expected = [session._seen["played"][-1].copy()]
    for first in range(0, len(actions), 4):
        expected += list(session.step(actions[None, first : first + 4]).frames[0].copy())
    session.close()
    shown: list[np.ndarray] = []
    monkeypatch.setattr(headless, "_film", recording_to(shown))
    assert run(f"script={script}", "slot=2") == 0
    np.testing.assert_array_equal(shown, expected)
    assert f"seed 77, {PADDED_TICKS} frames" in (said := capsys.readouterr().out) and f"reward {4 + 17}" in said
    with pytest.raises(UserError, match="slot-3 is empty"):
        run(f"script={script}", "slot=3")


def test_ctrl_c_finishes_the_film(run, fake, tmp_path: Path, monkeypatch, capsys):
    """The signal goes to the encoder too, as a terminal would send it."""
    out, count = tmp_path / "film.mp4", 0
    step = FakeWorld.step

    def interrupted(self, actions):
        nonlocal count
        count += 1
        if count == 5:
            for pid in (os.getpid(), *children()):
                os.kill(pid, signal.SIGINT)
        return step(self, actions)

    monkeypatch.setattr(FakeWorld, "step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    assert run("script=tour", f"out={out}") == 130
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("interrupted: tour") and str(out) in lines[1]
    assert len(frames_of(out)) == 18  # the first, four chunks, and what the fifth has shown by then
    assert signal.getsignal(signal.SIGINT) is handler


def test_asking_twice_ends_at_once(fake, monkeypatch):
    def stuck(self, actions):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("goes on")

    monkeypatch.setattr(FakeWorld, "step", stuck)
    session = Session(Stage(FakeWorld()))
    with pytest.raises(KeyboardInterrupt):
        headless.play(session, lambda session: session.begin(Start(seed=1)), "tour", lambda frame: None)
    session.close()


class Broken:
    """A policy that gives up at its third chunk."""

    def __init__(self) -> None:
        self.calls = 0

    def act(self, frames: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("no idea what to do")
        return noop(4)


def test_a_policy_that_fails_is_named_and_its_film_kept(run, fake, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("latentcraft.agents.players.load_policy", lambda name: Broken())
    out = tmp_path / "film.mp4"
    assert run("script='my.agents:Broken'", f"out={out}", "minutes=1") == 1
    said = capsys.readouterr()
    assert "my.agents:Broken" in said.err and "no idea what to do" in said.err
    assert len(frames_of(out)) == 9


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("script=nobody", "no player 'nobody'"),
        ("minutes=0", "minutes"),
        ("out=film.txt", "film.txt"),
        ("out=/dev/null/film.mp4", "/dev/null"),
    ],
)
def test_mistakes_are_named_before_a_world_is_built(word: str, reason: str, run, fake):
    with pytest.raises(UserError, match=reason):
        run(word)
    assert not fake


def test_vitals_where_the_system_does_not_say(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(vitals, "PROC", tmp_path)
    assert vitals.vitals() == []


def test_vitals_see_an_open_file(tmp_path: Path):
    before = vitals.open_handles()
    if before is None:
        pytest.skip("the system does not say")
    with open(tmp_path / "x", "w"):
        assert vitals.open_handles() == before + 1
    memory = vitals.resident_bytes()
    assert memory is not None and memory > 1e6


def recording_to(shown: list[np.ndarray]):
    @contextmanager
    def film(path: Path | None, scale: int | None):
        yield lambda frame: shown.append(frame.copy())

    return film


def children() -> list[int]:
    """This process's child processes."""
    task = Path(f"/proc/{os.getpid()}/task")
    return [int(pid) for file in task.glob("*/children") for pid in file.read_text().split()]
