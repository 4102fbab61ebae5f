"""Frame autoencoder: one RGB frame <-> one small latent, fully convolutional.

* 8x smaller per side, 8 channels: ``(96, 160, 3)`` becomes ``(12, 20, 8)``; any multiple of 8 works
* per-frame latents, so a single image can start a world and frames stream one by one
* every latent position is scaled to unit RMS: no KL term, no statistics to track, a fixed range for the diffusion
* in training the decoder sees slightly noised latents, so that it forgives the small errors of a dreamed latent
* space-to-depth first: most of the work happens in few, wide channels where CPUs reach their matmul speed
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentcraft.errors import UserError

DOWNSAMPLING = 8
"""Pixels of a frame per latent position and side."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the autoencoder."""

    channels: int = 8
    """Latent channels ``c``."""
    stem: int = 4
    """Pixels per side folded into channels before the first convolution."""
    encoder_widths: tuple[int, ...] = (32, 96)
    """Width at 1/4 and 1/8 of the frame; narrow, since a million frames are encoded before training."""
    encoder_depths: tuple[int, ...] = (1, 2)
    """Residual blocks at each of those scales."""
    decoder_widths: tuple[int, ...] = (64, 160)
    """As for the encoder; one decoded frame takes 3 ms on two cores, a fifteenth of a 20 Hz tick."""
    decoder_depths: tuple[int, ...] = (1, 4)
    """Residual blocks at each of those scales."""

    def __post_init__(self) -> None:
        scales = (self.encoder_widths, self.encoder_depths, self.decoder_widths, self.decoder_depths)
        if any(len(values) != len(scales[0]) for values in scales):
            raise UserError("encoder and decoder widths and depths must name the same number of scales")
        if self.stem * 2 ** (len(self.encoder_widths) - 1) != DOWNSAMPLING:
            raise UserError(f"stem {self.stem} and {len(self.encoder_widths)} scales do not reduce by {DOWNSAMPLING}")
        if any(width % 8 for width in (*self.encoder_widths, *self.decoder_widths)):
            raise UserError("encoder and decoder widths must be multiples of 8 (the groups of the normalisation)")


class ResidualBlock(nn.Module):
    """Normalise, 3x3, SiLU, 3x3, add."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


class ConvNet(nn.Module):
    """A network of convolutions."""

    def channels_last(self) -> Self:
        """Store convolution weights with channels innermost, the layout CPUs convolve fastest; returns self."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self


class Autoencoder(ConvNet):
    """``encode`` frames to latents, ``decode`` latents to frames."""

    def __init__(self, config: AutoencoderConfig = AutoencoderConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        folded = 3 * config.stem**2
        widths, depths = config.encoder_widths, config.encoder_depths
        encoder: list[nn.Module] = [nn.PixelUnshuffle(config.stem), nn.Conv2d(folded, widths[0], 3, padding=1)]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if level:
                encoder.append(nn.Conv2d(widths[level - 1], width, 2, stride=2))
            encoder += [ResidualBlock(width) for _ in range(depth)]
        encoder += [nn.GroupNorm(8, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.channels, 1)]
        self.encoder = nn.Sequential(*encoder)

        widths, depths = config.decoder_widths[::-1], config.decoder_depths[::-1]
        decoder: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 3, padding=1)]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if level:
                decoder += [nn.Conv2d(widths[level - 1], 4 * width, 1), nn.PixelShuffle(2)]
            decoder += [ResidualBlock(width) for _ in range(depth)]
        decoder += [nn.GroupNorm(8, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], folded, 3, padding=1)]
        decoder.append(nn.PixelShuffle(config.stem))
        self.decoder = nn.Sequential(*decoder)

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames ``uint8 (b, H, W, 3)`` to latents ``(b, h, w, c)`` of unit RMS over ``c``, in fp32.

        Raises:
            UserError: H or W is not a multiple of 8.
        """
        height, width = frames.shape[1:3]
        if height % DOWNSAMPLING or width % DOWNSAMPLING:
            raise UserError(f"frame size {height}x{width} must be a multiple of {DOWNSAMPLING} in both directions")
        weight = self.decoder[0].weight
        assert isinstance(weight, Tensor)
        return self.encode_pixels(rearrange(frames, "b h w c -> b c h w").to(weight.dtype) / 127.5 - 1)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode pixels ``(b, 3, H, W)`` from -1 to 1 to latents ``(b, h, w, c)``; see :meth:`encode`."""
        weight = self.decoder[0].weight
        assert isinstance(weight, Tensor)
        return self.normalise(rearrange(self.encoder(pixels.to(weight.dtype)), "b c h w -> b h w c"))

    def decode_pixels(self, latents: Tensor) -> Tensor:
        """Decode latents ``(b, h, w, c)`` to pixels ``(b, 3, H, W)``, about -1 to 1, unclipped."""
        weight = self.decoder[0].weight
        assert isinstance(weight, Tensor)
        return self.decoder(rearrange(latents.to(weight.dtype), "b h w c -> b c h w"))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents ``(b, h, w, c)`` to frames ``uint8 (b, H, W, 3)``."""
        return self.to_frames(self.decode_pixels(latents))

    @staticmethod
    def to_frames(pixels: Tensor) -> Tensor:
        """Turn pixels ``(b, 3, H, W)`` from -1 to 1 into frames ``uint8 (b, H, W, 3)``."""
        scaled = pixels.float() * 127.5 + 127.5
        return rearrange(scaled.round().clamp(0, 255).to(torch.uint8), "b c h w -> b h w c")

    @staticmethod
    def normalise(latents: Tensor) -> Tensor:
        """Scale each position of ``(..., c)`` to unit RMS over the channels, in fp32."""
        latents = latents.float()
        return latents * torch.rsqrt(latents.square().mean(-1, keepdim=True) + 1e-6)
