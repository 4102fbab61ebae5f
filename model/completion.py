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
from latentcraft.model.blockmap import AIR, FACES, GUESSED, KIND, TEXELS, BlockMap, Looks
from latentcraft.model.evidence import EVIDENCE, corner_of, evidence
from latentcraft.model.memory import Memory

FOLD = 2
"""Cells a side that are folded into channels."""


@dataclass(frozen=True)
class CompletionConfig:
    """Shape of the net."""

    kinds: int = 20
    """Kinds of blocks; 0 is air. A map holds :data:`latentcraft.model.blockmap.KIND` at most."""
    width: int = 48
    """Channels, of 2 x 2 x 2 cells each."""
    deep: int = 96
    """Channels of 4 x 4 x 4 cells."""

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

    def __init__(self, config: CompletionConfig = CompletionConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, deep, cells = config.width, config.deep, FOLD**3
        self.stem = nn.Conv3d(EVIDENCE * cells, width, 3, padding=1)
        self.before, self.after = Block3d(width), Block3d(width)
        self.shrink, self.grow = nn.Conv3d(width, deep, 2, stride=2), nn.ConvTranspose3d(deep, width, 2, stride=2)
        self.middle = nn.Sequential(Block3d(deep), Block3d(deep))
        self.final = nn.Conv3d(width, config.kinds * cells, 1)
        self._looks: Looks | None = None
        self.register_buffer("palette", torch.zeros(config.kinds, FACES, TEXELS, TEXELS, 3))
        self.register_buffer("lit", torch.ones(config.kinds))
        self.register_buffer("placed", torch.zeros(HOTBAR_SLOTS, dtype=torch.int64))

    def forward(self, seen: Tensor) -> Tensor:
        """Return logits ``(k, kinds, *BOX)`` for what is ``seen (k, EVIDENCE, *BOX)``."""
        return unfolded(self.cells_of(seen))

    def likeliest(self, seen: Tensor) -> np.ndarray:
        """Return the likeliest kinds ``uint8 (k, *BOX)`` for what is ``seen``."""
        logits = self.cells_of(seen).unflatten(1, (self.config.kinds, FOLD**3)).float().cpu().numpy()
        return unfolded(torch.from_numpy(logits.argmax(1).astype(np.uint8)))[:, 0].numpy()

    def cells_of(self, seen: Tensor) -> Tensor:
        """Return the logits as :func:`folded` does."""
        hidden = self.before(self.stem(folded(seen)))
        hidden = self.after(hidden + self.grow(self.middle(self.shrink(hidden))))
        logits: Tensor = self.final(F.silu(hidden))
        return logits

    def looks(self) -> Looks:
        """Return the textures in all sizes; made once, when the net is trained."""
        if self._looks is None:
            self._looks = Looks.of(self.palette.float().cpu().numpy(), self.lit.float().cpu().numpy())
        return self._looks


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
    best = net.likeliest(torch.from_numpy(seen)[None].to(net.palette))[0] + np.uint8(AIR)
    told = (seen[0] > 0) | (seen[9] > 0)
    blocks.follow(eye)
    blocks.looked[:] = *eye, 0
    blocks.learn(corner, np.where(told, best, best | np.uint8(GUESSED)))
    if memory.count:
        blocks.light_up(memory, looks)
