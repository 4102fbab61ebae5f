"""Drift: how far the pose a world shows strays from the true one while the player strolls about."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from latentcraft.simulator.fidelity.courses import stroll
from latentcraft.simulator.fidelity.lanes import side_by_side
from latentcraft.simulator.fidelity.pose import PoseFitter, Reach, pose_offset
from latentcraft.simulator.fidelity.reference import Reference

LOST_DEGREES, LOST_BLOCKS = Reach().yaw, Reach().level
"""What a frame that fits nowhere counts as, and larger errors with it: as far as was searched."""
_NUDGE = np.array([0.4, 0.0, -0.3, 4.0, 2.0])
_TRUE_DEGREES, _TRUE_BLOCKS = 1.0, 0.25
"""A moment serves if the reference's own frame is found so truly from a guess off by the nudge."""


@dataclass(frozen=True, eq=False)
class Stroll:
    """A game of the drift measurement."""

    seed: int
    actions: np.ndarray
    """``float32 (T, 20)``."""
    serves: tuple[bool, ...]
    """For each tick at which it is looked at, whether the true frame says where it was taken."""


@lru_cache(maxsize=4)
def find_strolls(
    first_seed: int, count: int, ticks: tuple[int, ...], frame_size: tuple[int, int], chunk: int
) -> tuple[Stroll, ...]:
    """Return the strolls of ``count`` seeds, looked at after ``ticks``, in worlds of that shape."""
    fitter = PoseFitter(frame_size)

    def find(seed: int) -> Stroll:
        game = Reference(seed, chunk=chunk)
        actions, serves, played = stroll(game, ticks[-1]), [], 0
        for tick in ticks:
            game.play(actions[played:tick])
            played = tick
            degrees, blocks = fitter.fit(game, game.draw(frame_size), [game.pose + _NUDGE]).error(game.pose)
            serves.append(degrees <= _TRUE_DEGREES and blocks <= _TRUE_BLOCKS)
        return Stroll(seed, actions, tuple(serves))

    return tuple(side_by_side(find, range(first_seed, first_seed + count)))


def drift(fitter: PoseFitter, played: Stroll, frames: np.ndarray, ticks: Sequence[int], chunk: int) -> np.ndarray:
    """Return degrees, blocks and whether lost at each tick, ``float64 (len(ticks), 3)``; NaN where no frame could tell.

    Args:
        fitter: finds poses.
        played: the game.
        frames: ``uint8 (len(ticks), H, W, 3)``.
        ticks: at which the frames were taken, ascending.
        chunk: frames in a chunk.
    """
    game, done = Reference(played.seed, chunk=chunk), 0
    offset, errors = np.zeros(5), np.full((len(ticks), 3), np.nan)
    for number, (tick, frame) in enumerate(zip(ticks, frames, strict=True)):
        game.play(played.actions[done:tick])
        done = tick
        if not played.serves[number]:
            continue
        # A dream that was off goes on from there.
        guesses = [game.pose] if not offset.any() else [game.pose, tuple(game.pose + offset)]
        fit = fitter.fit(game, frame, guesses)
        degrees, blocks = fit.error(game.pose) if fit.found else (np.inf, np.inf)
        errors[number] = min(degrees, LOST_DEGREES), min(blocks, LOST_BLOCKS), not fit.found
        if fit.found:
            offset = pose_offset(game.pose, fit.pose)
    return errors
