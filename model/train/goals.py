"""Stage 7: the goal net learns what is paid for the way to somewhere, from recordings that tell where the eye was."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.goals import GoalConfig, GoalNet, moved_by
from latentcraft.model.latents import LatentDataset
from latentcraft.model.objective import Wear, worn
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.tasks import TASKS
from latentcraft.model.train.deeds import ALL, ENOUGH, tasks_of_deeds
from latentcraft.model.train.ranks import ALONE, Ranks

DENSE = 0.8
"""Share of ticks on the move, ends aside, that must be paid something for a task to be one that pays for the way."""
MOVING = 0.02
"""Metres in a tick from which on the eye is on the move."""
LATE = 24
"""Ticks before an end that are drawn more often."""
ASKED = 8192
"""Held-out ticks of which at most so many are asked in a validation."""


@dataclass(frozen=True)
class GoalStageConfig:
    """Training of the goal net."""

    steps: int = 1500
    """Optimiser steps; 0 leaves all that is paid to the transformer's heads."""
    batch: int = 128
    """Ticks a step."""
    late_share: float = 0.4
    """Share of ticks drawn shortly before an end; they count less in return."""
    noise: float = 0.4
    """Largest standard deviation of the noise on what it sees; dreamed pictures are not like recorded ones."""
    wear_share: float = 0.3
    """Share of ticks in front of which colours drift, and of those where they blur, as dreamed ones do."""
    model: GoalConfig = field(default_factory=GoalConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.01, other_lr=2e-3, warmup=50, decay_share=0.5, ema=0.995)
    )
    """Step sizes."""


class GoalStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "goals"
    gathered = frozenset({"by_goals", "prize", "unit", "pace"})

    def __init__(
        self, config: GoalStageConfig, data: LatentDataset, held_out: LatentDataset, *, seed: int, dtype: torch.dtype,
        device: str = "cpu", ranks: Ranks = ALONE, known: GoalNet | None = None,
    ):  # fmt: skip
        """Prepare to train on ``data``, some of whose tasks pay for the way only, and validate on ``held_out``; the
        tasks of which that is ``known`` already stay so, in the units that are known.
        """
        del dtype  # always fp32
        torch.manual_seed(seed)
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.network = GoalNet(config.model).to(device)
        mine = tasks_of_goals(data)
        if known is not None:
            for name in ("prize", "unit", "pace"):
                getattr(self.network, name).copy_(getattr(known, name))
            mine |= known.by_goals.cpu()
        self.network.by_goals.copy_(mine)
        self.data, self.ticks = data, ticks_of(data, mine)
        self.late = late_among(data, self.ticks)
        for task in mine.nonzero()[:, 0].tolist():
            ends = self.ticks[data.terminated[self.ticks] & (data.task[self.ticks] == task)]
            if len(ends):
                self.network.prize[task] = data.rewards[ends].mean()
        if known is None:  # else its weights count in its own
            on_the_way = self.ticks[~data.terminated[self.ticks]]
            paid, moved = data.rewards[on_the_way].abs(), moved_into(data, on_the_way).norm(dim=-1)
            if (paid > 0).any():
                self.network.unit.fill_(paid[paid > 0].square().mean().sqrt())
            self.network.pace.fill_(moved.square().mean().sqrt().clamp_min(MOVING))
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        # Muon wants matrices that map features to features.
        self.optimizer = MasterOptimizer(
            self.network, config.optimizer, not_matrices=("look", "find", "told", "pay"), peers=ranks
        )  # fmt: skip
        told = ticks_of(held_out, mine)
        self.check = (held_out, told) if len(told) else (self.data, self.ticks)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, share = self.config, self.ranks.share
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        at, weight = (share(part) for part in self.drawn(generator))
        seen, moved, task, rewards, ended = self.parts(self.data, at)
        wear = Wear.draw(config.batch, config.model.channels, config.wear_share, generator)
        seen = worn(seen[:, None, None], Wear(*map(share, wear)))[:, 0, 0]
        amount = config.noise * torch.rand(config.batch, 1, 1, 1, generator=generator)
        jolt = torch.randn((config.batch, *seen.shape[1:]), generator=generator)
        way, end = self.network.train()(seen + share(amount * jolt).to(self.device), moved, task)
        loss = (weight.to(self.device) * self.missed(way, end, task, rewards, ended)).mean()
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return frames ``int64 (batch,)``, some of them shortly before ends, and what each counts, so that all count
        as often as they come.
        """
        ticks, late, count = self.ticks, self.late.nonzero()[:, 0], self.config.batch
        share = self.config.late_share if len(late) else 0.0
        number = torch.randint(len(ticks), (count,), generator=generator)
        if len(late):
            others = late[torch.randint(len(late), (count,), generator=generator)]
            number = torch.where(torch.rand(count, generator=generator) < share, others, number)
        oftener = 1 - share + share * self.late[number] * (len(ticks) / max(len(late), 1))
        return ticks[number], 1 / oftener

    def parts(self, data: LatentDataset, at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return pictures before the frames ``int64 (k,)``, where the eye went, the task, what it was paid and whether
        it ended.
        """
        parts = (
            data.latents[at - 1].float(), moved_into(data, at), data.task[at], data.rewards[at], data.terminated[at]
        )  # fmt: skip
        return tuple(part.to(self.device) for part in parts)  # type: ignore[return-value]

    def missed(self, way: Tensor, end: Tensor, task: Tensor, rewards: Tensor, ended: Tensor) -> Tensor:
        """Return for each tick the squared error of what the way pays, in usual pays, and the end's cross-entropy."""
        net = self.network
        error = (way - (rewards - net.prize[task] * ended)) / net.unit
        return error.square() + F.binary_cross_entropy_with_logits(end, ended.float(), reduction="none")

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Held-out loss; the share of what the way is paid that is explained; how sure it is of ends, and of how many
        others for each.
        """
        del step, directory
        data, ticks = self.check
        ticks = ticks[torch.linspace(0, len(ticks) - 1, min(ASKED, len(ticks))).long()]
        asked = [(*self.average(*parts[:3]), *parts[2:]) for at in ticks.split(512) if (parts := self.parts(data, at))]
        way, end, task, rewards, ended = (torch.cat(parts) for parts in zip(*asked, strict=True))
        likely, paid = end.sigmoid(), rewards[~ended]
        return {
            "held_out": float(self.missed(way, end, task, rewards, ended).mean()),
            "explained": 1 - float((way[~ended] - paid).square().sum() / paid.square().sum().clamp_min(1e-9)),
            "ends_found": float(likely[ended].mean()) if ended.any() else 0.0,
            "false_ends": float(likely[~ended].sum() / ended.sum().clamp_min(1)),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def result(self) -> GoalNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average


def moved_into(data: LatentDataset, at: Tensor) -> Tensor:
    """Return where the eye went into the frames ``int64 (k,)``, ``(k, 2)``; see
    :func:`latentcraft.model.goals.moved_by`.
    """
    return moved_by(torch.stack([data.eyes[at - 1], data.eyes[at]], 1))[:, 0]


def living(data: LatentDataset) -> Tensor:
    """Return the frames that have one before them, both seen from somewhere known, up to their task's end."""
    alive = torch.zeros(len(data.latents), dtype=torch.bool)
    for first, count in data.spans.tolist():
        ends = data.terminated[first : first + count].nonzero()[:, 0]
        alive[first + 1 : first + (int(ends[0]) + 1 if len(ends) else count)] = True
    known = ~data.eyes.isnan().any(-1)
    return (alive & known & known.roll(1)).nonzero()[:, 0]


def tasks_of_goals(data: LatentDataset) -> Tensor:
    """Return which tasks pay for nothing but the way or its end, as far as recordings tell, ``bool (tasks,)``: their
    ends are all that they pay, or nearly every tick on the move is paid, and hardly anything for standing.
    """
    mine, by_deeds, at = torch.zeros(len(TASKS), dtype=torch.bool), tasks_of_deeds(data), living(data)
    moving = moved_into(data, at).norm(dim=-1) > MOVING
    pay, ended = data.rewards[at].abs(), data.terminated[at]
    paid = pay > 0
    for task in range(len(TASKS)):
        here = data.task[at] == task
        ends, other = int((here & ended).sum()), here & ~ended
        if by_deeds[task] or ends < ENOUGH or int((here & paid).sum()) < ENOUGH:
            continue
        pays_way = float(paid[other & moving].float().mean()) >= DENSE
        pays_rest = float(pay[other & ~moving].sum()) > (1 - ALL) * float(pay[here].sum())
        pays_ends = float(paid[here & ended].float().mean()) >= ALL
        mine[task] = pays_ends and (pays_way and not pays_rest or not paid[other].any())
    return mine


def ticks_of(data: LatentDataset, by_goals: Tensor) -> Tensor:
    """Return the frames of tasks that pay for the way that can be learned from, ``int64 (m,)``."""
    at = living(data)
    return at[by_goals[data.task[at]]]


def late_among(data: LatentDataset, ticks: Tensor) -> Tensor:
    """Return which of ``ticks`` lie at most :data:`LATE` before an end, ``bool (m,)``."""
    near = torch.zeros(len(data.latents) + 1, dtype=torch.bool)
    for end in ticks[data.terminated[ticks]].tolist():
        near[max(end - LATE, 0) : end + 1] = True
    return near[ticks]
