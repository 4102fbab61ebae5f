"""Stage 1: the autoencoder learns to rebuild recorded frames."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder, AutoencoderConfig
from latentcraft.model.episodes import read_all
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.samples import save_rows

SPACING = 3
"""Frames of an episode apart that are worth training on, where there are enough."""


@dataclass(frozen=True)
class AutoencoderStageConfig:
    """Training of the autoencoder."""

    steps: int = 2600
    """Optimiser steps."""
    batch: int = 24
    """Frames a step; at 16, Muon itself takes a quarter of the step."""
    max_frames: int = 60_000
    """Frames held in memory (46 kB each at the default size)."""
    shift_share: float = 0.33
    """Share of each batch whose latents are moved by a part of a position before decoding; the picture must move alike.
    Latents then slide as pictures do, which makes their motion easy to learn (EQ-VAE, arXiv 2502.09509)."""
    latent_noise: float = 0.2
    """Largest standard deviation of the noise added to latents before decoding (they have unit RMS)."""
    edge_weight: float = 1.0
    """Weight of the error of neighbouring-pixel differences, which keeps edges and textures sharp."""
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(matrix_lr=0.01, ema=0.998))
    """Step sizes."""


def load_frames(paths: list[Path], max_frames: int, frame_size: tuple[int, int]) -> Tensor:
    """Read at most ``max_frames`` frames ``uint8 (k, H, W, 3)``: every third, of evenly spaced episodes of ``paths``.

    Neighbouring frames teach an autoencoder little that is new, and decoding all of a large recording takes minutes.
    """
    total = sum(path.read_bytes().count(b"\n") for path in paths)
    paths = paths[:: max(1, math.ceil(total / (max_frames * SPACING) - 0.5))]
    total = sum(path.read_bytes().count(b"\n") for path in paths)
    stride = max(SPACING if total > SPACING * max_frames // 2 else 1, math.ceil(total / max_frames))
    # One allocation: a list of parts and their concatenation would need twice the memory.
    frames = torch.empty((math.ceil(total / stride), *frame_size, 3), dtype=torch.uint8)
    count = seen = 0
    for _, episode in read_all(paths, frame_size=frame_size):
        part = torch.from_numpy(episode.frames[-seen % stride :: stride])[: len(frames) - count]
        frames[count : count + len(part)] = part
        count, seen = count + len(part), seen + len(episode)
    if not count:
        raise UserError("no readable episode to train the autoencoder on; record some with `latentcraft record`")
    return frames[:count]


def reconstruction_loss(pixels: Tensor, target: Tensor, edge_weight: float) -> Tensor:
    """Absolute plus squared error, plus the absolute error of horizontal and vertical differences.

    Args:
        pixels: decoded ``(b, 3, H, W)``, -1 to 1.
        target: the same for the true frame.
        edge_weight: weight of the differences' error.
    """
    error = pixels.float() - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + edge_weight * edges


def shifted(picture: Tensor, pixels: Tensor, scale: int) -> Tensor:
    """Move ``picture (b, c, h, w)`` down and right by ``pixels (b, 2)``, of which a position is ``scale``; bilinear."""
    b, _, h, w = picture.shape
    matrix = torch.zeros(b, 2, 3, device=picture.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    matrix[:, 0, 2] = -2 * pixels[:, 1] / scale / w
    matrix[:, 1, 2] = -2 * pixels[:, 0] / scale / h
    grid = F.affine_grid(matrix, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def psnr(frames: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all of two ``uint8`` tensors."""
    error = (frames.float() - target.float()).square().mean().item()
    return 10 * math.log10(255**2 / max(error, 1e-9))


class AutoencoderStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "autoencoder"

    def __init__(
        self, config: AutoencoderStageConfig, frames: Tensor, held_out: Tensor, *, seed: int, dtype: torch.dtype,
        device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``frames`` and validate on ``held_out``, both ``uint8 (k, H, W, 3)``."""
        torch.manual_seed(seed)
        self.config, self.seed, self.frames, self.device, self.ranks = config, seed, frames, device, ranks
        self.held_out = held_out[torch.linspace(0, len(held_out) - 1, min(128, len(held_out))).long()].to(device)
        network = Autoencoder(config.model).to(device)
        # Masters are taken in fp32, before the network itself is rounded.
        self.optimizer = MasterOptimizer(
            network, config.optimizer, not_matrices=("encoder.1.", "decoder.0."), peers=ranks
        )
        self.network = network.to(dtype=dtype).channels_last()
        self.average = Autoencoder(config.model).to(device=device, dtype=dtype).channels_last()

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        pick = torch.randint(len(self.frames), (self.config.batch,), generator=generator)
        frames = self.frames[self.ranks.share(pick)].to(self.device)
        target = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = self.network.encode(frames)
        everywhere = round(self.config.shift_share * len(pick))  # the first of the batch
        # Whole pixels, so that the target stays as sharp as it was.
        way = torch.randint(1 - DOWNSAMPLING, DOWNSAMPLING, (everywhere, 2), generator=generator).float()
        pixels = self.ranks.share(way).to(self.device)
        moved = len(pixels)
        if moved:
            slid = shifted(latents[:moved].permute(0, 3, 1, 2), pixels, DOWNSAMPLING).permute(0, 2, 3, 1)
            latents = torch.cat([Autoencoder.normalise(slid), latents[moved:]])
            target = torch.cat([shifted(target[:moved], pixels, 1), target[moved:]])
        strength = self.config.latent_noise * torch.rand(len(pick), 1, 1, 1, generator=generator)
        noise = strength * torch.randn((len(pick), *latents.shape[1:]), generator=generator)
        pixels = self.network.decode_pixels(latents + self.ranks.share(noise).to(self.device))
        loss = pixels.new_zeros((), dtype=torch.float32)
        if moved < len(frames):
            still = reconstruction_loss(pixels[moved:], target[moved:], self.config.edge_weight)
            loss = loss + still * (1 - moved / len(frames))
        if moved:
            inside = (slice(None, moved), slice(None), *[slice(DOWNSAMPLING, -DOWNSAMPLING)] * 2)  # borders moved in
            slid = reconstruction_loss(pixels[inside], target[inside], self.config.edge_weight)
            loss = loss + slid * (moved / len(frames))
        loss.backward()
        norm = self.optimizer.step(step, steps)
        return {"loss": loss.item(), "norm": norm}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        decoded = torch.cat([self.average.decode(self.average.encode(part)) for part in self.held_out.split(16)])
        shown = torch.linspace(0, len(decoded) - 1, 6).long()
        save_rows([self.held_out[shown].cpu(), decoded[shown].cpu()], directory / f"autoencoder-{step:06d}.png")
        return {"psnr": psnr(decoded, self.held_out)}

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    @torch.no_grad()
    def result(self) -> Autoencoder:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average.requires_grad_(False).eval()
