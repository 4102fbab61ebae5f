"""Shortcut forcing (Dreamer 4, arXiv 2509.24527) as pure functions.

``z = (1 - tau) * source + tau * data`` with signal level tau, the source being noise around the motion guess
(motion.py); the net predicts the data. At the finest step size it is
trained by flow matching; larger steps learn to land where two half steps of the EMA net land (shortcut models, arXiv
2410.12557), so that one net samples in 8, 4, 2 or 1 steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.dit import STEP_SIZES
from latentcraft.model.guess import Guess
from latentcraft.model.outcomes import Outcomes, two_hot

CONTEXT_SIGNAL = 0.9
"""Signal level at which finished chunks are fed back in play: a little noise hides the net's own small errors."""

SCALES = (2, 4)
"""Sides of the squares of latent positions over which errors are pooled besides single positions."""
WORST_WEAR = 0.5
"""Largest amount by which :func:`worn` drifts (latents have unit RMS) and blurs (1 is the blur alone)."""
WEAR_GRID = (3, 5)
"""Cells of the smooth drift over a frame."""

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noised latents ``(b, k, t, f, h, w, c)``, signal ``(b, k, t)``, step index ``(b, k, t)``) -> predicted data."""


def expand(level: Tensor) -> Tensor:
    """Append the four axes ``f h w c`` to a per-chunk tensor."""
    return level[..., None, None, None, None]


def add_noise(data: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Mix ``data`` and ``noise`` (or another source) ``(..., t, f, h, w, c)`` at per-chunk ``signal (..., t)``."""
    signal = expand(signal)
    return (1 - signal) * noise + signal * data


def velocity(predicted: Tensor, noised: Tensor, signal: Tensor) -> Tensor:
    """Direction of the flow, data minus source, from a prediction of the data at ``signal`` below 1."""
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


def sample_grid(shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw step indices of all sizes alike, and for each a level at which sampling uses it; see :func:`sample_levels`.

    Half of them are the last step of a sampler, whose prediction is what is shown.
    """
    step = torch.randint(0, len(STEP_SIZES), shape, generator=generator)
    size = torch.tensor(STEP_SIZES)[step]
    signal = torch.floor(torch.rand(shape, generator=generator) / size) * size
    last = torch.rand(shape, generator=generator) < 0.5
    return torch.where(last, 1 - size, signal), step


def sample_context_levels(shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw signal levels for the context copy: mostly near what play uses, a fifth of clips far worse.

    The noisier clips teach the net to rebuild from a poor past, which is what a long rollout becomes.

    Returns:
        Levels ``(b, t)`` and which clips are the worse ones, ``bool (b,)``.
    """
    worse = torch.rand(shape[0], generator=generator) < 0.2
    lowest = torch.where(worse, 0.5, 0.8)[:, None]
    return lowest + (1 - lowest) * torch.rand(shape, generator=generator), worse


class Wear(NamedTuple):
    """How some clips are to be worn."""

    amount: Tensor
    """Of drift and blur, ``(b, 2)``."""
    drift: Tensor
    """Of colours over a frame, coarse: ``(b, c, *WEAR_GRID)``."""

    @classmethod
    def draw(cls, clips: int, channels: int, share: float, generator: torch.Generator) -> "Wear":
        """Draw it for ``clips``; each has both kinds, either or none, every kind with the probability ``share``."""
        amount = WORST_WEAR * torch.rand((2, clips), generator=generator)
        amount = amount * (torch.rand((2, clips), generator=generator) < share)
        return cls(amount.T, torch.randn((clips, channels, *WEAR_GRID), generator=generator))


def worn(latents: Tensor, wear: Wear) -> Tensor:
    """Wear clips ``(b, t, f, h, w, c)`` as long rollouts wear: colours drift, edges blur.

    A smooth offset is added that stays the same through the clip, and each frame is mixed with its own blur, both by a
    random amount. Shown as context with the true chunk as the target, they teach the net to come back to what the
    world looks like rather than to go on from where a rollout has strayed.
    """
    *_, h, w, _ = latents.shape
    offset, blur = wear.amount.T.to(latents.device)[..., None, None, None, None, None]
    drift = wear.drift.to(latents.device)
    field = F.interpolate(drift, (h, w), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    planes = latents.flatten(0, 2).permute(0, 3, 1, 2)
    smooth = F.avg_pool2d(planes, 3, stride=1, padding=1, count_include_pad=False).permute(0, 2, 3, 1)
    mixed = torch.lerp(latents, smooth.unflatten(0, latents.shape[:3]), blur.expand_as(latents))
    strayed = Autoencoder.normalise(mixed + offset * field[:, None, None])
    touched = (wear.amount > 0).any(1).to(latents.device)
    return torch.where(touched[:, None, None, None, None, None], strayed, latents)


def bootstrap_target(noised: Tensor, signal: Tensor, step: Tensor, teacher: Denoiser) -> Tensor:
    """Return the data prediction that makes one step of size d land where the teacher's two half steps land."""
    half = step - 1
    size = torch.tensor(STEP_SIZES, device=step.device)[half]
    first = velocity(teacher(noised, signal, half), noised, signal)
    middle = noised + expand(size) * first
    second = velocity(teacher(middle, signal + size, half), middle, signal + size)
    return noised + (1 - expand(signal)) * (first + second) / 2


def ramp_weight(signal: Tensor) -> Tensor:
    """Loss weight 0.7 tau + 0.3: less weight where little can be known.

    Dreamer 4 (section 3.2) has 0.9 tau + 0.1. Here noise begins around a guess, and what the guess does not know is
    laid out in the first of few steps.
    """
    return 0.7 * signal + 0.3


def squared_error(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared error of each chunk ``(..., f, h, w, c) -> (...)``, averaged over scales; ``weight``
    ``(..., f, h, w)`` multiplies that of single positions.

    At each scale the error is pooled over squares and weighed by their area, so that white noise counts the same at
    all of them. Errors of fine texture are nearly white; those of shapes and colours are not, and would else be a small
    part of the whole. The best prediction is the conditional mean as ever.
    """
    error = predicted.float() - target.float()
    if weight is not None:
        error = error * weight.sqrt()[..., None]
    total, scales = error.square().mean((-4, -3, -2, -1)), 1
    planes = error.flatten(0, -4).permute(0, 3, 1, 2)
    for side in SCALES:
        if min(planes.shape[-2:]) >= side:
            pooled = F.avg_pool2d(planes, side).square().mean((-3, -2, -1))
            total = total + side**2 * pooled.view(error.shape[:-3]).mean(-1)
            scales += 1
    return total / scales


def denoising_loss(predicted: Tensor, target: Tensor, signal: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over chunks of :func:`squared_error`, weighed by :func:`ramp_weight`, in fp32."""
    return (ramp_weight(signal) * squared_error(predicted, target, weight)).mean()


def motion_loss(guess: Guess, target: Tensor) -> Tensor:
    """Negative log-likelihood of the truth under the guess, without its constant.

    The squared error alone teaches the correlation too little where the guess is nearly right: on a still picture with
    an error of 0.04 it left a variance of 0.28, noise that denoising then had to undo.
    """
    variance = guess.spread.square()
    error = (guess.mean - target).square().mean(-1, keepdim=True)
    return (error / variance + variance.log()).mean() / 2


def until_the_end(terminated: Tensor) -> Tensor:
    """Return which frames of ``(b, t, f)`` anyone lives: the first end counts, what follows does not."""
    ended = terminated.flatten(1)
    count = ended.cumsum(1)
    return ((count == 0) | ((count == 1) & ended)).view_as(terminated)


def outcome_loss(outcomes: Outcomes, rewards: Tensor, terminated: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of reward and termination, ``(b, t, f)`` each; ``valid`` leaves out ticks after the end."""
    reward = -(two_hot(rewards) * outcomes.reward.float().log_softmax(-1)).sum(-1)
    ended = F.binary_cross_entropy_with_logits(outcomes.terminated.float(), terminated.float(), reduction="none")
    return ((reward + ended) * valid).sum() / valid.sum().clamp(min=1)
