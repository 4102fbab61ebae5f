"""Stage 6: the deed net learns what is paid for what a hand does, from recordings that tell what it did."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcraft.model.deeds import FRAMES, DeedConfig, DeedNet
from latentcraft.model.hand import middle_of
from latentcraft.model.latents import LatentDataset
from latentcraft.model.objective import Wear, worn
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.outcomes import expected_reward, two_hot
from latentcraft.model.tasks import TASKS
from latentcraft.model.train.ranks import ALONE, Ranks

ENOUGH = 20
"""Paid ticks of a task from which on it can be told whether it pays for deeds only."""
ALL = 0.99
"""Share of what a task pays that must come with deeds for it to be one that pays for deeds only."""


@dataclass(frozen=True)
class DeedStageConfig:
    """Training of the deed net."""

    steps: int = 1500
    """Optimiser steps; 0 leaves all that is paid to the transformer's heads."""
    batch: int = 128
    """Deeds a step."""
    noise: float = 0.4
    """Largest standard deviation of the noise on what it sees; dreamed pictures are not like recorded ones."""
    wear_share: float = 0.3
    """Share of deeds in front of which colours drift, and of those where they blur, as dreamed ones do."""
    model: DeedConfig = field(default_factory=DeedConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.01, other_lr=1e-3, warmup=50, decay_share=0.5, ema=0.995)
    )
    """Step sizes."""


class DeedStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "deeds"
    gathered = frozenset({"by_deeds"})

    def __init__(
        self, config: DeedStageConfig, data: LatentDataset, held_out: LatentDataset, *, seed: int, dtype: torch.dtype,
        device: str = "cpu", ranks: Ranks = ALONE, known: DeedNet | None = None,
    ):  # fmt: skip
        """Prepare to train on ``data``, some of whose tasks pay for deeds only, and validate on ``held_out``; the tasks
        of which that is ``known`` already stay so.
        """
        del dtype  # always fp32
        torch.manual_seed(seed)
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.network = DeedNet(config.model).to(device)
        mine = tasks_of_deeds(data)
        self.network.by_deeds.copy_(mine if known is None else mine | known.by_deeds.cpu())
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        # Muon wants matrices that map features to features.
        self.optimizer = MasterOptimizer(
            self.network, config.optimizer, not_matrices=("look", "told", "pay"), peers=ranks
        )  # fmt: skip
        self.data, self.deeds = data, deeds_of(data, self.network.by_deeds)
        told = deeds_of(held_out, self.network.by_deeds)
        self.check = (held_out, told) if len(told) else (self.data, self.deeds)

    def drawn(self, data: LatentDataset, at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return pictures before the deeds in frames ``int64 (k,)``, fp32 ``(k, FRAMES, h, w, c)``, what was done, the
        task and what it was paid.
        """
        before = at[:, None] + torch.arange(-FRAMES, 0)
        parts = data.latents[before].float(), data.changes[at], data.task[at], data.rewards[at]
        return tuple(part.to(self.device) for part in parts)  # type: ignore[return-value]

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, share = self.config, self.ranks.share
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        at = share(self.deeds[torch.randint(len(self.deeds), (config.batch,), generator=generator)])
        seen, changes, task, rewards = self.drawn(self.data, at)
        wear = Wear.draw(config.batch, config.model.channels, config.wear_share, generator)
        seen = middle_of(worn(seen[:, None], Wear(*map(share, wear)))[:, 0], config.model.window)
        amount = config.noise * torch.rand(config.batch, 1, 1, 1, 1, generator=generator)
        jolt = torch.randn((config.batch, *seen.shape[1:]), generator=generator)
        seen = seen + share(amount * jolt).to(self.device)
        loss = missed(self.network.train()(seen, changes, task), rewards)
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Cross-entropy on held-out deeds, and of those that are paid and those that are not the shares for which it
        says so.
        """
        del step, directory
        data, deeds = self.check
        seen, changes, task, rewards = self.drawn(data, deeds)
        said = self.average(middle_of(seen, self.config.model.window), changes, task)
        told, paid = expected_reward(said) >= rewards.max() / 2, rewards >= rewards.max() / 2
        return {
            "held_out": missed(said, rewards).item(),
            "paid_found": float(told[paid].float().mean()), "unpaid_found": float((~told)[~paid].float().mean()),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def result(self) -> DeedNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average


def missed(said: Tensor, rewards: Tensor) -> Tensor:
    """Return the cross-entropy of logits ``(k, bins)`` and what was paid, ``(k,)``."""
    return -(two_hot(rewards) * said.log_softmax(-1)).sum(-1).mean()


def tasks_of_deeds(data: LatentDataset) -> Tensor:
    """Return which tasks pay for nothing but deeds, as far as recordings tell, ``bool (tasks,)``."""
    told = data.changes.nan_to_num() > 0
    paid, deed = data.rewards.abs(), told.any(-1)
    mine = torch.zeros(len(TASKS), dtype=torch.bool)
    for task in range(len(TASKS)):
        here = data.task == task
        enough = int((here & (paid > 0)).sum()) >= ENOUGH
        mine[task] = enough and bool(paid[here & deed].sum() >= ALL * paid[here].sum())
    return mine


def deeds_of(data: LatentDataset, by_deeds: Tensor) -> Tensor:
    """Return the frames of deeds, of tasks that pay for them, that have pictures before them, ``int64 (m,)``."""
    data = data.that_tell()
    at, episode = data.deeds.unbind(-1)
    first = data.spans[episode, 0]
    return at[(at >= first + FRAMES) & by_deeds[data.task[at]] & (data.changes[at] > 0).any(-1)]
