"""Last stage: the heads learn what is paid in the net's own dreams.

The transformer's stage teaches them on recorded pictures, and more often than by chance on those that pay; in a dream
they see other pictures, as often as they come, and the hand's changes are those that the hand net says. Here the net
dreams along recorded clips, drawn by chance, and only the heads learn: from the features of its dreams, what the same
actions were paid in truth. That is right for players like those of the recordings; to train an agent, record some of
its own play too (``latentcraft record player=FILE``).

Everything but the heads is frozen, so dreams are dreamed once, and what the heads see of them is kept and learned from
again and again. Dreaming anew in every step, 44 steps in twelve minutes were all that two cores could do, and too few:
an agent found that the heads paid it for placing blocks, 1.4 in a game where the same moves were paid 0.25 in truth.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import digest
from latentcraft.model.dit import SpacetimeDiT
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import LatentDataset
from latentcraft.model.objective import outcome_loss, until_the_end
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.outcomes import REWARD_BINS, Outcomes
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.rollout import dream_along

DENOISING = (1, 1, 1, 1, 2, 4)
"""Denoising steps of the dreams, one drawn for each batch: one step, with which agents learn, makes other pictures than
four."""
DEED = 0.5
"""Reward of a tick from which on something was done for it, rather than come nearer to."""
HEADS = ("outcome_token", "outcome_hand", "outcome")
"""Parts of the transformer that learn."""
TOGETHER = 16
"""Clips that are dreamed at once."""
CHECKED = 8
"""Held-out clips: one for so many that are learned from."""


@dataclass(frozen=True)
class OutcomesStageConfig:
    """Training of the heads on dreams."""

    steps: int = 0
    """Optimiser steps; 0 leaves the heads as the transformer's stage made them."""
    clips: int = 768
    """Recorded clips of tasks that pay, along which the net dreams; 16 take 26 s of a core."""
    chunks: int = 24
    """Length of a clip; at least one chunk is true, and three quarters of them are dreamed at least."""
    batch: int = 192
    """Dreamed chunks a step."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(other_lr=1e-3, warmup=30, decay_share=0.5, ema=0.99)
    )
    """Step sizes; heads have no matrices for Muon."""

    def __post_init__(self) -> None:
        if self.clips < 1 or self.chunks < 2 or self.batch < 1:
            raise UserError("outcomes.clips and outcomes.batch must be 1 or more, outcomes.chunks 2 or more")


class Dreams(NamedTuple):
    """What the heads see of ``k`` dreamed chunks, and what was paid in truth."""

    features: Tensor
    """Of the chunk's tokens, in the net's number format, ``(k, n, d)``."""
    condition: Tensor
    """``(k, d)``."""
    changes: Tensor
    """What the hand does there, ``(k, f, 2)``."""
    rewards: Tensor
    """``(k, f)``."""
    terminated: Tensor
    """``bool (k, f)``."""
    valid: Tensor
    """Ticks before the task's end, ``bool (k, f)``."""

    def pick(self, index: Tensor, device: str) -> "Dreams":
        """Return some of them."""
        return Dreams(*(part[index].to(device) for part in self))


@contextmanager
def overheard(dit: SpacetimeDiT) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """Note, as long as this is open, what ``dit`` asks its heads: features, condition and changes each time."""
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    read = dit.outcomes

    def noting(x: Tensor, condition: Tensor, changes: Tensor, grid: tuple[int, int]) -> Outcomes:
        asked.append((x, condition, changes))
        return read(x, condition, changes, grid)

    dit.outcomes = noting  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        del dit.outcomes


@torch.no_grad()
def gather(
    data: LatentDataset, guesser: Guesser, dit: SpacetimeDiT, config: OutcomesStageConfig, count: int,
    generator: torch.Generator, *, device: str = "cpu", quiet: bool = True,
) -> Dreams:  # fmt: skip
    """Dream along ``count`` clips of ``data``, drawn by chance: were those that pay drawn more often, dreams would pay
    too much. True chunks are left out: they show what a dream does not, a block that breaks.
    """
    chunk = dit.config.chunk
    length = min(config.chunks, data.longest // chunk)
    parts: list[Dreams] = []
    sizes = [min(TOGETHER, count - done) for done in range(0, count, TOGETHER)]
    for size in tqdm(sizes, desc="dream", unit="batch", mininterval=2.0, disable=quiet):
        clips = data.sample(size, length, chunk, generator, event_share=0.0).to(device)
        first = 1 + (torch.rand(size, generator=generator) * (length // 4)).long().to(device)
        steps = DENOISING[int(torch.randint(len(DENOISING), (), generator=generator))]
        seen: list[tuple[Tensor, ...]] = []
        with overheard(dit) as asked:
            for _ in dream_along(dit, guesser, clips, first, generator, steps=steps, told=False):
                seen.append(tuple(part[:, 0] for part in asked[-1]))  # the last are of the finished chunk
                asked.clear()
        dreamed = torch.arange(length, device=device) >= first[:, None]
        valid = until_the_end(clips.terminated) & dreamed[..., None]
        counts = valid.any(-1)
        features, condition, changes = (torch.stack(part, 1)[counts].cpu() for part in zip(*seen, strict=True))
        truth = (part[counts].cpu() for part in (clips.rewards, clips.terminated, valid))
        parts.append(Dreams(features, condition, changes, *truth))
    return Dreams(*(torch.cat(part) for part in zip(*parts, strict=True)))


class OutcomesStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "outcomes"

    def __init__(
        self, config: OutcomesStageConfig, data: LatentDataset, held_out: LatentDataset, guesser: Guesser,
        dit: SpacetimeDiT, *, seed: int, dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
        idle: bool = False,
    ):  # fmt: skip
        """Dream, unless there is nothing left to learn (``idle``), and train the heads of ``dit`` on that.

        Raises:
            UserError: nothing was recorded of a task that pays, or ``dit`` has no heads.
        """
        if not dit.heads:
            raise UserError("outcomes.steps needs a net with reward and termination heads; set outcomes.steps=0")
        torch.manual_seed(seed)
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.dit = dit.to(dtype).requires_grad_(False)
        nets = nn.ModuleDict({name: part for name, part in dit.named_children() if name not in HEADS})
        self.grounds = digest(nets) + digest(guesser.motion)
        if guesser.bank is not None:
            self.grounds += digest(guesser.bank)
        paying = [number for name, number in TASK_INDEX.items() if name != "free"]
        data, held_out = data.of_tasks(paying), held_out.of_tasks(paying)
        if not len(data.spans):
            raise UserError("the episodes have no task that pays; record some (task=mix), or set outcomes.steps=0")
        self.network = nn.ModuleDict({k: v for k, v in dit.named_children() if k in HEADS}).requires_grad_(True)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=HEADS, peers=ranks)
        if idle:
            return
        generator = torch.Generator().manual_seed(seed)
        self.grid = (data.latents.shape[1] // dit.config.patch, data.latents.shape[2] // dit.config.patch)
        told = held_out if len(held_out.spans) else data
        self.dreams = gather(
            data, guesser, self.dit, config, config.clips, generator, device=device, quiet=not ranks.first
        )  # fmt: skip
        self.check = gather(
            told, guesser, self.dit, config, max(1, config.clips // CHECKED), generator, device=device
        )  # fmt: skip

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        index = torch.randint(len(self.dreams.features), (self.config.batch,), generator=generator)
        dreams = self.dreams.pick(self.ranks.share(index), self.device)
        loss = self.missed(self.said(dreams), dreams) * self.ranks.weight(dreams.valid.sum())
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def said(self, dreams: Dreams) -> Outcomes:
        """Return what the heads say, ``(k, f, ...)``."""
        features, condition, changes = (part[:, None] for part in dreams[:3])
        return Outcomes(*(part[:, 0] for part in self.dit.outcomes(features, condition, changes, self.grid)))

    @staticmethod
    def missed(said: Outcomes, dreams: Dreams) -> Tensor:
        """Return the loss of what was ``said``."""
        return outcome_loss(said, dreams.rewards, dreams.terminated, dreams.valid)

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Loss on held-out clips; what deeds were paid a tick in their dreams (``told``), and in truth (``made``)."""
        learning = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.average.state_dict())
        dreams, said = self.check, []
        for index in torch.arange(len(dreams.features)).split(256):
            said.append(Outcomes(*(part.cpu() for part in self.said(dreams.pick(index, self.device)))))
        self.network.load_state_dict(learning)
        outcomes = Outcomes(*(torch.cat(part) for part in zip(*said, strict=True)))
        bins = torch.tensor(REWARD_BINS)
        told = outcomes.reward.float().softmax(-1) @ (bins * (bins >= DEED))
        made = dreams.rewards * (dreams.rewards >= DEED)
        told, made = ((paid * dreams.valid).sum() / dreams.valid.sum() for paid in (told, made))
        return {"held_out": self.missed(outcomes, dreams).item(), "told": told.item(), "made": made.item()}

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
