"""Shortcut forcing (Dreamer 4, arXiv 2509.24527) as pure functions.

``z = (1 - tau) * noise + tau * data`` with signal level tau; the net predicts the data. At the finest step size it is
trained by flow matching; larger steps learn to land where two half steps of the EMA net land (shortcut models, arXiv
2410.12557), so that one net samples in 8, 4, 2 or 1 steps.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.dit import REWARD_BINS, STEP_SIZES, Outcomes

CONTEXT_SIGNAL = 0.9
"""Signal level at which finished chunks are fed back in play: a little noise hides the net's own small errors."""

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noised latents ``(b, k, t, f, h, w, c)``, signal ``(b, k, t)``, step index ``(b, k, t)``) -> predicted data."""


def expand(level: Tensor) -> Tensor:
    """Append the four axes ``f h w c`` to a per-chunk tensor."""
    return level[..., None, None, None, None]


def add_noise(data: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Mix ``data`` and ``noise (..., t, f, h, w, c)`` at per-chunk ``signal (..., t)``."""
    signal = expand(signal)
    return (1 - signal) * noise + signal * data


def velocity(predicted: Tensor, noised: Tensor, signal: Tensor) -> Tensor:
    """Direction of the flow, data minus noise, from a prediction of the data at ``signal`` below 1."""
    return (predicted - noised) / (1 - expand(signal))


def sample_levels(
    shape: tuple[int, ...], largest: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Draw per-chunk signal levels and step indices.

    With ``largest`` 0 every chunk takes the finest step at a uniform level; otherwise each takes one of the larger
    sizes ``d``, up to ``STEP_SIZES[largest]``, at a level on the grid 0, d, 2d, ... 1 - d, where sampling will use it.
    """
    if not largest:
        return torch.rand(shape, generator=generator), torch.zeros(shape, dtype=torch.int64)
    step = torch.randint(1, largest + 1, shape, generator=generator)
    size = torch.tensor(STEP_SIZES)[step]
    signal = torch.floor(torch.rand(shape, generator=generator) / size) * size
    return signal, step


def sample_context_levels(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw signal levels ``(b, t)`` for the context copy: mostly near what play uses, a fifth of clips far worse.

    The noisier clips teach the net to rebuild from a poor past, which is what a long rollout becomes.
    """
    worst = torch.where(torch.rand(shape[0], 1, generator=generator) < 0.2, 0.5, 0.8)
    return worst + (1 - worst) * torch.rand(shape, generator=generator)


def bootstrap_target(noised: Tensor, signal: Tensor, step: Tensor, teacher: Denoiser) -> Tensor:
    """Return the data prediction that makes one step of size d land where the teacher's two half steps land."""
    half = step - 1
    size = torch.tensor(STEP_SIZES, device=step.device)[half]
    first = velocity(teacher(noised, signal, half), noised, signal)
    middle = noised + expand(size) * first
    second = velocity(teacher(middle, signal + size, half), middle, signal + size)
    return noised + (1 - expand(signal)) * (first + second) / 2


def ramp_weight(signal: Tensor) -> Tensor:
    """Loss weight 0.9 tau + 0.1 (Dreamer 4, section 3.2): less weight where little can be known."""
    return 0.9 * signal + 0.1


def denoising_loss(predicted: Tensor, target: Tensor, signal: Tensor) -> Tensor:
    """Weighted mean squared error over everything, in fp32."""
    error = (predicted.float() - target.float()).square().mean((-4, -3, -2, -1))
    return (ramp_weight(signal) * error).mean()


def two_hot(rewards: Tensor) -> Tensor:
    """Split rewards ``(...)`` over their neighbouring bins, ``(..., len(REWARD_BINS))``."""
    bins = torch.tensor(REWARD_BINS, device=rewards.device)
    rewards = rewards.float().clamp(bins[0], bins[-1])
    upper = torch.searchsorted(bins, rewards.contiguous()).clamp(1, len(bins) - 1)
    share = (rewards - bins[upper - 1]) / (bins[upper] - bins[upper - 1])
    low = F.one_hot(upper - 1, len(bins)) * (1 - share)[..., None]
    return low + F.one_hot(upper, len(bins)) * share[..., None]


def expected_reward(logits: Tensor) -> Tensor:
    """Mean of the reward head's distribution, ``(..., bins) -> (...)``."""
    return logits.float().softmax(-1) @ torch.tensor(REWARD_BINS, device=logits.device)


def outcome_loss(outcomes: Outcomes, rewards: Tensor, terminated: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of reward and termination, ``(b, t, f)`` each; ``valid`` leaves out ticks after the end."""
    reward = -(two_hot(rewards) * outcomes.reward.float().log_softmax(-1)).sum(-1)
    ended = F.binary_cross_entropy_with_logits(outcomes.terminated.float(), terminated.float(), reduction="none")
    return ((reward + ended) * valid).sum() / valid.sum().clamp(min=1)
