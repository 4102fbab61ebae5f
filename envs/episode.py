"""Where an episode starts and when it ends: rules that the single and the vector environment share."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED, Chunk, Start, WorldState

RESET_OPTIONS = ("seed", "episode", "frame", "media", "state")


def choose_start(options: Mapping[str, Any] | None, seed: int | None, rng: np.random.Generator) -> Start | WorldState:
    """Return what ``reset(seed=seed, options=options)`` asks for.

    A start without a world seed (an episode, media, nothing) takes the number as the seed of the dream's noise instead.

    Args:
        options: keys of :data:`RESET_OPTIONS`. ``seed`` is a world seed that leaves the generator alone; None as
            ``seed`` means a start from nothing (dream only).
        seed: the world seed of a seeded reset.
        rng: gives the seed when none is asked for; never a held-out one.

    Raises:
        UserError: an unknown option, or options that exclude each other.
    """
    options = dict(options or {})
    unknown = sorted(set(options) - set(RESET_OPTIONS))
    if unknown:
        raise UserError(f"unknown reset option {unknown[0]!r}; known: {', '.join(RESET_OPTIONS)}")
    begins = [key for key in ("episode", "media", "state") if options.get(key) is not None]
    if len(begins) > 1:
        raise UserError(f"reset options {' and '.join(begins)} exclude each other; give one")
    if begins == ["state"]:
        if not isinstance(options["state"], WorldState):
            raise UserError(f"reset option 'state' must come from save(), got {type(options['state']).__name__}")
        if len(options) > 1:
            raise UserError("reset option 'state' stands alone; drop the others")
        return options["state"]
    if options.get("frame") and not begins:
        raise UserError("reset option 'frame' needs 'episode' or 'media'")
    asked = check_seed(options["seed"]) if "seed" in options else check_seed(seed)
    drawn = asked if asked is not None else check_seed(seed)
    if drawn is None:
        drawn = int(rng.integers(HELD_OUT_SEED))
    if begins or (asked is None and "seed" in options):
        frame = _check_whole("frame", options.get("frame")) or 0
        return Start(noise_seed=drawn, episode=_path(options, "episode"), media=_path(options, "media"), frame=frame)
    return Start(seed=drawn)


def check_seed(seed: Any) -> int | None:
    """Return ``seed`` as an int or None; a UserError if it is neither a whole number from 0 up nor None."""
    return _check_whole("seed", seed)


def _check_whole(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0):
        raise UserError(f"reset option {name!r} must be a whole number from 0 up, got {value!r}")
    return None if value is None else int(value)


def _path(options: Mapping[str, Any], name: str) -> Path | None:
    value = options.get(name)
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise UserError(f"reset option {name!r} must be the path of a file, got {value!r}")
    return None if value is None else Path(value)


class Outcome(NamedTuple):
    """What a chunk came to, one entry a world."""

    reward: np.ndarray
    """``float64 (b,)``: rewards up to and including the tick at which the task ended. A world plays on after that
    tick; what it pays then belongs to no episode."""
    terminated: np.ndarray
    """``bool (b,)``: whether the task ended within the chunk."""
    ticks: np.ndarray
    """``int64 (b,)``: ticks that count, ``f`` unless the task ended earlier."""


def settle(chunk: Chunk) -> Outcome:
    """Sum the rewards ``(b, f)`` of a chunk up to each world's end."""
    terminated = np.asarray(chunk.terminated.any(axis=1))
    length = chunk.terminated.shape[1]
    ticks = np.where(terminated, chunk.terminated.argmax(axis=1) + 1, length)
    counts = np.arange(length) < ticks[:, None]
    return Outcome((chunk.rewards * counts).sum(axis=1, dtype=np.float64), terminated, ticks)


def unsure(chunk: Chunk, bound: float | None) -> np.ndarray:
    """Return which worlds are less sure of the chunk than ``bound`` allows, ``bool (b,)``; those that do not say how
    sure they are, such as the reference world, are.
    """
    if bound is None:
        return np.zeros(len(chunk.infos), np.bool_)
    return np.array([info.get("uncertainty", 0.0) > bound for info in chunk.infos], np.bool_)


def step_info(chunk: Chunk, ticks: int, index: int, *, frames: bool) -> dict[str, Any]:
    """Return the ``info`` of world ``index``: the world's own entries and, tick by tick, what the step saw."""
    seen = {"frames": chunk.frames[index].copy()} if frames else {}
    return {
        **chunk.infos[index],
        **seen,
        "tick_rewards": chunk.rewards[index].copy(),
        "tick_terminated": chunk.terminated[index].copy(),
        "ticks": int(ticks),
    }


def reset_info(shown: np.ndarray, start: Start | WorldState, *, frames: bool) -> dict[str, Any]:
    """Return the ``info`` of a reset.

    ``seed`` is the world seed that :class:`~latentcraft.simulator.protocol.Start` was given, -1 if there is none.

    Args:
        shown: the last frames before the first step, ``(f, H, W, 3)``.
        start: of the episode.
        frames: whether they are part of it.
    """
    seed = start.seed if isinstance(start, Start) and start.seed is not None else -1
    return ({"frames": shown.copy()} if frames else {}) | {"seed": seed}
