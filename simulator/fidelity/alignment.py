"""Image alignment: moving a pose until the reference's picture from it lies on a frame.

Gauss-Newton steps on the pixels (after Lucas and Kanade 1981), the derivatives taken by drawing neighbouring poses. A
few blocks forward look much like a turn when all that shows is far away, so at last the directions are searched in
which the picture changes least.
"""

import math
from dataclasses import dataclass

import numpy as np

from latentcraft.simulator.fidelity.pictures import HUBER, halve, huber, likeness, normalise, smooth
from latentcraft.simulator.fidelity.reference import Reference

STRIDE = np.array([0.1, 0.1, 0.1, 0.7, 0.7])
"""Step of the derivatives (x, y, z in blocks, yaw and pitch in degrees): about a pixel of a frame of half the size."""
_LONGEST = 8.0
"""Strides that one step moves at most."""
_SETTLED = 0.1
"""Strides: a step so small is the last one."""
_DAMPING, _EASIER, _HARDER, _TRIES = 0.01, 3.0, 6.0, 3
"""Levenberg-Marquardt: damping at first, divided after a good step, multiplied after a bad one, and bad ones in a row
at which it ends."""
_RIDGE = 1e-4
"""Share of the mean curvature added in all directions, so that no direction is free."""
_VALLEYS, _VALLEY_STEPS, _VALLEY_ROUNDS, _LAST_STEPS = 2, (-8, -4, -2, -1, 1, 2, 4, 8), 2, 3
"""How many weak directions are searched, where (strides), how often at most, and the steps taken from there."""


class Target:
    """One frame at one resolution, to be compared with the reference's pictures."""

    def __init__(self, reference: Reference, frame: np.ndarray, mask: np.ndarray, drawn: int, halvings: int, blur: int):
        """Compare at ``1 / 2 ** (drawn + halvings)`` of the frame's size.

        Args:
            reference: draws the pictures.
            frame: ``uint8 (H, W, 3)``.
            mask: which of its pixels count, ``float32 (H, W, 1)``.
            drawn: pictures are drawn at ``1 / 2 ** drawn`` of the frame's size.
            halvings: and their pixels averaged so many times: smoother edges, more time.
            blur: passes of smoothing.
        """
        self._reference, self._halvings, self._blur = reference, halvings, blur
        self._size = frame.shape[0] >> drawn, frame.shape[1] >> drawn
        small = frame.astype(np.float32)
        for _ in range(drawn):
            small, mask = halve(small), halve(mask)
        for _ in range(halvings):
            mask = halve(mask)
        self.mask = np.floor(mask)  # a pixel counts if all of it does
        self.picture = self._prepare(small)

    def draw(self, pose: np.ndarray) -> np.ndarray:
        """Return the reference's picture from ``pose``, prepared as the frame is."""
        return self._prepare(self._reference.draw(self._size, pose.tolist()).astype(np.float32))

    def cost(self, picture: np.ndarray) -> float:
        """How unlike a drawn picture is to the frame."""
        return huber(picture, self.picture)

    def likeness(self, picture: np.ndarray) -> float:
        """How like a drawn picture is to the frame, -1 to 1."""
        return likeness(picture, self.picture, self.mask)

    def blocked(self, pose: np.ndarray) -> bool:
        """Whether the eye would be within a block."""
        return self._reference.inside(pose.tolist())

    def slopes(self, pose: np.ndarray, stride: np.ndarray, picture: np.ndarray | None = None) -> np.ndarray:
        """Return how the drawn picture changes per stride in each entry of the pose, ``(5, h * w * 3)``.

        With the ``picture`` of the pose itself only one side is drawn: quicker, less true.
        """
        moves = np.diag(stride)
        if picture is not None:
            return np.stack([(self.draw(pose + move) - picture).ravel() for move in moves])
        return np.stack([(self.draw(pose + move) - self.draw(pose - move)).ravel() / 2 for move in moves])

    def _prepare(self, picture: np.ndarray) -> np.ndarray:
        for _ in range(self._halvings):
            picture = halve(picture)
        return normalise(smooth(picture, self._blur), self.mask)


@dataclass
class Match:
    """A pose and how well it does."""

    cost: float
    pose: np.ndarray
    picture: np.ndarray


def align(target: Target, pose: np.ndarray, stride: np.ndarray, steps: int, *, central: bool = True) -> Match:
    """Take up to ``steps`` damped Gauss-Newton steps from ``pose``; ``central`` differences are truer and dearer."""
    best, damping = attempt(target, pose), _DAMPING
    for _ in range(steps):
        slopes = target.slopes(best.pose, stride, None if central else best.picture)
        residual = (target.picture - best.picture).ravel()
        weights = 1.0 / np.maximum(1.0, np.abs(residual) / HUBER)
        curvature, slope = (slopes * weights) @ slopes.T, slopes @ (weights * residual)
        if not curvature.any():
            break
        moved = 0.0
        for _ in range(_TRIES):
            ridge = damping * np.diag(np.diag(curvature)) + _RIDGE * np.diag(np.full(5, np.trace(curvature) / 5))
            move = np.clip(np.linalg.solve(curvature + ridge, slope), -_LONGEST, _LONGEST)
            tried = attempt(target, best.pose + move * stride)
            if tried.cost < best.cost:
                best, damping, moved = tried, damping / _EASIER, float(np.abs(move).max())
                break
            damping *= _HARDER
        if moved < _SETTLED:
            break
    return best


def along_valleys(target: Target, best: Match) -> Match:
    """Look for better poses in the directions in which the picture changes least."""
    for _ in range(_VALLEY_ROUNDS):
        slopes = target.slopes(best.pose, STRIDE)
        weakest = np.linalg.eigh(slopes @ slopes.T)[1].T[:_VALLEYS]  # eigenvalues ascend
        tries = [attempt(target, best.pose + step * way * STRIDE) for way in weakest for step in _VALLEY_STEPS]
        better = min(tries, key=lambda match: match.cost)
        if better.cost >= best.cost:
            break
        best = align(target, better.pose, STRIDE, _LAST_STEPS)
    return best


def attempt(target: Target, pose: np.ndarray) -> Match:
    """Return the pose with its picture; one within a block costs infinitely much."""
    pose = pose.copy()
    pose[4] = np.clip(pose[4], -90.0, 90.0)
    picture = target.draw(pose)
    return Match(math.inf if target.blocked(pose) else target.cost(picture), pose, picture)
