"""Stage 4: the body net learns where the eye goes, from recorded poses and what was remembered close by."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from latentcraft.model.actions import NUM_BUTTONS
from latentcraft.model.body import BodyConfig, BodyNet
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.survey import BodyData

SPEED_NOISE, HOLE_SHARE = 0.01, 0.05
"""Noise on the speed (metres a frame), and share of cubes that are forgotten, in training."""


@dataclass(frozen=True)
class BodyStageConfig:
    """Training of the body net."""

    steps: int = 3000
    """Optimiser steps."""
    batch: int = 512
    """Moments a step."""
    episodes: int = 250
    """Episodes that are walked through for them, see :mod:`latentcraft.model.train.survey`."""
    jolts: int = 2
    """Places off the path at each moment."""
    model: BodyConfig = field(default_factory=BodyConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            matrix_lr=0.01, other_lr=1e-3, weight_decay=0.05, decay_share=1.0, ema=0.995
        )
    )
    """Step sizes."""


class BodyStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "body"

    def __init__(
        self, config: BodyStageConfig, data: BodyData, held_out: BodyData, *, seed: int, dtype: torch.dtype,
        device: str = "cpu",
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``; the net is so small that it stays in fp32."""
        del dtype
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.held_out, self.device = config, seed, data, held_out, device
        self.network = BodyNet(config.model).to(device)
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=("near", "rest", "final"))
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        index = torch.randint(len(self.data.near), (self.config.batch,), generator=generator)
        moments = self.data.pick(index, self.device)
        true = moments.steps()
        motive = moments.motive(true)
        kept = torch.rand(motive.surroundings.shape, generator=generator) >= HOLE_SHARE
        jolt = SPEED_NOISE * torch.randn(motive.speed.shape, generator=generator)
        motive = motive._replace(
            surroundings=motive.surroundings * kept.to(self.device), speed=motive.speed + jolt.to(self.device)
        )
        said, turns = self.network(motive)
        error = said - true[:, 1:]
        turned = (turns - moments.actions[..., NUM_BUTTONS:]).abs().mean()
        loss = 5 * (error.abs().mean() + 0.5 * error.cumsum(1).abs().mean()) + turned
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Mean and median distance (metres) between where a held-out chunk ends and where the net says it does."""
        del step, directory
        self.optimizer.copy_average_to(self.average)
        index = torch.linspace(0, len(self.held_out.near) - 1, min(2048, len(self.held_out.near))).long()
        moments = self.held_out.pick(index, self.device)
        true = moments.steps()
        said, _ = self.average(moments.motive(true))
        missed = (said - true[:, 1:]).sum(1).norm(dim=-1)
        return {"missed": missed.mean().item(), "median": missed.median().item()}

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def result(self) -> BodyNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average
