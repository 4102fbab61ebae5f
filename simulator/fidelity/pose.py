"""Where a picture was taken: the pose whose reference picture looks most like it.

The reference world draws any pose in under a millisecond, so the pose behind a frame can be searched for: poses
scattered around a guess are compared at a low resolution, the best are aligned with the frame, and the winners once
more at a finer resolution (:mod:`alignment`). Pictures are compared smoothed, with the mean and the contrast of each
taken out and with large differences bounded, so that blur, noise, a shift of colours and a few wrong blocks do little
harm. How like the two are in the end says whether the pose means anything: a dream of another place fits nowhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentcraft.simulator.fidelity.alignment import STRIDE, Match, Target, align, along_valleys, attempt
from latentcraft.simulator.fidelity.pictures import place_mask
from latentcraft.simulator.fidelity.reference import AnyPose, Reference, wrap_blocks, wrap_degrees
from latentcraft.simulator.voxel.game import Pose
from latentcraft.simulator.voxel.physics import look_direction
from latentcraft.simulator.voxel.terrain import MAP_SIZE

FOUND = 0.4
"""Likeness from which on a pose counts as found. Measured on held-out seeds: frames of other places reach 0.32 at their
best pose; frames of the right place 0.99, blurred and noisy 0.98, very blurred and spotted 0.8 to 0.9."""
SURE = 0.95
"""Likeness, coarsely seen, at which a search from the guesses alone is believed."""
_NEAR = 0.4
"""Half of the scattered poses lie within this share of the reach."""
_FIRST_STEPS, _COARSE_STEPS, _FINE_STEPS = 2, 4, 5
"""Steps of alignment of all starts, of the best two, and at the fine resolution; later ones hardly move."""
_CLOSE, _HOPEFUL = 1.15, 0.15
"""The second best is followed if its cost is so near the best's; the best if it looks so much like the frame."""


@dataclass(frozen=True)
class Reach:
    """How far from a guess poses are scattered."""

    yaw: float = 40.0
    """Degrees either way."""
    pitch: float = 20.0
    """Degrees either way."""
    level: float = 3.0
    """Blocks either way in x and in z."""
    height: float = 1.5
    """Blocks up or down."""

    @property
    def box(self) -> np.ndarray:
        """Half sizes in the order of a pose, ``(5,)``."""
        return np.array([self.level, self.height, self.level, self.yaw, self.pitch])


@dataclass(frozen=True)
class Fit:
    """The pose found for a frame."""

    pose: Pose
    likeness: float
    """Correlation of the details of the frame and of the reference's picture, -1 to 1."""

    @property
    def found(self) -> bool:
        """Whether the frame shows the place at all."""
        return self.likeness >= FOUND

    def error(self, true: AnyPose) -> tuple[float, float]:
        """Return the angle between the two views (degrees) and the distance between the two places (blocks)."""
        return view_angle(self.pose, true), distance(self.pose, true)


def view_angle(pose: AnyPose, other: AnyPose) -> float:
    """Angle in degrees between the directions two poses look in."""
    cosine = float(np.dot(look_direction(pose[3], pose[4]), look_direction(other[3], other[4])))
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def displacement(start: AnyPose, end: AnyPose) -> np.ndarray:
    """Return (x, y, z) in blocks from one pose's feet to another's, the short way round the map."""
    moved = np.asarray(end[:3], float) - np.asarray(start[:3], float)
    return np.array([wrap_blocks(moved[0]), moved[1], wrap_blocks(moved[2])])


def distance(pose: AnyPose, other: AnyPose) -> float:
    """Blocks between the feet of two poses."""
    return float(np.linalg.norm(displacement(pose, other)))


def pose_offset(true: AnyPose, found: AnyPose) -> np.ndarray:
    """Return by how much a found pose differs from the true one, ``(5,)``, the short way round."""
    return np.array([*displacement(true, found), wrap_degrees(found[3] - true[3]), found[4] - true[4]])


class PoseFitter:
    """Finds the poses of frames of one size."""

    def __init__(
        self,
        frame_size: tuple[int, int],
        *,
        reach: Reach | None = None,
        samples: int = 192,
        keep: int = 4,
        sure: float = SURE,
    ):
        """Choose how thoroughly to search.

        Args:
            frame_size: (H, W) in pixels, multiples of 16.
            reach: how far from the guesses to look; None takes the usual.
            samples: poses scattered around the guesses, all in all.
            keep: how many of the best are refined.
            sure: likeness, coarsely seen, at which a search from the guesses alone is believed.
        """
        self._keep, self._sure, self._mask = keep, sure, place_mask(frame_size)
        # Half of the poses near the guess, half all over the reach; the same ones for every frame.
        rng = np.random.default_rng(0)
        scattered = rng.uniform(-1.0, 1.0, (samples, 5)) * rng.permuted(np.resize((_NEAR, 1.0), samples))[:, None]
        self._offsets = scattered * (reach or Reach()).box

    def fit(
        self,
        reference: Reference,
        frame: np.ndarray,
        guesses: Sequence[AnyPose],
        *,
        ignore: np.ndarray | None = None,
    ) -> Fit:
        """Find the pose of ``frame``.

        Args:
            reference: the game at the frame's tick: its blocks, light and weather are drawn.
            frame: ``uint8 (H, W, 3)``.
            guesses: poses near which to look, for instance the true one.
            ignore: ``bool (H, W)``, pixels that do not count.
        """
        mask = self._mask if ignore is None else self._mask * ~ignore[..., None]
        coarse, fine = Target(reference, frame, mask, 1, 1, 2), Target(reference, frame, mask, 0, 1, 1)
        starts = [np.array(guess, np.float64) for guess in guesses]
        ends = _refine_coarsely(coarse, starts)
        if not len(self._offsets) or coarse.likeness(ends[0].picture) >= self._sure:
            return _refine_finely(coarse, fine, ends)
        scattered = self._scatter(Target(reference, frame, mask, 2, 0, 1), starts)
        return _refine_finely(coarse, fine, ends + _refine_coarsely(coarse, scattered))

    def _scatter(self, scout: Target, starts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the best of the poses scattered around ``starts``."""
        poses = np.concatenate([start + self._offsets[n :: len(starts)] for n, start in enumerate(starts)])
        poses[:, 4] = np.clip(poses[:, 4], -90.0, 90.0)
        costs = [math.inf if scout.blocked(pose) else scout.cost(scout.draw(pose)) for pose in poses]
        best = np.argsort(costs, kind="stable")[: self._keep]
        return [poses[index] for index in best if costs[index] < math.inf]


def _refine_coarsely(coarse: Target, starts: Sequence[np.ndarray]) -> list[Match]:
    """Take a few steps from all starts and some more from the best two, which are returned, the best first."""
    ends = [align(coarse, start, 2 * STRIDE, _FIRST_STEPS, central=False) for start in starts]
    ends = [align(coarse, end.pose, 2 * STRIDE, _COARSE_STEPS) for end in sorted(ends, key=_by_cost)[:2]]
    return sorted(ends, key=_by_cost)


def _refine_finely(coarse: Target, fine: Target, ends: list[Match]) -> Fit:
    """Refine the best of some coarse poses, and the second if it is nearly as good."""
    ends = sorted(ends, key=_by_cost)[:2]
    if coarse.likeness(ends[0].picture) < _HOPEFUL:  # it fits nowhere, and no step will mend that
        return Fit(_pose_of(ends[0].pose), coarse.likeness(ends[0].picture))
    ends = [align(fine, end.pose, STRIDE, _FINE_STEPS) for end in ends if end.cost < _CLOSE * ends[0].cost]
    best = along_valleys(fine, min(ends, key=_by_cost))
    return Fit(_pose_of(best.pose), fine.likeness(best.picture))


def _pose_of(values: np.ndarray) -> Pose:
    """Return a pose on the map, its yaw from -180 to 180."""
    x, y, z, yaw, pitch = values.tolist()
    return x % MAP_SIZE, y, z % MAP_SIZE, wrap_degrees(yaw), pitch


def _by_cost(match: Match) -> float:
    return match.cost


def likeness_at(reference: Reference, frame: np.ndarray, pose: AnyPose) -> float:
    """Likeness of ``frame uint8 (H, W, 3)`` to the reference's picture from ``pose``, -1 to 1."""
    fine = Target(reference, frame, place_mask(frame.shape[:2]), 0, 1, 1)
    return fine.likeness(fine.draw(np.array(pose, np.float64)))


def fit_along(reference: Reference, frame: np.ndarray, poses: np.ndarray, values: np.ndarray) -> float:
    """Find where on a line of poses a frame was taken: how high in a jump, how far on a way.

    Args:
        reference: the game at the frame's tick.
        frame: ``uint8 (H, W, 3)``.
        poses: ``(k, 5)``, evenly spaced along the line.
        values: ``(k,)`` what each stands for, evenly spaced.

    Returns:
        The value of the best pose, made finer by the parabola through it and its neighbours.
    """
    target = Target(reference, frame, place_mask(frame.shape[:2]), 1, 1, 1)
    costs = np.array([attempt(target, pose).cost for pose in poses])
    at = int(costs.argmin())
    if not 0 < at < len(values) - 1 or not np.isfinite(costs[at - 1 : at + 2]).all():
        return float(values[at])
    left, middle, right = costs[at - 1 : at + 2]
    bend = left - 2 * middle + right
    vertex = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(values[at] + vertex * (values[1] - values[0]))
