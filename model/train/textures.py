"""What kinds of blocks look like is learned from pixels whose place is known: textures, and which kinds glow."""

import math
from collections.abc import Sequence

import numpy as np

from latentcraft.model.blockmap import FACES, BlockMap
from latentcraft.model.blockrays import TEXELS, TEXTURE
from latentcraft.model.episodes import Episode
from latentcraft.model.memory import Memory
from latentcraft.model.relief import AIR

NEAR = 6.0
"""Metres up to which textures are learned."""
CLOSE = 0.03
"""Metres, and share of the distance, by which a pixel may be off the face it belongs to."""
PIXELS = 1500
"""Of a frame that textures are learned from."""
FEWEST = 30
"""Pixels of a kind in a frame that tell how bright it is there."""
SEEN_OFTEN, GLOWING = 12, 0.35
"""Frames from which on one knows whether a kind glows, and how much of the light's changes it then shows at most."""
ROUNDS = 8
"""Times that textures and the light of each frame are fitted to each other."""


class Textures:
    """Fits textures to pixels whose place is known."""

    def __init__(self, kinds: int, field_of_view: float) -> None:
        self.field_of_view = field_of_view
        self.kinds, self.frames = kinds, list[tuple[np.ndarray, np.ndarray]]()
        self.generator = np.random.default_rng(0)

    def see(
        self, episode: Episode, eyes: np.ndarray, found: tuple[np.ndarray, np.ndarray], told: tuple[np.ndarray, ...]
    ) -> None:  # fmt: skip
        """Take pixels of an episode's frames around which blocks are known."""
        measured, distances = found
        _, height, width = distances.shape
        memory = Memory((height, width), field_of_view=self.field_of_view)
        for tick, corner, blocks in zip(*told, strict=True):
            before = np.flatnonzero((measured <= tick) & (measured > tick - 7))
            if not len(before) or measured[before[-1]] >= len(episode):
                continue
            at = int(measured[before[-1]])
            true = BlockMap()
            true.follow(eyes[at])
            true.learn(corner, blocks + np.uint8(AIR))
            wanted = (distances[before[-1]] > 0) & (distances[before[-1]] < NEAR)
            met = true.cast(eyes[at], memory.rays, memory.focal, np.where(wanted, NEAR, 0).astype(np.float32))
            off = np.abs(met.distance - distances[before[-1]].astype(np.float32))
            place = met.texel % TEXTURE
            rows = np.flatnonzero((met.entry > AIR) & (off < CLOSE * (1 + met.distance)) & (place < TEXELS**2))
            if len(rows) < PIXELS // 8:
                continue
            rows = self.generator.choice(rows, min(PIXELS, len(rows)), replace=False)
            face = met.texel.ravel()[rows] // TEXTURE
            which = ((met.entry.ravel()[rows].astype(np.int64) - AIR) * FACES + face) * TEXELS**2 + place.ravel()[rows]
            self.frames.append((which, episode.frames[at].reshape(-1, 3)[rows] / np.float32(255)))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return textures ``float32 (kinds, FACES, TEXELS, TEXELS, 3)`` and which kinds are lit, ``(kinds,)``."""
        per = FACES * TEXELS**2
        size = self.kinds * per
        palette, known = np.full((size, 3), 0.5), np.zeros(size, np.bool_)
        lit = np.ones(self.kinds, np.float32)
        for turn in range(ROUNDS):
            total, weight = np.zeros((2, size, 3))
            shone_at: list[list[tuple[float, float]]] = [[] for _ in range(self.kinds)]
            for which, colour in self.frames:
                kind, gain = which // per, np.ones(3)
                if turn:
                    shone = palette[which] * lit[kind, None]
                    gain = (colour * shone).sum(0) / np.maximum(np.square(shone).sum(0), 1e-6)
                    bright, own = colour.mean(1), palette[which].mean(1)
                    light = math.log(max(gain.mean(), 1e-3))
                    for each in np.unique(kind):
                        mine = kind == each
                        off = math.log((bright[mine].sum() + 1e-3) / (own[mine].sum() + 1e-3))
                        if mine.sum() >= FEWEST:
                            shone_at[each].append((light, off))
                scale = np.where(lit[kind, None] > 0, gain, 1.0)
                for channel in range(3):
                    total[:, channel] += np.bincount(which, scale[:, channel] * colour[:, channel], size)
                    weight[:, channel] += np.bincount(which, scale[:, channel] ** 2, size)
            known = weight[:, 0] > 0
            palette = np.where(known[:, None], total / np.maximum(weight, 1e-6), 0.5)
            if turn:
                lit = np.array([follows_light(pairs) for pairs in shone_at], np.float32)
        faces = palette.reshape(self.kinds, FACES, TEXELS**2, 3)
        there = known.reshape(self.kinds, FACES, TEXELS**2)
        for each in range(self.kinds):  # texels, faces and kinds that were never seen are like the others
            every = faces[each][there[each]]
            for face in range(FACES):
                mine = faces[each, face][there[each, face]]
                faces[each, face][~there[each, face]] = (
                    mine.mean(0) if len(mine) else every.mean(0) if len(every) else 0.5
                )
        return faces.reshape(self.kinds, FACES, TEXELS, TEXELS, 3).clip(0, 1.5).astype(np.float32), lit


def follows_light(pairs: Sequence[tuple[float, float]]) -> bool:
    """Return whether a kind is as bright as its surroundings: ``pairs`` are logarithms of the light's brightness and of
    its own, one of a frame. Those that glow are not; of what was seldom seen it is taken for granted.
    """
    if len(pairs) < SEEN_OFTEN:
        return True
    light, own = np.array(pairs).T
    light = light - light.mean()
    return bool((light * own).sum() > GLOWING * (light * light).sum())
