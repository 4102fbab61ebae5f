"""Where goals are in recordings that tell of blocks: what the whereabouts net learns from.

Where a task ends there is, nearly always, a kind of block that is hardly ever elsewhere: that is the goal. Its place in
an episode is where that kind was recorded, and every picture of the episode then has an answer.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.model.camera import eyes_of
from latentcraft.model.episodes import base_of, beside, read_all, read_blocks
from latentcraft.model.standing import BASE, SHAPE
from latentcraft.model.tasks import TASK_INDEX, TASKS
from latentcraft.model.whereabouts import bearing, distances_on_ground

AROUND = 4.5
"""Metres on the ground around an eye in which a goal is looked for."""
BEFORE_END = 40
"""Ticks before an end in which blocks are looked at for one."""
TELLING = 0.7
"""By how much more often a kind must be around ends than elsewhere to be a goal's."""
ENOUGH = 20
"""Episodes with an end at least."""
OFTEN = 0.5
"""Share of goals that have a block in a cell, from which on it is part of what a goal looks like."""
TRUSTED = 64.0
"""Metres from where a goal's place may be another one's: maps come round."""
NEAREST = 0.5
"""Metres, at least, between eyes and goals that are learned from."""


class Pictures(NamedTuple):
    """Pictures, and where the goal is as seen from them; leading axis ``k``."""

    frames: Tensor
    """``uint8 (k, H, W, 3)``."""
    pitches: Tensor
    """Degrees."""
    bearings: Tensor
    """How far to the right the goal is, radians."""
    away: Tensor
    """Metres on the ground."""
    higher: Tensor
    """Metres by which its lowest block begins above the eye."""


class Searched(NamedTuple):
    """All there is to learn from."""

    pictures: Pictures
    kind: int
    """Of the goal's blocks."""
    shape: np.ndarray
    """``bool SHAPE``."""
    by_place: np.ndarray
    """Tasks that end at it, ``bool (tasks,)``."""
    prize: np.ndarray
    """See :class:`latentcraft.model.whereabouts.WhereaboutsNet`, ``(tasks,)``."""
    rate: np.ndarray
    """Likewise."""
    reach: np.ndarray
    """Likewise."""


class _Game(NamedTuple):
    """What is kept of an episode until it is known what goals are made of."""

    task: int
    eyes: np.ndarray
    """``(t, 5)``, up to the end."""
    rewards: np.ndarray
    """``(t,)``."""
    ended: bool
    told: tuple[np.ndarray, np.ndarray, np.ndarray]
    """See :func:`latentcraft.model.episodes.read_blocks`."""
    picked: np.ndarray
    """Ticks of the pictures, ``(p,)``."""
    frames: np.ndarray
    """``uint8 (p, H, W, 3)``."""


def search_both(
    parts: tuple[Sequence[Path], Sequence[Path]], frame_size: tuple[int, int], *, episodes: int, pictures: int,
    tasks: Collection[str], seed: int, quiet: bool = True,
) -> tuple[Searched | None, Searched | None]:  # fmt: skip
    """Return what :func:`search` finds in recordings to learn from and in those held out; of these what it finds in the
    first, where they have none of it.
    """
    found = search(
        parts[0], frame_size, np.random.default_rng(seed), episodes=episodes, pictures=pictures, tasks=tasks,
        quiet=quiet,
    )  # fmt: skip
    if found is None:
        return None, None
    told = search(
        parts[1], frame_size, np.random.default_rng(seed), episodes=episodes, pictures=pictures, tasks=tasks,
        kind=found.kind,
    )  # fmt: skip
    return found, told or found


def search(
    paths: Sequence[Path], frame_size: tuple[int, int], generator: np.random.Generator, *, episodes: int,
    pictures: int, tasks: Collection[str] = TASKS, kind: int | None = None, quiet: bool = True,
) -> Searched | None:  # fmt: skip
    """Look through recorded episodes; returns None where no kind of block stands where tasks end.

    Args:
        paths: the episodes' jsonl files.
        frame_size: (H, W) that they are resized to.
        generator: chooses pictures.
        episodes: that are looked through at most, spread evenly over all.
        pictures: that are taken of each at most.
        tasks: whose goals are looked for.
        kind: of the goal's blocks, if it is known.
        quiet: show no progress bar.
    """
    games = list(_games(paths, frame_size, generator, tasks, episodes, pictures, quiet=quiet))
    kind = _kind_of_goals(games) if kind is None else kind
    if kind is None:
        return None
    places = [_place_of(game, kind) for game in games]
    found = [(game, place) for game, place in zip(games, places, strict=True) if place is not None]
    parts: list[tuple[np.ndarray, ...]] = []
    for game, place in found:
        eyes = game.eyes[game.picked]
        away = distances_on_ground(place, eyes)
        use = (away < TRUSTED) & (away > NEAREST)
        bearings = np.array([bearing(place, eye) for eye in eyes])
        parts.append((game.frames[use], eyes[use, 4], bearings[use], away[use], (place[1] - eyes[:, 1])[use]))
    if not parts or not sum(len(part[0]) for part in parts):
        return None
    joined = [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]
    shown = Pictures(joined[0], *(column.float() for column in joined[1:]))
    return Searched(shown, kind, _shape_of(found, kind), *_pay_of(found))


def _games(
    paths: Sequence[Path], frame_size: tuple[int, int], generator: np.random.Generator, tasks: Collection[str],
    episodes: int, pictures: int, *, quiet: bool,
) -> Iterator[_Game]:  # fmt: skip
    """Read the episodes of such tasks that tell of blocks."""
    asked = [path for path in paths if _task_of(path) in tasks]
    few = asked[:: -(-len(asked) // episodes)] if asked else asked
    bar = tqdm(total=len(few), desc="goals", unit="episode", mininterval=2.0, disable=quiet)
    for path, episode in read_all(few, frame_size=frame_size):
        bar.update()
        told = read_blocks(path)
        if episode.poses is None or told is None or episode.task not in TASK_INDEX:
            continue
        eyes = eyes_of(episode.poses, episode.actions[:, BUTTON_INDEX["sneak"]])
        ends = np.flatnonzero(episode.terminated)
        last = int(ends[0]) + 1 if len(ends) else len(episode)
        picked = np.sort(generator.permutation(last)[:pictures])
        yield _Game(
            TASK_INDEX[episode.task], eyes[:last], episode.rewards[:last], bool(len(ends)), told, picked,
            episode.frames[picked].copy(),
        )  # fmt: skip
    bar.close()


def _task_of(path: Path) -> str:
    """Return the task of an episode without reading more than its first line; nothing for one that is bad."""
    try:
        with beside(base_of(path), ".jsonl").open(encoding="utf-8") as lines:
            return str(json.loads(lines.readline()).get("task", "free"))
    except (OSError, ValueError, AttributeError):
        return ""  # it will be named where it is read


def _kind_of_goals(games: Sequence[_Game]) -> int | None:
    """Return the kind of block that is around where tasks end and hardly ever elsewhere; None if there is none."""
    near, far = np.zeros(256), np.zeros(256)
    ends = elsewhere = 0
    for game in games:
        for tick, corner, blocks in zip(*game.told, strict=True):
            ending = game.ended and tick >= len(game.eyes) - BEFORE_END
            if tick >= len(game.eyes) or game.ended and not ending:
                continue
            eye = game.eyes[-1] if ending else game.eyes[tick]
            kinds = np.unique(_around(blocks, corner, eye))
            if ending:
                near[kinds], ends = near[kinds] + 1, ends + 1
            else:
                far[kinds], elsewhere = far[kinds] + 1, elsewhere + 1
    if ends < ENOUGH:
        return None
    telling = near / ends - far / max(elsewhere, 1)
    return int(telling.argmax()) if telling.max() >= TELLING else None


def _around(blocks: np.ndarray, corner: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Return the kinds in the cells :data:`AROUND` an eye on the ground, ``(n,)``."""
    x, z = (corner[axis] + np.arange(blocks.shape[axis]) + 0.5 - eye[axis] for axis in (0, 2))
    near: np.ndarray = blocks.transpose(0, 2, 1)[np.hypot(x[:, None], z) < AROUND].ravel()
    return near


def _place_of(game: _Game, kind: int) -> np.ndarray | None:
    """Return the cell ``int64 (3,)`` of a game's goal; None where it was not recorded."""
    for _, corner, blocks in reversed(list(zip(*game.told, strict=True))):
        there = blocks == kind
        if there.any():
            columns = there.sum(1)
            x, z = np.unravel_index(int(columns.argmax()), columns.shape)
            cell: np.ndarray = corner + np.array([x, int(there[x, :, z].argmax()), z])
            return cell
    return None


def _shape_of(found: Sequence[tuple[_Game, np.ndarray]], kind: int) -> np.ndarray:
    """Return in which cells goals have blocks, ``bool SHAPE``."""
    there, seen = np.zeros(SHAPE), np.zeros(SHAPE)
    for game, place in found:
        for _, corner, blocks in zip(*game.told, strict=True):
            first = place - np.array(BASE) - corner
            low = np.maximum(first, 0)
            high = np.minimum(first + np.array(SHAPE), blocks.shape)
            if (high <= low).any() or not (blocks == kind).any():
                continue
            own = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
            part = blocks[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            there[own] += part == kind
            seen[own] += 1
    shape: np.ndarray = there > OFTEN * np.maximum(seen, 1)
    return shape


def _pay_of(found: Sequence[tuple[_Game, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Return which tasks end at goals, and what of them :class:`Searched` wants."""
    by_place = np.zeros(len(TASKS), np.bool_)
    prize, rate, reach = (np.zeros(len(TASKS), np.float32) for _ in range(3))
    for task in range(len(TASKS)):
        nearer, paid, at_end, short_of = list[np.ndarray](), list[np.ndarray](), list[float](), list[np.ndarray]()
        prizes = list[tuple[float, float]]()
        for game, place in found:
            away = distances_on_ground(place, game.eyes)
            if game.task != task or away.max() > TRUSTED:
                continue
            on_the_way = slice(1, -1 if game.ended else None)
            nearer.append(-np.diff(away)[: len(away) - 1 - game.ended])
            paid.append(game.rewards[on_the_way])
            short_of.append(away[on_the_way])
            if game.ended and len(away) > 1:
                at_end.append(away[-1])
                prizes.append((game.rewards[-1], away[-2] - away[-1]))
        if len(at_end) < ENOUGH:
            continue
        steps, pay = np.concatenate(nearer), np.concatenate(paid)
        slope = float((steps * pay).sum() / max((steps * steps).sum(), 1e-9))
        # What only a few ends or ticks have is a slip of the map's edge, or of the recording.
        inside, outside = np.quantile(at_end, 0.98), np.quantile(np.concatenate(short_of), 0.001)
        by_place[task], rate[task] = True, slope if abs(slope) > 1e-3 else 0.0
        reach[task] = inside if inside <= outside else (inside + outside) / 2
        prize[task] = np.median([reward - rate[task] * step for reward, step in prizes])
    return by_place, prize, rate, reach
