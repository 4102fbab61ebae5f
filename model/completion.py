"""Completion: which blocks stand where, from what is remembered (semantic scene completion: Song et al., SSCNet, arXiv
1611.08974).

A small U-Net over the cells around the eye. It sees where remembered surfaces are, roughly, and through which cells one
has looked; it says of every cell which kind of block is there, also behind what was seen. What the kinds look like it
knows as textures.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.errors import UserError
from latentcraft.model.actions import HOTBAR_SLOTS
from latentcraft.model.blockmap import FACES, BlockMap, Looks
from latentcraft.model.blockrays import KIND, TEXELS
from latentcraft.model.camera import BOX
from latentcraft.model.evidence import BELOW, EVIDENCE, corner_of, evidence
from latentcraft.model.marks import PARTS, STAGES, Marks
from latentcraft.model.memory import Memory
from latentcraft.model.points import compiled
from latentcraft.model.relief import AIR, GUESSED

FOLD = 2
"""Cells a side that are folded into channels."""
MIDDLE = (BOX[0] // 2, BELOW, BOX[2] // 2)
"""The eye's own cell in a box."""
BODY = np.array([(-0.29, -1.6, -0.29), (0.29, 0.15, 0.29)])
"""Metres from the eye to the lower and the upper corner of whom it belongs to: where that stands, nothing else does."""
NEAR = ((0, 0, 0), (0, -1, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 0), (0, 0, -1), (0, 0, 1))
"""Of a cell and those around it that are looked at with it, the steps to each."""
HUES, DARKEST = 5, 0.02
"""Numbers of a cell's hue, and the brightness below which there is none."""
FAINT, ENOUGH = 0.2, 0.5
"""Chance from which on a cell may be a thin thing's, and that of it and the cells before and behind together."""


@dataclass(frozen=True)
class CompletionConfig:
    """Shape of the net."""

    kinds: int = 20
    """Kinds of blocks; 0 is air. A map holds :data:`latentcraft.model.blockrays.KIND` at most."""
    width: int = 48
    """Channels, of 2 x 2 x 2 cells each."""
    deep: int = 96
    """Channels of 4 x 4 x 4 cells."""
    place: bool = True
    """Whether the net is told where cells are as seen from the eye: how far away things are is known the least."""
    marks: bool = True
    """Whether it knows what a hand's work looks like."""
    one_by_one: bool = True
    """Whether cells of which a surface is remembered, and those right beside them, are also looked at one by one, with
    the six around each, at their hues. What the net knows of eight cells together are :attr:`width` numbers, too few to
    tell rare kinds: of logs close by it found 2 %, when a classifier of single cells, told that they are blocks, found
    88 %."""

    def __post_init__(self) -> None:
        if not 2 <= self.kinds <= KIND:
            raise UserError(f"completion kinds must be 2 to {KIND}, which a map can tell apart, got {self.kinds}")


class Block3d(nn.Module):
    """A residual block."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.one, self.two = nn.Conv3d(width, width, 3, padding=1), nn.Conv3d(width, width, 3, padding=1)
        assert self.two.bias is not None
        nn.init.zeros_(self.two.weight)
        nn.init.zeros_(self.two.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(F.silu(self.one(F.silu(self.norm(x)))))


class CompletionNet(nn.Module):
    """Says which kind of block is in each cell."""

    palette: Tensor
    """Textures of the kinds' faces in white light, 0 to 1, ``(kinds, FACES, TEXELS, TEXELS, 3)``."""
    lit: Tensor
    """How much of the light the kinds are, 0 to 1, ``(kinds,)``: those that glow are not."""
    placed: Tensor
    """Which kind each of the player's slots places, ``int64 (HOTBAR_SLOTS,)``; 0 where nobody knows."""
    dims: Tensor
    lasts: Tensor
    reach: Tensor
    """These three, see :class:`latentcraft.model.marks.Marks`; missing without :attr:`CompletionConfig.marks`."""

    def __init__(self, config: CompletionConfig = CompletionConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, deep, cells = config.width, config.deep, FOLD**3
        self.stem = nn.Conv3d(EVIDENCE * cells, width, 3, padding=1)
        self.place = None
        if config.place:
            self.place = nn.Conv3d(len(directions()), width, 1, bias=False)
            nn.init.zeros_(self.place.weight)  # so that a net that was trained without it can go on with it
        self.before, self.after = Block3d(width), Block3d(width)
        self.shrink, self.grow = nn.Conv3d(width, deep, 2, stride=2), nn.ConvTranspose3d(deep, width, 2, stride=2)
        self.middle = nn.Sequential(Block3d(deep), Block3d(deep))
        self.final = nn.Conv3d(width, config.kinds * cells, 1)
        self.single = None
        if config.one_by_one:
            last = nn.Linear(deep, config.kinds)
            self.single = nn.Sequential(nn.Linear(len(NEAR) * (EVIDENCE + HUES) + width, deep), nn.SiLU(), last)
            for part in (last.weight, last.bias):
                nn.init.zeros_(part)
        self._looks: Looks | None = None
        self._marks: Marks | None = None
        self.register_buffer("palette", torch.zeros(config.kinds, FACES, TEXELS, TEXELS, 3))
        self.register_buffer("lit", torch.ones(config.kinds))
        self.register_buffer("placed", torch.zeros(HOTBAR_SLOTS, dtype=torch.int64))
        if config.marks:
            self.register_buffer("dims", torch.ones(STAGES, PARTS, PARTS))
            self.register_buffer("lasts", torch.zeros(config.kinds))
            self.register_buffer("reach", torch.zeros(()))

    def forward(self, seen: Tensor) -> Tensor:
        """Return logits ``(k, kinds, *BOX)`` for what is ``seen (k, EVIDENCE, *BOX)``."""
        hidden, logits = self.cells_of(seen)
        logits = unfolded(logits)
        if self.single is not None:
            at, more = self.one_by_one(seen, hidden)
            last = logits.permute(0, 2, 3, 4, 1)  # the cells' axes first
            logits = last.index_put(at.unbind(1), more, accumulate=True).permute(0, 4, 1, 2, 3)
        return logits

    @torch.no_grad()
    def decided(self, seen: Tensor) -> np.ndarray:
        """Return which kinds there are, ``uint8 (k, *BOX)``, for what is ``seen``: the likeliest, where there is rather
        any block than none, or where :func:`keep_thin` says so.
        """
        hidden, folded_logits = self.cells_of(seen)
        logits = folded_logits.unflatten(1, (self.config.kinds, FOLD**3)).float()
        some = torch.from_numpy(logits[:, 1:].cpu().numpy().argmax(1).astype(np.uint8)) + 1  # torch's takes far longer
        kinds = unfolded(some)[:, 0].numpy()
        chance = unfolded(torch.sigmoid(logits[:, 1:].logsumexp(1) - logits[:, 0]).cpu())[:, 0].numpy()
        if self.single is not None:
            at, more = self.one_by_one(seen, hidden)
            k, x, y, z = at.unbind(1)
            part = (x % FOLD * FOLD + y % FOLD) * FOLD + z % FOLD
            told = logits[k, :, part, x // FOLD, y // FOLD, z // FOLD] + more.float()
            where = tuple(at.cpu().numpy().T)
            kinds[where] = told[:, 1:].argmax(1).cpu().numpy() + 1
            chance[where] = torch.sigmoid(told[:, 1:].logsumexp(1) - told[:, 0]).cpu().numpy()
        there = chance > 0.5
        for each, surface, out in zip(chance, seen[:, 0].float().cpu().numpy(), there, strict=True):
            keep_thin(each, surface, np.array(MIDDLE), out)
        decided: np.ndarray = kinds * there
        return decided

    def one_by_one(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells of which a surface is remembered and those beside them, ``int64 (m, 4)``, and what is added
        to their logits, ``(m, kinds)``.
        """
        assert self.single is not None
        surface = seen[:, :1] > 0
        at = is_beside(surface[:, 0]).nonzero()
        k, *where = at.unbind(1)
        told = F.pad(torch.cat([seen, hues_of(seen) * surface], 1), (1,) * 6).permute(0, 2, 3, 4, 1)
        sides = [told[k, *(axis + 1 + step for axis, step in zip(where, steps, strict=True))] for steps in NEAR]
        x, y, z = (axis // FOLD for axis in where)
        more: Tensor = self.single(torch.cat([*sides, hidden[k, :, x, y, z]], 1))
        return at, more

    def cells_of(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is known of each of the folded cells, ``(k, width, X / FOLD, ...)``, and their logits as
        :func:`folded` has them.
        """
        hidden = self.stem(folded(seen))
        if self.place is not None:
            hidden = hidden + self.place(directions().to(hidden)[None])
        hidden = self.before(hidden)
        hidden = self.after(hidden + self.grow(self.middle(self.shrink(hidden))))
        hidden = F.silu(hidden)
        return hidden, self.final(hidden)

    def looks(self) -> Looks:
        """Return the textures in all sizes; made once, when the net is trained."""
        if self._looks is None:
            self._looks = Looks.of(self.palette.float().cpu().numpy(), self.lit.float().cpu().numpy())
        return self._looks

    def marks(self) -> Marks | None:
        """Return what a hand's work looks like; None if nobody has seen enough of it."""
        if self._marks is None and self.config.marks and self.reach > 0 and self.lasts.any():
            dims, lasts = (part.float().cpu().numpy() for part in (self.dims, self.lasts))
            self._marks = Marks(dims, lasts, float(self.reach))
        return self._marks


def directions() -> Tensor:
    """Return the way from the eye to each of the folded cells of a box: x, y and z of its unit vector, and the
    logarithm of its length less 1, ``(4, X / FOLD, Y / FOLD, Z / FOLD)``.
    """
    at = [(torch.arange(side // FOLD) + 0.5) * FOLD - eye - 0.5 for side, eye in zip(BOX, MIDDLE, strict=True)]
    way = torch.stack(torch.meshgrid(*at, indexing="ij"))
    length = way.norm(dim=0, keepdim=True).clamp(min=0.5)
    return torch.cat([way / length, length.log() - 1])


def is_beside(surface: Tensor) -> Tensor:
    """Return which cells touch one of a ``surface``, ``bool (k, *BOX)`` both, or are one."""
    wide: Tensor = F.max_pool3d(surface[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    return wide


def hues_of(seen: Tensor) -> Tensor:
    """Return what tells things apart in whichever light, of evidence ``(k, EVIDENCE, ...)``: each colour's share of the
    brightness, the logarithm of that, and how much it varies beside it; all about -1 to 1. ``(k, HUES, ...)``.
    """
    colours = seen[:, 1:4].float()
    bright = colours.mean(1, keepdim=True).clamp(min=DARKEST)
    parts = torch.cat([2 * (colours / bright - 1), bright.log() + 1.5, 3 * seen[:, 7:8].float() / bright - 0.6], 1)
    return parts.to(seen.dtype)


def folded(cells: Tensor) -> Tensor:
    """Fold ``(k, c, X, Y, Z)`` to ``(k, c * FOLD ** 3, X / FOLD, ...)``."""
    k, c, x, y, z = cells.shape
    parts = cells.reshape(k, c, x // FOLD, FOLD, y // FOLD, FOLD, z // FOLD, FOLD)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(k, c * FOLD**3, x // FOLD, y // FOLD, z // FOLD)


def unfolded(cells: Tensor) -> Tensor:
    """Undo :func:`folded`."""
    k, c, x, y, z = cells.shape
    parts = cells.reshape(k, c // FOLD**3, FOLD, FOLD, FOLD, x, y, z)
    return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(k, c // FOLD**3, x * FOLD, y * FOLD, z * FOLD)


@torch.no_grad()
def complete(net: CompletionNet, memory: Memory, blocks: BlockMap, looks: Looks, eye: np.ndarray) -> None:
    """Bring the map of ``blocks`` around ``eye (5,)`` up to date with what is remembered."""
    corner = corner_of(eye)
    seen = evidence(memory, corner)
    best = net.decided(torch.from_numpy(seen)[None].to(net.palette))[0] + np.uint8(AIR)
    told = (seen[0] > 0) | (seen[9] > 0)
    blocks.follow(eye)
    blocks.looked[:] = *eye, 0
    blocks.learn(corner, np.where(told, best, best | np.uint8(GUESSED)))
    blocks.free(*np.floor(eye[:3] + BODY).astype(np.int64))
    if memory.count:
        blocks.light_up(memory, looks)


@compiled
def keep_thin(chance, surface, middle, there):
    """Let blocks be ``there`` that are likely, but nobody knows how far away: a trunk seen from afar may be in this
    cell or in the one behind, so that it is likely in neither. It is put where it is the likeliest of a ray's.

    Args:
        chance: that there is a block, ``float32 BOX``.
        surface: how much of one is remembered in each cell, likewise; elsewhere nothing is changed.
        middle: the eye's cell, ``(3,)``.
        there: ``bool BOX``, changed.
    """
    for i in range(chance.shape[0]):
        for j in range(chance.shape[1]):
            for k in range(chance.shape[2]):
                own = chance[i, j, k]
                if there[i, j, k] or own < FAINT or surface[i, j, k] <= 0:
                    continue
                x, y, z = float(i - middle[0]), float(j - middle[1]), float(k - middle[2])
                away = np.sqrt(x * x + y * y + z * z)
                if away < 1.5:
                    continue
                most, total = own, own
                for step in (-2, -1, 1, 2):
                    p = int(np.floor(i + 0.5 + step * x / away))
                    q = int(np.floor(j + 0.5 + step * y / away))
                    r = int(np.floor(k + 0.5 + step * z / away))
                    if 0 <= p < chance.shape[0] and 0 <= q < chance.shape[1] and 0 <= r < chance.shape[2]:
                        most = max(most, chance[p, q, r])
                        total += chance[p, q, r] * (abs(step) == 1)
                if own >= most and total > ENOUGH:
                    there[i, j, k] = True
