"""Stage 10: the whereabouts net learns where goals are, from pictures of which that is known (goal_search.py)."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.completion import CompletionNet
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.goal_search import Pictures, Searched
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.whereabouts import OFFSETS, WhereaboutsConfig, WhereaboutsNet

LEAST_SPREAD = -5.0
"""Logarithm of the least standard deviation that the net may claim."""
EXACT = 0.2
"""What a goal's exact place counts beside whether, and in which column, it is there."""


@dataclass(frozen=True)
class WhereaboutsStageConfig:
    """Training of the whereabouts net."""

    steps: int = 2500
    """Optimiser steps; 0 leaves goals to be found in pictures as they come."""
    batch: int = 48
    """Pictures a step."""
    episodes: int = 1500
    """Episodes that are looked through, spread evenly over all of the tasks; 100 take 10 s of a core."""
    pictures: int = 20
    """Of an episode."""
    light: float = 0.15
    """Standard deviation of the logarithm of brightness by which pictures are changed."""
    sharper: float = 1.5
    """By how much pictures, and their colours for themselves, are sharpened at most, in parts of what a small blur
    takes from them; or else blurred. Films lose what a game's own pictures have."""
    vivid: float = 0.3
    """Standard deviation of the logarithm by which colours are made stronger."""
    grain: float = 0.02
    """Largest standard deviation of noise on pixels, of 1."""
    tilt_noise: float = 0.4
    """Standard deviation of the error of the pitch it is told, degrees."""
    model: WhereaboutsConfig = field(default_factory=WhereaboutsConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(other_lr=2e-3, warmup=50, decay_share=0.5, ema=0.995)
    )
    """Step sizes."""


class WhereaboutsStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "whereabouts"

    def __init__(
        self, config: WhereaboutsStageConfig, data: Searched | None, held_out: Searched | None,
        completion: CompletionNet, *, seed: int, dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``; both None if there is nothing left to learn."""
        del dtype  # always fp32
        torch.manual_seed(seed)
        self.config, self.seed, self.device, self.ranks = config, seed, device, ranks
        self.data, self.held_out = data, held_out
        self.network = WhereaboutsNet(config.model).to(device)
        if data is not None:
            net, generator = self.network, np.random.default_rng(seed)
            for name in ("shape", "by_place", "prize", "rate", "reach"):
                getattr(net, name).copy_(torch.from_numpy(getattr(data, name)))
            net.palette.copy_(completion.palette[data.kind].float())
            net.lit.copy_(completion.lit[data.kind].float())
            some = torch.from_numpy(generator.integers(len(data.pictures.away), size=OFFSETS))
            net.offsets.copy_(torch.stack([data.pictures.away[some], data.pictures.higher[some]], 1))
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        every = tuple(name for name, _ in self.network.named_parameters())
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=every, peers=ranks)

    gathered = frozenset({"shape", "by_place", "prize", "rate", "reach", "palette", "lit", "offsets"})

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, share = self.config, self.ranks.share
        assert self.data is not None
        pictures = self.data.pictures
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        some = torch.randint(len(pictures.away), (config.batch,), generator=generator)
        light = torch.exp(config.light * torch.randn(config.batch, 1, 1, 1, generator=generator))
        tilt = config.tilt_noise * torch.randn(config.batch, generator=generator)
        batch = Pictures(*(part[share(some)] for part in pictures))
        batch = batch._replace(pitches=batch.pitches + share(tilt))
        if step % 2:  # in a mirror
            batch = batch._replace(frames=batch.frames.flip(2), bearings=-batch.bearings)
        crisp = config.sharper * torch.rand(2, config.batch, 1, 1, 1, generator=generator)
        crisp = torch.where(torch.rand(crisp.shape, generator=generator) < 0.4, -crisp / config.sharper, crisp)
        frames = batch.frames.permute(0, 3, 1, 2).float() / 255
        vivid = torch.exp(config.vivid * torch.randn(config.batch, 1, 1, 1, generator=generator))
        grey = frames.mean(1, keepdim=True)
        frames = grey + share(vivid) * (frames - grey)
        frames = sharpened(frames, share(crisp[0]), share(crisp[1])) * share(light)
        grain = config.grain * torch.rand(config.batch, 1, 1, 1, generator=generator)
        frames = frames + share(grain * torch.randn((config.batch, *frames.shape[1:]), generator=generator))
        loss = self.missed(self.network, batch, frames).mean()
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def missed(self, net: WhereaboutsNet, batch: Pictures, frames: Tensor | None = None) -> Tensor:
        """Return for each picture the cross-entropy of where the goal is, and how unlikely its exact place is;
        ``frames (k, 3, H, W)``, 0 to 1, are what is shown in place of the batch's own.
        """
        batch = Pictures(*(part.to(self.device) for part in batch))
        frames = batch.frames.permute(0, 3, 1, 2).float() / 255 if frames is None else frames.to(self.device)
        told = net(frames.clamp(0, 1) * 2 - 1, batch.pitches)
        column, place, shown = answers(batch, told.logits.shape[1] - 1, net.config.field_of_view)
        loss = F.cross_entropy(told.logits, column, reduction="none")
        at = column.clamp(max=told.place.shape[-1] - 1)
        mean, spread = told.place.gather(3, at[:, None, None, None].expand(-1, 3, 2, 1))[..., 0].unbind(2)
        spread = spread.clamp(LEAST_SPREAD, 2)
        # Never below 0: the training loop takes a loss of many times the usual one for a sign that it diverges.
        unlikely = (0.5 * ((place - mean) * torch.exp(-spread)).square() + spread - LEAST_SPREAD).sum(1)
        return loss + shown * EXACT * unlikely

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Of held-out pictures: loss; how probable it seems that the goal is in those that have it, and in those that
        have not; and of those where it seems likely, how far off it is found, median: degrees, share of the distance,
        metres.
        """
        del step, directory
        assert self.held_out is not None
        net, pictures = self.average, self.held_out.pictures
        losses, there, inside, found = [], [], [], []
        for some in torch.arange(len(pictures.away)).split(128):
            batch = Pictures(*(part[some] for part in pictures))
            losses.append(self.missed(net, batch))
            frames = batch.frames.permute(0, 3, 1, 2).float() / 127.5 - 1
            told = net(frames.to(self.device), batch.pitches.to(self.device))
            chances = told.logits.softmax(1).cpu()
            _, _, shown = answers(batch, chances.shape[1] - 1, net.config.field_of_view)
            there.append(1 - chances[:, -1])
            inside.append(shown)
            column = chances[:, :-1].argmax(1)
            mean = told.place.cpu().gather(3, column[:, None, None, None].expand(-1, 3, 2, 1))[:, :, 0, 0]
            wide = torch.tan(torch.deg2rad(torch.tensor(net.config.field_of_view / 2)))
            angle = torch.atan(((column + 0.5 + mean[:, 0]) / (chances.shape[1] - 1) * 2 - 1) * wide)
            off, away = angle - batch.bearings, mean[:, 1].exp()
            metres = (away.square() + batch.away.square() - 2 * away * batch.away * off.cos()).clamp_min(0).sqrt()
            found.append(torch.stack([torch.rad2deg(off.abs()), (away / batch.away - 1).abs(), metres], 1))
        likely, shown, errors = torch.cat(there), torch.cat(inside) > 0, torch.cat(found)
        sure = likely > 0.5
        degrees, share, metres = errors[sure].median(0).values.tolist() if sure.any() else (90.0, 1.0, 99.0)
        return {
            "held_out": torch.cat(losses).mean().item(), "there": likely[shown].mean().item(),
            "not_there": likely[~shown].mean().item(), "degrees": degrees, "share": share, "metres": metres,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), **{name: getattr(self.network, name) for name in self.gathered}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        for net in (self.network, self.average):
            for name in self.gathered:
                getattr(net, name).copy_(state[name])

    def result(self) -> WhereaboutsNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average


def sharpened(frames: Tensor, light: Tensor, colour: Tensor) -> Tensor:
    """Return ``frames (k, 3, H, W)`` with brightness and colours sharpened so much, ``(k, 1, 1, 1)`` each; -1 blurs."""
    grey = frames.mean(1, keepdim=True)
    parts = []
    for part, amount in ((grey, light), (frames - grey, colour)):
        wide = F.pad(part, (1, 1, 1, 1), mode="replicate")
        across = (wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) / 4
        soft = (across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 4
        parts.append(part + amount * (part - soft))
    return parts[0] + parts[1]


def answers(pictures: Pictures, columns: int, field_of_view: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return in which of so many columns goals are, ``int64 (k,)``, the last but one being the last of the picture;
    where there, ``(k, 3)``, see :class:`latentcraft.model.whereabouts.Told`; and which are in the picture, ``(k,)``.
    """
    wide = torch.tan(torch.deg2rad(torch.tensor(field_of_view / 2)))
    ahead = pictures.bearings.cos() > 0.1
    across = (torch.tan(torch.where(ahead, pictures.bearings, 0.0)) / wide + 1) / 2 * columns
    shown = ahead & (across >= 0) & (across < columns)
    column = torch.where(shown, across.floor().long().clamp(0, columns - 1), columns)
    place = torch.stack([across - column - 0.5, pictures.away.log(), pictures.higher / pictures.away], 1)
    return column, place, shown.float()
