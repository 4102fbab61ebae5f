"""Stage 3: the motion net learns where in the last picture each coming frame is to be found.

Its teacher is the video itself: the moved picture must look like the frame that came (optical flow without labels, Back
to Basics, arXiv 1608.05842), at four scales, so that a flow that is off by many pixels still learns which way to go.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.checkpoint import digest
from latentcraft.model.latents import Clips, LatentDataset
from latentcraft.model.motion import Guess, Motion, MotionConfig, judge, sample
from latentcraft.model.objective import motion_loss, worn
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.samples import save_rows

SCALES = (1, 2, 4, 8)
"""Sides of the squares of pixels over which pictures are compared."""
OUTSIDE_PRICE = 0.05
"""Loss of a pixel found outside the last picture, where nothing can be compared; else all would be looked for there."""

ROUGHNESS_PRICE = 0.003
"""Loss of neighbouring pixels that are looked for one pixel further apart than they are. An edge of depth is rare and
costs next to nothing; without it the flow was a chequerboard wherever the picture moved fast."""


@dataclass(frozen=True)
class MotionStageConfig:
    """Training of the motion net."""

    steps: int = 2000
    """Optimiser steps."""
    batch: int = 24
    """Pairs of chunks a step."""
    wear_share: float = 0.15
    """Share of pictures whose colours drift, and of those that blur, as dreamed ones do."""
    action_dropout: float = 0.1
    """Share of chunks whose actions are hidden."""
    judge_weight: float = 0.2
    """Weight of the guess's likelihood."""
    model: MotionConfig = field(default_factory=MotionConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.02, other_lr=2e-3, warmup=50, decay_share=0.4, ema=0.995)
    )
    """Step sizes."""


def photometric_loss(moved: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Robust (Charbonnier) difference of pictures ``(k, f, 3, H, W)`` at :data:`SCALES`.

    Args:
        moved: the last picture, moved.
        target: the frames that came.
        inside: which pixels were found inside the last picture, ``bool (k, f, H, W)``; the others cost a flat price.
    """
    weight = inside[:, :, None].float()
    error = ((moved - target) * weight).flatten(0, 1)
    total = error.new_zeros(())
    for side in SCALES:
        pooled = F.avg_pool2d(error, side) if side > 1 else error
        # Pooled errors are smaller; the root of the side makes up for about that.
        total = total + side**0.5 * torch.sqrt(pooled.square() + 1e-4).mean()
    return total / len(SCALES) + OUTSIDE_PRICE * (1 - weight).mean()


def roughness(flow: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring flows ``(k, f, H, W, 2)``, in pixels."""
    height = flow.shape[2]
    return height * (flow.diff(dim=2).abs().mean() + flow.diff(dim=3).abs().mean())


class Attempt(NamedTuple):
    """A guess and the pictures behind it."""

    guess: Guess
    moved: Tensor
    """``(k, f, 3, H, W)``, -1 to 1."""
    target: Tensor
    """The same of the truth."""
    photometric: Tensor
    """How much they differ, see :func:`photometric_loss`, and how rough the flow is."""


class MotionStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "motion"

    def __init__(
        self, config: MotionStageConfig, data: LatentDataset, held_out: LatentDataset, autoencoder: Autoencoder, *,
        seed: int, dtype: torch.dtype, device: str = "cpu",
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``."""
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.device = config, seed, data, device
        self.autoencoder, self.codec = autoencoder, digest(autoencoder)
        network = Motion(config.model).to(device)
        # Masters are taken in fp32, before the network itself is rounded.
        self.optimizer = MasterOptimizer(
            network, config.optimizer, not_matrices=("action", "look.0", "turn", "flow", "frame", "judge_", "verdict")
        )
        self.network = network.to(dtype=dtype).channels_last()
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.check = held_out.sample(64, 2, config.model.chunk, torch.Generator().manual_seed(seed)).to(device)

    def attempt(self, network: Motion, clips: Clips, past: Tensor, has_actions: Tensor) -> Attempt:
        """Guess the second chunk of ``clips`` from ``past``, their first."""
        with torch.no_grad():
            shown = torch.cat([past[:, -1:], clips.latents[:, 1]], 1)
            pixels = self.autoencoder.decode_pixels(shown.flatten(0, 1)).float().clamp(-1, 1)
            pixels = pixels.unflatten(0, shown.shape[:2])
        picture, target = pixels[:, 0], pixels[:, 1:]
        flow = network.find_flow(picture, past[:, -1], clips.actions[:, 1], has_actions)
        moved, inside = sample(picture, flow.flow)
        there = torch.ones(len(past), dtype=torch.bool, device=past.device)
        guess = judge(self.autoencoder, network, past[:, -1], moved, inside, flow, there)
        loss = photometric_loss(moved, target, inside) + ROUGHNESS_PRICE * roughness(flow.flow)
        return Attempt(guess, moved, target, loss)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config = self.config
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        clips = self.data.sample(config.batch, 2, config.model.chunk, generator).to(self.device)
        past = worn(clips.latents[:, :1], config.wear_share, generator)[:, 0]
        has_actions = (torch.rand(config.batch, generator=generator) >= config.action_dropout).to(self.device)
        attempt = self.attempt(self.network, clips, past, has_actions)
        likelihood = motion_loss(attempt.guess, clips.latents[:, 1])
        (attempt.photometric + config.judge_weight * likelihood).backward()
        norm = self.optimizer.step(step, steps)
        return {"loss": attempt.photometric.item(), "likelihood": likelihood.item(), "norm": norm}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Error of the guess on held-out clips, with true and shuffled actions; sample film strips."""
        self.optimizer.copy_average_to(self.average)
        clips = self.check
        known = torch.ones(len(clips.latents), dtype=torch.bool, device=self.device)

        def missed(attempt: Attempt) -> float:
            return (attempt.guess.mean - clips.latents[:, 1]).square().mean().item()

        attempt = self.attempt(self.average, clips, clips.latents[:, 0], known)
        shuffled = clips._replace(actions=clips.actions.roll(1, 0))
        ratio = missed(self.attempt(self.average, shuffled, clips.latents[:, 0], known)) / missed(attempt)
        rows = [torch.cat([attempt.target[i, ::3], attempt.moved[i, ::3]]) for i in range(min(4, len(known)))]
        frames = [(row.permute(0, 2, 3, 1) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu() for row in rows]
        save_rows(frames, directory / f"motion-{step:06d}.png")
        return {"missed": missed(attempt), "shuffled_ratio": ratio}

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "codec": self.codec}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["codec"] != self.codec:
            raise UserError("it learned with another autoencoder than the run now has")
        self.optimizer.load_state_dict(state)

    def result(self) -> Motion:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average
