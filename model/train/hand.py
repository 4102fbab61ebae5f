"""Stage 5: the hand net learns from worlds that tell what the hand did when something breaks or is placed."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.hand import Grip, HandConfig, HandNet, work
from latentcraft.model.latents import Clips, LatentDataset
from latentcraft.model.objective import Wear, worn
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.ranks import ALONE, Ranks

SLACK = 2
"""Ticks by which an event may come too early or too late and still count as found."""


@dataclass(frozen=True)
class HandStageConfig:
    """Training of the hand net."""

    steps: int = 1500
    """Optimiser steps."""
    batch: int = 32
    """Clips a step."""
    chunks: int = 24
    """Chunks of a clip: a hand may have begun its work a while ago."""
    change_share: float = 0.5
    """Share of clips drawn around a change; the others come by chance."""
    noise: float = 0.4
    """Largest standard deviation of the noise on what it sees; dreamed pictures are not like recorded ones."""
    wear_share: float = 0.3
    """Share of clips whose colours drift, and of those that blur, as dreamed ones do."""
    model: HandConfig = field(default_factory=HandConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.01, other_lr=2e-3, warmup=50, decay_share=0.5, ema=0.995)
    )
    """Step sizes."""


class HandStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "hand"

    def __init__(
        self, config: HandStageConfig, data: LatentDataset, held_out: LatentDataset, *, seed: int, dtype: torch.dtype,
        device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data``, whose changes are known in part at least, and validate on ``held_out``."""
        del dtype  # always fp32
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.device, self.ranks = config, seed, data.that_tell(), device, ranks
        self.network = HandNet(config.model).to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        # Muon wants matrices that map features to features; biases and the few outputs are AdamW's.
        self.optimizer = MasterOptimizer(
            self.network, config.optimizer, not_matrices=("glance.0", "told", "final.2"), peers=ranks
        )  # fmt: skip
        told = held_out.that_tell()
        self.held_out = told if len(told.spans) else self.data

    def draw(self, data: LatentDataset, batch: int, generator: torch.Generator, mine: slice = slice(None)) -> Clips:
        """Return clips."""
        config = self.config
        length = min(config.chunks, data.longest // config.model.chunk)
        return data.sample(
            batch, length, config.model.chunk, generator, event_share=0.0, deed_share=config.change_share, mine=mine
        ).to(self.device)  # fmt: skip

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, share = self.config, self.ranks.share
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        clips = self.draw(self.data, config.batch, generator, self.ranks.mine)
        wear = Wear.draw(config.batch, config.model.channels, config.wear_share, generator)
        seen = worn(clips.latents[:, :-1, -1:], Wear(*map(share, wear)))[:, :, 0]
        amount = config.noise * torch.rand(config.batch, 1, 1, generator=generator)
        middle = self.network.middle(seen)
        jolt = torch.randn((config.batch, *middle.shape[1:]), generator=generator)
        middle = middle + share(amount * jolt).to(self.device)
        loss = self.missed(self.network, clips, middle)
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def missed(self, network: HandNet, clips: Clips, middle: Tensor) -> Tensor:
        """Return the cross-entropy of the events, a tick, after ``middle (b, t - 1, n)`` of the pictures before."""
        chunk = self.config.model.chunk
        actions, changes = clips.actions[:, 1:].flatten(1, 2), clips.changes.flatten(1, 2)
        before, after = changes[:, chunk - 1 : -1], changes[:, chunk:]
        hidden = Grip.loose(len(middle), self.config.model.width, self.device).hidden
        logits, _ = network(middle.repeat_interleave(chunk, 1), actions, before, hidden)
        return F.binary_cross_entropy_with_logits(logits, after, reduction="none").sum(-1).mean()

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Cross-entropy on held-out clips; of the events there the share that hands find who work on by themselves, and
        of the events they find the share that is right (:data:`SLACK`).
        """
        del step, directory
        net = self.average
        clips = self.draw(self.held_out, 96, torch.Generator().manual_seed(self.seed))
        held_out = self.missed(net, clips, net.middle(clips.latents[:, :-1, -1])).item()
        grip, said = Grip.loose(len(clips.latents), self.config.model.width, self.device), []
        for index in range(1, clips.latents.shape[1]):
            done, grip = work(net, grip, clips.latents[:, index - 1, -1], clips.actions[:, index])
            said.append(done)
        found, true = torch.cat(said, 1), clips.changes[:, 1:].flatten(1, 2)
        return {"held_out": held_out, **agreement(found, true)}

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def result(self) -> HandNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average


def agreement(found: Tensor, true: Tensor, slack: int = SLACK) -> dict[str, float]:
    """Return the shares of ``true`` events ``(b, t, 2)`` that are near a ``found`` one, and the other way round, for
    what is dug and what is placed.
    """

    def near(events: Tensor) -> Tensor:
        wide = F.max_pool1d(events.transpose(1, 2), 2 * slack + 1, stride=1, padding=slack)
        return wide.transpose(1, 2)

    figures = {}
    for kind, name in enumerate(("dug", "placed")):
        mine, theirs = found[..., kind : kind + 1], true[..., kind : kind + 1]
        figures[f"{name}_recall"] = float((theirs * near(mine)).sum() / theirs.sum().clamp(min=1))
        figures[f"{name}_precision"] = float((mine * near(theirs)).sum() / mine.sum().clamp(min=1))
    return figures
