"""Whereabouts: where the goal of a task stands, told by the pictures that a game begins with.

A goal far off is a few pixels. A memory of places keeps them, but how far away a thin thing is nobody knows well: from
close by it was a pale cloud, and nothing told any more that it was a goal. So a net says at the start of a game where
its goal stands; where no picture shows it, it is put where none of them looks, as far away as goals are. There it
stands from then on (standing.py), and what the way to it pays is reckoned from where the eye goes.

Nothing here knows what is paid for what. What a goal looks like, what coming nearer pays, and how near it counts as
reached are seen in recordings (train/goal_search.py). It is always computed in fp32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.blockmap import FACES
from latentcraft.model.blockrays import TEXELS
from latentcraft.model.camera import FIELD_OF_VIEW
from latentcraft.model.outcomes import NEVER, Outcomes, two_hot
from latentcraft.model.rescale import as_wide
from latentcraft.model.standing import SHAPE, Goal
from latentcraft.model.tasks import TASKS

FOLD = 4
"""Pixels a side that are folded into channels; columns of so many are asked whether the goal is there."""
DILATIONS = (1, 2, 4, 1)
"""Of the convolutions."""
OFFSETS = 256
"""Examples of how far away goals are."""
TRIES = 64
"""Places that are tried for a goal that no picture shows."""
BRIGHTNESS = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""
EXACT = 0.004
"""Tangent by which a bearing is never known better: half a pixel of a picture 160 wide."""
SURE = 1e-9
"""Least probability of a bin, so that logits stay finite."""


@dataclass(frozen=True)
class WhereaboutsConfig:
    """Shape of the net."""

    width: int = 32
    """Of its convolutions."""
    columns: int = 96
    """Of its layers that see columns of the picture."""
    field_of_view: float = FIELD_OF_VIEW
    """Horizontal, degrees."""
    picture: int | None = None
    """Width of the pictures it has learned from; others are brought to it: how many pixels a goal takes up tells how
    far away it is. None takes all as they are."""


class Told(NamedTuple):
    """What pictures tell of a goal: in which of ``n`` columns it is, and where in each, if it is there."""

    logits: Tensor
    """``(k, n + 1)``; the last: it is not in the picture."""
    place: Tensor
    """Mean and logarithm of the standard deviation of where in the column it is, -0.5 to 0.5, of the logarithm of its
    distance on the ground, and of how much higher than the eye its lowest block begins, by that distance; ``(k, 3, 2,
    n)``."""


class WhereaboutsNet(nn.Module):
    """From pictures to where a goal is in them."""

    by_place: Tensor
    """Tasks whose goal this is, ``bool (tasks,)``."""
    prize: Tensor
    """What reaching it pays, ``(tasks,)``."""
    rate: Tensor
    """What a metre nearer pays, ``(tasks,)``."""
    reach: Tensor
    """Metres on the ground from which on it is reached, ``(tasks,)``."""
    shape: Tensor
    """Its blocks, ``bool SHAPE``, see :class:`latentcraft.model.standing.Goal`."""
    palette: Tensor
    """Their faces' textures, see :class:`latentcraft.model.completion.CompletionNet`, ``(FACES, TEXELS, TEXELS, 3)``.
    """
    lit: Tensor
    """How much of the light they are, ``()``."""
    offsets: Tensor
    """Examples of goals: metres away on the ground, and higher than the eye, ``(OFFSETS, 2)``."""

    def __init__(self, config: WhereaboutsConfig = WhereaboutsConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, columns = config.width, config.columns
        self.stem = nn.Conv2d(3 * FOLD**2 + 2, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in DILATIONS)
        self.ask = nn.Conv2d(width, width, 1)
        self.join = nn.Conv1d(3 * width, columns, 5, padding=2)
        self.last = nn.Conv1d(columns, columns, 5, padding=2)
        self.say = nn.Conv1d(columns, 7, 1)
        self.nowhere = nn.Linear(2 * columns, 1)
        self.register_buffer("by_place", torch.zeros(len(TASKS), dtype=torch.bool))
        for name in ("prize", "rate", "reach"):
            self.register_buffer(name, torch.zeros(len(TASKS)))
        self.register_buffer("shape", torch.zeros(SHAPE, dtype=torch.bool))
        self.register_buffer("palette", torch.zeros(FACES, TEXELS, TEXELS, 3))
        self.register_buffer("lit", torch.zeros(()))
        self.register_buffer("offsets", torch.zeros(OFFSETS, 2))

    def forward(self, pictures: Tensor, pitches: Tensor) -> Told:
        """Tell of pictures.

        Args:
            pictures: ``(k, 3, H, W)``, -1 to 1; H and W multiples of :data:`FOLD`.
            pitches: how steeply they look down, degrees, ``(k,)``.
        """
        folded = F.pixel_unshuffle(as_filmed(pictures.float()), FOLD)
        k, _, h, w = folded.shape
        rows = torch.linspace(-1, 1, h, device=folded.device)[None, None, :, None].expand(k, 1, h, w)
        tilt = (pitches.float() / 45)[:, None, None, None].expand(k, 1, h, w)
        hidden = F.silu(self.stem(torch.cat([folded, rows, tilt], 1)))
        for layer in self.layers:
            hidden = hidden + F.silu(layer(hidden))
        heed = self.ask(hidden).softmax(2)  # each feature, where in the column it is the strongest
        seen = torch.cat([(heed * hidden).sum(2), hidden.amax(2), (heed * rows).sum(2)], 1)
        columns = F.silu(self.join(seen))
        columns = columns + F.silu(self.last(columns))
        said = self.say(columns)
        nowhere = self.nowhere(torch.cat([columns.mean(2), columns.amax(2)], 1))
        return Told(torch.cat([said[:, 0], nowhere], 1), said[:, 1:].unflatten(1, (3, 2)))

    def goal(self) -> Goal:
        """Return what a goal looks like."""
        return Goal.of(self.shape.cpu().numpy(), self.palette.cpu().numpy(), float(self.lit))

    @torch.no_grad()
    def draw(self, pictures: np.ndarray, eyes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the cell ``int64 (3,)`` in which the lowest block of a goal stands.

        It is where the picture that shows it the best has it, with the chance that it is there; else anywhere that no
        picture looks at.

        Args:
            pictures: that a game begins with, ``uint8 (k, H, W, 3)``.
            eyes: where they were seen from, ``(k, 5)``; around the last one a goal is put that none shows.
            generator: decides.
        """
        seen = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).to(self.lit) / 127.5 - 1
        told = self(as_wide(seen, self.config.picture, FOLD), torch.from_numpy(eyes[:, 4]).to(self.lit))
        chances = told.logits.softmax(1).cpu().numpy()
        there = 1 - chances[:, -1]
        best = int(np.flatnonzero(there >= 0.9 * there.max())[-1])
        if generator.random() < there[best]:
            column, columns = int(chances[best, :-1].argmax()), chances.shape[1] - 1
            wide = math.tan(math.radians(self.config.field_of_view / 2))
            mean, spread = told.place[best, :, :, column].double().cpu().numpy().T
            across, off = (column + 0.5 + mean[0]) / columns * 2 - 1, math.exp(spread[0]) / columns * 2
            return likeliest_cell(
                eyes[best], np.array([across * wide, mean[1], mean[2]]),
                np.array([max(off * wide, EXACT), math.exp(spread[1]), math.exp(spread[2])]),
            )  # fmt: skip
        offsets, cell = self.offsets.cpu().numpy(), np.zeros(3, np.int64)
        for _ in range(TRIES):
            away, height = offsets[generator.integers(len(offsets))].tolist()
            cell = cell_at(eyes[-1], generator.uniform(-math.pi, math.pi), away, height)
            if not any(abs(bearing(cell, eye)) < math.radians(self.config.field_of_view / 2) for eye in eyes):
                break
        return cell

    def settled(
        self, outcomes: Outcomes, goals: Sequence[np.ndarray | None], paths: Sequence[np.ndarray | None], task: Tensor
    ) -> Outcomes:  # fmt: skip
        """Return ``outcomes`` of chunks with what the way pays, and where it ends, in place of them, in worlds whose
        goal is known.

        Args:
            outcomes: what others say, ``(b, f, ...)``.
            goals: the cell of each, ``int64 (3,)``; None where nobody knows.
            paths: where eyes were before the chunk and in each of its frames, ``(f + 1, 5)``; None likewise.
            task: ``int64 (b,)``.
        """
        mine = self.by_place[task].tolist()
        reward, terminated = outcomes.reward.clone(), outcomes.terminated.clone()
        for world, (goal, path) in enumerate(zip(goals, paths, strict=True)):
            if goal is None or path is None or not mine[world]:
                continue
            away = torch.from_numpy(distances_on_ground(goal, path)).to(reward.device, torch.float32)
            reached = away[1:] <= self.reach[task[world]]
            paid = self.rate[task[world]] * (away[:-1] - away[1:]) + self.prize[task[world]] * reached
            reward[world] = two_hot(paid).clamp_min(SURE).log().to(reward.dtype)
            terminated[world] = torch.where(reached, NEVER, -NEVER).to(terminated.dtype)
        return Outcomes(reward, terminated)


def as_filmed(pictures: Tensor) -> Tensor:
    """Return ``pictures (k, 3, H, W)`` with colours at half their resolution, as films have them (4:2:0).

    Recordings are films. In a game's own pictures thin stripes far off were so vivid that towers were taken to be a
    fifth nearer.
    """
    weight = torch.tensor(BRIGHTNESS, device=pictures.device)[None, :, None, None]
    bright = (pictures * weight).sum(1, keepdim=True)
    colours = F.avg_pool2d(pictures - bright, 2)
    return bright + F.interpolate(colours, scale_factor=2.0, mode="bilinear")


def bearing(cell: np.ndarray, eye: np.ndarray) -> float:
    """Return how far to the right of where ``eye (5,)`` looks the middle of a ``cell (3,)`` is, radians."""
    x, z, yaw = cell[0] + 0.5 - eye[0], cell[2] + 0.5 - eye[2], math.radians(eye[3])
    right, ahead = -math.cos(yaw) * x - math.sin(yaw) * z, -math.sin(yaw) * x + math.cos(yaw) * z
    return math.atan2(right, ahead)


def cell_at(eye: np.ndarray, angle: float, away: float, higher: float) -> np.ndarray:
    """Return the cell ``int64 (3,)`` so far ``away`` on the ground at an ``angle`` to the right of where ``eye (5,)``
    looks, radians, whose lower side is so much ``higher`` than it.
    """
    way = math.radians(eye[3]) + angle
    x, z = eye[0] - math.sin(way) * away, eye[2] + math.cos(way) * away
    return np.array([math.floor(x), round(eye[1] + higher), math.floor(z)], np.int64)


def likeliest_cell(eye: np.ndarray, said: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the cell ``int64 (3,)`` that fits best what is ``said (3,)`` of it as seen from ``eye (5,)``, give or take
    ``spread (3,)``: the tangent of its bearing, the logarithm of how far away it is on the ground, and how much higher
    it is by that distance.
    """
    away = math.exp(said[1])
    middle = cell_at(eye, math.atan(said[0]), away, said[2] * away)
    reach = 1 + math.ceil(min(2 * spread[1], 0.3) * away)
    step = np.arange(-reach, reach + 1)
    x, z = np.meshgrid(middle[0] + step, middle[2] + step, indexing="ij")
    yaw, east, south = math.radians(eye[3]), x + 0.5 - eye[0], z + 0.5 - eye[2]
    right, ahead = -math.cos(yaw) * east - math.sin(yaw) * south, -math.sin(yaw) * east + math.cos(yaw) * south
    far = np.maximum(np.hypot(east, south), 0.5)
    y = np.rint(eye[1] + said[2] * far)
    told = np.stack([right / np.maximum(ahead, 0.1), np.log(far), (y - eye[1]) / far])
    off = np.square((told - said[:, None, None]) / spread[:, None, None]).sum(0)
    best = np.unravel_index(int(off.argmin()), off.shape)
    return np.array([x[best], y[best], z[best]]).astype(np.int64)


def distances_on_ground(goal: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Return how far ``eyes (..., 5)`` are from the middle of a ``goal`` cell on the ground, metres, ``(...)``."""
    away: np.ndarray = np.hypot(eyes[..., 0] - goal[0] - 0.5, eyes[..., 2] - goal[2] - 0.5)
    return away
