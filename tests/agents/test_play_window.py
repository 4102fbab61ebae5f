"""The play window under Xvfb, driven by real key and mouse events; nothing here asserts how long anything takes."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from latentcraft.model.episodes import read_episode

pytestmark = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="Xvfb and xdotool are not installed"
)

PLAYER = """
import sys, threading, time
from pathlib import Path
import numpy as np
from latentcraft.agents.places import Places
from latentcraft.agents.keymap import load_keymap
from latentcraft.agents.session import Session
from latentcraft.agents.stage import Stage
from latentcraft.agents.window import Window, pygame
from latentcraft.simulator.protocol import Chunk, Start, WorldSpec, WorldState
from latentcraft.errors import UserError

folder = Path(sys.argv[1])
log = open(folder / "log", "w", buffering=1)

class Compass:
    "Shows yaw as red and distance walked as green; the reference beside it is a little bluer."

    def __init__(self, label, blue):
        self.spec, self.label, self.blue = WorldSpec(sys.argv[2], 1, (16, 32)), label, blue
        self.yaw = self.walked = 0.0

    def reset(self, starts):
        self.yaw = self.walked = 0.0
        print("reset", self.label, starts[0].seed, starts[0].episode or starts[0].media, file=log)
        if starts[0].media and not starts[0].media.is_file():
            raise UserError(f"no file {starts[0].media}")
        return np.stack([self.frame()] * 4)[None]

    def frame(self):
        return np.full((16, 32, 3), (self.yaw % 256, self.walked % 256, self.blue), np.uint8)

    def step(self, actions):
        if (folder / "crash").exists():
            raise RuntimeError("the world broke")
        frames = []
        for vector in actions[0]:
            self.yaw += float(vector[19])
            self.walked += float(vector[0]) - float(vector[1])
            frames.append(self.frame())
        print("step", self.label, self.yaw, self.walked, int(actions[0, :, 7].sum()), file=log)
        return Chunk(np.stack(frames)[None], np.zeros((1, 4), np.float32), np.zeros((1, 4), bool), [{}])

    def save(self, index=0):
        meta = {"seed": 0, "checkpoint": sys.argv[3]}
        return WorldState(sys.argv[2], meta, {"place": np.array([self.yaw, self.walked])})

    def restore(self, state, index=0):
        if state.meta["checkpoint"] != sys.argv[3]:
            raise UserError("other checkpoint")
        self.yaw, self.walked = state.arrays["place"].tolist()
        print("restore", self.label, self.yaw, self.walked, file=log)
        return np.stack([self.frame()] * 4)

    def close(self):
        print("close", self.label, file=log)

class Walker:
    "A policy that walks backwards."

    def act(self, frames):
        actions = np.zeros((len(frames), 20), np.float32)
        actions[:, 1] = 1
        return actions

import types
sys.modules["walkers"] = types.ModuleType("walkers")
sys.modules["walkers"].Walker = Walker

def post_what_no_hand_can():
    "Files dropped and gamepads moved, as SDL would tell: the test writes a line, this posts the event."
    done = 0
    while True:
        file = folder / "post"
        lines = file.read_text().splitlines() if file.exists() else []
        for line in lines[done:]:
            kind, _, rest = line.partition(" ")
            if kind == "drop":
                pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=rest))
            else:
                values = {k: int(v) for k, v in (word.split("=") for word in rest.split())}
                pygame.event.post(pygame.event.Event(getattr(pygame, kind), **values))
        done = len(lines)
        time.sleep(0.02)

def open_session():
    stage = Stage(Compass("played", 100), make_twin=lambda world: Compass("other", 100),
                  make_truth=lambda world: Compass("truth", 160))
    return Session(stage)

places = Places(screenshots=folder, saves=folder / "saves", recordings=folder / "recordings",
                players=("walkers:Walker",), clip_words=len(sys.argv) > 4)
window = Window(open_session, start=Start(seed=5), keymap=load_keymap(), frame_size=(16, 32), scale=12, places=places)
threading.Thread(target=post_what_no_hand_can, daemon=True).start()
said = window._say
window._say = lambda line: (print("say", line, file=log), said(line))
print("open", file=log)
window.run()
print("closed", threading.active_count(), file=log)
"""


class Hands:
    """Presses keys in a real window by xdotool and reads what the worlds were told and the player was shown."""

    def __init__(self, display: str, folder: Path) -> None:
        self.environment = {**os.environ, "DISPLAY": f":{display}", "SDL_VIDEODRIVER": "x11"}
        self.folder, self.log = folder, folder / "log"
        self.script = folder / "player.py"
        self.script.write_text(textwrap.dedent(PLAYER))
        self.player: subprocess.Popen[bytes] | None = None

    def open(self, *, world: str = "dream", checkpoint: str = "one", words: bool = False) -> None:
        self.log.unlink(missing_ok=True)
        (self.folder / "post").unlink(missing_ok=True)
        command = [sys.executable, str(self.script), str(self.folder), world, checkpoint, *(["words"] if words else [])]
        with (self.folder / "stderr").open("w") as errors:
            self.player = subprocess.Popen(command, env=self.environment, stderr=errors)
        self.wait(lambda: len(self.lines("step")) > 3)
        self.do("mousemove", "320", "240")

    def do(self, *words: str) -> None:
        subprocess.run(["xdotool", *words], env=self.environment, check=True, timeout=20)

    def key(self, name: str) -> None:
        self.do("key", name)

    def post(self, line: str) -> None:
        with (self.folder / "post").open("a") as file:
            file.write(line + "\n")

    def lines(self, *words: str) -> list[list[str]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [line.split() for line in text.splitlines() if line.split()[: len(words)] == list(words)]

    def said(self, what: str) -> bool:
        return any(what in " ".join(line) for line in self.lines("say"))

    def wait(self, what, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "\n".join(
                file.read_text()[-3000:] for file in (self.folder / "stderr", self.log) if file.exists()
            )
            time.sleep(0.05)

    def wait_said(self, what: str) -> None:
        self.wait(lambda: self.said(what))

    def wait_steps(self, count: int = 3, who: str = "played") -> None:
        before = len(self.lines("step", who))
        self.wait(lambda: len(self.lines("step", who)) > before + count)

    def latest(self, who: str = "played") -> tuple[float, float, int]:
        _, _, yaw, walked, dug = self.lines("step", who)[-1]
        return float(yaw), float(walked), int(dug)

    def close(self) -> None:
        assert self.player is not None
        self.key("q")
        self.wait(lambda: self.lines("closed"))
        assert self.player.wait(timeout=30) == 0
        assert self.lines("closed") == [["closed", "2"]]  # the main thread and the test's own

    def kill(self) -> None:
        if self.player is not None and self.player.poll() is None:
            self.player.kill()
            self.player.wait()


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[write], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as pipe:
        display = pipe.readline().strip()
    player = Hands(display, tmp_path)
    try:
        yield player
    finally:
        player.kill()
        server.kill()
        server.wait()


def test_keys_and_mouse_in_a_real_window(hands: Hands):
    hands.open()
    assert hands.latest() == (0, 0, 0)
    hands.do("keydown", "w")
    hands.wait(lambda: hands.latest()[1] > 8)
    hands.do("keyup", "w")
    hands.do("keydown", "Right")
    hands.wait(lambda: hands.latest()[0] > 20)
    hands.do("keyup", "Right")
    hands.wait_steps(2)
    turned = hands.latest()[0]

    hands.do("click", "1")  # takes the mouse, digs nothing
    hands.wait_steps(2)
    assert all(line[4] == "0" for line in hands.lines("step", "played"))
    hands.do("mousedown", "1")
    hands.wait(lambda: hands.latest()[2] == 4)
    hands.do("mouseup", "1")
    for _ in range(10):
        hands.do("mousemove_relative", "--", "-30", "0")
    hands.wait(lambda: hands.latest()[0] < turned - 5)

    hands.key("n")
    hands.wait(lambda: hands.lines("reset", "played")[-1][2] == "6")
    for key in ("F1", "h", "t", "F1", "h"):  # everything is drawn at least once
        hands.key(key)
        hands.wait_steps(2)
    hands.key("Escape")  # gives the mouse back
    hands.wait_steps(2)
    hands.key("Escape")
    hands.wait(lambda: hands.lines("closed"))


def test_rewinding_by_a_held_key(hands: Hands):
    hands.open()
    hands.do("keydown", "w")
    hands.wait(lambda: hands.latest()[1] > 60)
    hands.do("keyup", "w")
    hands.wait_steps(2)
    far = hands.latest()[1]
    hands.do("keydown", "BackSpace")
    hands.wait(lambda: not hands.lines("restore"))
    time.sleep(2.0)
    hands.do("keyup", "BackSpace")
    hands.wait_said("back at 0:")
    hands.wait_steps(3)
    assert hands.latest()[1] < far - 3  # less was walked by then, and nobody walks now
    hands.do("keydown", "w")
    here = hands.latest()[1]
    hands.wait(lambda: hands.latest()[1] > here + 8)
    hands.do("keyup", "w")
    assert hands.latest("truth")[1] == pytest.approx(hands.latest()[1], abs=8)
    hands.do("keydown", "BackSpace", "keyup", "BackSpace")  # too short to go anywhere, and harmless
    hands.wait_steps(3)
    hands.close()


def test_pausing_and_single_chunks(hands: Hands):
    hands.open()
    hands.key("p")
    time.sleep(0.5)
    steps = len(hands.lines("step", "played"))
    hands.key("period")
    time.sleep(0.5)
    hands.key("period")
    hands.wait(lambda: len(hands.lines("step", "played")) > steps)
    time.sleep(0.5)
    assert len(hands.lines("step", "played")) <= steps + 2
    hands.key("p")
    hands.wait_steps(5)
    for _ in range(2):
        hands.key("F11")
        hands.wait_steps(3)
    hands.close()


def test_saving_and_loading(hands: Hands):
    hands.open()
    hands.do("keydown", "w")
    hands.wait(lambda: hands.latest()[1] > 20)
    hands.do("keyup", "w")
    hands.wait_steps(2)
    walked = hands.latest()[1]
    hands.key("F5")
    hands.wait_said("saved in slot 1")
    hands.key("n")
    hands.wait(lambda: hands.latest()[1] == 0)
    hands.key("F9")
    hands.wait(lambda: hands.latest()[1] == walked)
    hands.key("F6")
    hands.wait_said("slot 2: empty")
    hands.key("F9")
    hands.wait_said("slot-2 is empty; save a game there first")
    hands.close()

    hands.open()  # another day
    hands.key("F9")
    hands.wait(lambda: hands.latest()[1] == walked)
    hands.close()
    hands.open(checkpoint="two")
    hands.key("F9")
    hands.wait_said("slot-1 was saved with another checkpoint")
    hands.post(f"drop {hands.folder}/saves/slot-1.safetensors")
    hands.wait_steps(3)
    assert hands.latest()[1] == 0
    hands.close()


def test_handing_over_and_taking_over(hands: Hands):
    hands.open()
    hands.key("g")
    hands.wait(lambda: hands.latest()[1] < -10)
    hands.do("keydown", "w")
    hands.wait_said("you play")
    here = hands.latest()[1]
    hands.wait(lambda: hands.latest()[1] > here + 8)
    hands.do("keyup", "w")
    hands.key("g")
    hands.wait(lambda: hands.latest()[1] < here - 8)
    hands.key("g")
    hands.wait_steps(3)
    here = hands.latest()[1]
    hands.wait_steps(3)
    assert hands.latest()[1] == here
    hands.close()


def test_two_futures(hands: Hands):
    hands.open()
    hands.key("v")
    hands.wait_said("branch first")
    hands.key("b")
    hands.wait_said("the other does the same under other noise")
    hands.do("keydown", "w")
    hands.wait(lambda: hands.lines("step", "other") and hands.latest("other")[1] > 8)
    hands.key("v")
    hands.wait_said("the other does nothing")
    hands.wait_steps(3)
    hands.do("keyup", "w")
    assert hands.latest()[1] > hands.latest("other")[1] + 8
    hands.key("t")  # four worlds at once
    hands.key("Tab")
    hands.wait_said("you are in the other future")
    behind = hands.latest("other")[1]
    hands.do("keydown", "s")
    hands.wait(lambda: hands.latest("other")[1] < behind - 8)
    hands.do("keyup", "s")
    hands.key("b")
    hands.wait_said("the other future is gone")
    steps = len(hands.lines("step", "played"))
    hands.wait_steps(3, "other")
    assert len(hands.lines("step", "played")) <= steps + 1
    hands.close()


def test_what_one_keeps(hands: Hands):
    hands.open()
    hands.key("F3")
    hands.wait_said("recording to")
    hands.do("keydown", "w")
    hands.wait_steps(8)
    hands.key("r")  # a new game is a new episode
    hands.wait_steps(4)
    hands.key("F2")
    hands.wait(lambda: list(hands.folder.glob("latentcraft-*.png")))
    hands.key("F4")
    hands.wait(lambda: list(hands.folder.glob("latentcraft-*.mp4")))
    (film,) = hands.folder.glob("latentcraft-*.mp4")
    with av.open(str(film)) as video:
        assert sum(1 for _ in video.decode(video=0)) >= 30
    hands.key("F3")
    hands.wait_said("in 2 episodes")
    first, second = sorted((hands.folder / "recordings").glob("*.jsonl"))
    episode = read_episode(first)
    assert len(episode) > 20 and episode.actions[:, 0].sum() > 8 and episode.world == "dream" and episode.seed == 5
    green = episode.frames[:, 8, 16, 1].astype(int)
    np.testing.assert_allclose(green - green[0], np.cumsum(episode.actions[:, 0]), atol=6)
    assert len(read_episode(second)) > 10
    hands.close()


def test_a_film_with_the_figures(hands: Hands):
    hands.open(words=True)
    hands.wait_steps(8)
    hands.key("h")
    hands.wait_steps(8)
    hands.key("F4")
    hands.wait(lambda: list(hands.folder.glob("latentcraft-*.mp4")))
    (film,) = hands.folder.glob("latentcraft-*.mp4")
    with av.open(str(film)) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(frames) >= 30
    top = [np.ptp(frame[: len(frame) // 8, :, 2]) for frame in frames]  # the world is one colour, letters are not
    assert top[10] > 80 and top[-1] < 40
    hands.close()


@pytest.mark.parametrize("end", ["terminated", "crashed"])
def test_a_recording_is_finished_however_play_ends(hands: Hands, end: str):
    hands.open()
    hands.key("F3")
    hands.wait_said("recording to")
    hands.wait_steps(5)
    assert hands.player is not None
    if end == "terminated":
        hands.player.terminate()
    else:
        (hands.folder / "crash").touch()
    assert (hands.player.wait(timeout=60) == 0) == (end == "terminated")
    (path,) = (hands.folder / "recordings").glob("*.jsonl")
    assert len(read_episode(path)) > 15
    assert len(list(path.parent.iterdir())) == 2


def test_dropped_files(hands: Hands):
    hands.open()
    picture = hands.folder / "view.png"
    picture.touch()
    hands.post(f"drop {picture}")
    hands.wait(lambda: hands.lines("reset", "played")[-1][3] == str(picture))
    hands.wait_said("view, noise 0")
    hands.key("t")
    hands.wait_said("no truth is known here")
    hands.post("drop /nowhere/at/all.png")
    hands.wait_said("no file /nowhere/at/all.png")
    hands.post("drop /nowhere/script.yaml")
    hands.wait_said("/nowhere/script.yaml")
    hands.wait_steps(3)
    hands.close()
    hands.open(world="other")
    hands.post(f"drop {picture}")
    hands.wait_said("starts a dream only")
    hands.key("t")
    hands.close()


def test_a_gamepad(hands: Hands):
    """No gamepad can be plugged into Xvfb: these are the events SDL would send."""
    hands.open()
    hands.post("CONTROLLERAXISMOTION axis=1 value=-30000 instance_id=0")
    hands.wait(lambda: hands.latest()[1] > 8)
    hands.post("CONTROLLERAXISMOTION axis=1 value=0 instance_id=0")
    hands.post("CONTROLLERAXISMOTION axis=2 value=32767 instance_id=0")
    hands.wait(lambda: hands.latest()[0] > 30)
    hands.post("CONTROLLERAXISMOTION axis=2 value=900 instance_id=0")
    hands.post("CONTROLLERAXISMOTION axis=5 value=32767 instance_id=0")
    hands.wait(lambda: hands.latest()[2] == 4)
    hands.post("CONTROLLERAXISMOTION axis=5 value=0 instance_id=0")
    hands.wait(lambda: hands.latest()[2] == 0)
    still = hands.latest()
    hands.wait_steps(2)
    assert hands.latest() == still
    hands.post("CONTROLLERBUTTONDOWN button=4 instance_id=0")
    time.sleep(1)
    hands.post("CONTROLLERBUTTONUP button=4 instance_id=0")
    hands.wait_said("back at")
    hands.close()


def test_the_command_itself(hands: Hands):
    """``latentcraft play`` of the reference world: saved in one run, gone on with in the next."""
    words = ["world=voxel", "seed=5", "frame_size=[48,80]", f"saves={hands.folder}", f"screenshots={hands.folder}",
             "keys.save=k", "players=[tour]"]  # fmt: skip
    environment = {**hands.environment, "OMP_NUM_THREADS": "1"}

    def run(*more: str) -> None:
        hands.player = subprocess.Popen([sys.executable, "-m", "latentcraft", "play", *words, *more], env=environment)
        hands.do("mousemove", "320", "240")

    def press_until(key: str, pattern: str) -> Path:
        hands.wait(lambda: hands.key(key) or list(hands.folder.glob(pattern)))
        return next(hands.folder.glob(pattern))

    run()
    press_until("k", "slot-1.safetensors")
    hands.key("q")
    assert hands.player is not None and hands.player.wait(timeout=60) == 0
    run("slot=1")
    assert press_until("F2", "latentcraft-*.png").stat().st_size > 500
    hands.key("q")
    assert hands.player.wait(timeout=60) == 0
