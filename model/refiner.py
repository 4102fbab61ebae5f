"""Convolutions after the transformer: what neighbouring latents must agree on, drawn at the latents' own scale.

A token stands for a patch of latents and writes all of it at once, which leaves seams and soft edges between patches.
A few 3x3 convolutions on the full grid see the patches side by side, together with what denoising started from
(convolutions after a transformer's last layer: U-ViT, arXiv 2209.12152).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Refiner(nn.Module):
    """From token features and latents to a correction of the latents; begins as none at all."""

    def __init__(self, *, width: int, tokens: int, frames: int, channels: int, patch: int, layers: int):
        """Shape it.

        Args:
            width: channels of the convolutions.
            tokens: width of the tokens.
            frames: in a chunk, ``f``.
            channels: of a latent, ``c``.
            patch: latents per side in a token.
            layers: 3x3 convolutions between the first and the last.
        """
        super().__init__()
        self.frames, self.patch = frames, patch
        self.read = nn.Conv2d(frames * (2 * channels + 1), width, 3, padding=1)
        self.spread = nn.Linear(tokens, width * patch**2)
        self.modulation = nn.Linear(tokens, 2 * width * layers)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.write = nn.Conv2d(width, frames * channels, 3, padding=1)

    def init_weights(self) -> None:
        """Begin with a correction of zero."""
        for linear in (self.modulation, self.write):
            nn.init.zeros_(linear.weight)
        assert self.write.bias is not None
        nn.init.zeros_(self.write.bias)

    def forward(self, features: Tensor, condition: Tensor, told: Tensor) -> Tensor:
        """Return a correction ``(b, g, t, f, h, w, c)``.

        Args:
            features: of the tokens, normalised, ``(b, g, t, n, d)``.
            condition: see :meth:`latentcraft.model.dit.SpacetimeDiT.condition`, ``(b, g, t, d)``.
            told: noised latents, the guess's mean and its spread side by side, ``(b, g, t, f, h, w, 2 * c + 1)``.
        """
        b, g, t, _, h, _, _ = told.shape
        sizes = {"h": h // self.patch, "p": self.patch, "q": self.patch}
        hidden = self.read(rearrange(told, "b g t f h w c -> (b g t) (f c) h w"))
        hidden = hidden + rearrange(
            self.spread(features), "b g t (h w) (c p q) -> (b g t) c (h p) (w q)", **sizes
        )  # fmt: skip
        modulation = self.modulation(condition).flatten(0, 2)[..., None, None].chunk(2 * len(self.layers), 1)
        for layer, shift, scale in zip(self.layers, modulation[::2], modulation[1::2], strict=True):
            normal = hidden * torch.rsqrt(hidden.square().mean(1, keepdim=True) + 1e-5)
            hidden = hidden + layer(F.silu(normal * (1 + scale) + shift))
        out = self.write(F.silu(hidden))
        return rearrange(out, "(b g t) (f c) h w -> b g t f h w c", b=b, g=g, f=self.frames)
