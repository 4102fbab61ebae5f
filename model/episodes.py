"""Episodes on disk: the layout of OpenAI's VPT contractor data (arXiv 2206.11795), and its reader;
:mod:`latentcraft.model.episode_writer` writes it.

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

**Blocks** around the eye, of worlds that are grids of cubes a metre wide and tell, may lie in ``NAME.blocks.npz``:
``index`` ``int64 (k,)``, the frames, ``corner`` ``int64 (k, 3)``, the lower corner (x, y, z) of a box of cells, in the
metres of the poses, and ``blocks`` ``uint8 (k, X, Y, Z)``, the kind of block in each; 0 is air. A world whose episodes
have them, in boxes of :data:`latentcraft.model.camera.BOX`, can be learned with a map of blocks (blockmap.py).

An episode exists if and only if its jsonl exists: the writer renames everything else first and the jsonl last.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from latentcraft.errors import UserError
from latentcraft.model.actions import (
    ACTION_SIZE,
    BUTTON_INDEX,
    BUTTONS,
    CAMERA_LIMIT,
    CHANGES,
    HOTBAR_SLOTS,
    PITCH,
    noop,
)

FRAMES_PER_SECOND = 20
DEPTH = ".depth.npz"
"""Suffix of an episode's distances."""
BLOCKS = ".blocks.npz"
"""Suffix of the blocks around its eye."""
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


def read_distances(path: Path | str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return frame numbers ``int64 (k,)`` and distances ``float16 (k, H, W)`` of an episode, None if it has none.

    Raises:
        UserError: the file is torn or foreign.
    """
    found = _arrays_beside(path, DEPTH, "distances", ("index", "distance"))
    if found is None:
        return None
    index, distance = found
    if index.ndim != 1 or distance.ndim != 3 or len(index) != len(distance):
        file = beside(base_of(path), DEPTH)
        raise UserError(f"{file} does not hold index (k,) and distance (k, H, W); delete it or record again")
    return index, distance


def read_blocks(path: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return frame numbers ``int64 (k,)``, corners ``int64 (k, 3)`` and blocks ``uint8 (k, X, Y, Z)`` of an episode,
    None if it has none; see the module's docstring.

    Raises:
        UserError: the file is torn or foreign.
    """
    found = _arrays_beside(path, BLOCKS, "blocks", ("index", "corner", "blocks"))
    if found is None:
        return None
    index, corner, blocks = found
    if corner.shape != (*index.shape, 3) or blocks.ndim != 4 or len(blocks) != len(index):
        file = beside(base_of(path), BLOCKS)
        raise UserError(f"{file} does not hold index (k,), corner (k, 3), blocks (k, X, Y, Z); delete it")
    return index, corner, blocks


def _arrays_beside(path: Path | str, suffix: str, what: str, names: Sequence[str]) -> list[np.ndarray] | None:
    """Return arrays of a file beside an episode, None if there is none.

    Raises:
        UserError: the file is torn or foreign.
    """
    file = beside(base_of(path), suffix)
    if not file.exists():
        return None
    try:
        with np.load(file) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"cannot read the {what} {file} ({error}); delete it or record the episode again") from error


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
    base = base_of(path)
    lines = _read_lines(beside(base, ".jsonl"))
    foreign = "mouse" in lines.rows[0]
    actions, rewards, terminated = (_vpt_actions if foreign else _our_actions)(lines)
    poses, changes, spots = _poses(lines, foreign), _changes(lines), _spots(lines)
    frames = _read_video(beside(base, ".mp4"), frame_size, expected=len(actions))
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


def base_of(path: Path | str) -> Path:
    """Strip ``.jsonl`` or ``.mp4``; other dots belong to the name."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".jsonl", ".mp4") else path


def beside(base: Path, suffix: str) -> Path:
    """Return the file of an episode ``base`` that ends in ``suffix``."""
    return base.with_name(base.name + suffix)
