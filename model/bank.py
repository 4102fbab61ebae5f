"""Bank: pictures of places that were once recorded, to be recalled where a dream would have to invent.

What comes into view is beyond what a small net can draw from nothing: it paints the colours of land and not a land.
So a world carries some thousand recorded pictures with it, as latents of a byte a number, and looks up one that goes
on from what is known (retrieval-augmented diffusion, arXiv 2204.11824; completing a picture from millions of others:
Hays and Efros, "Scene completion using millions of photographs", SIGGRAPH 2007). A picture is recalled together with
the others of its place, so that turning round finds what was really there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.camera import FIELD_OF_VIEW

GRID = (6, 10)
"""Rows and columns of the coarse look by which pictures are compared."""
SCALE = 32.0
"""Of latents in a byte: they have unit RMS over their channels and seldom exceed 4."""
NEAREST, FARTHEST = 0.5, 128.0
"""Metres between which distances are told apart in a look."""
DEPTH_WEIGHT = 0.5
"""Of the logarithm of distance beside a colour's."""
GAIN, TINT = 1.5, 1.06
"""Largest factors by which a picture's brightness is scaled to fit, and a colour of it besides; the inverse of the
least."""
PITCH = 10.0
"""Degrees of difference in pitch that count as much as a tenth of colour everywhere."""
HEADING, OFF = 15.0, 30.0
"""Likewise in heading; and degrees from which on a picture shows too little of the view."""
UNCOMPARED = 0.05
"""Of what counts, what could not be compared."""
ELSEWHERE = 0.05
"""How much known cells count that are not close to unknown ones."""
REACH = 24.0
"""Metres between a picture and others of its place that are recalled with it."""


@dataclass(frozen=True)
class BankConfig:
    """Shape of a bank."""

    frames: int
    """Pictures."""
    grid: tuple[int, int] = (12, 20)
    """Rows and columns of their latents."""
    channels: int = 8
    """Of a latent, ``c``."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UserError(f"a bank holds at least 1 picture, got {self.frames}")


class Match(NamedTuple):
    """The picture that goes on best."""

    picture: int
    """Its number in the bank."""
    mirrored: bool
    """Whether left and right are exchanged; a world has twice as many places so."""
    gain: Tensor
    """By how much its red, green and blue are to be scaled, ``(3,)``."""


class Bank(nn.Module):
    """Pictures with the eyes they were seen from; there is nothing to learn."""

    latents: Tensor
    eyes: Tensor
    places: Tensor
    looks: Tensor

    def __init__(self, config: BankConfig):
        """Make room for it."""
        super().__init__()
        self.config = config
        count = config.frames
        self.register_buffer("latents", torch.zeros(count, *config.grid, config.channels, dtype=torch.int8))
        self.register_buffer("eyes", torch.zeros(count, 5))
        """See :mod:`latentcraft.model.camera`."""
        self.register_buffer("places", torch.zeros(count, dtype=torch.int32))
        """The place that each belongs to; those of one place share their axes."""
        self.register_buffer("looks", torch.zeros(count, *GRID, 4, dtype=torch.uint8))
        """See :func:`look_of`."""
        self._compared: Tensor | None = None

    def decoded(self, index: Tensor) -> Tensor:
        """Return the latents of pictures ``index (k,)``, fp32 ``(k, h, w, c)``."""
        return Autoencoder.normalise(self.latents[index].float() / SCALE)

    def together(self, index: int) -> Tensor:
        """Return picture ``index`` and then the others of its place within :data:`REACH`, ``int64 (k,)``."""
        same = self.places == self.places[index]
        same &= (self.eyes[:, :3] - self.eyes[index, :3]).norm(dim=-1) < REACH
        same[index] = False
        return torch.cat([torch.tensor([index]), torch.nonzero(same).flatten()])

    def match(
        self, look: Tensor, known: Tensor, pitch: float, avoided: Tensor, yaw: float | None = None
    ) -> Match:  # fmt: skip
        """Return the picture that goes on best from what is known, its colours scaled to fit (gain compensation: Brown
        and Lowe, "Automatic panoramic image stitching using invariant features", IJCV 2007).

        Args:
            look: of the view, see :func:`look_of`, ``(rows, columns, 4)``.
            known: how much of each cell is known, ``(rows, columns)``.
            pitch: of the view, degrees.
            avoided: places that are not to be recalled, ``int32 (m,)``.
            yaw: of the view, degrees, where pictures are only turned by quarters: they may look by less than
                :data:`OFF` past it. None: they look the same way in any case.
        """
        if self._compared is None:
            self._compared = self.looks.float() / 255
        weight = closeness(known)
        weight = weight / weight.sum().clamp(min=1e-6)
        tilted = 0.01 * ((self.eyes[:, 4] - pitch) / PITCH).square()
        fresh = ~torch.isin(self.places, avoided)
        if fresh.any():  # a bank of few places repeats itself
            tilted = torch.where(fresh, tilted, torch.inf)
        found = []
        for mirrored in (False, True):
            axes, sign = ((1,), -1) if mirrored else ((), 1)
            seen, counts = look.flip(axes), weight.flip(axes)
            if yaw is None:
                error, gain = compared(seen.flatten(0, 1), counts.flatten(), self._compared.flatten(1, 2))
            else:
                off = (yaw - sign * self.eyes[:, 3] + 45) % 90 - 45
                error, gain = self._beside(seen, counts, sign * off)
                error = torch.where(off.abs() < OFF, error + 0.01 * (off / HEADING).square(), torch.inf)
            cost = error + tilted
            best = int(cost.argmin())
            found.append((float(cost[best]), Match(best, mirrored, gain[best])))
        return min(found, key=lambda pair: pair[0])[1]

    def _beside(self, look: Tensor, weight: Tensor, off: Tensor) -> tuple[Tensor, Tensor]:
        """Do :func:`compared` for pictures that look to the left of the view by ``off (n,)`` degrees, where both show
        the same.
        """
        assert self._compared is not None
        columns = look.shape[1]
        error, gain = torch.full((len(off),), torch.inf), torch.ones(len(off), 3)
        steps = (off / FIELD_OF_VIEW * columns).round().long()
        for step in steps.unique().tolist():
            mine = slice(0, columns - step) if step >= 0 else slice(-step, columns)
            others = slice(step, columns) if step >= 0 else slice(0, columns + step)
            rows, share = (steps == step).nonzero()[:, 0], weight[:, mine].sum()
            told = compared(
                look[:, mine].flatten(0, 1), (weight[:, mine] / share.clamp(min=1e-6)).flatten(),
                self._compared[rows][:, :, others].flatten(1, 2),
            )  # fmt: skip
            error[rows], gain[rows] = told[0] + UNCOMPARED * (1 - share), told[1]
        return error, gain


def compared(look: Tensor, weight: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much ``others (n, cells, 4)`` differ from ``look (cells, 4)``, ``(n,)``, once their colours are scaled
    by a gain, ``(n, 3)``; cells count by ``weight (cells,)``.
    """
    cross = torch.einsum("nkc,kc,k->nc", others, look, weight)
    square = torch.einsum("nkc,k->nc", others.square(), weight).clamp(min=1e-6)
    whole = cross[:, :3].sum(1, keepdim=True) / square[:, :3].sum(1, keepdim=True)
    tint = (cross / square / whole.clamp(min=1e-6)).clamp(1 / TINT, TINT)
    gain = tint * whole.clamp(1 / GAIN, GAIN)
    gain[:, 3] = 1.0
    error = weight @ look.square() - 2 * gain * cross + gain.square() * square
    error = error @ torch.tensor([1.0, 1.0, 1.0, DEPTH_WEIGHT])
    return error + 0.01 * gain[:, :3].log().square().sum(1), gain[:, :3]


def look_of(pictures: Tensor, distances: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return coarse looks ``(k, rows, columns, 4)``, 0 to 1: red, green, blue and the logarithm of distance; and how
    much of each cell is known, ``(k, rows, columns)``.

    Args:
        pictures: ``uint8 (k, H, W, 3)``.
        distances: metres, ``(k, H, W)``.
        known: ``bool (k, H, W)``; what the pictures show elsewhere does not count.
    """
    mask = known.float()
    far = torch.log(torch.where(known, distances, 1.0).clamp(NEAREST, FARTHEST) / NEAREST)
    far = far / torch.log(torch.tensor(FARTHEST / NEAREST))
    channels = torch.cat([pictures.float() / 255, far[..., None]], -1) * mask[..., None]
    share = F.adaptive_avg_pool2d(mask[:, None], GRID)[:, 0]
    sums = F.adaptive_avg_pool2d(channels.permute(0, 3, 1, 2), GRID).permute(0, 2, 3, 1)
    return sums / share[..., None].clamp(min=1e-6), share


def closeness(known: Tensor) -> Tensor:
    """Return how much cells count of which ``known (rows, columns)`` is known: most where the unknown begins."""
    unknown = (1 - known)[None, None]
    near, wide = (F.avg_pool2d(unknown, side, 1, side // 2, count_include_pad=False)[0, 0] for side in (3, 5))
    return known * (ELSEWHERE + near + wide)
