"""What is drawn on blocks that a hand works on is learned from episodes that tell of blocks and of hands.

Between two moments at which blocks were recorded a hand's changes are all that happens to them, so that in every tick
one knows which block was aimed at, and for how long it had been struck. How much darker its pixels are than the texture
that they belong to, in the light of their frame, is the mark.
"""

from typing import NamedTuple

import numpy as np

from latentcraft.model.actions import CHANGES
from latentcraft.model.blockmap import FACES, BlockMap
from latentcraft.model.blockrays import TEXELS, TEXTURE, UNKNOWN
from latentcraft.model.camera import axes, focal_length, pixel_rays
from latentcraft.model.cells import REACH, passage
from latentcraft.model.episodes import Episode
from latentcraft.model.marks import ATTACK, DUG, NO_PART, NOTHING, PARTS, STAGES, Marks, parts_of
from latentcraft.model.relief import AIR

PLACED = CHANGES.index("placed")
STRUCK_EVERY, AIMED_EVERY = 3, 24
"""Of so many ticks in which a block is struck, and is aimed at only, one is looked at."""
BESIDE = 3.0
"""Metres that pixels may be farther away than the block and tell of the light."""
PIXELS = 300
"""Of those at most."""
FEWEST = 40
"""Of those, and of those of the block, at least."""
BROKEN = 3
"""Times that one has to have seen a kind break to know how long that takes."""
MOST = 1.3
"""By which a mark multiplies at most."""


class Look(NamedTuple):
    """A block that was aimed at."""

    kind: int
    ticks: int
    """For how long it had been struck."""
    part: np.ndarray
    """Which of its pixels shows which part of a face, ``(n,)``."""
    texel: np.ndarray
    """Which texel of all kinds' (``kinds * FACES * TEXELS ** 2``) each pixel shows, those of other blocks last,
    ``(n + m,)``."""
    colours: np.ndarray
    """Of all of them, 0 to 1, ``(n + m, 3)``."""


class Marking:
    """Gathers looks at blocks that hands work on."""

    def __init__(self, kinds: int, field_of_view: float) -> None:
        """See nothing yet."""
        self.kinds, self.field_of_view = kinds, field_of_view
        self.looks, self.broke = list[Look](), [list[int]() for _ in range(kinds)]
        self.reached = list[float]()
        self.generator = np.random.default_rng(0)

    def see(self, episode: Episode, eyes: np.ndarray, told: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Follow an episode, seen from ``eyes (t, 5)``, in which ``told`` are blocks
        (:func:`latentcraft.model.episodes.read_blocks`).
        """
        if episode.changes is None:
            return
        height, width = episode.frames.shape[1:3]
        rays, focal = pixel_rays(height, width, self.field_of_view), focal_length(width, self.field_of_view)
        index, corners, blocks = told
        true, strike, following = BlockMap(), NOTHING, 0
        for tick in range(len(episode)):
            strikes = bool(episode.actions[tick, ATTACK] > 0)
            if following < len(index) and index[following] == tick:
                true.clear()  # so that it is as it was recorded
                true.follow(eyes[tick])
                true.learn(corners[following], blocks[following] + np.uint8(AIR))
                following += 1
            if true.centre is None:
                continue
            self._change(true, episode, tick, strike.ticks + 1 if strikes else 0, eyes[tick], following, told)
            true.follow(eyes[tick])
            aimed = true.aimed(eyes[tick], REACH)
            strike = strike.going_on(None if aimed is None else aimed[0], strikes=strikes)
            every = STRUCK_EVERY if strike.ticks else AIMED_EVERY
            if aimed is not None and self.generator.integers(every) == 0:
                self._look(true, aimed[0], strike.ticks, episode.frames[tick], eyes[tick], rays, focal)

    def _change(
        self, true: BlockMap, episode: Episode, tick: int, ticks: int, eye: np.ndarray, following: int,
        told: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        """Do to the blocks what the hand does in a tick, the last of ``ticks`` in which it struck."""
        assert episode.changes is not None
        for change in np.flatnonzero(episode.changes[tick]):
            if np.isnan(episode.spots[tick, change]).any():
                continue
            cell = np.rint(episode.spots[tick, change]).astype(np.int64)
            if change == DUG and true.at(cell) > AIR:
                self.broke[true.at(cell) - AIR].append(ticks)
                enters, _, _ = passage(cell - eye[:3], axes(eye[3], eye[4])[:, 2:])
                self.reached += enters[np.isfinite(enters)].tolist()
            index, corners, blocks = told
            entry = AIR if change == DUG else UNKNOWN
            if change == PLACED and following < len(index):
                at = cell - corners[following]
                if (at >= 0).all() and (at < blocks.shape[1:]).all():
                    entry = int(blocks[following][tuple(at)]) + AIR
            true.put(cell, entry)

    def _look(
        self, true: BlockMap, cell: np.ndarray, ticks: int, frame: np.ndarray, eye: np.ndarray, rays: np.ndarray,
        focal: float,
    ) -> None:  # fmt: skip
        """Take pixels of a block and of what is beside it."""
        met = true.cast(eye, rays, focal, np.full(frame.shape[:2], REACH + BESIDE, np.float32))
        fine = (met.entry > AIR) & (met.texel % TEXTURE < TEXELS**2)
        part = parts_of(cell, eye, rays, np.where(fine, met.distance, 0).astype(np.float32))
        own, beside = np.flatnonzero(part != NO_PART), np.flatnonzero(fine & (part == NO_PART))
        if min(len(own), len(beside)) < FEWEST:
            return
        own = self.generator.choice(own, min(len(own), 2 * PIXELS), replace=False)
        rows = np.concatenate([own, self.generator.choice(beside, min(len(beside), PIXELS), replace=False)])
        entry, texel = (each.ravel()[rows].astype(np.int64) for each in (met.entry, met.texel))
        texel = ((entry - AIR) * FACES + texel // TEXTURE) * TEXELS**2 + texel % TEXTURE
        colours = frame.reshape(-1, 3)[rows] / np.float32(255)
        self.looks.append(Look(true.at(cell) - AIR, ticks, part.ravel()[own], texel.astype(np.int32), colours))

    def result(self, palette: np.ndarray, lit: np.ndarray) -> Marks:
        """Return the marks.

        Args:
            palette: textures of all kinds, ``(kinds, FACES, TEXELS, TEXELS, 3)``.
            lit: see :class:`latentcraft.model.completion.CompletionNet`.
        """
        lasts = np.array([np.median(each) if len(each) >= BROKEN else 0 for each in self.broke], np.float32)
        marks = Marks(np.ones((STAGES, PARTS, PARTS), np.float32), lasts, max(self.reached, default=0.0))
        total, weight = np.zeros((2, STAGES, PARTS**2))
        textures, shines = palette.reshape(-1, 3), np.repeat(lit, FACES * TEXELS**2)
        for kind, ticks, part, texel, colours in self.looks:
            if ticks >= lasts[kind]:  # something was amiss: it had broken by then
                continue
            own, others = textures[texel], slice(len(part), None)
            shone = own * shines[texel, None]
            gain = (colours * shone)[others].sum(0) / np.maximum(np.square(shone)[others].sum(0), 1e-6)
            base = np.where(shines[texel, None] > 0, own * gain, own)[: len(part)].mean(-1)
            stage = marks.stage(kind, ticks)
            total[stage] += np.bincount(part, colours[: len(part)].mean(-1) * base, PARTS**2)
            weight[stage] += np.bincount(part, base * base, PARTS**2)
        dims = np.divide(total, weight, out=np.ones_like(total), where=weight > 0)
        for stage in range(1, STAGES):  # none lasts long enough to be seen in all
            if not weight[stage].any():
                dims[stage] = dims[stage - 1]
        return marks._replace(dims=dims.reshape(marks.dims.shape).clip(0, MOST).astype(np.float32))
