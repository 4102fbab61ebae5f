"""Depth: how far away everything in a picture is, and how steeply the picture looks down.

A small convolutional net with a wide view, trained on pictures whose depth is known (the reference world's). It sees
one picture and is told how steeply it looks down, from which follows how far level ground would be: the scale of
everything that stands on it. Where the pitch is not known (a picture from elsewhere), a second, smaller net says.
What hangs before the lens, such as the held block, is told apart by a distance that nothing in a world has.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import ConvNet, ResidualBlock
from latentcraft.model.camera import EYE_HEIGHT, FIELD_OF_VIEW, SKY, pixel_rays
from latentcraft.model.rescale import as_before, as_wide

FOLD = 4
"""Pixels per side folded into channels before the first convolution."""
MULTIPLE = 16
"""Height and width are multiples of it."""
ATTACHED = 0.1
"""Distance (metres) that stands for what moves with the lens."""
NEAREST, FARTHEST = 0.18, 90.0
"""What is nearer is attached; what is farther counts as the sky."""


@dataclass(frozen=True)
class DepthConfig:
    """Shape of the depth net."""

    widths: tuple[int, ...] = (48, 96, 128)
    """Width at 1/4, 1/8 and 1/16 of the frame."""
    depths: tuple[int, ...] = (1, 3, 3)
    """Residual blocks on the way down; on the way up there is one at each scale."""
    field_of_view: float = FIELD_OF_VIEW
    """Horizontal, degrees."""
    lens: tuple[int, int] = (96, 160)
    """(H, W) at which it is kept what hangs before the lens at all times."""
    picture: int | None = None
    """Width of the pictures it has learned from; others are brought to it. None takes all as they are."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or any(width % 8 for width in self.widths):
            raise UserError("depth widths must be multiples of 8, one for each of the depths")


class DepthNet(ConvNet):
    """A U-Net from pixels to the logarithm of distance."""

    lens: Tensor

    def __init__(self, config: DepthConfig = DepthConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Conv2d(4 * FOLD**2 + 3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(ResidualBlock(width) for width in widths[:-1])
        self.final = nn.Sequential(nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], FOLD**2, 3, padding=1))
        self.tilt = nn.Sequential(
            nn.Conv2d(3 * FOLD**2 + 2, 32, 3, 2, padding=1), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, padding=1), nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d((3, 1)), nn.Flatten(), nn.Linear(192, 1),
        )  # fmt: skip

        self.register_buffer("lens", torch.zeros(config.lens))
        """1 for pixels that never show the world, such as a crosshair: too thin for the net, but always there."""

    def hide(self, attached: Tensor) -> None:
        """Take over which pixels ``bool (H, W)`` never show the world."""
        self.lens.copy_(F.interpolate(attached[None, None].float(), self.config.lens, mode="nearest-exact")[0, 0])

    def folded(self, picture: Tensor) -> Tensor:
        """Return pictures ``(k, 3, H, W)`` with pixels folded into channels, and where each stands in the frame."""
        folded = F.pixel_unshuffle(picture.to(self.stem.weight.dtype), FOLD)
        h, w = folded.shape[2:]
        y = (torch.arange(h, device=picture.device) + 0.5) / h - 0.5
        x = ((torch.arange(w, device=picture.device) + 0.5) - w / 2) / h
        place = torch.stack([y[:, None].expand(h, w), x.expand(h, w)]).to(folded.dtype)
        return torch.cat([folded, place.expand(len(folded), 2, h, w)], 1)

    def level(self, pitch: Tensor, height: int, width: int) -> Tensor:
        """Return the logarithm of how far level ground would be along each ray, ``(k, 1, H, W)``."""
        rays = torch.from_numpy(pixel_rays(height, width, self.config.field_of_view)).to(pitch.device)
        sin, cos = (part[:, None, None] for part in (torch.sin(torch.deg2rad(pitch)), torch.cos(torch.deg2rad(pitch))))
        down = rays[2] * sin - rays[1] * cos
        return torch.log(EYE_HEIGHT / down.clamp(EYE_HEIGHT / FARTHEST))[:, None]

    def pitch(self, picture: Tensor) -> Tensor:
        """Return how steeply pictures ``(k, 3, H, W)`` look down, degrees, fp32 ``(k,)``."""
        return 90 * self.tilt(self.folded(as_wide(picture, self.config.picture, MULTIPLE))).float()[:, 0]

    def forward(self, picture: Tensor, pitch: Tensor) -> Tensor:
        """Return the logarithm of distance (metres), fp32 ``(k, H, W)``.

        Args:
            picture: ``(k, 3, H, W)``, -1 to 1; H and W multiples of 16.
            pitch: degrees, fp32 ``(k,)``.
        """
        folded, level = self.folded(picture), self.level(pitch, *picture.shape[2:]).to(self.stem.weight.dtype)
        tilt = (pitch / 90).to(level.dtype)[:, None, None, None].expand(-1, 1, *folded.shape[2:])
        hidden = self.stem(torch.cat([folded, F.pixel_unshuffle(level - 2, FOLD), tilt], 1))
        skips = []
        for number, blocks in enumerate(self.down):
            if number:
                hidden = self.shrink[number - 1](hidden)
            hidden = blocks(hidden)
            skips.append(hidden)
        for number in range(len(self.up) - 1, -1, -1):
            hidden = skips[number] + F.pixel_shuffle(self.grow[number](hidden), 2)
            hidden = self.up[number](hidden)
        return F.pixel_shuffle(self.final(hidden), FOLD).float()[:, 0] + 2.0

    def distances(self, picture: Tensor, pitch: Tensor) -> Tensor:
        """Return distances along each pixel's ray in metres, fp32 ``(k, H, W)``: 0 what moves with the lens, at most
        :data:`SKY`.
        """
        distance = self(as_wide(picture, self.config.picture, MULTIPLE), pitch).exp()
        distance = as_before(torch.where(distance > FARTHEST, SKY, distance), *picture.shape[2:])
        hidden = F.interpolate(self.lens[None, None].float(), picture.shape[2:], mode="nearest-exact")[0] > 0.5
        return torch.where((distance < NEAREST) | hidden, 0.0, distance)
