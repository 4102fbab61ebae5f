"""Block map: which kind of block is in each cell around a player, and what it looks like from anywhere.

Remembered pictures (memory.py) are as sharp as they were taken: what was far away is a smear when one walks up to it.
In worlds of blocks the smear stands for cubes, and a net says which (completion.py). Their faces have textures, which
are as sharp from close by as one likes, lie exactly in the grid, can be stood on, dug out and built on. So what is near
is shown from here, unless memory has it sharper.

A block is *settled* once the map has shown it: from then on only a hand changes it, unless others cover it or somebody
stands there. What memory has shown so far may still be seen better. The map is a window of :data:`SIDES` cells that
moves along with the eye; what it leaves behind memory keeps.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from latentcraft.model.blockrays import ALIKE, KIND, MADE, SETTLED, UNKNOWN, march, paint
from latentcraft.model.camera import BOX, axes
from latentcraft.model.memory import Memory, View
from latentcraft.model.relief import AIR

SIDES = (128, 64, 128)
"""Cells of the window along x, y and z; powers of two."""
FACES = 6
"""Of a cell: the lower and the upper one across x, across y, across z."""
LIT = 8.0
"""Metres up to which the light is learned from what is seen."""
FEWEST = 50
"""Pixels that tell of the light at least."""
LONGEST = 3000
"""As many pixels later half of what was learned of the light is forgotten."""
GLOWS = 0.5
"""Of the light (:attr:`Looks.lit`) below which blocks do not tell of it."""
DARK, TINT = 0.03, 0.12
"""What is added to colours before they are divided by each other; and by how much the light's colours differ from its
brightness at most, as a logarithm."""
MOVED, TURNED, CHUNKS = 0.5, 12.0, 4
"""Metres and degrees that the eye has moved, and chunks, after which a map is completed anew."""


class Looks(NamedTuple):
    """What the kinds of blocks look like."""

    textures: np.ndarray
    """In white light, 0 to 1, all sizes: ``float32 (kinds, FACES, TEXTURE, 3)``."""
    lit: np.ndarray
    """How much they are of the light: 0 glow, 1 are as bright as it, ``float32 (kinds,)``."""

    @property
    def means(self) -> np.ndarray:
        """Mean colours of faces, ``float32 (kinds, FACES, 3)``."""
        return self.textures[:, :, -1]

    @classmethod
    def of(cls, palette: np.ndarray, lit: np.ndarray | None = None) -> "Looks":
        """Return textures in all sizes, of a ``palette (kinds, FACES, TEXELS, TEXELS, 3)``; by default all are lit."""
        sizes: list[np.ndarray] = [palette.astype(np.float32)]
        while sizes[-1].shape[2] > 1:
            fine = sizes[-1]
            rows = fine[:, :, ::2] + fine[:, :, 1::2]
            sizes.append((rows[:, :, :, ::2] + rows[:, :, :, 1::2]) / 4)
        textures = np.concatenate([size.reshape(*palette.shape[:2], -1, 3) for size in sizes], 2)
        return cls(textures, np.ones(len(palette), np.float32) if lit is None else lit)

    def colours(self, entry: np.ndarray, texel: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """Return the colours ``(k, 3)``, 0 to 1 or more, of what is met (see :class:`Cast`) in a light of ``gain``."""
        textures = self.textures.reshape(len(self.textures), -1, 3)
        lit: np.ndarray = textures[entry - AIR, texel] * gain ** self.lit[entry - AIR, None]
        return lit


class Cast(NamedTuple):
    """What rays meet; see :meth:`BlockMap.cast`."""

    entry: np.ndarray
    """Of the map, ``uint8 (H, W)``, only :data:`KIND`; :data:`UNKNOWN` where the ray meets nothing known."""
    distance: np.ndarray
    """Metres, ``float32 (H, W)``."""
    texel: np.ndarray
    """Which of ``FACES * TEXTURE``, ``int32 (H, W)``."""


class BlockMap:
    """The blocks around one player."""

    def __init__(self) -> None:
        """Know nothing."""
        self.cells = np.zeros(SIDES, np.uint8)
        """Entries, at coordinates modulo :data:`SIDES`."""
        self.centre: np.ndarray | None = None
        """Cell in whose surroundings the window lies, ``int64 (3,)``; None before there is any."""
        self.worked = False
        """Whether a hand made anything."""
        self.looked = np.full(6, np.inf)
        """From where it was completed last, and how many chunks ago, ``(6,)``."""
        self.light = np.zeros(4)
        """Logarithm of what textures are multiplied by to be in the light there is, and how many pixels have told it,
        ``(4,)``."""

    def clear(self) -> None:
        """Forget everything."""
        self.cells[:], self.centre, self.light, self.worked = UNKNOWN, None, np.zeros(4), False
        self.looked[:] = np.inf

    def save(self) -> dict[str, np.ndarray]:
        """Return copies of everything there is."""
        centre = np.zeros(0, np.int64) if self.centre is None else self.centre
        return {"blocks.cells": self.cells.copy(), "blocks.centre": centre.copy(), "blocks.light": self.light.copy(),
                "blocks.looked": self.looked.copy()}  # fmt: skip

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`save` returned; earlier versions had no map."""
        self.clear()
        if len(arrays.get("blocks.centre", ())):
            self.cells, self.light = np.array(arrays["blocks.cells"]), np.array(arrays["blocks.light"])
            self.looked = np.array(arrays["blocks.looked"])
            self.centre, self.worked = np.array(arrays["blocks.centre"]), bool((self.cells & MADE).any())

    @property
    def gain(self) -> np.ndarray:
        """By what textures are multiplied, ``float64 (3,)``."""
        return np.exp(self.light[:3])

    def follow(self, eye: np.ndarray) -> None:
        """Move the window along to ``eye (5,)``."""
        cell = np.floor(eye[:3]).astype(np.int64)
        if self.centre is None or (np.abs(cell - self.centre) >= SIDES).any():
            self.cells[:] = UNKNOWN
        else:
            for axis, (before, now, side) in enumerate(zip(self.centre, cell, SIDES, strict=True)):
                if before != now:  # of the cells that come in at one end, those at the other had the entries
                    half = side // 2 if now > before else -(side // 2)
                    at: list[Any] = [slice(None)] * 3
                    at[axis] = np.arange(min(before + half, now + half), max(before + half, now + half)) % side
                    self.cells[tuple(at)] = UNKNOWN
        self.centre = cell

    def is_old(self, eye: np.ndarray) -> bool:
        """Return whether it is to be completed anew from ``eye (5,)``; asked once a chunk."""
        self.looked[5] += 1
        off = np.abs(self.looked[:5] - eye)
        return bool((off[:3] > MOVED).any() or (off[3:] > TURNED).any() or self.looked[5] >= CHUNKS)

    def box(self, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what indexes the :data:`BOX` of cells from ``corner (3,)`` in :attr:`cells`."""
        x, y, z = ((low + np.arange(size)) % side for low, size, side in zip(corner, BOX, SIDES, strict=True))
        return np.ix_(x, y, z)

    def at(self, cell: np.ndarray) -> int:
        """Return the entry of a ``cell (3,)``, only :data:`KIND`."""
        x, y, z = (int(part) % side for part, side in zip(cell, SIDES, strict=True))
        return int(self.cells[x, y, z]) & KIND

    def put(self, cell: np.ndarray, entry: int) -> None:
        """Let a hand make ``entry`` of a ``cell (3,)``."""
        x, y, z = (int(part) % side for part, side in zip(cell, SIDES, strict=True))
        self.cells[x, y, z] = entry | SETTLED | MADE
        self.worked = True

    def loosen(self) -> None:
        """Let nothing stay but what hands made: other things were shown than the map's."""
        self.cells[self.cells & MADE == 0] &= ~np.uint8(SETTLED)
        self.looked[5] = np.inf

    def free(self, low: np.ndarray, high: np.ndarray) -> None:
        """Take away the blocks of the cells from ``low (3,)`` to ``high (3,)``, both included: somebody is there."""
        at = np.ix_(*(np.arange(a, b + 1) % side for a, b, side in zip(low, high, SIDES, strict=True)))
        self.cells[at] = np.where(self.cells[at] & MADE, self.cells[at], AIR)

    def learn(self, corner: np.ndarray, fresh: np.ndarray) -> None:
        """Take over the ``fresh`` entries ``uint8 BOX`` of cells from ``corner (3,)`` that are not settled, or that
        nobody can see: what was shown there once is buried.
        """
        at = self.box(corner)
        before = self.cells[at]
        entries = np.where(before & SETTLED, before, fresh)
        solid = np.pad(entries & KIND > AIR, 1)
        inner = slice(1, -1)
        buried = (
            solid[:-2, inner, inner] & solid[2:, inner, inner] & solid[inner, :-2, inner] & solid[inner, 2:, inner]
            & solid[inner, inner, :-2] & solid[inner, inner, 2:]
        )  # fmt: skip
        self.cells[at] = np.where(buried & (before & MADE == 0), fresh, entries)

    def aimed(self, eye: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the block in the middle of the view from ``eye (5,)`` and the cell before it, ``int64 (3,)`` each;
        None where within ``reach`` metres there is something unknown, or nothing.
        """
        way, cell = axes(eye[3], eye[4])[:, 2], np.floor(eye[:3]).astype(np.int64)
        way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        if self.centre is None or self.at(cell) != AIR:
            return None
        while True:
            leaves = (cell + (way > 0) - eye[:3]) / way
            axis = int(leaves.argmin())
            if leaves[axis] > reach:
                return None
            before, cell = cell, cell + np.where(np.arange(3) == axis, np.sign(way), 0).astype(np.int64)
            if (entry := self.at(cell)) != AIR:
                return None if entry == UNKNOWN else (cell, before)

    def light_up(self, memory: Memory, looks: Looks) -> None:
        """Learn the light from the last of the remembered pictures."""
        eye, distance = memory.eyes[memory.count - 1], memory.distances[memory.count - 1]
        far = np.where((distance > 0) & (distance < LIT), LIT, 0).astype(np.float32)
        far[::2] = far[:, ::2] = 0
        met = self.cast(eye, memory.rays, memory.focal, far)
        there = (met.entry > AIR) & (np.abs(met.distance - distance) < ALIKE * distance)
        there &= looks.lit[np.maximum(met.entry, AIR) - AIR] > GLOWS
        if (count := there.sum()) < FEWEST:
            return
        own = looks.colours(met.entry[there], met.texel[there], np.ones(3))
        ratio = np.log((memory.pictures[memory.count - 1][there] / 255.0 + DARK) / (own + DARK))
        told = np.median(ratio, 0)  # where the kind is wrong, so is the colour
        told = told.mean() + (told - told.mean()).clip(-TINT, TINT)
        self.light[:3] += (told - self.light[:3]) * count / (count + min(self.light[3], LONGEST))
        self.light[3] += count

    def show(
        self, view: View, eye: np.ndarray, rays: np.ndarray, focal: float, looks: Looks, *,
        vague: np.ndarray | None = None, fixed: np.ndarray | None = None, firm: np.ndarray | None = None,
        guessed: bool = True,
    ) -> None:  # fmt: skip
        """Show in a remembered ``view`` from ``eye (5,)`` what memory does not know, or not as sharp.

        Args:
            view: what is remembered; changed.
            eye: where it is seen from.
            rays: see :meth:`cast`.
            focal: see :meth:`cast`.
            looks: what the blocks look like.
            vague: where memory is not to be trusted, ``bool (H, W)``.
            fixed: where what memory has sharp is to stay, ``bool (H, W)``.
            firm: where what memory has is not to give way to what is behind it, ``bool (H, W)``.
            guessed: whether also blocks are shown of which nothing was seen, which are then settled.
        """
        if self.centre is None:
            return
        nowhere = np.zeros(view.source.shape, np.bool_)
        vague, fixed, firm = (nowhere if part is None else part for part in (vague, fixed, firm))
        gains = self.gain ** looks.lit[:, None]
        paint(
            self.cells, axes(eye[3], eye[4]), eye[:3].copy(), rays, focal, vague, fixed, firm, self.worked, guessed,
            looks.textures, gains, view.picture, view.distance, view.coarseness, view.source, view.mapped,
        )  # fmt: skip

    def cast(self, eye: np.ndarray, rays: np.ndarray, focal: float, far: np.ndarray) -> Cast:
        """Return what the map shows from ``eye (5,)``.

        Args:
            eye: where it is seen from.
            rays: of the pixels, ``float32 (3, H, W)``.
            focal: pixels.
            far: metres up to which each pixel is asked for, ``float32 (H, W)``; 0: not at all.
        """
        shape = far.shape
        out = Cast(np.zeros(shape, np.uint8), np.full(shape, np.inf, np.float32), np.zeros(shape, np.int32))
        march(self.cells, axes(eye[3], eye[4]), eye[:3].copy(), rays, focal, far, *out)
        return out
