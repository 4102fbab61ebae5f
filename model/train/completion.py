"""Stage 9: the map of blocks learns to be completed from what is remembered.

Episodes are walked through with a memory, as a dream has one, of recorded frames with the depth net's distances; what
it then tells of the cells around the eye is set against the blocks that were recorded there.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, CHANGES, HOTBAR_SLOTS
from latentcraft.model.camera import BOX, eyes_of
from latentcraft.model.completion import FOLD, CompletionConfig, CompletionNet, is_beside
from latentcraft.model.depth import DepthNet
from latentcraft.model.episodes import Episode, read_all, read_blocks, read_distances
from latentcraft.model.evidence import corner_of, evidence
from latentcraft.model.guesser import Guesser
from latentcraft.model.held import slots_of
from latentcraft.model.memory import Memory
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.marks import Marking
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.textures import Textures

SCALES = np.array([50, 255, 255, 255, 120, 120, 120, 255, 30, 50], np.float32)
"""By what evidence is multiplied to be kept as 8 bits."""
SURE = 0.6
"""Probability from which on a cell counts as known to validation."""
TOLD = ("palette", "lit", "placed", "dims", "lasts", "reach")
"""What the net is told of kinds and need not learn."""
CHUNK = 4
"""Ticks between remembered pictures."""
MOST_WEIGHT = 4.0
"""Of a rare kind beside the commonest one."""


@dataclass(frozen=True)
class CompletionStageConfig:
    """Training of the completion net."""

    steps: int = 4000
    """Optimiser steps."""
    batch: int = 8
    """Boxes a step."""
    episodes: int = 4000
    """Episodes that are looked through, spread evenly over all; 100 take a minute of one core."""
    boxes: int = 4
    """Boxes of an episode at most."""
    pictures: int = 24
    """Pictures remembered at most."""
    depth_noise: float = 0.03
    """Standard deviation of the logarithm by which all distances of a picture are off."""
    light: float = 0.2
    """The same for brightness: another hour, other weather."""
    unseen_weight: float = 0.15
    """Weight of cells of which nothing is remembered."""
    beside_weight: float = 0.6
    """Weight of those among them that are right beside something remembered: they are what a hand lays open, and what
    comes into view first. A trunk goes on where its next block was not seen."""
    surface_weight: float = 3.0
    """Weight of cells in which something is remembered, beside 1 of those that were only looked through: a trunk that
    stands among many of these is not to go under."""
    rarity: float = 0.5
    """How much more rare kinds weigh: (share of the commonest kind / share of theirs) to this power, at most
    :data:`MOST_WEIGHT`. Of a trunk there are few cells, and most of what was seen there says air. It is there that the
    net is to learn more; when it is done, its chances are put right again."""
    model: CompletionConfig = field(default_factory=CompletionConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(other_lr=2e-3, warmup=50, decay_share=0.6, ema=0.998)
    )
    """Step sizes."""


class Boxes(NamedTuple):
    """What was remembered, and what was there; leading axis ``k``."""

    seen: Tensor
    """``int8 (k, EVIDENCE, *BOX)``, times :data:`SCALES`, less 128."""
    blocks: Tensor
    """``uint8 (k, *BOX)``."""


class Surveyed(NamedTuple):
    """All there is to learn from."""

    boxes: Boxes
    palette: Tensor
    """``(kinds, FACES, TEXELS, TEXELS, 3)``."""
    lit: Tensor
    """``(kinds,)``."""
    placed: Tensor
    """``int64 (HOTBAR_SLOTS,)``."""
    dims: Tensor
    """``(STAGES, PARTS, PARTS)``, see :class:`latentcraft.model.marks.Marks`."""
    lasts: Tensor
    """``(kinds,)``."""
    reach: Tensor
    """``()``."""


@torch.no_grad()
def look_through(
    paths: Sequence[Path], depth: DepthNet, frame_size: tuple[int, int], config: CompletionStageConfig,
    generator: np.random.Generator, *, device: str = "cpu", quiet: bool = True,
) -> Surveyed | None:  # fmt: skip
    """Look through recorded episodes; returns None where none tells of blocks.

    Args:
        paths: the episodes' jsonl files.
        depth: the depth net.
        frame_size: (H, W) that they are resized to.
        config: how much of them is taken.
        generator: chooses.
        device: where the depth net is.
        quiet: show no progress bar.

    Raises:
        UserError: an episode tells of more kinds than are configured.
    """
    seen, blocks = list[np.ndarray](), list[np.ndarray]()
    lens = depth.config.field_of_view
    textures, marking = Textures(config.model.kinds, lens), Marking(config.model.kinds, lens)
    placed = np.zeros((HOTBAR_SLOTS, config.model.kinds), np.int64)
    bar = tqdm(total=len(paths), desc="blocks", unit="episode", mininterval=2.0, disable=quiet)
    for path, episode in read_all(paths, frame_size=frame_size):
        bar.update()
        told = read_blocks(path)
        if episode.poses is None or told is None or told[2].shape[1:] != BOX:
            continue
        eyes = eyes_of(episode.poses, episode.actions[:, BUTTON_INDEX["sneak"]])
        index, corners, kinds = told
        if kinds.max() >= config.model.kinds:
            raise UserError(
                f"{path} tells of kind {kinds.max()} of block; set completion.model.kinds to more than that, or go"
                " without a map of blocks: completion.steps=0"
            )
        _note_placed(episode, index, corners, kinds, placed)
        if (found := read_distances(path)) is not None and found[1].shape[1:] == frame_size:
            textures.see(episode, eyes, found, told)
        marking.see(episode, eyes, told)
        pick = np.sort(generator.permutation(len(index))[: config.boxes])
        ends = np.unique(np.concatenate([
            np.arange(index[at] % CHUNK, index[at] + 1, CHUNK)[-config.pictures :] for at in pick
        ]))  # fmt: skip
        ends = ends[ends < len(episode)]
        pictures = torch.from_numpy(episode.frames[ends]).permute(0, 3, 1, 2).to(device) / 127.5 - 1
        looked = Guesser.look(depth, pictures, torch.from_numpy(eyes[ends, 4]).float().to(device))
        far = looked.distances * np.exp(config.depth_noise * generator.standard_normal((len(ends), 1, 1)))
        far = np.where(looked.distances > 100, looked.distances, far).astype(np.float32)
        where = {int(tick): at for at, tick in enumerate(ends)}
        for at in pick:
            tick = int(index[at])
            if tick not in where:
                continue
            memory = Memory(frame_size, field_of_view=depth.config.field_of_view)
            count = int(generator.integers(1, config.pictures + 1))
            for then in range(tick - CHUNK * (count - 1), tick + 1, CHUNK):
                if then in where and np.abs(eyes[then, :3] - eyes[tick, :3]).max() < 100:
                    memory.remember(episode.frames[then], far[where[then]], eyes[then])
            corner = corner_of(eyes[tick])
            shift = corner - corners[at]
            if np.abs(shift).max() > 2:
                continue
            seen.append(quantised(evidence(memory, corner)))
            blocks.append(_shifted(kinds[at], shift))
    bar.close()
    if not seen:
        return None
    boxes = Boxes(torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(blocks)))
    slots = np.where(placed.sum(1) > 0, placed.argmax(1), 0)
    palette, lit = textures.result()
    marks = marking.result(palette, lit)
    told_of = (palette, lit, slots, marks.dims, marks.lasts, np.array(marks.reach, np.float32))
    return Surveyed(boxes, *(torch.from_numpy(part) for part in told_of))


def quantised(seen: np.ndarray) -> np.ndarray:
    """Return evidence as ``int8``."""
    scaled = seen * SCALES[:, None, None, None]
    scaled[4:7] += 128
    scaled[8] += 100
    return (np.rint(scaled).clip(0, 255) - 128).astype(np.int8)


def restored(kept: Tensor) -> Tensor:
    """Undo :func:`quantised`, ``(k, EVIDENCE, *BOX)``; empty cells have zeros."""
    seen = kept.float() + 128
    seen[:, 4:7] -= 128
    seen[:, 8] -= 100
    return seen / torch.from_numpy(SCALES).to(seen)[:, None, None, None]


def _shifted(kinds: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return blocks moved by ``shift (3,)`` cells; what comes in at an end is like the end."""
    at = [np.clip(np.arange(size) + step, 0, size - 1) for size, step in zip(BOX, shift, strict=True)]
    return kinds[np.ix_(*at)]


def _note_placed(
    episode: Episode, index: np.ndarray, corners: np.ndarray, kinds: np.ndarray, placed: np.ndarray
) -> None:  # fmt: skip
    """Count which blocks the player's slots placed."""
    if episode.changes is None:
        return
    slots, kind = slots_of(episode.actions), CHANGES.index("placed")
    for tick in np.flatnonzero(episode.changes[:, kind]):
        later = np.flatnonzero(index >= tick)
        spot = episode.spots[tick, kind]
        if not len(later) or np.isnan(spot).any():
            continue
        cell = np.rint(spot).astype(np.int64) - corners[later[0]]
        if (cell >= 0).all() and (cell < BOX).all() and (block := kinds[later[0]][tuple(cell)]) > 0:
            placed[slots[tick], block] += 1


class CompletionStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "completion"

    def __init__(
        self, config: CompletionStageConfig, data: Surveyed | None, held_out: Surveyed | None, *, seed: int,
        dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``; both None if there is nothing left to learn."""
        del dtype  # always fp32
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.held_out = config, seed, data, held_out
        self.device, self.ranks = device, ranks
        self.network = CompletionNet(config.model)
        if data is not None:
            for name in told_to(self.network):
                getattr(self.network, name).copy_(getattr(data, name))
        self.weights = torch.ones(config.model.kinds, device=device)
        if data is not None:
            self.weights = kind_weights(data.boxes, config.model.kinds, config.rarity).to(device)
        self.network.to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        every = tuple(name for name, _ in self.network.named_parameters())
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=every, peers=ranks)

    @property
    def gathered(self) -> frozenset[str]:
        """Buffers that were filled from the recordings."""
        if self.data is None:
            return frozenset()
        marks = {"dims", "lasts", "reach"} if self.data.reach > 0 and self.data.lasts.any() else set[str]()
        return frozenset({"palette", "lit", "placed"} | marks)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, share = self.config, self.ranks.share
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        assert self.data is not None
        boxes = self.data.boxes
        some = share(torch.randint(len(boxes.blocks), (config.batch,), generator=generator))
        light = share(torch.exp(config.light * torch.randn(config.batch, 1, generator=generator))).to(self.device)
        seen, blocks = restored(boxes.seen[some].to(self.device)), boxes.blocks[some].to(self.device)
        seen[:, 1:4] *= light[..., None, None, None]
        seen[:, 7] *= light[..., None, None]
        quarter, mirror = torch.randint(8, (1,), generator=generator).item() % 4, step % 2
        seen, blocks = turned(seen, int(quarter), bool(mirror)), _turned(blocks, int(quarter), bool(mirror))
        loss = self.entropy(self.network, seen, blocks)
        loss.backward()
        return {"loss": loss.item(), "norm": self.optimizer.step(step, steps)}

    def entropy(self, network: CompletionNet, seen: Tensor, blocks: Tensor) -> Tensor:
        """Return the mean cross-entropy, weighted."""
        loss = F.cross_entropy(network(seen), blocks.long(), reduction="none")
        told = (seen[:, 0] > 0) | (seen[:, 9] > 0)
        surface = seen[:, 0] > 0
        weight = torch.where(is_beside(surface), self.config.beside_weight, self.config.unseen_weight)
        weight = torch.where(told, 1.0, weight)
        weight = torch.where(surface, self.config.surface_weight, weight) * self.weights[blocks.long()]
        return (loss * weight).sum() / weight.sum()

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Of held-out boxes: entropy; of cells of which something is remembered, the share that is rightly called air
        or not, and of the blocks among them the share whose kind is right; and how often a cell that counts as known
        is rightly known, among those seen and all; and of the blocks of which nothing is remembered, but right beside
        something, the share whose kind is right.
        """
        del step, directory
        assert self.held_out is not None
        sums = {name: 0.0 for name in ("loss", "solid", "kind", "seen", "known", "beside")}
        boxes, count = self.held_out.boxes, 0
        for some in torch.arange(len(boxes.blocks)).split(self.config.batch):
            seen, blocks = restored(boxes.seen[some].to(self.device)), boxes.blocks[some].to(self.device).long()
            sums["loss"] += self.entropy(self.average, seen, blocks).item()
            chance, best = self.average(seen).softmax(1).max(1)
            told, sure = (seen[:, 0] > 0) | (seen[:, 9] > 0), chance > SURE
            sums["solid"] += ((best > 0) == (blocks > 0))[told].float().mean().item()
            surface = (seen[:, 0] > 0.2) & (blocks > 0)
            sums["kind"] += (best == blocks)[surface].float().mean().item()
            sums["seen"] += (best == blocks)[sure & told].float().mean().item()
            beside = is_beside(seen[:, 0] > 0) & ~told & (blocks > 0)
            sums["beside"] += (best == blocks)[beside].float().mean().item()
            sums["known"] += (best == blocks)[sure].float().mean().item()
            count += 1
        return {name: value / count for name, value in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        told = {name: getattr(self.network, name) for name in told_to(self.network)}
        return {**self.optimizer.state_dict(), **told, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        self.weights = state.get("weights", torch.ones(self.config.model.kinds)).to(self.device)  # earlier ones: alike
        for net in (self.network, self.average):
            for name in told_to(net):
                if name in state:  # earlier versions knew nothing of marks
                    getattr(net, name).copy_(state[name])

    def result(self) -> CompletionNet:
        """Return the averaged network in evaluation mode, for which nothing is likelier because it weighed more."""
        self.optimizer.copy_average_to(self.average)
        with torch.no_grad():
            bias = self.average.final.bias
            assert bias is not None
            bias.sub_(self.weights.log().repeat_interleave(FOLD**3))
        return self.average


def kind_weights(boxes: Boxes, kinds: int, rarity: float) -> Tensor:
    """Return what cells of each kind weigh, ``(kinds,)``, by how many there are among those of which a surface is
    remembered; air weighs 1.
    """
    empty = boxes.seen[:, 0] <= -128
    counts = torch.bincount(boxes.blocks[~empty].long(), minlength=kinds)[1:].float()
    weights = (counts.max() / counts.clamp(min=1)).pow(rarity).clamp(max=MOST_WEIGHT)
    return torch.cat([torch.ones(1), weights])


def told_to(net: CompletionNet) -> list[str]:
    """Return which of :data:`TOLD` a net has, see :attr:`CompletionConfig.marks`."""
    return [name for name in TOLD if hasattr(net, name)]


def turned(seen: Tensor, quarter: int, mirror: bool) -> Tensor:
    """Return evidence ``(k, EVIDENCE, *BOX)`` of a world turned by quarters about the vertical, or mirrored too."""
    for _ in range(quarter):  # (x, z) becomes (-z, x)
        seen = torch.rot90(seen, 1, (2, 4))
        x, z = seen[:, 4].clone(), seen[:, 6].clone()
        seen = torch.cat([seen[:, :4], -z[:, None], seen[:, 5:6], x[:, None], seen[:, 7:]], 1)
    if mirror:
        seen = seen.flip(2)
        seen = torch.cat([seen[:, :4], -seen[:, 4:5], seen[:, 5:]], 1)
    return seen


def _turned(blocks: Tensor, quarter: int, mirror: bool) -> Tensor:
    blocks = torch.rot90(blocks, quarter, (1, 3))
    return blocks.flip(1) if mirror else blocks


