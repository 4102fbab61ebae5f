"""Where an episode starts and when it ends: rules that the single and the vector environment share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED, Chunk, Start, WorldState

RESET_OPTIONS = ("seed", "episode", "frame", "media", "state")


def choose_start(options: Mapping[str, Any] | None, seed: int | None, rng: np.random.Generator) -> Start | WorldState:
    """Return what ``reset(seed=seed, options=options)`` asks for.

    Args:
        options: keys of :data:`RESET_OPTIONS`. ``seed`` is a world seed that leaves the generator alone; None as
            ``seed`` means a start from nothing (dream only).
        seed: the world seed of a seeded reset.
        rng: gives the world seed when none is asked for; never a held-out one.

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
    if "seed" in options:
        seed = options["seed"]
    elif seed is None:
        seed = int(rng.integers(HELD_OUT_SEED))
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
        raise UserError(f"reset option 'seed' must be a whole number from 0 up, got {seed!r}")
    return Start(
        seed=None if seed is None else int(seed),
        episode=_path(options.get("episode")),
        frame=int(options.get("frame") or 0),
        media=_path(options.get("media")),
    )


def _path(value: Any) -> Path | None:
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


def step_info(chunk: Chunk, ticks: int, index: int) -> dict[str, Any]:
    """Return the ``info`` of world ``index``: the world's own entries and, tick by tick, what the step saw."""
    return {
        **chunk.infos[index],
        "frames": chunk.frames[index].copy(),
        "tick_rewards": chunk.rewards[index].copy(),
        "tick_terminated": chunk.terminated[index].copy(),
        "ticks": int(ticks),
    }


def reset_info(frames: np.ndarray, start: Start | WorldState) -> dict[str, Any]:
    """Return the ``info`` of a reset; ``frames`` ``(f, H, W, 3)`` are the last before the first step.

    ``seed`` is the world seed that :class:`~latentcraft.simulator.protocol.Start` was given, -1 if there is none.
    """
    seed = start.seed if isinstance(start, Start) and start.seed is not None else -1
    return {"frames": frames.copy(), "seed": seed}
