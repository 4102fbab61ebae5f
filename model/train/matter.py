"""Stage 8: matter learns what changed cells look like, and aim which face the middle of a view shows.

Both see recorded frames as they are, since a dream's memory is as sharp, with the depth net's distances, since a dream
has no others; they are told the truth by the distances that were recorded.
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

from latentcraft.model import aim
from latentcraft.model.actions import BUTTON_INDEX, CHANGES, HOTBAR_SLOTS
from latentcraft.model.camera import axes, eyes_of, pixel_rays
from latentcraft.model.cells import face_seen, faces_ahead
from latentcraft.model.depth import DepthNet
from latentcraft.model.episodes import Episode, read_all, read_distances
from latentcraft.model.guesser import Guesser
from latentcraft.model.held import slots_of
from latentcraft.model.matter import TEXELS, MatterConfig, MatterNet, crossings, overview, surroundings
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.swing import learn_swing

PIXELS = 192
"""Of a frame that are compared with a cell's faces."""
SOON = 12
"""Ticks after a change within which a frame still tells what it left behind."""
NEAR = 8.0
"""Metres beyond which a place that the hand is said to have changed is not believed."""
WITHIN = 5.2
"""Metres up to which the middle of a view counts as within reach."""
AIMS = 40
"""Views of an episode that aim learns from, at most."""
CLOSE = 0.03
"""Metres, and share of the distance, by which a pixel may be off the face it belongs to."""
MOVES = 0.7
"""Share of the views that show most of what moves with the lens in which a pixel does, to be part of it."""
DIFFERS = 4.0
"""Standard deviation (of 255) over the player's blocks from which on a pixel shows the block in the hand."""


@dataclass(frozen=True)
class MatterStageConfig:
    """Training of matter and aim."""

    steps: int = 6000
    """Optimiser steps."""
    batch: int = 64
    """Cells, and views, a step."""
    episodes: int = 4000
    """Episodes that are looked through, spread evenly over all; 500 take two minutes of one core."""
    light: float = 0.3
    """Standard deviation of the logarithm by which brightness is scaled: another hour, other weather."""
    depth_noise: float = 0.1
    """The same for all distances that aim is told."""
    solid_weight: float = 0.2
    """Weight of whether there is a face at all."""
    model: MatterConfig = field(default_factory=MatterConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(other_lr=2e-3, warmup=50, decay_share=0.6, ema=0.998)
    )
    """Step sizes."""


class Cells(NamedTuple):
    """Cells that a hand changed, and pixels of them soon after; leading axis ``k``."""

    around: Tensor
    """``uint8 (k, FACES, WINDOW, WINDOW, 4)``, see :func:`latentcraft.model.matter.surroundings`."""
    whole: Tensor
    """``float16 (k, *WHOLE, 4)``."""
    kind: Tensor
    """``int64 (k,)``."""
    slot: Tensor
    """``int64 (k,)``."""
    texel: Tensor
    """Which of all faces' texels each pixel shows, ``int16 (k, 2 * PIXELS)``."""
    colour: Tensor
    """``uint8 (k, 2 * PIXELS, 3)``."""
    solid: Tensor
    """Whether there is a face, ``bool (k, 2 * PIXELS)``."""


class Aims(NamedTuple):
    """Views whose middle is known; leading axis ``k``."""

    flat: Tensor
    """``int8 (k, MOST, 5, n, n)``, see :func:`latentcraft.model.aim.told_of`."""
    numbers: Tensor
    """``float32 (k, MOST, 5)``."""
    there: Tensor
    """``bool (k, MOST)``."""
    target: Tensor
    """``int64 (k,)``."""


class Gathered(NamedTuple):
    """All there is to learn from."""

    cells: Cells
    aims: Aims
    shape: Tensor
    """Where the block in the hand is, ``bool (H, W)``."""
    looks: Tensor
    """Of the player's blocks there, ``(HOTBAR_SLOTS, 3, H, W)``, 0 to 1."""
    swing: Tensor
    """How it swings, see :func:`latentcraft.model.train.swing.learn_swing`."""
    placing_swings: bool


class _Blocks:
    """Collects how blocks look in a resting hand."""

    def __init__(self, frame_size: tuple[int, int]) -> None:
        self.total = np.zeros((HOTBAR_SLOTS, *frame_size, 3))
        self.count = np.zeros((HOTBAR_SLOTS, *frame_size))

    def see(self, slot: int, frame: np.ndarray, attached: np.ndarray) -> None:
        self.total[slot][attached] += frame[attached]
        self.count[slot][attached] += 1

    def result(self) -> tuple[Tensor, Tensor]:
        """Return shape and looks; the shape is empty unless every block was seen."""
        seen = self.count.sum(0)
        looks = self.total / np.maximum(self.count, 1)[..., None]
        shape: np.ndarray = np.logical_and(seen > MOVES * max(1.0, seen.max()), (self.count > 0).all(0))
        shape &= looks.std(0).mean(-1) > DIFFERS
        return torch.from_numpy(shape), torch.from_numpy(looks / 255).permute(0, 3, 1, 2).float()


@torch.no_grad()
def gather(
    paths: Sequence[Path], depth: DepthNet, frame_size: tuple[int, int], generator: np.random.Generator, *,
    device: str = "cpu", quiet: bool = True,
) -> Gathered | None:  # fmt: skip
    """Look through recorded episodes; returns None where none tells what a hand did, where, and how far things were.

    Args:
        paths: the episodes' jsonl files.
        depth: the depth net.
        frame_size: (H, W) that they are resized to; must be that of their distances.
        generator: chooses pixels and views.
        device: where the depth net is.
        quiet: show no progress bar.
    """
    rays = pixel_rays(*frame_size, depth.config.field_of_view)
    blocks, cells, aims = _Blocks(frame_size), list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    episodes = read_all(paths, frame_size=frame_size)
    for path, episode in tqdm(
        episodes, total=len(paths), desc="hands", unit="episode", mininterval=2.0, disable=quiet
    ):  # fmt: skip
        found = read_distances(path)
        if episode.poses is None or found is None or found[1].shape[1:] != frame_size:
            continue
        eyes = eyes_of(episode.poses, episode.actions[:, BUTTON_INDEX["sneak"]])
        distances = {at: part.astype(np.float32) for at, part in zip(*found, strict=True) if at < len(episode)}
        slots = slots_of(episode.actions)
        working: np.ndarray = np.asarray(episode.actions[:, [BUTTON_INDEX["attack"], BUTTON_INDEX["use"]]].any(1))
        for at, distance in distances.items():
            if not working[max(0, at - SOON) : at + 1].any():
                blocks.see(int(slots[at]), episode.frames[at], distance == 0)

        def look(at: Sequence[int], episode: Episode = episode, eyes: np.ndarray = eyes) -> np.ndarray:
            pictures = torch.from_numpy(episode.frames[list(at)]).permute(0, 3, 1, 2).to(device) / 127.5 - 1
            return Guesser.look(depth, pictures, torch.from_numpy(eyes[list(at), 4]).float().to(device)).distances

        lens = depth.config.field_of_view
        cells += _cells(episode, eyes, distances, slots, rays, look, lens, generator)
        aims += _aims(episode, eyes, distances, rays, look, lens, generator)
    if not cells or not aims:
        return None
    columns = [torch.from_numpy(np.stack(column)) for column in zip(*cells, strict=True)]
    views = [torch.from_numpy(np.stack(column)) for column in zip(*aims, strict=True)]
    shape, looks = blocks.result()
    return Gathered(Cells(*columns), Aims(*views), shape, looks, *learn_swing(paths, shape, looks, frame_size))


def _cells(
    episode: Episode, eyes: np.ndarray, distances: dict[int, np.ndarray], slots: np.ndarray, rays: np.ndarray,
    look: Any, lens: float, generator: np.random.Generator,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """Return the rows of :class:`Cells` that an episode gives."""
    if episode.changes is None:
        return []
    rows = []
    events = [(int(tick), int(kind)) for tick, kind in np.argwhere(episode.changes)]
    for tick, kind in events:
        spot = episode.spots[tick, kind].astype(np.float64)
        if tick < 1 or np.isnan(spot).any() or np.abs(spot - eyes[tick, :3]).max() > NEAR:
            continue
        again = [t for t, k in events if t > tick and np.abs(episode.spots[t, k] - spot).max() <= 1]
        seen: list[tuple[np.ndarray, ...]] = []
        for at in range(tick, min([tick + SOON + 1, len(episode), *again])):
            if at in distances and len(seen) < 2:
                ways = np.einsum("ij,jhw->ihw", axes(eyes[at, 3], eyes[at, 4]), rays)
                part = _pixels(spot - eyes[at, :3], ways, kind, distances[at], episode.frames[at], generator)
                seen += [] if part is None else [part]
        if not seen:
            continue
        texel, colour, solid = (np.concatenate(part) for part in zip(*(seen * 2)[:2], strict=True))
        before, distance = episode.frames[tick - 1], look([tick - 1])[0]
        around = surroundings(before, distance, eyes[tick - 1], spot, lens)
        rows.append((
            np.rint(255 * around).astype(np.uint8), overview(before, distance > 0).astype(np.float16), np.int64(kind),
            slots[tick], texel, colour, solid,
        ))  # fmt: skip
    return rows


def _pixels(
    corner: np.ndarray, ways: np.ndarray, kind: int, distance: np.ndarray, frame: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:  # fmt: skip
    """Return what :data:`PIXELS` of a frame show of a cell, None if it is hardly in view."""
    enters, leaves = crossings(corner, ways)
    met = enters if CHANGES[kind] == "placed" else leaves
    slack = CLOSE * (1 + np.where(np.isfinite(met.distance), met.distance, 0.0))
    solid = np.isfinite(met.distance) & (distance > 0) & (np.abs(distance - met.distance) < slack)
    known = solid
    if CHANGES[kind] == "dug":
        known = np.isfinite(met.distance) & (distance > 0) & (distance > met.distance - slack)
    rows, columns = known.nonzero()
    if len(rows) < PIXELS // 8:
        return None
    pick = generator.choice(len(rows), PIXELS, replace=len(rows) < PIXELS)
    rows, columns = rows[pick], columns[pick]
    u, v = (met.place[:, rows, columns] * TEXELS).astype(np.int64)
    texel = (met.face[rows, columns] * TEXELS + v) * TEXELS + u
    return texel.astype(np.int16), frame[rows, columns], solid[rows, columns]


def _aims(
    episode: Episode, eyes: np.ndarray, distances: dict[int, np.ndarray], rays: np.ndarray, look: Any, lens: float,
    generator: np.random.Generator,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """Return the rows of :class:`Aims` that an episode gives."""
    middle = tuple(slice(size // 2 - 4, size // 2 + 4) for size in rays.shape[1:])
    near = []
    for at, distance in distances.items():
        seen = distance[middle]
        if (seen > 0).sum() >= 8 and np.median(seen[seen > 0]) < WITHIN:
            near.append(at)
    if len(near) > AIMS:
        near = sorted(generator.choice(near, AIMS, replace=False).tolist())
    rows = []
    for at, distance in zip(near, look(near) if near else (), strict=True):
        faces = faces_ahead(eyes[at])[: aim.MOST]
        true = face_seen(np.where(distances[at] > 0, distances[at], np.inf), rays, eyes[at])
        same = [index for index, face in enumerate(faces) if true is not None and face.distance == true.distance]
        if not same:
            continue
        told = aim.told_of(faces, episode.frames[at], distance, eyes[at], lens)
        flat = np.zeros((aim.MOST, *told[0].shape[1:]), np.int8)
        numbers = np.zeros((aim.MOST, told[1].shape[1]), np.float32)
        flat[: len(faces)], numbers[: len(faces)] = np.rint(127 * told[0]), told[1]
        rows.append((flat, numbers, np.arange(aim.MOST) < len(faces), np.int64(same[0])))
    return rows


class MatterStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "matter"

    def __init__(
        self, config: MatterStageConfig, data: Gathered | None, held_out: Gathered | None, *, seed: int,
        dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``; both None if there is nothing left to learn."""
        del dtype  # always fp32
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.held_out = config, seed, data, held_out
        self.device, self.ranks = device, ranks
        self.network = MatterNet(config.model)
        if data is not None:
            self.network.show_in_hand(data.shape, data.looks)
            self.network.take_swing(data.swing, placing=data.placing_swings)
        self.network.to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        every = tuple(name for name, _ in self.network.named_parameters())
        self.optimizer = MasterOptimizer(self.network, config.optimizer, not_matrices=every, peers=ranks)

    @property
    def gathered(self) -> frozenset[str]:
        """Buffers that were filled from the recordings."""
        hand = {"shape", "sprites"} if self.data is not None and self.data.shape.any() else set[str]()
        return frozenset(hand | ({"swing"} if self.data is not None and len(self.data.swing) > 1 else set()))

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config, share, batch = self.config, self.ranks.share, self.config.batch
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        assert self.data is not None
        cells, aims = self.data.cells, self.data.aims
        some = share(torch.randint(len(cells.kind), (batch,), generator=generator))
        views = share(torch.randint(len(aims.target), (batch,), generator=generator))
        cells, aims = Cells(*(entry[some] for entry in cells)), Aims(*(entry[views] for entry in aims))
        light, other = share(torch.exp(config.light * torch.randn(2, batch, 1, generator=generator)), axis=1)
        off = share(config.depth_noise * torch.randn(batch, generator=generator))
        for axis in (-1, -2):  # blocks are as square in a mirror
            turned = share(torch.rand(batch, generator=generator) < 0.5)[:, None, None, None, None]
            aims = aims._replace(flat=torch.where(turned, aims.flat.flip(axis), aims.flat))
        missed, solid, _ = self.missed(self.network, cells, light.to(self.device))
        aimed = self.aimed(self.network, aims, other.to(self.device), off.to(self.device))
        loss = missed.mean() + config.solid_weight * solid.mean() + config.solid_weight * aimed.mean()
        loss.backward()
        return {
            "loss": missed.mean().item(), "solid": solid.mean().item(), "aim": aimed.mean().item(),
            "norm": self.optimizer.step(step, steps),
        }  # fmt: skip

    def missed(
        self, network: MatterNet, cells: Cells, light: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return how far the colours of faces are from those of pixels, 0 to 1; the cross-entropy of whether there is a
        face; and the share for which that is right; of each of ``cells``, ``(k,)``, in another ``light (k, 1)``.
        """
        around, whole = (part.to(self.device).float() for part in (cells.around, cells.whole))
        colour, solid = cells.colour.to(self.device) / 255, cells.solid.to(self.device).float()
        around = around / 255
        if light is not None:
            around = torch.cat([around[..., :3] * light[:, None, None, None], around[..., 3:]], -1)
            whole = torch.cat([whole[..., :3] * light[:, None, None], whole[..., 3:]], -1)
            colour = colour * light[:, None]
        texel = cells.texel.to(self.device).long()
        drawn, logit = network(around, whole, cells.kind.to(self.device), cells.slot.to(self.device))
        flat = drawn.movedim(2, -1).flatten(1, 3)
        mine = torch.gather(flat, 1, texel[..., None].expand(-1, -1, 3))
        said = torch.gather(logit.flatten(1), 1, texel)
        off = torch.sqrt((mine - colour).square().sum(-1) + 1e-4)
        entropy = F.binary_cross_entropy_with_logits(said, solid, reduction="none").mean(1)
        return (off * solid).sum(1) / solid.sum(1).clamp(min=1), entropy, ((said > 0) == (solid > 0)).float().mean(1)

    def aimed(
        self, network: MatterNet, aims: Aims, light: Tensor | None = None, off: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return the cross-entropy of the faces in the middle of views, ``(k,)``, in another ``light (k, 1)`` and with
        all distances ``off (k,)``; without both, whether they are found.
        """
        flat = aims.flat.to(self.device).float() / 127
        numbers, there, target = (part.to(self.device) for part in (aims.numbers, aims.there, aims.target))
        if light is None or off is None:
            return (network.aim(flat, numbers, there).argmax(1) == target).float()
        colours, known, far = flat.split([3, 1, 1], 2)
        far = (far + known * (off / aim.MOST_OFF)[:, None, None, None, None]).clamp(-1, 1)
        flat = torch.cat([colours * light[:, None, :, None, None], known, far], 2)
        return F.cross_entropy(network.aim(flat, numbers, there), target, reduction="none")

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """How far colours are off on held-out cells that were dug and placed, and the share of texels that are rightly
        called solid and of views whose face is found.
        """
        del step, directory
        assert self.held_out is not None
        cells, aims, net = self.held_out.cells, self.held_out.aims, self.average
        parts = [
            self.missed(net, Cells(*(entry[some] for entry in cells)))
            for some in torch.arange(len(cells.kind)).split(256)
        ]
        missed, _, right = (torch.cat(part) for part in zip(*parts, strict=True))
        found = torch.cat([
            self.aimed(net, Aims(*(entry[some] for entry in aims)))
            for some in torch.arange(len(aims.target)).split(256)
        ])  # fmt: skip
        dug = cells.kind.to(self.device) == CHANGES.index("dug")
        return {
            "dug": missed[dug].mean().item(), "placed": missed[~dug].mean().item(), "solid": right[dug].mean().item(),
            "aimed": found.mean().item(),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        shape, looks = self.network.in_frame(self.network.config.frame_size)
        net = self.network
        return {
            **self.optimizer.state_dict(), "shape": shape.cpu(), "looks": (looks.cpu() + 1) / 2,
            "swing": net.swing.cpu(), "placing_swings": net.config.placing_swings,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        for net in (self.network, self.average):
            net.show_in_hand(state["shape"], state["looks"])
            if "swing" in state:  # earlier versions did not learn it
                net.take_swing(state["swing"], placing=state["placing_swings"])
            net.to(self.device)

    def result(self) -> MatterNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average

