"""What a rollout leaves on disk: a video and an action log for every run, dream beside reference, contact sheets.

Everything is written from the same arrays, so the files show one and the same run. Each appears whole or not at all; an
error names it.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from latentcraft.agents.playback import RolloutResult
from latentcraft.agents.starts import start_name
from latentcraft.agents.video import (
    SHEET_COLUMNS,
    STRIP_TIMES,
    contact_sheet,
    enlarge,
    even_times,
    film_strip,
    side_by_side,
    watchable_scale,
    write_png,
    write_video,
)
from latentcraft.errors import UserError
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start

Results = Mapping[str, RolloutResult]

TITLES = {"voxel": "reference"}
"""What pictures and files call a world, where that is not its name."""
SHEET, PAIR = "contact_sheet.png", "side_by_side"
SINGLE_ROWS = 4
"""Rows of a contact sheet that shows one run."""
MAX_HEIGHT = 2160
"""Pixels: a video of many runs is made no taller, since players give up on it."""


def title(world: str) -> str:
    """Return what pictures and files call a world."""
    return TITLES.get(world, world)


def file_stem(start: Start) -> str:
    """Return what the files of a run begin with, ``seed_900001``."""
    return re.sub(r"[^\w.-]+", "_", start_name(start)).strip("_")


def check_places(folder: Path | None, files: Sequence[Path | None], starts: Sequence[Start]) -> None:
    """Raise a UserError if ``folder`` or ``files`` cannot be written; worth asking before long work."""
    if folder is not None:
        stems = [file_stem(start) for start in starts]
        twice = next((stem for stem in stems if stems.count(stem) > 1), None)
        if twice is not None:
            raise UserError(f"two runs would both be {folder / twice}...; give each seed once")
    for directory in (folder, *(file.parent for file in files if file is not None)):
        if directory is None:
            continue
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"cannot write to {directory}: {existing} is a file; name another directory")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to {directory}: no permission for {existing}; name another directory")


def write_folder(
    folder: Path, results: Results, starts: Sequence[Start], *, task: str = "free", scale: int | None = None
) -> list[Path]:
    """Write everything about every run into ``folder``; returns the files.

    For each run ``seed_900001_dream.mp4`` and the action log ``seed_900001_dream.jsonl`` (together an episode, see
    :mod:`latentcraft.model.episodes`), for each pair ``seed_900001_side_by_side.mp4``, for all ``contact_sheet.png``.

    Args:
        folder: made if missing; files of the same names are replaced, others left alone.
        results: the rollouts by world, from the same starts.
        starts: one for each game.
        task: the task played.
        scale: whole factor by which videos are enlarged, None for a watchable one.

    Raises:
        UserError: a file cannot be written, two starts would have files of the same names.
    """
    check_places(folder, [], starts)
    written: list[Path] = []
    for index, start in enumerate(starts):
        stem = file_stem(start)
        for world, result in results.items():
            base = folder / f"{stem}_{title(world)}"
            write_run(base, result, index, world=world, start=start, task=task, scale=scale)
            written += [base.with_name(base.name + suffix) for suffix in (".mp4", ".jsonl")]
        if len(results) > 1:
            written.append(folder / f"{stem}_{PAIR}.mp4")
            write_video(written[-1], _row(results, index, start, scale), scale=1)
    written.append(folder / SHEET)
    write_sheet(written[-1], results, starts)
    return written


def write_run(
    base: Path, result: RolloutResult, index: int, *, world: str, start: Start, task: str, scale: int | None = None
) -> None:
    """Write game ``index`` as ``base.mp4`` and ``base.jsonl``, an episode with enlarged frames.

    Args:
        base: the files' path without suffix.
        result: the rollout.
        index: which of its games.
        world: the world's name.
        start: where it began.
        task: the task played.
        scale: whole factor of enlargement, None for a watchable one.
    """
    scale = scale or watchable_scale(result.start.shape[2])
    poses = [None] * (result.actions.shape[1] + 1) if result.poses is None else result.poses[index]
    captions = [str(chunk[index].get("caption", "")) for chunk in result.infos]
    with EpisodeWriter(base, world=world, seed=start.seed, task=task) as episode:
        episode.first(enlarge(result.start[index], scale), pose=poses[0], caption=captions[0])
        for tick, action in enumerate(result.actions[index]):
            episode.add(
                action,
                enlarge(result.frames[index, tick], scale),
                reward=float(result.rewards[index, tick]),
                terminated=bool(result.terminated[index, tick]),
                pose=poses[tick + 1],
                caption=captions[tick // result.chunk],
            )


def write_overview(path: Path, results: Results, starts: Sequence[Start], scale: int | None = None) -> None:
    """Write one video of all runs: worlds next to each other, starts below each other (in columns if many).

    Args:
        path: the video.
        results: the rollouts by world, from the same starts.
        starts: one for each game.
        scale: whole factor of enlargement, None for a watchable one.
    """
    first = next(iter(results.values()))
    if len(results) == len(starts) == 1:
        write_video(path, first.pictures(), scale=scale)
        return
    height, width = first.start.shape[1:3]
    if scale is None:
        scale = max(1, min(watchable_scale(width * len(results)), (MAX_HEIGHT // len(starts) - 20) // height))
    columns = math.ceil(len(starts) * (height * scale + 20) / MAX_HEIGHT)
    rows = [_row(results, index, start, scale) for index, start in enumerate(starts)]
    write_video(path, (_grid(pictures, columns) for pictures in zip(*rows, strict=True)), scale=1)


def write_strip(path: Path, results: Results, starts: Sequence[Start]) -> None:
    """Write a PNG of the moments at which drift shows, one row a run."""
    film_strip(_films(results, starts), path, times=STRIP_TIMES)


def write_sheet(path: Path, results: Results, starts: Sequence[Start]) -> None:
    """Write a PNG of moments evenly spread from start to end: a row a run, or several rows of a single run."""
    films = _films(results, starts)
    ticks = next(iter(results.values())).frames.shape[1]
    if len(films) > 1:
        film_strip(films, path, times=even_times(ticks, SHEET_COLUMNS))
        return
    (film,) = films.values()
    times = even_times(ticks, SHEET_COLUMNS * SINGLE_ROWS)
    rows = [times[first : first + SHEET_COLUMNS] for first in range(0, len(times), SHEET_COLUMNS)]
    grid = [[film[round(time * TICKS_PER_SECOND)] for time in row] for row in rows]
    write_png(path, contact_sheet(grid, [f"{row[0]:g} s" for row in rows]))


def _films(results: Results, starts: Sequence[Start]) -> dict[str, np.ndarray]:
    many = len(starts) > 1
    return {
        f"{title(world)}, {start_name(start)}" if many else title(world): result.film(index)
        for index, start in enumerate(starts)
        for world, result in results.items()
    }


def _row(results: Results, index: int, start: Start, scale: int | None) -> Iterator[np.ndarray]:
    """Yield one game's pictures in all worlds next to each other, labelled."""
    width = next(iter(results.values())).start.shape[2]
    labels = [f"{title(world)}, {start_name(start)}" for world in results]
    scale = scale or watchable_scale(width * len(results))
    return side_by_side([result.pictures(index) for result in results.values()], labels, scale)


def _grid(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Lay pictures of one size out in columns, top to bottom; what is left over stays black."""
    rows = math.ceil(len(pictures) / columns)
    filled = [*pictures, *[np.zeros_like(pictures[0])] * (rows * columns - len(pictures))]
    return np.concatenate(
        [np.concatenate(filled[column * rows : (column + 1) * rows]) for column in range(columns)], axis=1
    )
