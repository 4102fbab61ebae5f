import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.agents import play
from latentcraft.agents.controls import LOOK_SPEED, Controls
from latentcraft.agents.keymap import ACTIONS, COMMANDS, help_lines, load_keymap
from latentcraft.agents.loop import TICK, PlayLoop
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, CAMERA_LIMIT, PITCH, YAW, noop
from latentcraft.simulator.protocol import Start

FORWARD, JUMP, ATTACK = (BUTTON_INDEX[name] for name in ("forward", "jump", "attack"))


# --- keys and hands -------------------------------------------------------------------------------------------------


def test_every_key_does_something_and_everything_has_a_key():
    keymap = load_keymap()
    assert set(keymap.values()) == set(ACTIONS)
    page = "\n".join(f"{keys} {meaning}" for keys, meaning in help_lines(keymap))
    assert "W  A  S  D walk" in page and all(meaning in page for meaning in COMMANDS.values())


def test_every_command_is_carried_out():
    window = pytest.importorskip("latentcraft.agents.window")
    commands = pytest.importorskip("latentcraft.agents.commands")
    for command in set(COMMANDS) - {"next_block", "previous_block"}:  # these are the hands'
        owners = [hasattr(window.Window, f"_on_{command}"), hasattr(commands.Commands, f"on_{command}")]
        assert owners.count(True) == 1, command


def test_keymap_changes(tmp_path: Path):
    keymap = load_keymap(changes={"forward": "z", "quit": None, "jump": ["w", "j"]})
    assert keymap["z"] == "forward" and keymap["w"] == keymap["j"] == "jump"
    assert "q" not in keymap and "space" not in keymap and keymap["s"] == "back"
    file = tmp_path / "mine.yaml"
    file.write_text("hotbar.1: 7\nback: [x, pad b]\nquit:\n")
    keymap = load_keymap(file, {"quit": "k"})
    assert keymap["7"] == "hotbar.1" and "1" not in keymap and keymap["x"] == keymap["pad b"] == "back"
    assert keymap["k"] == "quit" and "hotbar.7" not in keymap.values()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("fly: z", "unknown action 'fly'"), ("forward: z\nback: z", "key 'z' is given to forward and back"),
     ("forward: pad q", "no key is called 'pad q'"), ("[w]", "must be a mapping"), ("a: [", "not valid YAML")],
)  # fmt: skip
def test_a_bad_keymap_is_named(text: str, reason: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=reason):
        load_keymap(file)


def test_keys_are_given_on_the_command_line(tmp_path: Path):
    config = compose_config("play", ["keys.forward=z", "keys.jump=[x,c]", f"keymap={tmp_path / 'gone.yaml'}"])
    assert config.keys == {"forward": "z", "jump": ("x", "c")}
    with pytest.raises(UserError, match="gone.yaml"):
        play.main(config)


def test_held_keys_last_a_chunk_and_taps_a_tick():
    controls = Controls()
    controls.press("w", "forward")
    controls.press("space", "jump")
    controls.release("space")
    controls.tap("hotbar.2")
    first, second = controls.sample(4), controls.sample(4)
    assert first[:, FORWARD].tolist() == [1, 1, 1, 1]
    assert first[:, JUMP].tolist() == first[:, BUTTON_INDEX["hotbar.2"]].tolist() == [1, 0, 0, 0]
    assert second[:, FORWARD].all() and not second[:, JUMP].any()
    controls.release("w")
    assert not controls.sample(4).any()


def test_two_keys_of_one_action_let_go_together():
    controls = Controls()
    controls.press("e", "attack")
    controls.press("mouse left", "attack")
    controls.sample(4)
    controls.release("e")
    assert controls.sample(4)[:, ATTACK].all()


def test_mouse_motion_is_spread_over_the_chunk():
    controls = Controls()
    controls.turn(2, 10)
    controls.turn(0, -30)
    actions = controls.sample(4)
    np.testing.assert_allclose(actions[:, PITCH], 0.5)
    np.testing.assert_allclose(actions[:, YAW], -5)
    assert not controls.sample(4).any()
    controls.turn(0, 1000)
    assert (controls.sample(4)[:, YAW] == CAMERA_LIMIT).all()


def test_looking_with_keys():
    controls = Controls()
    controls.press("left", "look_left")
    controls.press("down", "look_down")
    actions = controls.sample(2)
    assert actions[:, YAW].tolist() == [-LOOK_SPEED] * 2 and actions[:, PITCH].tolist() == [LOOK_SPEED] * 2
    controls.release_all()
    assert not controls.sample(2).any()


# --- the loop, with a clock of its own ------------------------------------------------------------------------------


class FakeExecutor(Executor):
    """Finishes each call ``seconds`` after it was submitted, by the test's own clock."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.now, self.seconds = 0.0, seconds
        self.elapsed = 0.0
        self.waiting: list[tuple[float, Future, object]] = []

    def submit(self, call, /, *arguments):
        future: Future = Future()
        self.waiting.append((self.now + self.seconds, future, lambda: call(*arguments)))
        self.run()
        return future

    def run(self) -> None:
        for item in [item for item in self.waiting if item[0] <= self.now]:
            self.waiting.remove(item)
            try:
                item[1].set_result(item[2]())
            except Exception as error:
                item[1].set_exception(error)

    def clock(self) -> float:
        """Advance by half the compute time at each reading pair: a step then measures ``seconds``."""
        self.elapsed += self.seconds
        return self.elapsed

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.waiting.clear()


class Play:
    """A loop around a fake world, run by the clock of a fake executor; remembers what was shown when."""

    def __init__(self, seconds: float = 0.0, act=noop, world: FakeWorld | None = None) -> None:
        self.executor = FakeExecutor(seconds)
        self.world = world or FakeWorld()
        self.loop = PlayLoop(self.world, act, executor=self.executor, clock=self.executor.clock)
        self.loop.reset(Start(seed=3))
        self.shown: list[tuple[float, np.ndarray]] = []

    def run(self, seconds: float, poll: float = 0.001) -> None:
        for _ in range(round(seconds / poll)):
            self.executor.run()
            frame = self.loop.update(self.executor.now)
            if frame is not None:
                self.shown.append((self.executor.now, frame))
            self.executor.now += poll

    @property
    def gaps(self) -> np.ndarray:
        return np.diff([time for time, _ in self.shown])


def expected_frames(count: int, act=noop) -> np.ndarray:
    world = FakeWorld()
    frames = [world.reset([Start(seed=3)])[0, -1:]]
    while sum(map(len, frames)) < count:
        frames.append(world.step(act(4)[None]).frames[0])
    return np.concatenate(frames)[:count]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.12, 0.15])
def test_a_world_that_keeps_up_is_shown_at_a_steady_twenty(seconds: float):
    play_ = Play(seconds)
    play_.run(5)
    np.testing.assert_array_equal([frame for _, frame in play_.shown], expected_frames(len(play_.shown)))
    steady = play_.gaps[8:]  # the first chunk can only be computed once play has begun
    assert len(play_.shown) >= 95
    np.testing.assert_allclose(steady, TICK, atol=0.0021)
    assert play_.loop.frames_per_second == pytest.approx(20, abs=0.2)
    assert play_.loop.ticks == 4 * play_.world.steps


def test_a_slow_world_is_shown_slowly_but_evenly_and_whole():
    play_ = Play(0.4)
    play_.run(10)
    np.testing.assert_array_equal([frame for _, frame in play_.shown], expected_frames(len(play_.shown)))
    np.testing.assert_allclose(play_.gaps[20:], 0.1, atol=0.01)
    assert play_.loop.frames_per_second == pytest.approx(10, abs=0.5)
    assert play_.loop.chunk_seconds == pytest.approx(0.4)


def test_input_is_read_as_late_as_can_be():
    """A fast world is asked shortly before its frames are needed, so that the hands' last word counts."""
    fast, slow = Play(0.01), Play(0.12)
    for play_ in (fast, slow):
        play_.run(5)
        assert 0.9 * play_.executor.seconds < play_.loop.latency < 1.25 * play_.executor.seconds + 0.02
    assert fast.loop.latency < 0.03


def test_a_reset_is_not_shown_late_or_mixed():
    play_ = Play(0.05)
    play_.run(1.03)
    play_.loop.reset(Start(seed=3))
    assert play_.loop.busy
    before = len(play_.shown)
    play_.run(1)
    shown = [frame for _, frame in play_.shown[before:]]
    restart = next(i for i, frame in enumerate(shown) if (frame == expected_frames(1)[0]).all())
    assert restart <= 3
    np.testing.assert_array_equal(shown[restart:], expected_frames(len(shown) - restart))
    assert not play_.loop.busy


def test_jobs_see_the_world_between_chunks():
    """What rewinding needs: save, play on, restore, and the same game goes on from there."""
    play_, saved = Play(0.02), []
    play_.run(1)
    play_.loop.do(lambda world: saved.append(world.save()))
    play_.run(1)
    play_.loop.do(lambda world: world.restore(saved[0]))
    before = len(play_.shown)
    play_.run(0.5)
    world = FakeWorld()
    frames = list(world.restore(saved[0])[-1:]) + list(world.step(noop(1, 4)).frames[0])
    shown = [frame for _, frame in play_.shown[before:]]
    assert any(np.array_equal(shown[i : i + 5], frames) for i in range(len(shown)))


def test_pausing_stops_time():
    play_ = Play(0.02)
    play_.run(1)
    play_.loop.paused = True
    steps, shown = play_.world.steps, len(play_.shown)
    play_.run(3)
    assert play_.world.steps <= steps + 1 and len(play_.shown) == shown
    play_.loop.paused = False
    play_.run(2)
    assert len(play_.shown) == pytest.approx(shown + 40, abs=3)
    assert play_.loop.latency < 0.06 and play_.loop.frames_per_second == pytest.approx(
        20, abs=0.5
    )  # pauses don't count
    np.testing.assert_array_equal([frame for _, frame in play_.shown], expected_frames(len(play_.shown)))


def test_single_chunks_while_paused():
    play_ = Play(0.02)
    play_.run(1)
    play_.loop.paused = True
    play_.run(0.5)
    for _ in range(4):
        before = len(play_.shown)
        play_.loop.single()
        play_.run(0.5)
        assert 1 <= len(play_.shown) - before <= 4  # the rest of the chunk that was shown, then whole ones
    assert len(play_.shown) - before == 4
    np.testing.assert_array_equal([frame for _, frame in play_.shown], expected_frames(len(play_.shown)))


def test_a_start_is_seen_while_paused():
    play_ = Play(0.02)
    play_.run(1)
    play_.loop.paused = True
    play_.loop.reset(Start(seed=4))
    play_.run(0.5)
    np.testing.assert_array_equal(play_.shown[-1][1], FakeWorld().reset([Start(seed=4)])[0, -1])


def test_an_error_of_the_world_reaches_the_player():
    play_ = Play()
    play_.loop.do(lambda world: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        play_.run(1)


def test_a_real_thread_plays_too():
    loop = PlayLoop(FakeWorld(), noop)
    loop.reset(Start(seed=3))
    shown, now = [], 0.0
    while len(shown) < 20:
        frame = loop.update(now)
        shown += [] if frame is None else [frame]
        now += 0.01
        time.sleep(0.0005)
    loop.close()
    np.testing.assert_array_equal(shown, expected_frames(20))


# --- the command ----------------------------------------------------------------------------------------------------


def test_without_a_display_a_video_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    pytest.importorskip("latentcraft.simulator.voxel.world")
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    out = tmp_path / "play.mp4"
    words = ["world=voxel", "frame_size=[48,80]", f"out={out}"]
    assert play.main(compose_config("play", words)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "no display" in lines[0] and str(out) in lines[0] and str(out) in lines[1]
    assert out.stat().st_size > 10_000


def test_the_start_is_timed_from_the_process_own_beginning():
    before = time.time()
    words = "from latentcraft.agents.play import process_began; import time; print(process_began(), time.time())"
    answer = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    if Path("/proc/self/stat").exists():
        began, asked = map(float, answer.split())
        assert before - 2 < began < asked  # the kernel counts in hundredths from boot
    else:
        assert answer.startswith("None")


def test_a_dummy_driver_is_no_display(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("DISPLAY", ":0")
    assert "dummy" in play.why_no_display()
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    assert play.why_no_display() is None


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("seed=-1", "seed"),
        ("scale=0", "scale"),
        ("keys.fly=w", "fly"),
        ("slot=10", "slot"),
        ("clip_seconds=1000", "clip_seconds"),
        ("gif_megabytes=0", "gif_megabytes"),
        ("frame=3", "frame=3"),
        ("media=nowhere.png", "nowhere.png"),
    ],
)
def test_bad_words_are_named(word: str, reason: str):
    with pytest.raises(UserError, match=reason):
        play.main(compose_config("play", [word]))
