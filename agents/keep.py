"""What was shown lately: the last seconds as a film, one picture of all that is seen."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from latentcraft.agents.curve import Curve
from latentcraft.agents.gif import write_gif
from latentcraft.agents.panes import arrange, montage, panes_of, psnr
from latentcraft.agents.shot import TRUTH, Shot
from latentcraft.agents.timeline import Entry, Timeline
from latentcraft.agents.video import VIDEO_SUFFIXES, check_suffix, write_video
from latentcraft.simulator.protocol import TICKS_PER_SECOND


def last_entries(timeline: Timeline, seconds: float, skip: int = 0) -> list[Entry]:
    """Return the entries that hold the last ``seconds``, oldest first, as far back as they show the same views.

    Args:
        timeline: what was played.
        seconds: of play.
        skip: pictures at the end that were not shown yet; their entries are left out.
    """
    entries: list[Entry] = []
    ticks, number = 0, timeline.end
    while number > timeline.first and ticks < seconds * TICKS_PER_SECOND:
        number -= 1
        entry = timeline[number]
        if skip > 0:
            skip -= len(entry)
            continue
        if entries and entry.pictures.keys() != entries[0].pictures.keys():
            break
        entries.insert(0, entry)
        ticks += len(entry)
    return entries


def pictures_of(entries: Iterable[Entry], *, truth: bool = False) -> Iterator[np.ndarray]:
    """Yield what the window showed at each tick of ``entries``, see :func:`picture_of`."""
    curve = Curve()
    for entry in entries:
        for index in range(len(entry)):
            shot = entry.shot(index)
            if TRUTH in shot.beside and truth:
                curve.add(shot.facts.ticks, psnr(shot.frame, shot.beside[TRUTH]))
            yield picture_of(shot, curve, truth=truth)


def picture_of(shot: Shot, curve: Curve, *, truth: bool = False) -> np.ndarray:
    """Return what the window shows, panes side by side, ``uint8 (H', W', 3)``; with ``truth`` the error too."""
    height, width = shot.frame.shape[:2]
    rows = panes_of(shot, world="", truth=truth, other="", curve=curve)
    return montage(arrange(rows, (height, width), (2 * width, 2 * height)))


def write_clip(path: Path, film: Callable[[], Iterable[np.ndarray]], *, megabytes: float | None = None) -> None:
    """Write a film at 20 frames a second as mp4 (or mov, mkv) or as GIF, by the suffix.

    Args:
        path: the file.
        film: returns the frames ``uint8 (H, W, 3)``, anew at each call.
        megabytes: what a GIF may take at most; see :func:`latentcraft.agents.gif.write_gif`.

    Raises:
        UserError: another suffix, a path that cannot be written, a GIF too long for ``megabytes``.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        write_video(path, film())
        return
    check_suffix(path, (*VIDEO_SUFFIXES, ".gif"))
    write_gif(path, film, megabytes=megabytes)
