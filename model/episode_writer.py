"""Writes episodes to disk, frame by frame as a world makes them; the layout is told in
:mod:`latentcraft.model.episodes`.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.actions import BUTTONS, CHANGES, PITCH, YAW, noop
from latentcraft.model.episodes import AT, BLOCKS, DEPTH, FRAMES_PER_SECOND, base_of, beside

ENCODER = {"preset": "superfast", "crf": "15"}
"""libx264's options. On recorded frames 41 dB, which is where halving the colour's resolution ends anyway, at 2.2 kB
a frame and 2,800 frames/s on one core; ``veryfast`` takes 1.3 kB, 40 dB and 1,800 frames/s."""


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
        self.path = base_of(path)
        self.length = 0
        self._head: dict[str, Any] = {"seed": seed, "world": world}
        self._task, self._caption = task, ""
        self._pose: list[float] | None = None
        self._distances: dict[int, np.ndarray] = {}
        self._blocks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._tells = False
        self._stack = ExitStack()
        self._reformatter = VideoReformatter()

    def __enter__(self) -> "EpisodeWriter":
        """Open temporary files beside the final ones."""
        # Nested in this order the video is renamed first and the jsonl last.
        jsonl = self._stack.enter_context(replacing(beside(self.path, ".jsonl")))
        video = self._stack.enter_context(replacing(beside(self.path, ".mp4")))
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
        blocks: tuple[np.ndarray, np.ndarray] | None = None,
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
            blocks: around the eye: lower corner ``int64 (3,)`` and kinds ``uint8 (X, Y, Z)``, always as many.
        """
        if blocks is not None:
            self._blocks[self.length] = blocks
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
                    self._write_arrays(DEPTH, self._distances, distance=list(self._distances.values()))
                if self._blocks:
                    corners, kinds = zip(*self._blocks.values(), strict=True)
                    self._write_arrays(BLOCKS, self._blocks, corner=corners, blocks=kinds)
                # Before either rename, so that a full disk cannot leave a new video beside an older jsonl.
                self._lines.flush()
                os.fsync(self._lines.fileno())
                self._lines.close()
        except BaseException as problem:
            # The stack closes and removes the files, and turns an OSError into a UserError that names the file.
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)
        for suffix, there in ((DEPTH, self._distances), (BLOCKS, self._blocks)):
            if error is None and not there:  # an episode this one took the place of may have had some
                beside(self.path, suffix).unlink(missing_ok=True)

    def _write_arrays(self, suffix: str, index: Iterable[int], **columns: Sequence[np.ndarray]) -> None:
        """Write what is told of some frames beside the episode."""
        # Entered last, it is renamed first; and removed with the rest should anything still fail.
        temporary = self._stack.enter_context(replacing(beside(self.path, suffix)))
        with temporary.open("wb") as file:
            stacked: dict[str, Any] = {name: np.stack(column) for name, column in columns.items()}
            np.savez_compressed(file, index=np.array(list(index), np.int64), **stacked)


def _close_quietly(file: Any) -> None:
    """Close a file on the way out of an error; a second complaint about the same full disk helps nobody."""
    try:
        file.close()
    except (OSError, av.FFmpegError, ValueError):
        pass
