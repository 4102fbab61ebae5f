"""Moving and still pictures of rollouts: mp4 files, side-by-side views, film strips.

Frames are ``uint8 (T, H, W, 3)`` RGB everywhere. Files appear whole or not at all.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentcraft.agents.signals import for_processes_deaf_to_signals
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.protocol import TICKS_PER_SECOND

STRIP_TIMES = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0)
"""Seconds at which a film strip looks: one chunk, then the times at which drift shows."""
SHEET_COLUMNS = 10
"""Moments on a contact sheet."""
CRF = 18
"""H.264 quality; 18 is the usual "visually lossless"."""
WATCHABLE_WIDTH = 640
"""Frames are enlarged by the whole factor that brings them nearest to this width."""
VIDEO_SUFFIXES, PICTURE_SUFFIXES = (".mp4", ".mov", ".mkv"), (".png",)
"""What H.264 video and pictures may be called."""
GAP = 4
"""Pixels between pictures that stand side by side."""
BACKGROUND = 16
INK = (235, 235, 235)


class VideoWriter:
    """Receives frames one at a time; made by :func:`open_video`.

    Args:
        path: the file, written as frames come.
        fps: frames a second.
        scale: whole factor of enlargement, None for a watchable one.
    """

    def __init__(self, path: Path, fps: int, scale: int | None) -> None:
        self._path, self._fps, self._scale = path, fps, scale
        self._writer: Any = None
        self._shape: tuple[int, ...] | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append one frame ``uint8 (H, W, 3)``, enlarged."""
        if self._writer is None:
            self._shape = frame.shape
            self._scale = self._scale or watchable_scale(frame.shape[1])
            big = enlarge(frame, self._scale)
            writer = importlib.import_module("moviepy.video.io.ffmpeg_writer")
            # Odd sizes cannot be 4:2:0, which is what players expect; faststart lets a browser stream the file.
            params = ["-crf", str(CRF), "-movflags", "+faststart", "-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2",
                      "-pix_fmt", "yuv420p"]  # fmt: skip
            with for_processes_deaf_to_signals():  # Ctrl-C must not end the film before its last frames are written
                self._writer = writer.FFMPEG_VideoWriter(
                    str(self._path), (big.shape[1], big.shape[0]), self._fps, codec="libx264", preset="veryfast",
                    threads=1, ffmpeg_params=params,
                )  # fmt: skip
        if frame.shape != self._shape:
            raise ValueError(f"frame of shape {frame.shape} in a video of {self._shape}")
        assert self._scale is not None
        self._writer.write_frame(enlarge(frame, self._scale))

    def finish(self) -> None:
        """Close the encoder and check that it wrote the file (moviepy itself does not look)."""
        if self._writer is None:
            raise UserError(f"cannot write {self._path.name}: there are no frames; play at least one tick")
        process, writer, self._writer = self._writer.proc, self._writer, None
        process.stdin.close()
        complaint = process.stderr.read().decode(errors="replace")
        writer.close()
        if process.returncode:
            raise OSError(f"the encoder failed: {_last_line(complaint)}")

    def abandon(self) -> None:
        """Close the encoder after an error elsewhere."""
        if self._writer is not None:
            process, self._writer = self._writer.proc, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stderr):
                try:
                    pipe.close()
                except OSError:  # the encoder is gone, and with it what was buffered
                    pass


@contextmanager
def open_video(path: Path | str, *, fps: int = TICKS_PER_SECOND, scale: int | None = None) -> Iterator[VideoWriter]:
    """Open an H.264 mp4 for writing frame by frame; it replaces ``path`` only if the block succeeds.

    Args:
        path: the file; its suffix must be one that holds H.264 (mp4, mov, mkv).
        fps: frames a second.
        scale: whole factor of enlargement, nearest neighbour; None picks a watchable one.

    Raises:
        UserError: a wrong suffix, a path that cannot be written, a full disk.
    """
    with replacing(check_suffix(path, VIDEO_SUFFIXES)) as temporary:
        writer = VideoWriter(temporary, fps, scale)
        try:
            yield writer
            writer.finish()
        except OSError as error:
            if error.errno is None:  # moviepy raises its own many-line IOError
                raise OSError(_last_line(str(error))) from error
            raise
        finally:
            writer.abandon()


def write_video(
    path: Path | str, frames: Iterable[np.ndarray], *, fps: int = TICKS_PER_SECOND, scale: int | None = None
) -> None:
    """Write ``frames``, each ``uint8 (H, W, 3)``, as an mp4; see :func:`open_video`."""
    with open_video(path, fps=fps, scale=scale) as video:
        for frame in frames:
            video.write(frame)


def check_suffix(path: Path | str, suffixes: Sequence[str]) -> Path:
    """Return ``path`` if it ends in one of ``suffixes``, or raise a UserError; worth asking before long work."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"cannot write {str(path)!r}: name it {' or '.join(suffixes)}")
    return path


def watchable_scale(width: int) -> int:
    """Return the whole factor that brings ``width`` pixels near :data:`WATCHABLE_WIDTH`."""
    return max(1, round(WATCHABLE_WIDTH / width))


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge ``(..., H, W, 3)`` by a whole factor, nearest neighbour (blocks stay crisp)."""
    return frames if scale == 1 else frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def side_by_side(
    clips: Sequence[Iterable[np.ndarray]], labels: Sequence[str] | None = None, scale: int = 1
) -> Iterator[np.ndarray]:
    """Put clips of frames ``uint8 (H, W, 3)`` of equal height next to each other, labelled above.

    Yields frame by frame, since enlarged films would fill the memory; the shortest clip sets the length. ``scale``
    enlarges before labelling, so that the text stays fine.
    """
    header: np.ndarray | None = None
    for frames in zip(*clips, strict=False):
        big = [enlarge(frame, scale) for frame in frames]
        gap = np.full((big[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
        row = np.concatenate([part for frame in big for part in (gap, frame)][1:], axis=1)
        if labels is not None:
            header = _header(labels, big[0].shape[1], row.shape[1]) if header is None else header
            row = np.concatenate([header, row])
        yield row


def _header(labels: Sequence[str], step: int, width: int) -> np.ndarray:
    """Return a strip ``uint8 (20, width, 3)`` with a label over every picture of ``step`` pixels."""
    header = Image.new("RGB", (width, 20), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(header)
    for index, label in enumerate(labels):
        draw.text((index * (step + GAP) + 4, 2), label, INK, _font())
    return np.asarray(header)


def film_strip(
    rows: Mapping[str, np.ndarray],
    path: Path | str,
    *,
    times: Sequence[float] = STRIP_TIMES,
    fps: int = TICKS_PER_SECOND,
    scale: int = 1,
) -> None:
    """Write a PNG with one labelled row a clip and one column a moment.

    Args:
        rows: label -> frames ``uint8 (T + 1, H, W, 3)``, entry 0 being the moment before the first action; rows are
            drawn in order, so dream first and reference second puts the dream above.
        path: the PNG.
        times: seconds; those beyond the shortest clip are left out.
        fps: frames a second of the clips.
        scale: whole factor of enlargement.
    """
    length = min(len(frames) for frames in rows.values())
    shown = [(time, round(time * fps)) for time in times if round(time * fps) < length]
    grid = [[enlarge(frames[index], scale) for _, index in shown] for frames in rows.values()]
    write_png(path, contact_sheet(grid, list(rows), [f"{time:g} s" for time, _ in shown]))


def even_times(ticks: int, columns: int, fps: int = TICKS_PER_SECOND) -> list[float]:
    """Return ``columns`` moments in seconds from 0 to ``ticks``, evenly spread, each at a tick (fewer if few ticks)."""
    return [tick / fps for tick in sorted({round(ticks * i / max(1, columns - 1)) for i in range(columns)})]


def contact_sheet(
    grid: Sequence[Sequence[np.ndarray]], row_labels: Sequence[str] = (), column_labels: Sequence[str] = ()
) -> np.ndarray:
    """Lay pictures ``uint8 (H, W, 3)`` of one size out in rows and columns with labels; ``uint8 (H', W', 3)``."""
    height, width = grid[0][0].shape[:2]
    font = _font()
    left = max((int(font.getlength(label)) + 3 * GAP for label in row_labels), default=GAP)
    top = 24 if column_labels else GAP
    columns = max(len(row) for row in grid)
    size = (left + columns * (width + GAP), top + len(grid) * (height + GAP))
    sheet = Image.new("RGB", size, (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(sheet)
    for x, label in enumerate(column_labels):
        draw.text((left + x * (width + GAP) + width // 2, top // 2), label, INK, font, anchor="mm")
    for y, row in enumerate(grid):
        if row_labels:
            draw.text((left - 2 * GAP, top + y * (height + GAP) + height // 2), row_labels[y], INK, font, anchor="rm")
        for x, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (left + x * (width + GAP), top + y * (height + GAP)))
    return np.asarray(sheet)


def write_png(path: Path | str, picture: np.ndarray) -> None:
    """Write one picture ``uint8 (H, W, 3)``; it replaces ``path`` only when whole."""
    with replacing(check_suffix(path, PICTURE_SUFFIXES)) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(14)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\[.*?\] ", "", lines[-1]) if lines else "no reason given"
