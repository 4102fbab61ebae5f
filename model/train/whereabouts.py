"""Stage 10: the whereabouts net learns where goals are, from recordings that tell of blocks and of where the eye was.

Where a task ends there is, nearly always, a kind of block that is hardly ever elsewhere: that is the goal. Its place in
an episode is where that kind was recorded, and every picture of the episode then has an answer.
"""

import copy
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.model.camera import eyes_of
from latentcraft.model.completion import CompletionNet
from latentcraft.model.episodes import base_of, beside, read_all, read_blocks
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.standing import BASE, SHAPE
from latentcraft.model.tasks import TASK_INDEX, TASKS
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.whereabouts import OFFSETS, WhereaboutsConfig, WhereaboutsNet, bearing, distances_on_ground

AROUND = 4.5
"""Metres on the ground around an eye in which a goal is looked for."""
BEFORE_END = 40
"""Ticks before an end in which blocks are looked at for one."""
TELLING = 0.7
"""By how much more often a kind must be around ends than elsewhere to be a goal's."""
ENOUGH = 20
"""Episodes with an end at least."""
OFTEN = 0.5
"""Share of goals that have a block in a cell, from which on it is part of what a goal looks like."""
TRUSTED = 64.0
"""Metres from where a goal's place may be another one's: maps come round."""
LEAST_SPREAD = -5.0
"""Logarithm of the least standard deviation that the net may claim."""
EXACT = 0.2
"""What a goal's exact place counts beside whether, and in which column, it is there."""
NEAREST = 0.5
"""Metres, at least, between eyes and goals that are learned from."""


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


class Pictures(NamedTuple):
    """Pictures, and where the goal is as seen from them; leading axis ``k``."""

    frames: Tensor
    """``uint8 (k, H, W, 3)``."""
    pitches: Tensor
    """Degrees."""
    bearings: Tensor
    """How far to the right the goal is, radians."""
    away: Tensor
    """Metres on the ground."""
    higher: Tensor
    """Metres by which its lowest block begins above the eye."""


class Searched(NamedTuple):
    """All there is to learn from."""

    pictures: Pictures
    kind: int
    """Of the goal's blocks."""
    shape: np.ndarray
    """``bool SHAPE``."""
    by_place: np.ndarray
    """Tasks that end at it, ``bool (tasks,)``."""
    prize: np.ndarray
    """See :class:`latentcraft.model.whereabouts.WhereaboutsNet`, ``(tasks,)``."""
    rate: np.ndarray
    """Likewise."""
    reach: np.ndarray
    """Likewise."""


class _Game(NamedTuple):
    """What is kept of an episode until it is known what goals are made of."""

    task: int
    eyes: np.ndarray
    """``(t, 5)``, up to the end."""
    rewards: np.ndarray
    """``(t,)``."""
    ended: bool
    told: tuple[np.ndarray, np.ndarray, np.ndarray]
    """See :func:`latentcraft.model.episodes.read_blocks`."""
    picked: np.ndarray
    """Ticks of the pictures, ``(p,)``."""
    frames: np.ndarray
    """``uint8 (p, H, W, 3)``."""


def search_both(
    parts: tuple[Sequence[Path], Sequence[Path]], frame_size: tuple[int, int], config: WhereaboutsStageConfig, *,
    tasks: Collection[str], seed: int, quiet: bool = True,
) -> tuple[Searched | None, Searched | None]:  # fmt: skip
    """Return what :func:`search` finds in recordings to learn from and in those held out; of these what it finds in the
    first, where they have none of it.
    """
    found = search(parts[0], frame_size, config, np.random.default_rng(seed), tasks=tasks, quiet=quiet)
    if found is None:
        return None, None
    told = search(parts[1], frame_size, config, np.random.default_rng(seed), tasks=tasks, kind=found.kind)
    return found, told or found


def search(
    paths: Sequence[Path], frame_size: tuple[int, int], config: WhereaboutsStageConfig, generator: np.random.Generator,
    *, tasks: Collection[str] = TASKS, kind: int | None = None, quiet: bool = True,
) -> Searched | None:  # fmt: skip
    """Look through recorded episodes; returns None where no kind of block stands where tasks end.

    Args:
        paths: the episodes' jsonl files.
        frame_size: (H, W) that they are resized to.
        config: how much of them is taken.
        generator: chooses pictures.
        tasks: whose goals are looked for.
        kind: of the goal's blocks, if it is known.
        quiet: show no progress bar.
    """
    games = list(_games(paths, frame_size, config, generator, tasks, quiet=quiet))
    kind = _kind_of_goals(games) if kind is None else kind
    if kind is None:
        return None
    places = [_place_of(game, kind) for game in games]
    found = [(game, place) for game, place in zip(games, places, strict=True) if place is not None]
    parts: list[tuple[np.ndarray, ...]] = []
    for game, place in found:
        eyes = game.eyes[game.picked]
        away = distances_on_ground(place, eyes)
        use = (away < TRUSTED) & (away > NEAREST)
        bearings = np.array([bearing(place, eye) for eye in eyes])
        parts.append((game.frames[use], eyes[use, 4], bearings[use], away[use], (place[1] - eyes[:, 1])[use]))
    if not parts or not sum(len(part[0]) for part in parts):
        return None
    joined = [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]
    pictures = Pictures(joined[0], *(column.float() for column in joined[1:]))
    return Searched(pictures, kind, _shape_of(found, kind), *_pay_of(found))


def _games(
    paths: Sequence[Path], frame_size: tuple[int, int], config: WhereaboutsStageConfig, generator: np.random.Generator,
    tasks: Collection[str], *, quiet: bool,
) -> Iterator[_Game]:  # fmt: skip
    """Read the episodes of such tasks that tell of blocks."""
    asked = [path for path in paths if _task_of(path) in tasks]
    few = asked[:: -(-len(asked) // config.episodes)] if asked else asked
    bar = tqdm(total=len(few), desc="goals", unit="episode", mininterval=2.0, disable=quiet)
    for path, episode in read_all(few, frame_size=frame_size):
        bar.update()
        told = read_blocks(path)
        if episode.poses is None or told is None or episode.task not in TASK_INDEX:
            continue
        eyes = eyes_of(episode.poses, episode.actions[:, BUTTON_INDEX["sneak"]])
        ends = np.flatnonzero(episode.terminated)
        last = int(ends[0]) + 1 if len(ends) else len(episode)
        picked = np.sort(generator.permutation(last)[: config.pictures])
        yield _Game(
            TASK_INDEX[episode.task], eyes[:last], episode.rewards[:last], bool(len(ends)), told, picked,
            episode.frames[picked].copy(),
        )  # fmt: skip
    bar.close()


def _task_of(path: Path) -> str:
    """Return the task of an episode without reading more than its first line; nothing for one that is bad."""
    try:
        with beside(base_of(path), ".jsonl").open(encoding="utf-8") as lines:
            return str(json.loads(lines.readline()).get("task", "free"))
    except (OSError, ValueError, AttributeError):
        return ""  # it will be named where it is read


def _kind_of_goals(games: Sequence[_Game]) -> int | None:
    """Return the kind of block that is around where tasks end and hardly ever elsewhere; None if there is none."""
    near, far = np.zeros(256), np.zeros(256)
    ends = elsewhere = 0
    for game in games:
        for tick, corner, blocks in zip(*game.told, strict=True):
            ending = game.ended and tick >= len(game.eyes) - BEFORE_END
            if tick >= len(game.eyes) or game.ended and not ending:
                continue
            eye = game.eyes[-1] if ending else game.eyes[tick]
            kinds = np.unique(_around(blocks, corner, eye))
            if ending:
                near[kinds], ends = near[kinds] + 1, ends + 1
            else:
                far[kinds], elsewhere = far[kinds] + 1, elsewhere + 1
    if ends < ENOUGH:
        return None
    telling = near / ends - far / max(elsewhere, 1)
    return int(telling.argmax()) if telling.max() >= TELLING else None


def _around(blocks: np.ndarray, corner: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Return the kinds in the cells :data:`AROUND` an eye on the ground, ``(n,)``."""
    x, z = (corner[axis] + np.arange(blocks.shape[axis]) + 0.5 - eye[axis] for axis in (0, 2))
    near: np.ndarray = blocks.transpose(0, 2, 1)[np.hypot(x[:, None], z) < AROUND].ravel()
    return near


def _place_of(game: _Game, kind: int) -> np.ndarray | None:
    """Return the cell ``int64 (3,)`` of a game's goal; None where it was not recorded."""
    for _, corner, blocks in reversed(list(zip(*game.told, strict=True))):
        there = blocks == kind
        if there.any():
            columns = there.sum(1)
            x, z = np.unravel_index(int(columns.argmax()), columns.shape)
            cell: np.ndarray = corner + np.array([x, int(there[x, :, z].argmax()), z])
            return cell
    return None


def _shape_of(found: Sequence[tuple[_Game, np.ndarray]], kind: int) -> np.ndarray:
    """Return in which cells goals have blocks, ``bool SHAPE``."""
    there, seen = np.zeros(SHAPE), np.zeros(SHAPE)
    for game, place in found:
        for _, corner, blocks in zip(*game.told, strict=True):
            first = place - np.array(BASE) - corner
            low = np.maximum(first, 0)
            high = np.minimum(first + np.array(SHAPE), blocks.shape)
            if (high <= low).any() or not (blocks == kind).any():
                continue
            own = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
            part = blocks[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            there[own] += part == kind
            seen[own] += 1
    shape: np.ndarray = there > OFTEN * np.maximum(seen, 1)
    return shape


def _pay_of(found: Sequence[tuple[_Game, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Return which tasks end at goals, and what of them :class:`Searched` wants."""
    by_place = np.zeros(len(TASKS), np.bool_)
    prize, rate, reach = (np.zeros(len(TASKS), np.float32) for _ in range(3))
    for task in range(len(TASKS)):
        nearer, paid, at_end, short_of = list[np.ndarray](), list[np.ndarray](), list[float](), list[np.ndarray]()
        prizes = list[tuple[float, float]]()
        for game, place in found:
            away = distances_on_ground(place, game.eyes)
            if game.task != task or away.max() > TRUSTED:
                continue
            on_the_way = slice(1, -1 if game.ended else None)
            nearer.append(-np.diff(away)[: len(away) - 1 - game.ended])
            paid.append(game.rewards[on_the_way])
            short_of.append(away[on_the_way])
            if game.ended and len(away) > 1:
                at_end.append(away[-1])
                prizes.append((game.rewards[-1], away[-2] - away[-1]))
        if len(at_end) < ENOUGH:
            continue
        steps, pay = np.concatenate(nearer), np.concatenate(paid)
        slope = float((steps * pay).sum() / max((steps * steps).sum(), 1e-9))
        # What only a few ends or ticks have is a slip of the map's edge, or of the recording.
        inside, outside = np.quantile(at_end, 0.98), np.quantile(np.concatenate(short_of), 0.001)
        by_place[task], rate[task] = True, slope if abs(slope) > 1e-3 else 0.0
        reach[task] = inside if inside <= outside else (inside + outside) / 2
        prize[task] = np.median([reward - rate[task] * step for reward, step in prizes])
    return by_place, prize, rate, reach


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
