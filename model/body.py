"""Body: where the player's eye goes under the actions, given what is remembered close by.

The learned physics of walking, jumping, falling, swimming and bumping into things. The net sees the remembered
surroundings as a small block of cubes, so that it can know of the ground under the feet and a wall beside the view; the
speed it came with; and a glance at the picture (water, for one, looks blue). What it says is a step in metres for each
frame. How far the camera turns is learned as a factor, since games agree that it is one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.actions import NUM_BUTTONS
from latentcraft.model.memory import AROUND

STEEPEST = 90.0
"""Largest pitch, degrees either way."""
SPEED_UNIT = 0.2
"""Metres a frame that count as one inside the net; walking is about that fast."""


@dataclass(frozen=True)
class BodyConfig:
    """Shape of the body net."""

    chunk: int = 4
    """Frames in a chunk, ``f``."""
    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    width: int = 256
    """Width of the hidden layers."""
    levels: int = 10
    """Into how many levels the surroundings are cut; more tell better how high the eye is over the ground."""


class Motive(NamedTuple):
    """All the body net is told; leading axis ``k``."""

    surroundings: Tensor
    """``(k, levels, AROUND, AROUND)``, see :meth:`latentcraft.model.memory.Memory.surroundings`."""
    latents: Tensor
    """Of the last frame, ``(k, h, w, c)``."""
    pitch: Tensor
    """Degrees, ``(k,)``."""
    speed: Tensor
    """The last frame's step: right, up and ahead in metres, ``(k, 3)``."""
    actions: Tensor
    """``(k, f, a)``."""


class BodyNet(nn.Module):
    """An MLP from a :class:`Motive` to the coming steps."""

    def __init__(self, config: BodyConfig = BodyConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.gain = nn.Parameter(torch.ones(2))
        width, cells = config.width, config.levels * AROUND**2
        self.near = nn.Linear(cells, width)
        self.rest = nn.Linear(3 * config.channels + 4 + config.chunk * (NUM_BUTTONS + 2), width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.final = nn.Linear(width, 3 * config.chunk)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, motive: Motive) -> tuple[Tensor, Tensor]:
        """Return the steps, fp32 ``(k, f, 3)`` (right, up and ahead in metres, seen from the yaw after turning), and
        the turns, fp32 ``(k, f, 2)`` (pitch, yaw in degrees).
        """
        dtype = self.near.weight.dtype
        turns = motive.actions[..., NUM_BUTTONS:].float() * self.gain.float()
        bands = F.adaptive_avg_pool2d(motive.latents.float().permute(0, 3, 1, 2), (3, 1)).flatten(1)
        told = torch.cat([
            bands, motive.pitch[:, None] / 90, motive.speed / SPEED_UNIT,
            motive.actions[..., :NUM_BUTTONS].flatten(1), motive.actions[..., NUM_BUTTONS:].flatten(1) / 10,
        ], 1)  # fmt: skip
        hidden = self.near(motive.surroundings.flatten(1).to(dtype)) + self.rest(told.to(dtype))
        for layer in self.hidden:
            hidden = hidden + layer(F.silu(hidden))
        steps = self.final(F.silu(hidden)).float().unflatten(1, (self.config.chunk, 3))
        return steps * SPEED_UNIT, turns


def follow(eyes: Tensor, steps: Tensor, turns: Tensor) -> Tensor:
    """Return the eyes ``float64 (k, f, 5)`` that ``steps`` and ``turns`` lead to from ``eyes (k, 5)``."""
    place, yaw, pitch = eyes[:, :3].double(), eyes[:, 3].double(), eyes[:, 4].double()
    path = []
    for step, turn in zip(steps.double().unbind(1), turns.double().unbind(1), strict=True):
        pitch, yaw = (pitch + turn[:, 0]).clamp(-STEEPEST, STEEPEST), yaw + turn[:, 1]
        place = place + to_world(step, yaw)
        path.append(torch.cat([place, yaw[:, None], pitch[:, None]], 1))
    return torch.stack(path, 1)


def to_world(step: Tensor, yaw: Tensor) -> Tensor:
    """Turn (right, up, ahead) ``(k, 3)`` of a body that looks along ``yaw (k,)`` degrees into (x, y, z)."""
    sin, cos = torch.sin(torch.deg2rad(yaw)), torch.cos(torch.deg2rad(yaw))
    right, up, ahead = step.unbind(-1)
    return torch.stack([-cos * right - sin * ahead, up, -sin * right + cos * ahead], -1)


def from_world(step: Tensor, yaw: Tensor) -> Tensor:
    """Undo :func:`to_world`."""
    sin, cos = torch.sin(torch.deg2rad(yaw)), torch.cos(torch.deg2rad(yaw))
    x, y, z = step.unbind(-1)
    return torch.stack([-cos * x - sin * z, y, -sin * x + cos * z], -1)
