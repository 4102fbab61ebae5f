"""Stage 12: the touch learns what a hand leaves behind, from the moments at which it changed something.

Such moments are few, and all that comes before them in a dream (memory, flow, the judge) is frozen by now. So they are
gathered once, each with the guess that denoising starts from, and then seen again and again under other noise.

There is no critic here: one that began beside it was fooled within 150 steps, and what was dug became a mosaic.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import digest
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.in_frame import hand_region
from latentcraft.model.latents import LatentDataset
from latentcraft.model.objective import Wear, add_noise, sample_grid, squared_error, worn
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.touch import Touch
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.rollout import dream_along
from latentcraft.model.train.samples import save_rows

CONTEXT = 2
"""Chunks that memory has seen before the one in which something changes."""
CHECKED = 96
"""Held-out moments that are looked at."""
TOGETHER = 16
"""Clips that are gathered at once."""
NOT_MATRICES = ("read", "met", "glance", "modulation", "write")
"""Weights that Muon leaves alone, see :class:`latentcraft.model.optimizer.MasterOptimizer`."""


@dataclass(frozen=True)
class TouchStageConfig:
    """Training of the touch."""

    steps: int = 0
    """Optimiser steps; 0 leaves it as the transformer's stage made it."""
    batch: int = 48
    """Moments a step."""
    moments: int = 8000
    """Moments that are gathered, in about 10 minutes on two cores; more are not there in a set that has fewer."""
    own_share: float = 0.0
    """Share of moments before which the net has dreamed by itself: what a hand works on looks otherwise there, and
    often lacks its outline. It takes four times as long to gather them, and many such dreams have strayed too far to
    learn from: 390 steps with three quarters of them made recorded moments worse and dreams no better."""
    own_chunks: int = 4
    """For how many chunks it has."""
    guessed_share: float = 0.25
    """Of the others, the share in which nobody knows where the hand worked, as in play: it is taken to be what memory
    has in the middle of the view."""
    wear_share: float = 0.15
    """Of the others, the share of pasts whose colours drift, and of those that blur, as dreamed ones do."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.02, other_lr=1e-3, warmup=30, decay_share=0.5, ema=0.99)
    )
    """Step sizes."""


class Moments(NamedTuple):
    """Chunks in which a hand changed something; leading axis ``k``."""

    latents: Tensor
    """What came, ``float16 (k, f, h, w, c)``."""
    past: Tensor
    """The chunk before, as it was shown to the nets, same shape."""
    guess: Guess
    """``float16``."""
    actions: Tensor
    """``(k, f, a)``."""
    task: Tensor
    """``int64 (k,)``."""

    def pick(self, index: Tensor, device: str) -> "Moments":
        """Return some of them in fp32."""
        guess = Guess(*(part[index].float().to(device) for part in self.guess))
        latents, past, actions = (part[index].float().to(device) for part in (self.latents, self.past, self.actions))
        return Moments(latents, past, guess, actions, self.task[index].to(device))


@torch.no_grad()
def gather(
    data: LatentDataset, guesser: Guesser, dit: SpacetimeDiT, config: TouchStageConfig, count: int,
    generator: torch.Generator, *, device: str = "cpu", quiet: bool = True,
) -> Moments:  # fmt: skip
    """Gather ``count`` moments of ``data``, or all if there are fewer, with what the nets make of the chunks before.

    Raises:
        UserError: ``data`` has none.
    """
    chunk, before = dit.config.chunk, CONTEXT + (config.own_chunks if config.own_share else 0)
    first, length = data.spans.unbind(-1)
    moment, owner = data.deeds.unbind(-1)
    phase = torch.randint(chunk, (len(moment),), generator=generator)
    start = moment - phase - before * chunk
    fits = (start >= first[owner]) & (start + (before + 1) * chunk <= (first + length)[owner])
    start = start[fits]
    if not len(start):
        raise UserError("no episode tells what a hand did; record some, or set touch.steps=0")
    start = start[torch.randperm(len(start), generator=generator)[:count]]
    parts: list[Moments] = []
    for some in tqdm(start.split(TOGETHER), desc="gather", unit="batch", mininterval=2.0, disable=quiet):
        own = torch.rand((), generator=generator).item() < config.own_share
        clips = data.clips(some, before + 1, chunk).to(device)
        if own:
            begins = torch.full((len(some),), CONTEXT, device=device)
            *_, previous, last = dream_along(dit, guesser, clips, begins, generator, steps=1)
            past, guess = previous.chunk, last.guess
        else:
            clips = clips.last(CONTEXT + 1)
            wear = Wear.draw(len(some), clips.latents.shape[-1], config.wear_share, generator)
            shown = torch.cat([torch.zeros_like(clips.latents[:, :1]), worn(clips.latents[:, :-1], wear)], 1)
            guessed = torch.rand(len(some), generator=generator) < config.guessed_share
            spots = torch.where(guessed[:, None, None, None, None].to(device), torch.nan, clips.spots)
            guess = guesser.along(shown, clips.actions, eyes=clips.eyes, changes=clips.changes, spots=spots)
            past, guess = shown[:, -1], Guess(*(part[:, -1] for part in guess))
        parts.append(
            Moments(
                clips.latents[:, -1].half().cpu(), past.half().cpu(), Guess(*(part.half().cpu() for part in guess)),
                clips.actions[:, -1].cpu(), clips.task.cpu(),
            )
        )  # fmt: skip
    guess = Guess(*(torch.cat(entries) for entries in zip(*(part.guess for part in parts), strict=True)))
    latents, past, actions, task = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "past", "actions", "task")
    )
    return Moments(latents, past, guess, actions, task)


class TouchStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "touch"

    def __init__(
        self, config: TouchStageConfig, data: LatentDataset, held_out: LatentDataset, guesser: Guesser,
        dit: SpacetimeDiT, *, seed: int, dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
        idle: bool = False,
    ):  # fmt: skip
        """Gather moments, unless there is nothing left to learn (``idle``), and train the touch of ``dit`` on them.

        Raises:
            UserError: no episode tells what a hand did.
        """
        assert dit.touch is not None
        torch.manual_seed(seed)
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.guesser, self.dit = guesser, dit.to(dtype).requires_grad_(False)
        nets: list[nn.Module] = [guesser.autoencoder, guesser.motion]
        nets.append(nn.ModuleDict({name: part for name, part in dit.named_children() if name != "touch"}))
        if guesser.scene is not None:
            nets.append(guesser.scene.depth)
        self.grounds = "".join(map(digest, nets))
        self.network = copy.deepcopy(dit.touch).float().requires_grad_(True)
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=NOT_MATRICES, peers=ranks)
        self.network.to(dtype)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        if idle:
            return
        generator = torch.Generator().manual_seed(seed)
        data, told, quiet = data.that_tell(), held_out.that_tell(), not ranks.first
        self.moments = gather(
            data, guesser, self.dit, config, config.moments, generator, device=device, quiet=quiet
        )  # fmt: skip
        told = told if len(told.deeds) else data
        self.check = gather(told, guesser, self.dit, config, CHECKED, generator, device=device)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        batch, share = self.config.batch, self.ranks.share
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        index = torch.randint(len(self.moments.latents), (batch,), generator=generator)
        moments = self.moments.pick(share(index), self.device)
        signal, size = map(share, sample_grid((batch,), generator))
        shape = moments.latents.shape[1:]
        noise = share(torch.randn((batch, *shape), generator=generator)).to(self.device)
        predicted = self.predict(self.network, moments, signal.to(self.device), size.to(self.device), noise)
        loss = self.missed(predicted, moments)
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def predict(self, network: Touch, moments: Moments, signal: Tensor, size: Tensor, noise: Tensor) -> Tensor:
        """Predict the chunks ``(k, f, h, w, c)`` from ``noise`` at levels ``signal (k,)`` and steps ``size (k,)``."""
        guess = moments.guess
        noised = add_noise(moments.latents[:, None], guess.draw(noise)[:, None], signal[:, None])[:, 0]
        with torch.no_grad():
            condition = self.dit.conditioned(
                signal[:, None, None], size[:, None, None], moments.actions[:, None], moments.task
            )[:, 0, 0]
        drawn = network(noised, guess, moments.past, condition)
        return guess.mean + guess.spread * drawn

    @staticmethod
    def missed(predicted: Tensor, moments: Moments) -> Tensor:
        """Squared error where the hand changed something, at several scales."""
        guess = moments.guess
        where = hand_region(guess.changes, guess.holds, *predicted.shape[2:4])[..., 0].float()
        return squared_error(predicted, moments.latents, where / where.mean()).mean()

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Error of the first prediction from noise on held-out moments, and of the guess; sample rows."""
        moments = self.check.pick(torch.arange(len(self.check.latents)), self.device)
        noise = torch.randn(moments.latents.shape, generator=torch.Generator().manual_seed(self.seed)).to(self.device)
        nothing = torch.zeros(len(noise), device=self.device)
        predicted = self.predict(self.average, moments, nothing, nothing.long() + 1, noise)
        where = hand_region(moments.guess.changes, moments.guess.holds, *noise.shape[2:4])
        shown = torch.where(where, predicted, moments.latents)
        decode = self.guesser.autoencoder.decode
        rows = [
            torch.cat([decode(part[index, -1:]) for part in (moments.past, moments.guess.mean, shown, moments.latents)])
            for index in range(min(12, len(noise)))
        ]
        save_rows([row.cpu() for row in rows], directory / f"touch-{step:06d}.png")
        return {
            "from_noise": self.missed(predicted, moments).item(),
            "guessed": self.missed(moments.guess.mean, moments).item(),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "grounds": self.grounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["grounds"] != self.grounds:
            raise UserError("it learned on the guesses of other nets than the run now has")
        self.optimizer.load_state_dict(state)

    def result(self) -> SpacetimeDiT:
        """Return the transformer with the averaged touch, in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        assert self.dit.touch is not None
        self.dit.touch.load_state_dict(self.average.state_dict())
        return self.dit.requires_grad_(False).eval()
