"""A critic that learns to tell dreamed chunks from real ones, and what it teaches the transformer: sharpness.

The squared error alone is smallest for the mean of everything that might come into view, which is a blur; denoising
turns it into a picture only with far more training than two cores give. An adversary asks for something that looks
real instead (few-step diffusion with a critic: Diffusion-GAN, arXiv 2206.02262; adversarial diffusion distillation,
arXiv 2311.17042). The critic compares a dreamed with a real chunk (relativistic loss, with gradient penalties on
both: R3GAN, arXiv 2501.05441; the penalties by finite differences: arXiv 2501.08316). It is told the guess that
denoising started from, so that it also sees where a dream does not fit what is known.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from latentcraft.model.autoencoder import Autoencoder, ConvNet
from latentcraft.model.guess import Guess
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.ranks import ALONE, Ranks

LEAK = 0.2
"""Slope of the critic's activation below zero."""
JOLT = 0.1
"""Standard deviation of the noise under which a critic's verdict should stay (latents have unit RMS)."""


@dataclass(frozen=True)
class AdversaryConfig:
    """The critic and its weight."""

    weight: float = 1.0
    """Norm of the critic's gradient at the predicted latents, relative to the squared error's; 0 has no critic."""
    start: int = 0
    """Step from which on the transformer listens; the critic learns all the time."""
    alone: int = 0
    """Steps at the beginning in which only the critic learns, at half the cost. A transformer that is already good
    fools a critic that knows nothing, and learns what it should not."""
    width: int = 128
    """Channels of its convolutions."""
    dilations: tuple[int, ...] = (1, 2, 1)
    """Of its hidden convolutions."""
    penalty: float = 0.1
    """Weight of the gradient penalties."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.02, other_lr=2e-3, warmup=20, decay_share=0.25)
    )
    """Step sizes: like the transformer's, or one would run away from the other. With AdamW at 5e-4 for all of it the
    transformer had it fooled in 40 steps."""


class Critic(ConvNet):
    """Says of every position of a chunk how real it looks."""

    def __init__(self, config: AdversaryConfig, *, frames: int, channels: int):
        super().__init__()
        self.read = nn.Conv2d(frames * (2 * channels + 1), config.width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv2d(config.width, config.width, 3, padding=rate, dilation=rate) for rate in config.dilations
        )
        self.verdict = nn.Conv2d(config.width, 1, 1)

    def forward(self, chunks: Tensor, guess: Guess) -> Tensor:
        """Return logits fp32 ``(k, h, w)`` for ``chunks (k, f, h, w, c)`` that began as ``guess``."""
        told = torch.cat([chunks, guess.mean, guess.spread], -1).to(self.read.weight.dtype)
        told = rearrange(told, "k f h w c -> k (f c) h w").contiguous(memory_format=torch.channels_last)
        hidden = self.read(told)
        for layer in self.layers:
            hidden = hidden + layer(F.leaky_relu(hidden, LEAK))
        return self.verdict(F.leaky_relu(hidden, LEAK)).float()[:, 0]


class Lesson(NamedTuple):
    """What a step with the critic came to."""

    gradient: Tensor
    """To be added to the squared error's at the predicted latents, same shape."""
    figures: dict[str, float]
    """For the log."""


class Adversary:
    """The critic in training."""

    def __init__(
        self, config: AdversaryConfig, *, frames: int, channels: int, dtype: torch.dtype, device: str,
        ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Begin with a random critic."""
        self.config = config
        critic = Critic(config, frames=frames, channels=channels).to(device)
        self.ranks = ranks
        self.optimizer = MasterOptimizer(
            critic, config.optimizer, not_matrices=("read", "verdict"), peers=ranks
        )
        self.critic = critic.to(dtype).channels_last()

    def lesson(
        self, predicted: Tensor, guess: Guess, real: Tensor, real_guess: Guess, error: Tensor, *, step: int, steps: int,
        jolt: Tensor,
    ) -> Lesson:  # fmt: skip
        """Train the critic for a step and let it judge.

        Args:
            predicted: latents ``(k, f, h, w, c)`` as the transformer says them, without gradient.
            guess: what their denoising started from.
            real: as many real chunks.
            real_guess: of those.
            error: gradient of the squared error at ``predicted``, whose norm scales the critic's.
            step: of the stage.
            steps: of the stage in all.
            jolt: standard normal, ``(2 * k, f, h, w, c)``.
        """
        fake = predicted.detach().requires_grad_()
        judged_fake = self.critic(Autoencoder.normalise(fake), guess)
        judged_real = self.critic(real, real_guess).detach()
        asked = F.softplus(judged_real - judged_fake).mean()
        (gradient,) = torch.autograd.grad(asked, fake)
        scale = self.config.weight * self.ranks.norm(error) / self.ranks.norm(gradient).clamp(min=1e-12)
        if step < self.config.start:
            scale = scale * 0

        shown = Autoencoder.normalise(fake.detach())
        both = Guess(*(torch.cat(pair) for pair in zip(real_guess, guess, strict=True)))
        pair = torch.cat([real, shown])
        verdict = self.critic(pair, both)
        shaken = self.critic(pair + JOLT * jolt.to(pair.device), both)
        told_apart = F.softplus(verdict[len(real) :] - verdict[: len(real)]).mean()
        penalty = ((shaken - verdict) / JOLT).square().mean()
        (told_apart + self.config.penalty * penalty).backward()
        self.optimizer.step(step, steps)
        right = (verdict[: len(real)] > verdict[len(real) :]).float().mean()
        figures = {"critic": told_apart.item(), "critic_right": right.item(), "critic_penalty": penalty.item()}
        return Lesson(scale * gradient, figures)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
