"""Stage 3: the depth net learns how far things are, from pictures as the decoder shows them."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.camera import SKY
from latentcraft.model.checkpoint import digest
from latentcraft.model.depth import ATTACHED, DepthConfig, DepthNet
from latentcraft.model.episodes import read_distances
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.samples import save_rows

NEAR, FAR = 0.3, 128.0
"""Distances (metres) between which targets are kept; nothing comes nearer to an eye, and beyond is as good as sky."""

ALWAYS = 0.98
"""Share of all frames in which a pixel must move with the lens to count as never showing the world."""


@dataclass(frozen=True)
class DepthStageConfig:
    """Training of the depth net."""

    steps: int = 3000
    """Optimiser steps."""
    batch: int = 32
    """Frames a step."""
    latent_noise: float = 0.25
    """Largest standard deviation of noise on the latents: dreamed pictures are not perfect ones."""
    tilt_noise: float = 0.4
    """Standard deviation of the error of the pitch it is told, degrees."""
    edge_weight: float = 0.5
    """Weight of the error of neighbouring pixels' differences."""
    tilt_weight: float = 0.025
    """Weight of the error of the pitch the net would say itself, in degrees."""
    model: DepthConfig = field(default_factory=DepthConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.01, warmup=50, decay_share=0.5, ema=0.995)
    )
    """Step sizes."""


class DepthData(NamedTuple):
    """Frames whose distances are known."""

    latents: Tensor
    """``float16 (k, h, w, c)``."""
    distances: Tensor
    """``float16 (k, H, W)``."""
    pitches: Tensor
    """Degrees, fp32 ``(k,)``."""

    @classmethod
    def load(cls, files: list[Path], data: Path) -> "DepthData | None":
        """Read what episodes in ``data`` have of encoded ``files``; None if none has both distances and poses."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for file in files:
            found = read_distances(data / file.stem)
            if found is None:
                continue
            episode = load_file(file)
            index, distance = torch.from_numpy(found[0]), torch.from_numpy(found[1])
            inside = index < len(episode["latents"])
            index, distance = index[inside], distance[inside]
            seen = ~episode["eyes"][index, 4].isnan()
            index, distance = index[seen], distance[seen]
            if len(index):
                parts.append((episode["latents"][index], distance, episode["eyes"][index, 4].float()))
        if not parts:
            return None
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))


def log_distance(distance: Tensor) -> Tensor:
    """Return what the net should say of distances, fp32."""
    return torch.where(distance < NEAR / 2, ATTACHED, distance.float().clamp(NEAR, FAR)).log()


class DepthStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "depth"

    def __init__(
        self, config: DepthStageConfig, data: DepthData, held_out: DepthData, autoencoder: Autoencoder, *,
        seed: int, dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``."""
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.device, self.ranks = config, seed, data, device, ranks
        self.autoencoder, self.codec = autoencoder, digest(autoencoder)
        network = DepthNet(config.model).to(device)
        network.hide((data.distances == 0).float().mean(0) > ALWAYS)
        # Masters are taken in fp32, before the network itself is rounded.
        self.optimizer = MasterOptimizer(
            network, config.optimizer, not_matrices=("stem", "final", "tilt"), peers=ranks
        )
        self.network = network.to(dtype=dtype).channels_last()
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        pick = torch.linspace(0, len(held_out.latents) - 1, min(256, len(held_out.latents))).long()
        self.check = DepthData(*(part[pick].to(device) for part in held_out))

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """Decode latents ``(k, h, w, c)``, ``(k, 3, H, W)`` from -1 to 1."""
        return self.autoencoder.decode_pixels(Autoencoder.normalise(latents)).float().clamp(-1, 1)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config = self.config
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        pick = torch.randint(len(self.data.latents), (config.batch,), generator=generator)
        share = self.ranks.share
        latents, distances, pitches = (part[share(pick)].float() for part in self.data)
        strength = config.latent_noise * torch.rand(config.batch, 1, 1, 1, generator=generator)
        noise = strength * torch.randn((config.batch, *latents.shape[1:]), generator=generator)
        told = pitches + config.tilt_noise * share(torch.randn(config.batch, generator=generator))
        picture = self.pictures((latents + share(noise)).to(self.device))
        error = self.network(picture, told.to(self.device)) - log_distance(distances).to(self.device)
        edges = error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
        tilt = (self.network.pitch(picture) - pitches.to(self.device)).abs().mean()
        loss = error.abs().mean() + config.edge_weight * edges + config.tilt_weight * tilt
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Median relative error of distances to solid things, and of the pitch in degrees; sample pictures."""
        errors, tilts, rows = [], [], []
        for latents, distances, pitches in zip(*(part.split(32) for part in self.check), strict=True):
            picture = self.pictures(latents)
            said, meant = self.average(picture, pitches), log_distance(distances)
            solid = (distances > NEAR / 2) & (distances < SKY / 2)
            errors.append((said - meant).abs()[solid])
            tilts.append((self.average.pitch(picture) - pitches).abs())
            rows.append(torch.stack([shade(said[0]), shade(meant[0])]))
        save_rows([torch.cat(rows[:8]).cpu()], directory / f"depth-{step:06d}.png")
        return {"relative_error": torch.cat(errors).median().item(), "pitch_error": torch.cat(tilts).median().item()}

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "codec": self.codec}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["codec"] != self.codec:
            raise UserError("it learned with another autoencoder than the run now has")
        self.optimizer.load_state_dict(state)

    def result(self) -> DepthNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average


def shade(logarithm: Tensor) -> Tensor:
    """Draw log distances ``(H, W)`` in grey, near is dark: ``uint8 (H, W, 3)``."""
    low, high = math.log(ATTACHED), math.log(FAR)
    grey = ((logarithm - low) / (high - low) * 255).clamp(0, 255).to(torch.uint8)
    return grey[..., None].expand(-1, -1, 3)
