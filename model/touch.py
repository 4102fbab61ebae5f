"""Touch: what a hand leaves behind, drawn around the middle of the picture: a hole, a block, what was behind it.

What changes at once and completely is a task of its own. The transformer learns from everything that comes into view,
and in little of that a hand was at work; a few convolutions that see nothing but changes learn them from far fewer
pictures. They predict, like it, the clean latents from noised ones at any signal level, and take its place where the
hand has changed something (experts for parts of the denoising task: eDiff-I, arXiv 2211.01324).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentcraft.model.actions import CHANGES
from latentcraft.model.cells import MEETING, meetings
from latentcraft.model.guess import Guess
from latentcraft.model.in_frame import AROUND, changed_places

DILATIONS = (1, 2, 4, 2, 1, 1)
"""Of the convolutions: together they see from the middle to the block in the hand."""
GLANCE = (6, 10)
"""Rows and columns that the last picture is averaged to, to be known everywhere: a block that is placed looks like the
one that is held in a corner, and convolutions find it hard to carry that from there to wherever the cell is."""


def _of_before(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let a state be loaded that was saved before touches knew of cells or glanced: it makes nothing of them."""
    assert isinstance(module, Touch)
    for name in ("met", "glance"):
        state.setdefault(f"{prefix}{name}.weight", torch.zeros_like(getattr(module, name).weight))


class Touch(nn.Module):
    """From noised latents, the guess and the picture before to a prediction in units of the guess's spread."""

    def __init__(self, *, width: int, condition: int, frames: int, channels: int):
        """Shape it.

        Args:
            width: channels of the convolutions.
            condition: width of the transformer's conditioning, see
                :meth:`latentcraft.model.dit.SpacetimeDiT.condition`.
            frames: in a chunk, ``f``.
            channels: of a latent, ``c``.
        """
        super().__init__()
        self.frames = frames
        told = frames * (3 * channels + 1 + len(CHANGES) * AROUND)
        self.read = nn.Conv2d(told, width, 3, padding=1)
        self.met = nn.Conv2d(frames * len(CHANGES) * MEETING, width, 3, padding=1, bias=False)
        self.glance = nn.Linear(GLANCE[0] * GLANCE[1] * channels, width, bias=False)
        self.modulation = nn.Linear(condition, 2 * width * len(DILATIONS))
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in DILATIONS)
        self.write = nn.Conv2d(width, frames * channels, 3, padding=1)
        self.register_load_state_dict_pre_hook(_of_before)

    def init_weights(self) -> None:
        """Begin with the guess's mean, without a glance, and as if nobody knew of any cell."""
        nn.init.zeros_(self.met.weight)
        nn.init.zeros_(self.glance.weight)
        for layer in (self.modulation, self.write):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, latents: Tensor, guess: Guess, past: Tensor, condition: Tensor) -> Tensor:
        """Predict ``(k, f, h, w, c)``, fp32.

        Args:
            latents: noised, ``(k, f, h, w, c)``.
            guess: what denoising started from, ``(k, f, h, w, ...)``.
            past: the chunk before, ``(k, f, h, w, c)``.
            condition: ``(k, d)``.
        """
        _, f, h, w, _ = latents.shape
        dtype = self.write.weight.dtype
        seen = torch.cat([part.float() for part in (latents, guess.mean, guess.spread, past)], -1)
        seen = rearrange(seen, "k f h w c -> k (f c) h w")
        places = rearrange(changed_places(guess.changes, h, w), "k f (h w) e -> k (f e) h w", w=w)
        met = rearrange(meetings(guess.holds, h, w), "k f h w e -> k (f e) h w")
        held = F.adaptive_avg_pool2d(past[:, -1].float().permute(0, 3, 1, 2), GLANCE).flatten(1)
        hidden = self.read(torch.cat([seen, places], 1).to(dtype)) + self.met(met.to(dtype))
        hidden = hidden + self.glance(held.to(dtype))[..., None, None]
        modulation = self.modulation(condition.to(dtype))[..., None, None].chunk(2 * len(self.layers), 1)
        for layer, shift, scale in zip(self.layers, modulation[::2], modulation[1::2], strict=True):
            normal = hidden * torch.rsqrt(hidden.square().mean(1, keepdim=True) + 1e-5)
            hidden = hidden + layer(F.silu(normal * (1 + scale) + shift))
        return rearrange(self.write(F.silu(hidden)), "k (f c) h w -> k f h w c", f=f).float()
