"""The net's own dreams of recorded clips: the same actions, and a memory of what it showed, as in play."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import Clips
from latentcraft.model.outcomes import Outcomes
from latentcraft.model.sampler import commit, denoise
from latentcraft.model.train.ranks import ALONE, Ranks

UNKNOWN = 0.9
"""Spread of the motion guess from which on a position counts as unknown (a correlation of 0.44)."""


class Dreamt(NamedTuple):
    """A chunk of clips along which a net dreams."""

    chunk: torch.Tensor
    """True or dreamed, ``(b, f, h, w, c)``."""
    outcomes: Outcomes
    """What the heads say of it."""
    guess: Guess
    """What its denoising started from, or would have."""


def dream_along(
    network: SpacetimeDiT, guesser: Guesser, clips: Clips, first: torch.Tensor, generator: torch.Generator, *,
    steps: int, has_actions: torch.Tensor | None = None, guided: torch.Tensor | None = None, ranks: Ranks = ALONE,
    told: bool = True,
) -> Iterator[Dreamt]:  # fmt: skip
    """Go through ``clips`` chunk by chunk: true ones at first, from then on as the net dreams them.

    Only the outcomes can have gradients, where the net's weights ask for them.

    Args:
        network: the net.
        guesser: of its next chunks.
        clips: ``b`` of them.
        first: index of each clip's first dreamed chunk, ``int64 (b,)``.
        generator: of the noise of all processes.
        steps: denoising steps.
        has_actions: ``bool (b,)``, whose actions are told; None tells all.
        guided: ``bool (b,)``, which are shown the truth wherever the guess knows next to nothing; None guides none.
        ranks: processes that share the batch.
        told: what the hand changes, and where, is known from the recording; False lets the hand net say, as in play.

    Yields:
        One chunk after the other.
    """
    b, _, *shape = clips.latents.shape
    cache = network.empty_cache(b, (shape[1], shape[2]))
    places = [guesser.place((DOWNSAMPLING * shape[1], DOWNSAMPLING * shape[2])) for _ in range(b)]
    shown = None
    for index, truth in enumerate(clips.latents.unbind(1)):
        chunk, actions = truth, clips.actions[:, index]
        noise = torch.randn((2, b * ranks.count, *shape), generator=generator)
        fresh, context_noise = ranks.share(noise, axis=1).to(truth.device)
        with torch.no_grad():
            eyes, changes = clips.eyes[:, index], clips.changes[:, index] if told else None
            guess = guesser(
                cache.last, actions, has_actions, places=places, eyes=eyes, shown=shown, changes=changes,
                spots=clips.spots[:, index] if told else None,
            )  # fmt: skip
            for place, own in zip(places, (index >= first).tolist(), strict=True):
                guesser.look_ahead([place], given=not own)
            dreaming = (index >= first)[:, None, None, None, None]
            if dreaming.any():
                dream = denoise(
                    network, cache, guess, fresh, actions, steps=steps, task=clips.task, has_actions=has_actions
                )
                if guided is not None:
                    dreaming = dreaming & ~(guided[:, None, None, None, None] & (guess.spread > UNKNOWN))
                chunk = torch.where(dreaming, dream, truth)
        outcomes = commit(
            network, cache, guess, chunk, context_noise, actions, task=clips.task, has_actions=has_actions
        )
        with torch.no_grad():
            shown = guesser.show(guesser.draw(chunk[:, -1:]).frames, chunk, guess, places)[:, -1]
        yield Dreamt(chunk, outcomes, guess)
