"""Matter: what a cell of the world looks like after a hand has dug it out or filled it.

Where a hand changed something, nothing that was seen before helps, and whatever is drawn there will be looked at from
all sides. So it is not drawn as a picture of one moment but as the *faces* of the cell: a net says of each what its
texture is and whether there is one at all, and cameras meet them wherever they are (a neural texture: Thies et al.,
arXiv 1904.12356). What fills a cell shows its outside; of one that was dug out the far inside is seen, if its neighbour
is solid there.

The net is told what lies around the cell, as far as that is in view, and which of the player's blocks is in the hand.
Of these it also knows the look in the hand, a corner of the picture that moves with the lens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentcraft.model.actions import CHANGES, HOTBAR_SLOTS
from latentcraft.model.aim import AimNet, laid_out
from latentcraft.model.blockmap import FACES
from latentcraft.model.blockrays import TEXELS
from latentcraft.model.cells import slabs

SAMPLES = 4
"""Points along a side of a cell at which its surroundings are looked at, in the planes of its faces."""
WINDOW = 3 * SAMPLES
"""Such points along a side of what is looked at: the cell and its neighbours."""
WHOLE = (6, 10)
"""Rows and columns that the whole view is averaged to."""
PARTS = 8
"""Along each side of the block in the hand by whose mean colours it is known."""
LIGHTS = (0.1, 1.5)
"""Bounds of the light in which a block is held, beside the average one."""
ALIKE = 0.12
"""Difference in the logarithm of distance up to which a point counts as seen."""


@dataclass(frozen=True)
class MatterConfig:
    """Shape of the net."""

    width: int = 256
    """Of what is said of a cell before its faces are drawn."""
    channels: int = 32
    """Of the convolutions that draw a face, at their coarsest."""
    sprite: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Where in a frame of :attr:`frame_size` the block in the hand is: top, left, height, width; empty for none."""
    frame_size: tuple[int, int] = (96, 160)
    """(H, W)."""
    swing: int = 1
    """Ticks of a swing of the hand; 1: it does not move."""
    placing_swings: bool = False
    """Whether a swing begins also when something is placed."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MatterConfig":
        """Undo ``dataclasses.asdict``, also after a detour through JSON."""
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**told)


class Crossing(NamedTuple):
    """Where rays meet the faces of a cell."""

    distance: np.ndarray
    """Metres, ``float64 (...)``, infinite where they miss it."""
    face: np.ndarray
    """Which, ``int64 (...)``."""
    place: np.ndarray
    """Where on it, 0 to 1 along the two axes it lies in, ``float64 (2, ...)``."""


def crossings(corner: np.ndarray, ways: np.ndarray) -> tuple[Crossing, Crossing]:
    """Return where rays enter a cell and where they leave it.

    Args:
        corner: from the eye to the cell's lower corner, ``(3,)`` metres.
        ways: unit vectors in the world's axes, ``(3, ...)``.
    """
    first, last = slabs(corner, ways)
    low = corner.reshape(3, *[1] * (ways.ndim - 1))
    meets = (first.max(0) < last.min(0)) & (last.min(0) > 0)
    found = []
    for along, axis, beyond in ((first.max(0), first.argmax(0), ways < 0), (last.min(0), last.argmin(0), ways > 0)):
        upper = np.take_along_axis(beyond, axis[None], 0)[0]
        inside = np.clip(ways * along - low, 0, 1 - 1e-6)
        place = np.stack([np.where(axis == 0, inside[1], inside[0]), np.where(axis == 2, inside[1], inside[2])])
        found.append(Crossing(np.where(meets, along, np.inf), 2 * axis + upper, place))
    return found[0], found[1]


def surroundings(
    picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, corner: np.ndarray, field_of_view: float
) -> np.ndarray:
    """Return what is seen in the planes of a cell's faces, on it and its neighbours, ``float32 (FACES, WINDOW, WINDOW,
    4)``: colours, 0 to 1, and whether anything is seen there.

    Args:
        picture: ``uint8 (H, W, 3)``.
        distance: of it, metres, ``(H, W)``; 0 or infinite where nothing is known.
        eye: where it is seen from, ``(5,)``.
        corner: the cell's lower one, ``(3,)``.
        field_of_view: horizontal, degrees.
    """
    planes = np.repeat(np.arange(3), 2)
    corners = corner + np.tile([0, 1], 3)[:, None] * np.eye(3)[planes]
    colours, known, off = laid_out(picture, distance, eye, corners, planes, SAMPLES, field_of_view)
    seen = np.concatenate([colours / 255.0, np.ones((*known.shape, 1))], -1)
    return (seen * (known & (np.abs(off) < ALIKE))[..., None]).astype(np.float32)


def overview(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return a view's mean colours, 0 to 1, and how much of it is known, ``float32 (*WHOLE, 4)``."""
    height, width = known.shape
    rows, columns = WHOLE
    seen = np.concatenate([picture / 255.0, np.ones((height, width, 1))], -1) * known[..., None]
    down, right = ((np.arange(n + 1) * size) // n for n, size in ((rows, height), (columns, width)))
    total = np.add.reduceat(np.add.reduceat(seen, down[:-1], 0), right[:-1], 1)
    count = np.outer(np.diff(down), np.diff(right))[..., None]
    share = total[..., 3:] / count
    return np.concatenate([total[..., :3] / np.maximum(total[..., 3:], 1), share], -1).astype(np.float32)


class MatterNet(nn.Module):
    """Says what the faces of changed cells look like."""

    sprites: Tensor
    """The player's blocks as they look in the hand, 0 to 1, ``(HOTBAR_SLOTS, 3, height, width)``."""
    shape: Tensor
    """Where in that part of the frame they are, 0 or 1, ``(height, width)``."""
    swing: Tensor
    """By how many pixels they are lower and farther right in each tick of a swing, the first at rest, ``(ticks, 2)``.
    """

    def __init__(self, config: MatterConfig = MatterConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, channels = config.width, config.channels
        self.look = nn.Sequential(
            nn.Conv2d(4, 32, 3, 2, padding=1), nn.SiLU(), nn.Conv2d(32, 48, 3, 2, padding=1), nn.SiLU(), nn.Flatten()
        )
        seen = 48 * (WINDOW // 4) ** 2
        self.read = nn.Linear(seen, 64)
        told = FACES * 64 + 4 * math.prod(WHOLE) + len(CHANGES) + HOTBAR_SLOTS
        self.think = nn.Sequential(nn.Linear(told, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.side = nn.Embedding(FACES * len(CHANGES), width)
        self.begin = nn.Linear(width + 64, channels * 16)
        self.grow = nn.ModuleList([
            nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.Conv2d(channels // 2, channels // 2, 3, padding=1),
        ])  # fmt: skip
        self.write = nn.Conv2d(channels // 2, 4, 3, padding=1)
        self.pattern = nn.Parameter(torch.zeros(HOTBAR_SLOTS, FACES, 3, TEXELS, TEXELS))
        """Of the player's blocks, logarithms of what their colours are in a white light."""
        self.light = nn.Linear(width + 64, 3)
        self.aim = AimNet()
        """Says where the hand works."""
        self._held: dict[tuple[tuple[int, int], int, int], tuple[np.ndarray, Tensor]] = {}
        self._around: dict[tuple[int, int], np.ndarray] = {}
        height, wide = config.sprite[2:]
        self.register_buffer("sprites", torch.zeros(HOTBAR_SLOTS, 3, height, wide))
        self.register_buffer("shape", torch.zeros(height, wide))
        self.register_buffer("swing", torch.zeros(config.swing, 2), persistent=config.swing > 1)

    def forward(self, around: Tensor, whole: Tensor, kind: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Return the colours of faces ``(k, FACES, 3, TEXELS, TEXELS)``, 0 to 1 or a little beyond, and the logit of
        whether there is one, ``(k, FACES, TEXELS, TEXELS)``.

        Args:
            around: see :func:`surroundings`, ``(k, FACES, WINDOW, WINDOW, 4)``.
            whole: see :func:`overview`, ``(k, *WHOLE, 4)``.
            kind: which of :data:`CHANGES`, ``int64 (k,)``.
            slot: the block in the hand, ``int64 (k,)``.
        """
        k = len(around)
        seen = self.read(self.look(rearrange(around, "k e h w c -> (k e) c h w"))).unflatten(0, (k, FACES))
        kinds, slots = F.one_hot(kind, len(CHANGES)).float(), F.one_hot(slot, HOTBAR_SLOTS).float()
        slots = slots * (kind == CHANGES.index("placed"))[:, None]
        thought = self.think(torch.cat([seen.flatten(1), whole.flatten(1), kinds, slots], 1))
        sides = self.side(kind[:, None] * FACES + torch.arange(FACES, device=kind.device))
        told = torch.cat([F.silu(thought[:, None] + sides), seen], -1)
        hidden = self.begin(told).view(k * FACES, -1, 4, 4)
        for number, layer in enumerate(self.grow):
            if number:
                hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = F.silu(layer(hidden))
        drawn = self.write(hidden).unflatten(0, (k, FACES))
        colours = 0.5 + drawn[:, :, :3]
        lit = torch.exp(self.light(told)[..., None, None] + self.pattern[slot])
        placed = (kind == CHANGES.index("placed"))[:, None, None, None, None]
        return torch.where(placed, lit + drawn[:, :, :3], colours), drawn[:, :, 3]

    def show_in_hand(self, shape: Tensor, looks: Tensor) -> None:
        """Take over where the block in the hand is in frames of the configured size, ``bool (H, W)``, and what the
        player's blocks look like there, ``(HOTBAR_SLOTS, 3, H, W)``, 0 to 1.
        """
        if not shape.any():
            return
        self._held.clear()
        self._around.clear()
        rows, columns = shape.nonzero().unbind(1)
        top, left = int(rows.min()), int(columns.min())
        tall, wide = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
        frame_size = (shape.shape[0], shape.shape[1])
        self.config = replace(self.config, sprite=(top, left, tall, wide), frame_size=frame_size)
        self.shape = shape[top : top + tall, left : left + wide].float()
        self.sprites = looks[:, :, top : top + tall, left : left + wide].float().contiguous()

    def in_frame(self, frame_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return where the block in the hand is in pictures of that (H, W), ``bool (H, W)``, and what they look like
        there, ``(HOTBAR_SLOTS, 3, H, W)`` from -1 to 1.
        """
        (height, width), (top, left, tall, wide) = self.config.frame_size, self.config.sprite
        shape, looks = self.shape.new_zeros(height, width), self.sprites.new_zeros(HOTBAR_SLOTS, 3, height, width)
        shape[top : top + tall, left : left + wide] = self.shape
        looks[:, :, top : top + tall, left : left + wide] = self.sprites
        if frame_size != (height, width):
            shape = F.interpolate(shape[None, None], frame_size, mode="nearest-exact")[0, 0]
            looks = F.interpolate(looks, frame_size, mode="nearest-exact")
        return shape > 0.5, 2 * looks - 1

    def take_swing(self, swing: Tensor, *, placing: bool) -> None:
        """Take over how the hand swings, ``(ticks, 2)``, and whether also when it places something."""
        self.config = replace(self.config, swing=len(swing), placing_swings=placing)
        self._held.clear()
        self._around.clear()
        self.register_buffer("swing", swing.float().to(self.shape.device), persistent=len(swing) > 1)

    def held(self, frame_size: tuple[int, int], slot: int, tick: int) -> tuple[np.ndarray, Tensor]:
        """Return where the block in the hand is in a tick of a swing, ``bool (H, W)``, and how bright that of a slot is
        there, ``(3, H, W)`` from 0 to 2; made once, when the net is trained.
        """
        key = (frame_size, slot, tick)
        if key not in self._held:
            shape, looks = self.in_frame(frame_size)
            by = self.swung(frame_size)[tick]
            self._held[key] = moved(shape, by).cpu().numpy(), moved(looks[slot] + 1, by)
        return self._held[key]

    def swung(self, frame_size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return by how many pixels of pictures of that (H, W) the block in the hand is lower and farther right in each
        tick of a swing.
        """
        scale = (frame_size[0] / self.config.frame_size[0], frame_size[1] / self.config.frame_size[1])
        return [(round(down * scale[0]), round(right * scale[1])) for down, right in self.swing.tolist()]

    def around(self, frame_size: tuple[int, int]) -> np.ndarray:
        """Return where it is at any time, and a pixel around, ``bool (H, W)``; made once, when the net is trained."""
        if frame_size not in self._around:
            shape, _ = self.in_frame(frame_size)
            whole = torch.stack([moved(shape, move) for move in self.swung(frame_size)]).any(0)
            self._around[frame_size] = (F.max_pool2d(whole[None].float(), 3, 1, 1)[0] > 0).cpu().numpy()
        return self._around[frame_size]

    def unlike(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much what is in the hand in pictures ``(k, 3, H, W)`` differs from each of the player's blocks, in
        the light that fits best, in the mean colours of its parts, ``(k, HOTBAR_SLOTS)``: 0 to 2, and 2 where their
        looks are not known; and how bright that light is, 1 being the average, likewise.
        """
        shape, looks = self.in_frame((picture.shape[2], picture.shape[3]))
        rows, columns = shape.nonzero().unbind(1)
        if not len(rows):
            nothing = torch.full((len(picture), HOTBAR_SLOTS), 2.0, device=picture.device)
            return nothing, torch.ones_like(nothing)
        box = slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)
        inside = shape[box].float()

        def parts(pictures: Tensor) -> Tensor:
            return F.adaptive_avg_pool2d((pictures[..., box[0], box[1]].float() + 1) * inside, PARTS)

        share, seen, own = F.adaptive_avg_pool2d(inside[None], PARTS), parts(picture)[:, None], parts(looks)[None]
        light = (seen * own).sum((2, 3, 4)) / own.square().sum((2, 3, 4)).clamp(min=1e-6)
        light = light.clamp(*LIGHTS)
        off = (seen / light[..., None, None, None] - own).abs().sum((2, 3, 4))
        return off / (3 * share.sum()), light


def moved(picture: Tensor, by: tuple[int, int]) -> Tensor:
    """Return a ``picture (..., H, W)`` moved down and right by so many pixels; zeros come in."""
    (down, right), (height, width) = by, picture.shape[-2:]
    out = torch.zeros_like(picture)
    out[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = picture[
        ..., max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return out
