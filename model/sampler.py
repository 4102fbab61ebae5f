"""Streaming: denoise the next chunk against the cache, then commit it to the cache. Used in play and in training."""

import torch
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.attention import KVCache
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.dit import STEP_SIZES, SpacetimeDiT
from latentcraft.model.guess import Guess
from latentcraft.model.objective import CONTEXT_SIGNAL, add_noise, velocity
from latentcraft.model.outcomes import Outcomes

STEPS: tuple[int, ...] = tuple(round(1 / size) for size in STEP_SIZES[::-1])
"""Numbers of denoising steps a net can be asked for: 1, 2, 4, 8."""
TEMPERATURE = 0.5
"""Scale of the starting noise. Below 1 a dream is a little smoother and strays later."""


@torch.no_grad()
def denoise(
    dit: SpacetimeDiT, cache: KVCache, guess: Guess, noise: Tensor, actions: Tensor, *, steps: int,
    task: Tensor | None = None, has_actions: Tensor | None = None, temperature: float = TEMPERATURE,
) -> Tensor:  # fmt: skip
    """Dream the chunk that follows the cache.

    Args:
        dit: the net.
        cache: finished chunks; only read.
        guess: of the chunk, ``(b, f, h, w, ...)``: what denoising starts from.
        noise: standard normal ``(b, f, h, w, c)``; the result is a function of it.
        actions: ``(b, f, a)``.
        steps: 1, 2, 4 or 8.
        task: see :meth:`SpacetimeDiT.forward`.
        has_actions: see :meth:`SpacetimeDiT.forward`.
        temperature: scale of the noise that denoising starts from; 0 starts from the guess's mean.

    Returns:
        Clean latents ``(b, f, h, w, c)`` in fp32, each position of unit RMS.

    Raises:
        UserError: ``steps`` is not one of :data:`STEPS`.
    """
    if steps not in STEPS:
        raise UserError(f"steps must be one of {', '.join(map(str, STEPS))}, got {steps}")
    b = len(noise)
    size = 1 / steps
    signals = (torch.arange(steps, device=noise.device) * size).expand(b, steps)[..., None]
    step = torch.full((b, steps, 1), STEP_SIZES.index(size), dtype=torch.int64, device=noise.device)
    if has_actions is None:
        has_actions = torch.ones(b, dtype=torch.bool, device=noise.device)
    if task is None:
        task = torch.zeros(b, dtype=torch.int64, device=noise.device)
    held = actions[:, None]
    guess = guess.add_axis(1)
    told = dit.prepare(signals, step, held, has_actions, task, guess, cache.last[:, None], ahead=not noise.is_cuda)
    z = guess.draw(temperature * noise.float()[:, None])[:, None]  # (b, 1, 1, f, h, w, c)
    for index in range(steps):
        signal = signals[:, index : index + 1]
        predicted = dit(
            z, signal, step[:, :1], held, has_actions=has_actions, task=task, cache=cache, guess=guess,
            told=told.of_copy(index),
        ).latents  # fmt: skip
        z = z + size * velocity(predicted.float(), z, signal)
    # Real latents have unit RMS at each position, so a dreamed one is put back on that sphere.
    return Autoencoder.normalise(z[:, 0, 0])


def commit(
    dit: SpacetimeDiT, cache: KVCache, guess: Guess, latents: Tensor, noise: Tensor, actions: Tensor, *,
    task: Tensor | None = None, has_actions: Tensor | None = None, signal: float = CONTEXT_SIGNAL,
) -> Outcomes:  # fmt: skip
    """Append a finished chunk to the cache; returns its reward and termination logits, with gradients if heads learn.

    Keys and values are of the chunk slightly noised, since a perfect past is not what a long rollout has; the chunk
    itself, which the next one is moved from, stays sharp.

    Args:
        dit: the net.
        cache: gets the chunk's keys and values.
        guess: what the chunk's denoising started from.
        latents: ``(b, f, h, w, c)``.
        noise: standard normal, same shape.
        actions: ``(b, f, a)`` that led to the chunk.
        task: see :meth:`SpacetimeDiT.forward`.
        has_actions: see :meth:`SpacetimeDiT.forward`.
        signal: signal level of the keys and values.
    """
    b = len(latents)
    level = torch.full((b, 1, 1), signal, device=latents.device)
    z = add_noise(latents.float()[:, None, None], noise.float()[:, None, None], level)
    step = torch.zeros((b, 1, 1), dtype=torch.int64, device=latents.device)
    prediction = dit(
        z, level, step, actions[:, None], has_actions=has_actions, task=task, cache=cache, guess=guess.add_axis(1),
        details=False,
    )  # fmt: skip
    cache.append(prediction.keys, prediction.values, latents)
    return Outcomes(prediction.outcomes.reward[:, 0], prediction.outcomes.terminated[:, 0])
