"""Body: where the player's eye goes under the actions, given what is remembered close by.

The learned physics of walking, jumping, falling, swimming and bumping into things, a frame at a time. The net is told
the columns of the remembered surroundings (relief.py), so that it can know of the ground under the feet and a wall
beside the view; the last two steps; how high over the place where it last stood it is, from which it can know how a
jump goes on and where it may end; the buttons, also those held before; and a glance at the picture (water, for one,
looks blue). What it says is a step in metres, and whether there is one at all, upward and along the ground: who stands
must stand to the bit, or ends in the ground after a minute. How far the camera turns is learned as a factor, since
games agree that it is one.

It is always computed in fp32: it is small, and its steps add up.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.actions import NUM_BUTTONS
from latentcraft.model.relief import BANDS, CELLS, FEATURES, Nearby

STEEPEST = 90.0
"""Largest pitch, degrees either way."""
SPEED_UNIT = 0.2
"""Metres a frame that count as one inside the net; walking is about that fast."""
LEVEL = 5e-4
"""Metres of height in a frame up to which one stands, or walks on level ground."""
WAVES = (4.0, 2.0, 1.0, 0.5)
"""Wavelengths (metres) at which the net sees how high it is, so that it can tell heights exactly."""


@dataclass(frozen=True)
class BodyConfig:
    """Shape of the body net."""

    chunk: int = 4
    """Frames in a chunk, ``f``."""
    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    width: int = 128
    """Width of the hidden layers."""
    depth: int = 2
    """Hidden layers."""
    column: int = 8
    """Numbers that a column of the surroundings is made into, alike for all columns."""


class Gait(NamedTuple):
    """How some bodies move, and all that their next step depends on besides the world; leading axis ``k``."""

    eyes: Tensor
    """``float64 (k, 5)``."""
    steps: Tensor
    """The last step and the one before, x, y, z in metres, ``float64 (k, 2, 3)``."""
    stood: Tensor
    """Height (y) of the eye when it last kept its height, ``float64 (k,)``."""
    held: Tensor
    """Buttons of the last action, ``float32 (k, NUM_BUTTONS)``."""

    @classmethod
    def standing(cls, eyes: Tensor) -> "Gait":
        """Return bodies at rest at ``eyes (k, 5)``."""
        eyes, k = eyes.double(), len(eyes)
        return cls(eyes, eyes.new_zeros(k, 2, 3), eyes[:, 1].clone(), torch.zeros(k, NUM_BUTTONS, device=eyes.device))

    def moved(self, eyes: Tensor, action: Tensor) -> "Gait":
        """Return the bodies after ``action (k, a)`` has led them to ``eyes (k, 5)``."""
        step = eyes[:, :3] - self.eyes[:, :3]
        stood = torch.where(step[:, 1].abs() < LEVEL, eyes[:, 1], self.stood)
        return Gait(eyes, torch.stack([step, self.steps[:, 0]], 1), stood, action[:, :NUM_BUTTONS].float())

    def shifted(self, offset: Tensor) -> "Gait":
        """Return the bodies moved as they are by ``offset (k, 3)`` metres."""
        eyes = torch.cat([self.eyes[:, :3] + offset, self.eyes[:, 3:]], 1)
        return self._replace(eyes=eyes, stood=self.stood + offset[:, 1])


class Motive(NamedTuple):
    """All the body net is told; leading axis ``k``."""

    columns: Tensor
    """``(k, CELLS * CELLS, FEATURES)``, see :meth:`latentcraft.model.relief.Nearby.columns`."""
    latents: Tensor
    """Of the last picture, ``(k, h, w, c)``."""
    pitch: Tensor
    """Degrees, ``(k,)``."""
    speeds: Tensor
    """The last two steps: right, up and ahead in metres, ``(k, 2, 3)``."""
    lift: Tensor
    """Metres over where it last stood, ``(k,)``."""
    held: Tensor
    """The buttons before, ``(k, NUM_BUTTONS)``."""
    action: Tensor
    """``(k, a)``."""


class Said(NamedTuple):
    """What the body net says."""

    step: Tensor
    """Right, up and ahead in metres, fp32 ``(k, 3)``, if it moves."""
    moves: Tensor
    """Logits of whether it moves along the ground, and upward or downward, fp32 ``(k, 2)``."""

    def taken(self) -> Tensor:
        """Return the step that is taken, ``(k, 3)``."""
        along, upward = (self.moves > 0).unbind(1)
        return self.step * torch.stack([along, upward, along], 1)


class BodyNet(nn.Module):
    """An MLP, over columns that are each encoded alike, from a :class:`Motive` to the coming step."""

    def __init__(self, config: BodyConfig = BodyConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.gain = nn.Parameter(torch.ones(2))
        width = config.width
        self.column = nn.Linear(FEATURES + 2, 2 * config.column)
        self.column_out = nn.Linear(2 * config.column, config.column)
        self.near = nn.Linear(CELLS**2 * (config.column + 2), width)
        self.rest = nn.Linear(3 * config.channels + 8 + 2 * len(WAVES) + 2 * NUM_BUTTONS + 2, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(config.depth))
        self.final = nn.Linear(width, 5)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def turns(self, actions: Tensor) -> Tensor:
        """Return by how much ``actions (..., a)`` turn the eye: pitch and yaw in degrees, ``(..., 2)``."""
        return actions[..., NUM_BUTTONS:].float() * self.gain

    def forward(self, motive: Motive) -> Said:
        """Say the step."""
        columns, lift = motive.columns, motive.lift.clamp(-8, 4)[:, None]
        known = columns[..., BANDS + 1 : BANDS + 2]
        above = (columns[..., BANDS : BANDS + 1] + lift[:, :, None]) * known  # over where it last stood
        told = torch.cat([columns, above, lift[:, :, None].expand_as(above)], -1)
        encoded = self.column_out(F.silu(self.column(told)))
        near = torch.cat([encoded, columns[..., BANDS : BANDS + 2]], -1).flatten(1)
        phase = 2 * torch.pi * lift / lift.new_tensor(WAVES)
        rest = torch.cat([
            F.adaptive_avg_pool2d(motive.latents.float().permute(0, 3, 1, 2), (3, 1)).flatten(1),
            motive.pitch[:, None] / 90, motive.speeds.flatten(1) / SPEED_UNIT, lift, phase.sin(), phase.cos(),
            motive.held, motive.action[:, :NUM_BUTTONS], motive.action[:, NUM_BUTTONS:] / 10,
        ], 1)  # fmt: skip
        hidden = self.near(near) + self.rest(rest)
        for layer in self.hidden:
            hidden = hidden + layer(F.silu(hidden))
        said = self.final(F.silu(hidden))
        return Said(said[:, :3] * SPEED_UNIT, said[:, 3:])


def motive_of(nearby: Nearby, gait: Gait, latents: Tensor, action: Tensor, turns: Tensor) -> tuple[Motive, Tensor]:
    """Return what the net is told of bodies about to step, and their eyes ``(k, 5)`` turned already.

    Args:
        nearby: what is remembered close by; the tensors may be on another device than the CPU.
        gait: the bodies.
        latents: of the last pictures, ``(k, h, w, c)``.
        action: ``(k, a)``.
        turns: ``(k, 2)``, see :meth:`BodyNet.turns`.
    """
    eyes = gait.eyes.clone()
    eyes[:, 3] += turns[:, 1]
    eyes[:, 4] = (eyes[:, 4] + turns[:, 0]).clamp(-STEEPEST, STEEPEST)
    columns = torch.from_numpy(nearby.columns(eyes.cpu().numpy())).to(latents.device)
    speeds = torch.stack([from_world(step, eyes[:, 3]) for step in gait.steps.unbind(1)], 1).float()
    lift = (eyes[:, 1] - gait.stood).float()
    return Motive(columns, latents, eyes[:, 4].float(), speeds, lift, gait.held, action.float()), eyes


@torch.no_grad()
def walk(net: BodyNet, nearby: Nearby, gait: Gait, latents: Tensor, actions: Tensor) -> Tensor:
    """Return the eyes ``float64 (k, f, 5)`` that ``actions (k, f, a)`` lead bodies to; see :func:`motive_of`."""
    path = []
    for action in actions.unbind(1):
        motive, eyes = motive_of(nearby, gait, latents, action, net.turns(action))
        eyes[:, :3] += to_world(net(motive).taken().double(), eyes[:, 3])
        gait = gait.moved(eyes, action)
        path.append(eyes)
    return torch.stack(path, 1)


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
