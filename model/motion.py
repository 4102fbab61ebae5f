"""Motion: the last picture carried to where the actions move it, the prior that denoising starts from.

In a game seen through a player's eyes most of the next frame is the present one, moved. A small convolutional net reads
the previous chunk and the actions and predicts, for every latent position of every coming frame, where in the last
frame to look, and how well what is found there will correlate with the truth; bilinear sampling does the rest (spatial
transformers, arXiv 1506.02025; dense flow for video prediction, arXiv 1605.07157). Nothing about cameras is built in,
so a game that scrolls or moves sprites can use it as well.

The moved picture is the mean and the missing correlation the spread of the noise that denoising starts from, in place
of a standard normal (data-dependent priors, PriorGrad, arXiv 2106.06406): what is known is carried over sharply, and
the transformer's work is what comes into view, what was hidden, what changed.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

WIDTH = 96
"""Channels inside; all of motion takes an eighth of a training step of the default transformer."""
FINE = 4
"""Fine positions per latent position and side, where the flow is predicted and the picture moved. Latents are coarse:
moved by half a position, an interpolated one misses a quarter (sideways) to a half (up or down) of its variance."""
LIFTED = 8
"""Channels of the fine picture."""
DILATIONS = (1, 2, 4)
"""Of the flow net's convolutions: together they see most of the frame. How the view moves depends on where it points,
which only the whole picture tells."""
BASIS = 6
"""Terms of a quadratic in (x, y): turning the camera moves a picture by nearly that."""
LARGEST_CORRELATION = 0.99
"""Keeps the spread above 0.14, so that no position is beyond correction."""


class Guess(NamedTuple):
    """A normal distribution over the next chunk, fp32, independent at each entry."""

    mean: Tensor
    """``(..., f, h, w, c)``."""
    spread: Tensor
    """Standard deviation ``(..., f, h, w, 1)``, 0.14 to 1."""

    def draw(self, noise: Tensor) -> Tensor:
        """Turn standard normal ``noise`` into a sample."""
        return self.mean + self.spread * noise

    def detach(self) -> "Guess":
        """Cut the gradient."""
        return Guess(self.mean.detach(), self.spread.detach())


def coordinates(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y and x ``(h, w)`` of the grid's centres, 0 in the middle, in units of the frame's height."""
    y = (torch.arange(h, device=device) + 0.5) / h - 0.5
    x = ((torch.arange(w, device=device) + 0.5) - w / 2) / h
    return y[:, None].expand(h, w), x[None].expand(h, w)


def sample(picture: Tensor, flow: Tensor) -> Tensor:
    """Look up ``picture (k, h, w, c)`` at each position plus ``flow (k, f, h, w, 2)``; zero outside the picture.

    Args:
        picture: what is moved.
        flow: (y, x) in frame heights, from where a position is now to where it was in ``picture``.

    Returns:
        fp32 ``(k, f, h, w, c)``.
    """
    k, f, h, w, _ = flow.shape
    y, x = coordinates(h, w, flow.device)
    # grid_sample wants (x, y), each from -1 to 1 over the picture.
    at = torch.stack([2 * h / w * (x + flow[..., 1]), 2 * (y + flow[..., 0])], -1)
    source = rearrange(picture, "k h w c -> k c h w").float()
    moved = F.grid_sample(source, at.reshape(k, f * h, w, 2), padding_mode="zeros", align_corners=False)
    return rearrange(moved, "k c (f h) w -> k f h w c", f=f)


class Motion(nn.Module):
    """Predicts flow and correlation, and moves the picture."""

    def __init__(self, *, chunk: int, channels: int, action_features: int):
        super().__init__()
        self.chunk, self.channels = chunk, channels
        # How things move.
        self.action = nn.Sequential(
            nn.Linear(action_features, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, 2 * WIDTH * len(DILATIONS))
        )
        self.first = nn.Conv2d(chunk * channels + 2, WIDTH, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=d, dilation=d) for d in DILATIONS)
        self.flow = nn.Conv2d(WIDTH, 2 * chunk * FINE**2, 3, padding=1)
        self.turn = nn.Linear(action_features, 2 * chunk * BASIS, bias=False)
        # What is moved: a fine picture made of the coarse one, and back.
        self.lift = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1), nn.SiLU(),
            nn.Conv2d(WIDTH, LIFTED * FINE**2, 3, padding=1), nn.PixelShuffle(FINE),
        )  # fmt: skip
        self.lower = nn.Sequential(
            nn.PixelUnshuffle(FINE), nn.Conv2d(LIFTED * FINE**2, WIDTH, 1), nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv2d(WIDTH, channels + 1, 1),
        )  # fmt: skip
        self.certainty = nn.Conv2d(WIDTH, chunk, 3, padding=1)

    def init_weights(self) -> None:
        """Begin with a still picture, mostly trusted."""
        lowered = self.lower[-1]
        assert isinstance(lowered, nn.Conv2d)
        for layer in (self.flow, lowered, self.certainty):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.turn.weight)
        nn.init.constant_(self.certainty.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, past: Tensor, features: Tensor) -> Guess:
        """Guess the chunk after ``past`` from its last frame.

        Args:
            past: the previous chunk, ``(k, f, h, w, c)``; zeros where there is none, which gives a standard normal.
            features: the actions ``(k, e)``; the flow's large, smooth part is linear in them.

        Returns:
            The guess, ``(k, f, h, w, ...)``. Latents have unit RMS, so a moved one that correlates with the truth by
            rho predicts it as rho times itself, with spread sqrt(1 - rho^2).
        """
        f, h, w = past.shape[1:4]
        dtype = self.first.weight.dtype
        place = torch.stack(coordinates(h, w, past.device)).to(dtype).expand(len(past), 2, h, w)
        seen = torch.cat([rearrange(past, "k f h w c -> k (f c) h w").to(dtype), place], 1)
        modulations = self.action(features)[..., None, None].chunk(2 * len(DILATIONS), 1)
        hidden = self.first(seen)
        for layer, shift, scale in zip(self.wide, modulations[::2], modulations[1::2], strict=True):
            hidden = hidden + layer(F.silu(hidden * (1 + scale) + shift))
        hidden = F.silu(hidden)

        y, x = coordinates(FINE * h, FINE * w, past.device)
        basis = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1)  # (FINE h, FINE w, 6)
        smooth = rearrange(self.turn(features).float(), "k (f e s) -> k f e s", e=2, s=BASIS)
        flow = rearrange(F.pixel_shuffle(self.flow(hidden), FINE).float(), "k (f e) h w -> k f h w e", e=2)
        flow = flow + torch.einsum("kfes,hws->kfhwe", smooth, basis)
        coarse = rearrange(flow, "k f (h p) (w q) e -> k f h w e (p q)", p=FINE, q=FINE).mean(-1)

        # One more channel tells what lies inside the picture, and whether there is a picture at all.
        picture = past[:, -1].float()
        there = (picture.abs().amax((1, 2, 3), keepdim=True) > 0).expand(*picture.shape[:3], 1)
        moved = sample(torch.cat([picture, there.float()], -1), coarse)
        moved, inside = moved[..., :-1], moved[..., -1:]
        fine = rearrange(self.lift(rearrange(picture, "k h w c -> k c h w").to(dtype)), "k c h w -> k h w c")
        fine = rearrange(sample(fine, flow), "k f h w c -> (k f) c h w").to(dtype)
        lowered = rearrange(self.lower(fine).float(), "(k f) c h w -> k f h w c", f=f)
        moved = moved + lowered[..., :-1]
        moved = moved * torch.rsqrt(moved.square().mean(-1, keepdim=True) + 1e-2)
        certainty = rearrange(self.certainty(hidden).float(), "k f h w -> k f h w 1") + lowered[..., -1:]
        correlation = LARGEST_CORRELATION * torch.sigmoid(certainty) * inside
        return Guess(correlation * moved, torch.sqrt(1 - correlation.square()))
