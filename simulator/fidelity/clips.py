"""Short clips sampled from long films, and Fréchet distances between what two worlds showed in each slice of time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentcraft.simulator.fidelity.features import BATCH, FeatureNet
from latentcraft.simulator.fidelity.figures import Figure
from latentcraft.simulator.fidelity.metrics import Basis, clip_features, frechet_figure

CLIP_FRAMES, CLIP_STRIDE = 4, 2
"""A clip is 4 frames, 2 ticks apart: 0.35 s, across the seam between two chunks."""


@dataclass(frozen=True)
class Sampling:
    """Which clips are looked at: in each slice of time a few, spread evenly, the last one at the slice's end."""

    edges: tuple[int, ...]
    """Last tick of each slice, ascending; a slice begins after the one before, the first at the start."""
    clips: int
    """Clips in a slice, at most."""
    chunk: int
    """Clips end where chunks do, counted back from the slice's end, so that few chunks need drawing."""

    def ends(self, index: int) -> list[int]:
        """Return the last ticks of the clips in slice ``index``, ascending."""
        before = self.edges[index - 1] if index else 0
        possible = list(range(self.edges[index], before, -self.chunk))[::-1]
        chosen = np.unique(np.linspace(len(possible) - 1, 0, self.clips).round().astype(int))
        return [possible[i] for i in chosen]

    def clip(self, end: int) -> list[int]:
        """Return the ticks of the clip that ends at tick ``end``, no further back than the warm-up's last chunk."""
        return [max(end - CLIP_STRIDE * back, 1 - self.chunk) for back in range(CLIP_FRAMES)][::-1]

    def frames(self, index: int) -> list[int]:
        """Return the ticks of slice ``index`` that are looked at as single frames, ascending."""
        return sorted({tick for end in self.ends(index) for tick in self.clip(end) if tick > 0})

    def ticks(self) -> list[int]:
        """Return every tick that any of this needs, ascending."""
        return sorted({tick for index in range(len(self.edges)) for end in self.ends(index) for tick in self.clip(end)})


@dataclass(frozen=True)
class Footage:
    """What a world showed in ``b`` games at some ticks, and what a network sees in it."""

    ticks: list[int]
    frames: np.ndarray
    """``uint8 (b, k, H, W, 3)``."""
    pooled: np.ndarray
    """``float32 (b, k, d)``."""

    @classmethod
    def of(cls, net: FeatureNet, ticks: Sequence[int], frames: np.ndarray) -> "Footage":
        """Look at the frames."""
        flat = frames.reshape(-1, *frames.shape[2:])
        seen = [net(flat[at : at + BATCH]).pooled.numpy() for at in range(0, len(flat), BATCH)]
        return cls(list(ticks), frames, np.concatenate(seen).reshape(*frames.shape[:2], -1).astype(np.float32))

    def at(self, ticks: Sequence[int]) -> list[int]:
        """Return where ticks are in :attr:`frames`."""
        return [self.ticks.index(tick) for tick in ticks]

    def frame_sets(self, sampling: Sampling, index: int) -> np.ndarray:
        """Return the features of the frames in a slice, ``(b, n, d)``."""
        return self.pooled[:, self.at(sampling.frames(index))]

    def clip_sets(self, sampling: Sampling, index: int) -> np.ndarray:
        """Return the features of the clips in a slice, ``(b, n, 3 d)``."""
        clips = np.stack([self.pooled[:, self.at(sampling.clip(end))] for end in sampling.ends(index)], axis=1)
        return clip_features(clips.reshape(-1, *clips.shape[2:])).reshape(*clips.shape[:2], -1)


def frechet_by_slice(sampling: Sampling, shown: Footage, true: Footage, *, clips: bool) -> list[Figure]:
    """Return the Fréchet distance between two worlds' frames (or clips) in each slice.

    The axes on which they are compared are those of all slices of ``true``.
    """
    slices = range(len(sampling.edges))
    sets = [[(one.clip_sets if clips else one.frame_sets)(sampling, i) for i in slices] for one in (shown, true)]
    everything = np.concatenate([part.reshape(-1, part.shape[-1]) for part in sets[1]])
    basis = Basis.fit(everything, parts=3 if clips else 1)
    return [
        frechet_figure([basis.project(game) for game in one], [basis.project(game) for game in two])
        for one, two in zip(*sets, strict=True)
    ]
