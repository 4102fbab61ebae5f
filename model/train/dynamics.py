"""Stage 11: the transformer learns to dream the next chunk, and what it pays."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder
from latentcraft.model.checkpoint import digest
from latentcraft.model.dit import STEP_SIZES, DiTConfig, SpacetimeDiT, before
from latentcraft.model.guess import Guess, surprise
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import Clips, LatentDataset
from latentcraft.model.motion import Motion
from latentcraft.model.objective import (
    CONTEXT_SIGNAL,
    Denoiser,
    Wear,
    add_noise,
    bootstrap_target,
    denoising_loss,
    outcome_loss,
    sample_context_levels,
    sample_grid,
    sample_levels,
    until_the_end,
    worn,
)
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.place import NEWS
from latentcraft.model.sampler import commit, denoise
from latentcraft.model.scene import Scene
from latentcraft.model.train.adversary import Adversary, AdversaryConfig
from latentcraft.model.train.compiled import compiled
from latentcraft.model.train.noised import Noised
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.rollout import dream_along
from latentcraft.model.train.samples import save_rows

FREE_CHUNKS = 10
"""Chunks that are dreamed without any guidance at most."""
OWN_STEPS = 2
"""Denoising steps of the net's own rollouts in training; fewer are cheaper and err a little more."""
NOT_MATRICES = (
    "embed", "signal.", "step.", "action.", "task.", "modulation", "final", "outcome", "refiner.read", "refiner.write",
    "touch.read", "touch.write",
)  # fmt: skip
"""Weights of the transformer that Muon leaves alone, see :class:`latentcraft.model.optimizer.MasterOptimizer`."""


@dataclass(frozen=True)
class DynamicsStageConfig:
    """Training of the transformer."""

    steps: int = 6000
    """Optimiser steps."""
    batch: int = 2
    """Clips a step."""
    clip_chunks: int = 0
    """Length of a clip; 0 is ``model.context``. Short ones cost less, so that more things happen in a second of
    training; what lies further back is then learned from other runs, or not at all."""
    copies: int = 2
    """Noised copies of each clip; they share the clean copy's work, so two cost 1.5 times one."""
    bootstrap_share: float = 0.25
    """Share of steps that train the larger step sizes."""
    bootstrap_start: int = 2000
    """Step at which they begin, with the smallest of the larger sizes; before, their teacher knows nothing."""
    bootstrap_stage: int = 500
    """Steps until the next larger size joins. All at once from step 800, each learning from half steps that nobody had
    trained yet, raised the validation loss from 0.347 to 0.374."""
    own_share: float = 0.25
    """Share of steps whose context the net dreamed itself from some chunk on, so that it learns to come back from its
    own mistakes and not only to go on from perfect pasts (the lever of DIAMOND's CSGO model and of Self-Forcing)."""
    own_chunks: int = 16
    """Length of those clips, of which the last ``clip_chunks`` are trained on. Longer ones show what the
    net makes of a world after a while; at 24 such a step took 5 to 7 s on two cores and not 1.4."""
    guided_share: float = 0.75
    """Share of those clips that dream for long and are shown the truth wherever the motion guess knows next to nothing
    (what comes into view). Without that a dream soon shows another world than the truth it is held against, and would
    learn to mistrust what it sees; so the other clips dream freely, but for their last :data:`FREE_CHUNKS` at most."""
    own_start: int = 1000
    """Step at which they begin; before, what the net makes teaches nothing."""
    deed_share: float = 0.3
    """Share of clips drawn around ticks at which something was dug or placed, besides those that are by chance. A net
    that had seen few of them grew coloured rubbish round the crosshair within half a second of digging."""
    news_weight: float = 0.0
    """Additional weight of the squared error wherever the truth is news (:data:`latentcraft.model.place.NEWS`) to the
    guess: something broke, was placed or came into view."""
    wear_share: float = 0.15
    """Share of clips whose context drifts in colour, and of those that blur, as long rollouts do."""
    action_dropout: float = 0.1
    """Share of clips whose actions are hidden, so that the net also models video without them."""
    outcome_weight: float = 0.1
    """Weight of the reward and termination losses."""
    grid_share: float = 0.0
    """Share of steps that show every step size at the levels at which sampling will use it, with the truth as the
    target. In place of bootstrapping where a critic asks for real-looking predictions: those are right at any size."""
    adversary: AdversaryConfig = field(default_factory=lambda: AdversaryConfig(weight=0.0))
    """The critic."""
    compile: bool = True
    """Fuse elementwise chains with ``torch.compile`` (about 1.5 times faster); falls back where no compiler is."""
    sample_steps: int = 4
    """Denoising steps of the sample film strips."""
    model: DiTConfig = field(default_factory=DiTConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Step sizes."""


def flat(part: Any) -> Any:
    """Join the first two axes, of clips and chunks, of a tensor or a guess."""
    return Guess(*(entry.flatten(0, 1) for entry in part)) if isinstance(part, Guess) else part.flatten(0, 1)


class DynamicsStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "dynamics"

    def __init__(
        self, config: DynamicsStageConfig, data: LatentDataset, held_out: LatentDataset, autoencoder: Autoencoder,
        motion: Motion, scene: Scene | None = None, *, seed: int, dtype: torch.dtype, device: str = "cpu",
        ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``."""
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.device, self.ranks = config, seed, data, device, ranks
        self.autoencoder, self.guess = autoencoder, Guesser(autoencoder, motion, scene)
        self.grounds = digest(autoencoder) + digest(motion) + (digest(scene.depth) if scene is not None else "")
        model = config.model
        network = SpacetimeDiT(model).to(device)
        # Masters are taken in fp32, before the network itself is rounded.
        self.optimizer = MasterOptimizer(
            network, config.optimizer, not_matrices=NOT_MATRICES, peers=ranks
        )
        self.network = network.to(dtype=dtype)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.adversary = None
        if config.adversary.weight:
            self.adversary = Adversary(
                config.adversary, frames=model.chunk, channels=model.channels, dtype=dtype, device=device,
                ranks=ranks,
            )  # fmt: skip
        self.forward = compiled(self.network) if config.compile else self.network
        self.teach = compiled(self.average) if config.compile else self.average
        self.check = held_out.sample(8, model.context, model.chunk, torch.Generator().manual_seed(seed)).to(device)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, model, share = self.config, self.config.model, self.ranks.share
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        own = torch.rand((), generator=generator).item() < config.own_share and step >= config.own_start
        window = config.clip_chunks or model.context
        length = max(window, min(config.own_chunks, self.data.longest // model.chunk)) if own else window
        clips = self.data.sample(
            config.batch, length, model.chunk, generator, deed_share=config.deed_share, mine=self.ranks.mine
        ).to(self.device)  # fmt: skip
        draw = torch.rand((), generator=generator).item()
        stage = 1 + (step - config.bootstrap_start) // config.bootstrap_stage
        largest = min(stage, len(STEP_SIZES) - 1) if stage > 0 and draw < config.bootstrap_share else 0
        shape = (config.batch, config.copies, window)
        grid = not largest and torch.rand((), generator=generator).item() < config.grid_share
        levels_of = sample_grid(shape, generator) if grid else sample_levels(shape, largest, generator)
        signal, size = (share(part).to(self.device) for part in levels_of)
        has_actions = share(torch.rand(config.batch, generator=generator) >= config.action_dropout)
        levels, worse = map(share, sample_context_levels((config.batch, window), generator))
        finished = clips.latents
        if own:
            finished = self.own_rollout(clips, has_actions, generator)[:, -window:]
            clips = clips.last(window)
        wear = Wear.draw(config.batch, model.channels, config.wear_share, generator)
        finished = worn(finished, Wear(*map(share, wear)))
        # In the worse clips what the next chunk is moved from is poor too.
        whole = (config.batch, *finished.shape[1:])  # of all processes
        noise = share(torch.randn(whole, generator=generator)).to(self.device)
        poor = add_noise(finished, noise, levels.to(self.device))
        past = before(torch.where(worse.to(self.device)[:, None, None, None, None, None], poor, finished))
        guess = self.guess.along(
            past, clips.actions, has_actions.to(self.device), eyes=clips.eyes, changes=clips.changes, spots=clips.spots
        )  # fmt: skip
        noise = share(torch.randn((config.batch, 1 + config.copies, *whole[1:]), generator=generator))
        batch = Noised.make(clips, finished, past, guess, signal, size, levels, has_actions, noise)

        target = clips.latents[:, None]
        if largest:
            with torch.no_grad():
                self.optimizer.copy_average_to(self.average)
                target = bootstrap_target(batch.latents[:, 1:], signal, size, self.teacher(batch))
        alone = self.adversary is not None and step < config.adversary.alone
        with torch.set_grad_enabled(not alone):
            prediction = batch.run(self.forward)
        weight = None
        if config.news_weight:
            weight = (1 + config.news_weight * (surprise(clips.latents, guess) > NEWS))[:, None]
        denoising = denoising_loss(prediction.latents[:, 1:], target, signal, weight)
        valid = until_the_end(clips.terminated)
        outcome = outcome_loss(prediction.outcomes, clips.rewards, clips.terminated, valid)
        outcome = outcome * self.ranks.weight(valid.sum())
        figures = {"bootstrap" if largest else "loss": denoising.item(), "outcome": outcome.item()}
        objective = denoising + config.outcome_weight * outcome
        if self.adversary is not None:
            dreamed = prediction.latents[:, 1]
            error = torch.zeros_like(dreamed)
            if not alone:
                error = torch.autograd.grad(denoising, prediction.latents, retain_graph=True)[0][:, 1]
            real_guess = guess
            if own:  # the critic must see real chunks with the guesses of a real past
                real_guess = self.guess.along(
                    before(clips.latents), clips.actions, eyes=clips.eyes, changes=clips.changes, spots=clips.spots
                )  # fmt: skip
            jolt = share(torch.randn((2, *whole), generator=generator), axis=1).flatten(0, 2)
            lesson = self.adversary.lesson(
                *(flat(part) for part in (dreamed, guess, clips.latents, real_guess, error)),
                step=step, steps=steps, jolt=jolt,
            )  # fmt: skip
            figures |= lesson.figures
            if alone:
                return figures | {"norm": 0.0}
            # Adds the critic's gradient to that of the squared error.
            objective = objective + (dreamed * lesson.gradient.view_as(dreamed)).sum()
        objective.backward()
        first = config.adversary.alone if self.adversary is not None else 0
        return figures | {"norm": self.optimizer.step(step - first, steps - first)}

    @torch.no_grad()
    def own_rollout(self, clips: Clips, has_actions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return ``clips``' latents, from a random chunk on as the net itself dreams them under the same actions, with
        a memory of what it showed, as in play.
        """
        b, t = clips.latents.shape[:2]
        share, whole = self.ranks.share, b * self.ranks.count
        guided = share(torch.rand(whole, generator=generator)) < self.config.guided_share
        part = share(torch.rand(whole, generator=generator))
        first = torch.where(guided, 1 + part * (t // 2), t - 1 - part * min(FREE_CHUNKS, t - 1)).long()
        along = dream_along(
            self.network, self.guess, clips, first.to(self.device), generator, steps=OWN_STEPS,
            has_actions=has_actions.to(self.device), guided=guided.to(self.device), ranks=self.ranks,
        )  # fmt: skip
        return torch.stack([dreamt.chunk for dreamt in along], 1)

    def teacher(self, batch: Noised) -> Denoiser:
        """Return the averaged net as a denoiser of other copies beside ``batch``'s context."""
        return lambda z, level, index: batch.replace_copies(z, level, index).run(self.teach).latents[:, 1:].float()

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Loss from pure noise on held-out clips, with true and shuffled actions; sample film strips."""
        clips, b = self.check, len(self.check.latents)
        t = self.config.model.context
        generator = torch.Generator().manual_seed(self.seed)
        levels = torch.full((b, t), CONTEXT_SIGNAL)
        signal = torch.zeros(b, 1, t, device=self.device)
        size = torch.zeros(b, 1, t, dtype=torch.int64, device=self.device)
        past = before(clips.latents)
        noise = torch.randn((b, 2, *clips.latents.shape[1:]), generator=generator)

        def from_noise(actions: torch.Tensor) -> float:
            guess = self.guess.along(
                past, actions, eyes=clips.eyes, predict=True, changes=clips.changes, spots=clips.spots
            )
            batch = Noised.make(
                clips._replace(actions=actions), clips.latents, past, guess, signal, size, levels,
                torch.ones(b, dtype=torch.bool), noise,
            )  # fmt: skip
            predicted = batch.run(self.average).latents[:, 1]
            # The first chunks have no past to speak of; only the rest says something about dynamics.
            return (predicted - clips.latents)[:, 2:].square().mean().item()

        true, shuffled = from_noise(clips.actions), from_noise(clips.actions.roll(1, 0))
        guess = self.guess.along(
            past, clips.actions, eyes=clips.eyes, predict=True, changes=clips.changes, spots=clips.spots
        )
        moved = (guess.mean - clips.latents)[:, 2:].square().mean().item()
        self.save_strip(directory / f"dynamics-{step:06d}.png")
        return {"from_noise": true, "moved": moved, "shuffled_ratio": shuffled / true}

    @torch.no_grad()
    def save_strip(self, path: Path, *, context: int = 4, shown: int = 4) -> None:
        """Roll out held-out clips with their true actions; rows: truth, then dream, frames 4 ticks apart."""
        clips, t = self.check, self.config.model.context
        latents = clips.latents[:shown]
        b, _, _, h, w, _ = latents.shape
        cache = self.average.empty_cache(b, (h, w))
        generator = torch.Generator().manual_seed(self.seed)
        rows, last = [], None
        places = [self.guess.place((DOWNSAMPLING * h, DOWNSAMPLING * w)) for _ in range(b)]
        for index in range(t):
            actions, task = clips.actions[:shown, index], clips.task[:shown]
            noise, context_noise = torch.randn((2, *latents[:, 0].shape), generator=generator).to(latents.device)
            chunk = latents[:, index]
            changes = clips.changes[:shown, index]
            guess = self.guess(cache.last, actions, places=places, shown=last, changes=changes)
            if index >= context:
                chunk = denoise(self.average, cache, guess, noise, actions, steps=self.config.sample_steps, task=task)
            commit(self.average, cache, guess, chunk, context_noise, actions, task=task)
            last = self.guess.show(self.guess.draw(chunk[:, -1:]).frames, chunk, guess, places)[:, -1]
            rows.append(torch.from_numpy(last.copy()))
        dream = torch.stack(rows, 1)
        truth = self.autoencoder.decode(latents[:, :, -1].flatten(0, 1)).unflatten(0, (b, t))
        shown_chunks = [index for index in range(context - 1, t) if (index - context + 1) % 2 == 0]
        pairs = [row.cpu() for i in range(b) for row in (truth[i, shown_chunks], dream[i, shown_chunks])]
        save_rows(pairs, path)

    def state_dict(self) -> dict[str, Any]:
        critic = {} if self.adversary is None else {"critic": self.adversary.state_dict()}
        return {**self.optimizer.state_dict(), "grounds": self.grounds, **critic}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["grounds"] != self.grounds:
            raise UserError("it learned with another autoencoder, scene or motion net than the run now has")
        self.optimizer.load_state_dict(state)
        if self.adversary is not None:
            if "critic" not in state:
                raise UserError("it learned without a critic; set dynamics.adversary.weight=0 to go on so")
            self.adversary.load_state_dict(state["critic"])

    def result(self) -> SpacetimeDiT:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average
