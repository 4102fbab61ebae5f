"""Last stage: the heads learn what is paid in the net's own dreams.

The transformer's stage teaches them on recorded pictures, and more often than by chance on those that pay; in a dream
they see other pictures, as often as they come, and the hand's changes are those that the hand net says. Here the net
dreams along recorded clips, drawn by chance, and only the heads learn: from the features of its dreams, what the same
actions were paid in truth. That is right for players like those of the recordings; to train an agent, record some of
its own play too (``latentcraft record player=FILE``).
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import digest
from latentcraft.model.dit import REWARD_BINS, Outcomes, SpacetimeDiT
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import Clips, LatentDataset
from latentcraft.model.objective import outcome_loss, until_the_end
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.rollout import dream_along

DENOISING = (1, 2, 4)
"""Denoising steps of the dreams, drawn for each step of training: one step makes other pictures than four."""
DEED = 0.5
"""Reward of a tick from which on something was done for it, rather than come nearer to."""
HEADS = ("outcome_token", "outcome_hand", "outcome")
"""Parts of the transformer that learn."""


@dataclass(frozen=True)
class OutcomesStageConfig:
    """Training of the heads on dreams."""

    steps: int = 0
    """Optimiser steps; 0 leaves the heads as the transformer's stage made them."""
    batch: int = 8
    """Clips a step, of episodes of tasks that pay."""
    chunks: int = 24
    """Length of a clip; at least one chunk is true, and half of them are dreamed at least."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(other_lr=3e-4, warmup=20, ema=0.99))
    """Step sizes; heads have no matrices for Muon."""


class OutcomesStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "outcomes"

    def __init__(
        self, config: OutcomesStageConfig, data: LatentDataset, held_out: LatentDataset, guesser: Guesser,
        dit: SpacetimeDiT, *, seed: int, dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train the heads of ``dit``, whose other parts are frozen.

        Raises:
            UserError: nothing was recorded of a task that pays, or ``dit`` has no heads.
        """
        if not dit.heads:
            raise UserError("outcomes.steps needs a net with reward and termination heads; set outcomes.steps=0")
        torch.manual_seed(seed)
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.guesser, self.dit = guesser, dit.to(dtype).requires_grad_(False)
        self.grounds = digest(nn.ModuleDict({k: v for k, v in dit.named_children() if k not in HEADS}))
        paying = [number for name, number in TASK_INDEX.items() if name != "free"]
        self.data, self.held_out = data.of_tasks(paying), held_out.of_tasks(paying)
        if not len(self.data.spans):
            raise UserError("the episodes have no task that pays; record some (task=mix), or set outcomes.steps=0")
        if not len(self.held_out.spans):
            self.held_out = self.data
        self.network = nn.ModuleDict({k: v for k, v in dit.named_children() if k in HEADS}).requires_grad_(True)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=HEADS, peers=ranks)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        clips = self.draw(self.data, self.config.batch, generator, self.ranks.mine)
        outcomes, valid = self.dreamed(clips, generator, self.ranks)
        loss = outcome_loss(outcomes, clips.rewards, clips.terminated, valid) * self.ranks.weight(valid.sum())
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def draw(self, data: LatentDataset, batch: int, generator: torch.Generator, mine: slice = slice(None)) -> Clips:
        """Return clips by chance: were those that pay drawn more often, dreams would pay too much."""
        chunk = self.dit.config.chunk
        length = min(self.config.chunks, data.longest // chunk)
        return data.sample(batch, length, chunk, generator, event_share=0.0, mine=mine).to(self.device)

    def dreamed(
        self, clips: Clips, generator: torch.Generator, ranks: Ranks = ALONE
    ) -> tuple[Outcomes, torch.Tensor]:
        """Return what the heads say of each chunk of ``clips`` as the net dreams them, ``(b, t, ...)``, and which ticks
        count, ``bool (b, t, f)``: dreamed ones. True chunks show what a dream does not, a block that breaks.
        """
        b, t = clips.latents.shape[:2]
        first = 1 + (torch.rand(b * ranks.count, generator=generator) * (t // 2)).long()
        steps = DENOISING[int(torch.randint(len(DENOISING), (), generator=generator))]
        first = ranks.share(first).to(self.device)
        said = [
            dreamt.outcomes
            for dreamt in dream_along(
                self.dit, self.guesser, clips, first, generator, steps=steps, ranks=ranks, told=False
            )
        ]
        counts = torch.arange(t, device=self.device) >= first[:, None]
        outcomes = Outcomes(*(torch.stack(part, 1) for part in zip(*said, strict=True)))
        return outcomes, until_the_end(clips.terminated) & counts[..., None]

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Loss on held-out clips; what deeds were paid a tick in their dreams (``told``), and in truth (``made``)."""
        learning = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.average.state_dict())
        generator = torch.Generator().manual_seed(self.seed)
        clips = self.draw(self.held_out, 32, generator)
        outcomes, valid = self.dreamed(clips, generator)
        self.network.load_state_dict(learning)
        loss = outcome_loss(outcomes, clips.rewards, clips.terminated, valid)
        bins = torch.tensor(REWARD_BINS, device=self.device)
        told = outcomes.reward.float().softmax(-1) @ (bins * (bins >= DEED))
        told, made = ((paid * valid).sum() / valid.sum() for paid in (told, clips.rewards * (clips.rewards >= DEED)))
        return {"held_out": loss.item(), "told": told.item(), "made": made.item()}

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "grounds": self.grounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["grounds"] != self.grounds:
            raise UserError("it learned on the dreams of another transformer than the run now has")
        self.optimizer.load_state_dict(state)

    def result(self) -> SpacetimeDiT:
        """Return the net with the averaged heads, in evaluation mode."""
        self.optimizer.copy_average_to(self.network)
        return self.dit.requires_grad_(False).eval()
