"""Episodes on disk: the layout of OpenAI's VPT contractor data (arXiv 2206.11795), read and written.

An episode is ``NAME.mp4`` (H.264, 20 frames a second) beside ``NAME.jsonl`` (one line a tick). Our lines hold MineRL's
names, each button as 0 or 1 and ``camera`` as ``[pitch, yaw]`` in degrees, plus ``reward``, ``terminated``, ``pose``
(``[x, y, z, yaw, pitch]`` or null), ``task`` and ``caption``; the first line also ``seed``, ``world``, ``frame_size``.
Where the world tells what the hand did to it (:data:`CHANGES`), every line also holds ``dug`` and ``placed``, 0 or 1,
and where one is 1 ``dug_at`` or ``placed_at`` may say where: ``[x, y, z]``, the lower corner of the block in metres.

**Timing** is VPT's: line ``i`` holds what is seen in frame ``i`` (pose, caption) and the action taken on seeing it; the
effect of that action shows in frame ``i + 1``, and the line's reward, end and changes are those of the tick it caused.
The last line's action has no visible effect. A model wants the other pairing, so :func:`read_episode` returns
``actions[i]``, ``rewards[i]``, ``terminated[i]`` and ``changes[i]`` as what *led to* frame ``i``; entry 0 is a no-op.

**Real VPT recordings** are read too. Their lines hold ``mouse`` (``dx``, ``dy`` in pixels at :data:`VPT_CAMERA`
degrees each; button 0 is attack, 1 is use) and ``keyboard`` (``key.keyboard.w`` and so on); the slot follows the
``hotbar`` field, since it may change by wheel, and an attack button stuck from before the start is ignored, both as in
VPT's own loader. They pay no reward and never end.

**Distances** of what some frames show may lie beside them, in ``NAME.depth.npz``: ``index`` ``int64 (k,)``, the frames,
and ``distance`` ``float16 (k, H, W)``, metres along each pixel's ray from the eye, 0 for what moves with the lens (a
held block, a crosshair), :data:`latentcraft.model.camera.SKY` for the sky. A world whose episodes have them and
``pose`` can be learned with a memory of places.

An episode exists if and only if its jsonl exists: the writer renames everything else first and the jsonl last.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from zipfile import BadZipFile

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.actions import (
    ACTION_SIZE,
    BUTTON_INDEX,
    BUTTONS,
    CAMERA_LIMIT,
    CHANGES,
    HOTBAR_SLOTS,
    PITCH,
    YAW,
    noop,
)

FRAMES_PER_SECOND = 20
DEPTH = ".depth.npz"
"""Suffix of an episode's distances."""
ENCODER = {"preset": "superfast", "crf": "15"}
"""libx264's options. On recorded frames 41 dB, which is where halving the colour's resolution ends anyway, at 2.2 kB
a frame and 2,800 frames/s on one core; ``veryfast`` takes 1.3 kB, 40 dB and 1,800 frames/s."""
VPT_CAMERA = 360 / 2400
"""Degrees a pixel of mouse movement turns in VPT's recordings."""
VPT_SLACK = 20
"""VPT's recorder closed video and jsonl apart: their lengths may differ by this many ticks and are cut to the shorter.
Our own episodes must match exactly."""
VPT_KEYS = {
    "key.keyboard.w": "forward", "key.keyboard.s": "back", "key.keyboard.a": "left", "key.keyboard.d": "right",
    "key.keyboard.space": "jump", "key.keyboard.left.shift": "sneak", "key.keyboard.left.control": "sprint",
}  # fmt: skip
VPT_MOUSE = {0: "attack", 1: "use"}
AT = "_at"
"""After the name of a change: where it was made."""


@dataclass(frozen=True)
class Episode:
    """One episode in memory, every array paired by frame: entry ``i`` is what led to frame ``i``."""

    frames: np.ndarray
    """``uint8 (t, H, W, 3)`` RGB."""
    actions: np.ndarray
    """``float32 (t, 20)``: the action that led to each frame; entry 0 is a no-op."""
    rewards: np.ndarray
    """``float32 (t,)``: the reward that came with each frame; entry 0 is 0."""
    terminated: np.ndarray
    """``bool (t,)``: true where the task had ended when the frame showed."""
    poses: np.ndarray | None
    """``float32 (t, 5)``: x, y, z in metres, yaw, pitch in degrees as seen in each frame; None if any is unknown."""
    changes: np.ndarray | None
    """``bool (t, 2)``: which of :data:`CHANGES` led to each frame; None where the world does not tell."""
    spots: np.ndarray
    """``float32 (t, 2, 3)``: where, see :data:`CHANGES`; NaN where nothing was changed or the world does not tell."""
    task: str
    """The task's name (``free`` where the file names none)."""
    caption: str
    """What the first frame shows, in a few words; may be empty."""
    seed: int | None
    """The world's seed, None if unknown."""
    world: str
    """The world's name: ``voxel``, ``dream``, an environment's id, or ``minecraft`` for VPT's recordings."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)


class EpisodeWriter:
    """Stream one episode to disk; a context manager that leaves a whole episode or nothing.

    Frames go in as the world makes them: :meth:`first` the frame before any action, then :meth:`add` with each action
    and the frame *it led to*. The writer turns that pairing into the file's (see the module's docstring).

        with EpisodeWriter(path, world="voxel", seed=7) as writer:
            writer.first(frame)
            writer.add(action, frame, reward=1.0)

    Leaving the block by an exception removes everything, as does a block that never called :meth:`first`.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        world: str = "voxel",
        seed: int | None = None,
        task: str = "free",
    ) -> None:
        """Name the episode; nothing touches the disk before the block is entered.

        Args:
            path: ``NAME``, ``NAME.jsonl`` or ``NAME.mp4``.
            world: the world's name.
            seed: the world's seed.
            task: the task's name.
        """
        self.path = _base(path)
        self.length = 0
        self._head: dict[str, Any] = {"seed": seed, "world": world}
        self._task, self._caption = task, ""
        self._pose: list[float] | None = None
        self._distances: dict[int, np.ndarray] = {}
        self._tells = False
        self._stack = ExitStack()
        self._reformatter = VideoReformatter()

    def __enter__(self) -> "EpisodeWriter":
        """Open temporary files beside the final ones."""
        # Nested in this order the video is renamed first and the jsonl last.
        jsonl = self._stack.enter_context(replacing(_with(self.path, ".jsonl")))
        video = self._stack.enter_context(replacing(_with(self.path, ".mp4")))
        try:
            self._lines: IO[str] = jsonl.open("w", encoding="utf-8")
            self._stack.callback(_close_quietly, self._lines)
            # A Python file rather than a name: write errors then surface as OSError with their errno.
            self._video: IO[bytes] = video.open("wb")
            self._stack.callback(_close_quietly, self._video)
            self._container = av.open(self._video, "w", format="mp4")
            self._stack.callback(_close_quietly, self._container)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def first(self, frame: np.ndarray, *, pose: Sequence[float] | None = None, caption: str = "") -> None:
        """Write the frame that is seen before the first action.

        Args:
            frame: ``uint8 (H, W, 3)``, even sides.
            pose: x, y, z (metres), yaw, pitch (degrees) of the player in this frame.
            caption: what is seen, in a few words; holds until :meth:`add` gives another.
        """
        assert self.length == 0, "first() is called once"
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            raise UserError(f"frames of {height}x{width} cannot be encoded: both sides must be even")
        stream = self._container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        stream.thread_count = 1  # the recorder runs one process a core
        stream.options = dict(ENCODER)
        self._stream, self._caption = stream, caption
        self._head["frame_size"] = [height, width]
        self._encode(frame, pose)

    def add(
        self,
        action: np.ndarray,
        frame: np.ndarray,
        *,
        reward: float = 0.0,
        terminated: bool = False,
        pose: Sequence[float] | None = None,
        caption: str | None = None,
        distance: np.ndarray | None = None,
        changes: Sequence[bool] | None = None,
        spots: np.ndarray | None = None,
    ) -> None:
        """Write an action and the frame it led to.

        Args:
            action: ``float32 (20,)``.
            frame: ``uint8 (H, W, 3)``.
            reward: what the tick paid.
            terminated: whether the task had ended after the tick.
            pose: the player in ``frame``, as for :meth:`first`.
            caption: what ``frame`` shows, if that changed.
            distance: of each pixel, ``float (H, W)``, see the module's docstring.
            changes: which of :data:`CHANGES` the tick brought; None where the world does not tell.
            spots: where, ``(2, 3)``, see :data:`CHANGES`; None, or not finite, where the world does not tell.
        """
        if distance is not None:
            self._distances[self.length] = distance.astype(np.float16)
        self._write_line(action, reward, terminated, changes, spots)
        self._tells = changes is not None
        self._caption = self._caption if caption is None else caption
        self._encode(frame, pose)

    def _encode(self, frame: np.ndarray, pose: Sequence[float] | None) -> None:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._reformatter.reformat(picture, format="yuv420p", threads=1)
        picture.pts = self.length
        self._container.mux(self._stream.encode(picture))
        self._pose = None if pose is None else [round(float(value), 5) for value in pose]
        self.length += 1

    def _write_line(
        self, action: np.ndarray, reward: float, terminated: bool, changes: Sequence[bool] | None,
        spots: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Write the line of the frame encoded last, now that the action taken on seeing it is known."""
        line: dict[str, Any] = {name: int(action[index] > 0.5) for index, name in enumerate(BUTTONS)}
        line["camera"] = [round(float(action[PITCH]), 5), round(float(action[YAW]), 5)]
        line |= {"reward": round(float(reward), 6), "terminated": bool(terminated), "pose": self._pose}
        if changes is not None:
            line |= {name: int(change) for name, change in zip(CHANGES, changes, strict=True)}
            for name, change, spot in zip(CHANGES, changes, () if spots is None else spots.tolist(), strict=False):
                if change and math.isfinite(spot[0]):
                    line[name + AT] = [round(value, 3) for value in spot]
        line |= {"task": self._task, "caption": self._caption}
        if self.length == 1:
            line |= self._head
        self._lines.write(json.dumps(line, separators=(",", ":")) + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish both files and give them their names, video first; or remove both."""
        try:
            if error is None:
                if not self.length:
                    raise UserError(f"episode {self.path} got no frame; nothing is written")
                self._write_line(noop(), 0.0, False, [False] * len(CHANGES) if self._tells else None)
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._video.close()
                if self._distances:
                    self._write_distances()
                # Before either rename, so that a full disk cannot leave a new video beside an older jsonl.
                self._lines.flush()
                os.fsync(self._lines.fileno())
                self._lines.close()
        except BaseException as problem:
            # The stack closes and removes the files, and turns an OSError into a UserError that names the file.
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)
        if error is None and not self._distances:  # an episode this one took the place of may have had some
            _with(self.path, DEPTH).unlink(missing_ok=True)

    def _write_distances(self) -> None:
        """Write what distances there are."""
        # Entered last, it is renamed first; and removed with the rest should anything still fail.
        temporary = self._stack.enter_context(replacing(_with(self.path, DEPTH)))
        with temporary.open("wb") as file:
            index = np.array(list(self._distances), np.int64)
            np.savez_compressed(file, index=index, distance=np.stack(list(self._distances.values())))


def read_distances(path: Path | str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return frame numbers ``int64 (k,)`` and distances ``float16 (k, H, W)`` of an episode, None if it has none.

    Raises:
        UserError: the file is torn or foreign.
    """
    file = _with(_base(path), DEPTH)
    if not file.exists():
        return None
    try:
        with np.load(file) as arrays:
            index, distance = arrays["index"], arrays["distance"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"cannot read the distances {file} ({error}); delete it or record the episode again") from error
    if index.ndim != 1 or distance.ndim != 3 or len(index) != len(distance):
        raise UserError(f"{file} does not hold index (k,) and distance (k, H, W); delete it or record again")
    return index, distance


def list_episodes(directory: Path | str) -> list[Path]:
    """Return the ``NAME.jsonl`` of every episode in ``directory``, sorted by name.

    Raises:
        UserError: ``directory`` is not a directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"no directory {directory}; record episodes there first (latentcraft record out={directory})")
    return sorted(path for path in directory.glob("*.jsonl") if not path.name.startswith("."))


def read_episode(path: Path | str, *, frame_size: tuple[int, int] | None = None) -> Episode:
    """Read one episode, ours or VPT's, paired by frame.

    Args:
        path: ``NAME``, ``NAME.jsonl`` or ``NAME.mp4``.
        frame_size: (H, W) to resize to (area averaging, aspect not kept); None keeps the video's own.

    Raises:
        UserError: a missing file, a bad line (named), a torn video, a video and jsonl of different length.
    """
    base = _base(path)
    lines = _read_lines(_with(base, ".jsonl"))
    foreign = "mouse" in lines.rows[0]
    actions, rewards, terminated = (_vpt_actions if foreign else _our_actions)(lines)
    poses, changes, spots = _poses(lines, foreign), _changes(lines), _spots(lines)
    frames = _read_video(_with(base, ".mp4"), frame_size, expected=len(actions))
    length = min(len(frames), len(actions))
    if len(frames) != len(actions) and not (foreign and abs(len(frames) - len(actions)) <= VPT_SLACK):
        raise UserError(
            f"episode {base}: the video has {len(frames)} frames but the jsonl {len(actions)} lines; record it again"
        )

    def shift(values: np.ndarray) -> np.ndarray:
        """Move entry i to i + 1: from "taken on seeing frame i" to "led to frame i + 1"."""
        return np.concatenate([np.zeros_like(values[:1]), values[: length - 1]])

    spots[-1] = math.nan  # of the last line nothing is seen; the first frame gets it

    head = lines.rows[0]
    return Episode(
        frames=frames[:length],
        actions=shift(actions),
        rewards=shift(rewards),
        terminated=shift(terminated),
        poses=None if poses is None else poses[:length],
        changes=None if changes is None else shift(changes),
        spots=np.roll(spots, 1, axis=0)[:length],
        task=str(head.get("task", "free")),
        caption=str(head.get("caption", "")),
        seed=head.get("seed"),
        world=str(head.get("world", "minecraft" if foreign else "unknown")),
    )


def read_all(
    paths: Path | str | Sequence[Path],
    *,
    frame_size: tuple[int, int] | None = None,
    report: Callable[[str], None] = lambda message: warnings.warn(message, stacklevel=3),
) -> Iterator[tuple[Path, Episode]]:
    """Read episodes one after the other; a bad one is skipped whole and ``report`` gets one line naming it.

    Args:
        paths: a directory of episodes, or their jsonl files.
        frame_size: as for :func:`read_episode`.
        report: where messages go; a Python warning by default.
    """
    for path in list_episodes(paths) if isinstance(paths, (str, Path)) else paths:
        try:
            episode = read_episode(path, frame_size=frame_size)
        except UserError as error:
            report(f"skipped: {error}")
        else:
            yield path, episode


@dataclass(frozen=True)
class _Lines:
    """A parsed jsonl; row ``i`` is line ``i + 1`` of ``path``."""

    path: Path
    rows: list[dict[str, Any]]

    def error(self, row: int, reason: object) -> UserError:
        return UserError(f"{self.path}, line {row + 1}: {reason}; repair the line or remove the episode")


def _read_lines(path: Path) -> _Lines:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read episode {path}: {getattr(error, 'strerror', None) or error}") from error
    lines = _Lines(path, [])
    for row, line in enumerate(text.splitlines()):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise lines.error(row, f"not JSON ({error.msg})") from error
        if not isinstance(value, dict):
            raise lines.error(row, "not a JSON object")
        lines.rows.append(value)
    if not lines.rows:
        raise UserError(f"episode {path} is empty; remove it")
    return lines


def _our_actions(lines: _Lines) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return actions (t, 20), rewards (t,) and ends (t,) as the lines have them: by the frame seen."""
    actions = np.zeros((len(lines.rows), ACTION_SIZE), np.float32)
    rewards, terminated = np.zeros(len(actions), np.float32), np.zeros(len(actions), bool)
    for row, line in enumerate(lines.rows):
        try:
            actions[row, : len(BUTTONS)] = [line[name] for name in BUTTONS]
            actions[row, PITCH:] = line["camera"]
            rewards[row] = line.get("reward", 0.0)
            terminated[row] = line.get("terminated", False)
        except KeyError as error:
            raise lines.error(row, f"the key {error} is missing") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise lines.error(row, f"a value is not a number or the camera not a pair ({error})") from error
    buttons, camera = actions[:, :PITCH], actions[:, PITCH:]
    bad = ((buttons != 0) & (buttons != 1)).any(1) | ~np.isfinite(actions).all(1) | ~np.isfinite(rewards)
    bad |= (np.abs(camera) > CAMERA_LIMIT + 1e-3).any(1)
    if bad.any():
        raise lines.error(
            int(bad.argmax()), f"buttons must be 0 or 1, camera within {CAMERA_LIMIT:g} degrees, all finite"
        )
    return actions, rewards, terminated


def _vpt_actions(lines: _Lines) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn VPT's mouse and keyboard lines into the same arrays as :func:`_our_actions`."""
    actions = noop(len(lines.rows))
    hotbar, stuck = lines.rows[0].get("hotbar"), False
    for row, line in enumerate(lines.rows):
        action = actions[row]
        try:
            mouse, keys = line["mouse"], line["keyboard"]["keys"]
            # VPT's loader: a recording that starts with a fresh attack click often has it stuck until the next click.
            fresh = mouse.get("newButtons", ())
            stuck = list(fresh) == [0] if row == 0 else stuck and 0 not in fresh
            for button in mouse["buttons"]:
                if button in VPT_MOUSE and not (button == 0 and stuck):
                    action[BUTTON_INDEX[VPT_MOUSE[button]]] = 1
            for key in keys:
                if key in VPT_KEYS:
                    action[BUTTON_INDEX[VPT_KEYS[key]]] = 1
            if line.get("hotbar", hotbar) != hotbar:
                hotbar = line["hotbar"]
                if hotbar not in range(HOTBAR_SLOTS):
                    raise ValueError(f"hotbar {hotbar!r}")
                action[BUTTON_INDEX[f"hotbar.{hotbar + 1}"]] = 1
            action[PITCH:] = np.clip((mouse["dy"] * VPT_CAMERA, mouse["dx"] * VPT_CAMERA), -CAMERA_LIMIT, CAMERA_LIMIT)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise lines.error(row, f"not a VPT line ({error!r})") from error
        if not np.isfinite(action).all():
            raise lines.error(row, "the mouse movement is not finite")
    return actions, np.zeros(len(actions), np.float32), np.zeros(len(actions), bool)


def _poses(lines: _Lines, foreign: bool) -> np.ndarray | None:
    """Return poses ``float32 (t, 5)`` or None if any line has none."""
    keys = ("xpos", "ypos", "zpos", "yaw", "pitch")
    rows = [[line.get(key) for key in keys] if foreign else line.get("pose") for line in lines.rows]
    if any(pose is None or (isinstance(pose, list) and None in pose) for pose in rows):
        return None
    try:
        poses = np.array(rows, np.float32)
    except (TypeError, ValueError, OverflowError):
        poses = np.zeros(0, np.float32)
    if poses.shape != (len(rows), 5):
        raise UserError(f"{lines.path}: every pose must be 5 numbers [x, y, z, yaw, pitch] or null; repair the lines")
    return poses


def _changes(lines: _Lines) -> np.ndarray | None:
    """Return :data:`CHANGES` ``bool (t, 2)`` as the lines have them, by the frame seen; None if any line has none."""
    rows = [[line.get(name) for name in CHANGES] for line in lines.rows]
    if any(None in row for row in rows):
        return None
    for row, values in enumerate(rows):
        if any(value not in (0, 1) for value in values):
            raise lines.error(row, f"{' and '.join(CHANGES)} must be 0 or 1")
    return np.array(rows, bool)


def _spots(lines: _Lines) -> np.ndarray:
    """Return where :data:`CHANGES` were made, ``float32 (t, 2, 3)`` by the frame seen, NaN where that is not told."""
    spots = np.full((len(lines.rows), len(CHANGES), 3), np.nan, np.float32)
    for row, line in enumerate(lines.rows):
        for kind, name in enumerate(CHANGES):
            if (spot := line.get(name + AT)) is not None:
                try:
                    spots[row, kind] = np.array(spot, np.float32).reshape(3)
                except (TypeError, ValueError) as error:
                    raise lines.error(row, f"{name + AT} must be 3 numbers [x, y, z]") from error
    return spots


def _read_video(path: Path, frame_size: tuple[int, int] | None, expected: int) -> np.ndarray:
    """Decode a whole video to ``uint8 (t, H, W, 3)``; ``expected`` frames are allocated ahead."""
    out: np.ndarray | None = None
    count = 0
    # One reformatter with one thread: PyAV's default starts a pool per frame, 5 times slower at this size.
    reformatter = VideoReformatter()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1  # frames are tiny: threads would cost more than they give
            for picture in container.decode(stream):
                height, width = frame_size or (picture.height, picture.width)
                array = reformatter.reformat(
                    picture, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1
                ).to_ndarray()
                if out is None:
                    out = np.empty((expected, height, width, 3), np.uint8)
                if count < expected:
                    out[count] = array
                count += 1
                if count > expected + VPT_SLACK:
                    break
    except (av.FFmpegError, IndexError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read video {path}: {reason}; the file is torn or missing, record it again") from error
    if out is None:
        raise UserError(f"video {path} holds no frame; record it again")
    if count > expected:
        return np.concatenate([out, np.broadcast_to(out[-1:], (count - expected, *out.shape[1:]))])
    return out[:count]


def _base(path: Path | str) -> Path:
    """Strip ``.jsonl`` or ``.mp4``; other dots belong to the name."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".jsonl", ".mp4") else path


def _with(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)


def _close_quietly(file: Any) -> None:
    """Close a file on the way out of an error; a second complaint about the same full disk helps nobody."""
    try:
        file.close()
    except (OSError, av.FFmpegError, ValueError):
        pass
