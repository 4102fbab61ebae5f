"""Memory of places: pictures taken along the way, with their depth and where they were taken, and the view of them
from anywhere else.

A dream that moves only its last picture forgets what leaves the frame and wears out what it keeps: every chunk is
interpolated, encoded and decoded anew. So the pictures themselves are kept (image-based rendering; for video models see
GEN3C, arXiv 2503.03751, and WorldMem, arXiv 2504.12369), each pixel with its distance. A new view draws their pixels as
points, nearest first, and then looks every pixel up *once* in the sharpest picture that shows it. A picture only
stands for what no earlier one shows as well: such pixels are its *own*. When a new picture contradicts what was
remembered (something was dug, placed, or was never there), the old pixels go.

It runs on the CPU (points.py), about a millisecond for each view and for each new picture, whatever the nets run on.
"""

from collections.abc import Mapping

import numpy as np

from latentcraft.model import points, relief
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.camera import all_between, axes, focal_length, pixel_rays

CAPACITY = 64
"""Pictures kept; the one with the fewest pixels of its own makes room."""
NEW_SHARE = 0.01
"""Own pixels, as a share of the frame, that make a picture worth keeping."""
MARGIN = 0.15
"""Metres by which a surface may be remembered beyond the cell it belongs to."""
REAL = 0.5
"""How much of a picture was once real (:attr:`Memory.sure`) from which on it is believed more than a map of blocks."""
FAR = 64.0
"""Metres from where pictures have no pixels to speak of in one cell."""
PARTS = ("pictures", "distances", "own", "eyes", "sure", "clear")
"""Arrays of a memory, one entry a picture."""


class View:
    """What is remembered of a view."""

    def __init__(self, height: int, width: int):
        self.picture = np.zeros((height, width, 3), np.uint8)
        """``uint8 (H, W, 3)``; black where nothing is known."""
        self.distance = np.full((height, width), np.inf, np.float32)
        """Metres along each ray, infinite where nothing is known."""
        self.coarseness = np.ones((height, width), np.float32)
        """Pixels of this view per pixel of the picture that shows it, ``float32 (H, W)``: 1 is as sharp as seen."""
        self.source = np.full((height, width), -1, np.int32)
        """Which pixel of which picture is seen, see :func:`latentcraft.model.points.draw`; -1 for none."""
        self.mapped = np.zeros((height, width), np.bool_)
        """What is not remembered but shown from a map of blocks (blockmap.py), ``bool (H, W)``."""

    @property
    def known(self) -> np.ndarray:
        """``bool (H, W)``."""
        return (self.source >= 0) | self.mapped

    def copy(self) -> "View":
        """Return another one of the same."""
        other = View.__new__(View)
        for name, part in vars(self).items():
            setattr(other, name, part.copy())
        return other


class Memory:
    """The pictures of one world."""

    def __init__(self, frame_size: tuple[int, int], *, field_of_view: float, capacity: int = CAPACITY):
        """Start without any."""
        height, width = frame_size
        self.rays, self.focal = pixel_rays(height, width, field_of_view), focal_length(width, field_of_view)
        self.pictures = np.zeros((capacity, height, width, 3), np.uint8)
        self.distances = np.zeros((capacity, height, width), np.float32)
        self.own = np.zeros((capacity, height, width), np.bool_)
        blocks = -(-height // points.BLOCK), -(-width // points.BLOCK)
        self.reach = np.zeros((capacity, *blocks, 2), np.float32)
        """How far away the own pixels are, see :func:`latentcraft.model.points.extents`: what is out of view costs
        nothing."""
        self.eyes = np.zeros((capacity, 5))
        self.sure = np.ones((capacity, height // DOWNSAMPLING, width // DOWNSAMPLING), np.float32)
        """How much of what the pictures show was once real and not dreamed, 0 to 1, on the grid of the latents."""
        self.clear = np.ones_like(self.sure)
        """How much of them was recorded, seen or recalled, and not drawn by the transformer, 0 to 1, likewise."""
        self.count = 0
        self._drawn: dict[bytes, View] = {}  # views by their eyes, until anything changes

    def view(self, eye: np.ndarray) -> View:
        """Return what is remembered of the view from ``eye (5,)``."""
        place = np.ascontiguousarray(eye, np.float64).tobytes()
        if place not in self._drawn:
            self._drawn[place] = self._draw(eye)
        return self._drawn[place].copy()

    def forget(self) -> None:
        """Forget everything."""
        self._changed()
        self.count = 0

    def _changed(self) -> None:
        """Note that what is remembered is not what it was."""
        self._drawn = {}

    def _draw(self, eye: np.ndarray) -> View:
        """See :meth:`view`."""
        height, width = self.rays.shape[1:]
        view, offset = View(height, width), np.zeros((height, width), np.float32)
        turns, shifts = all_between(self.eyes[: self.count], eye)
        if self.count:
            points.draw_all(
                self.distances, self.own, self.reach, self.rays, turns, shifts, self.focal, view.distance, view.source,
                offset, view.coarseness,
            )  # fmt: skip
            points.drop_specks(view.distance, view.source)
            points.close_cracks(view.distance, view.source, view.coarseness)
            points.look_up(
                self.pictures, self.distances, self.rays, turns, shifts, self.focal, view.distance, view.source,
                view.picture,
            )  # fmt: skip
        return view

    def behind(self, view: View, grids: np.ndarray, elsewhere: float, mapped: float = 1.0) -> np.ndarray:
        """Return what ``grids``, :attr:`sure` or :attr:`clear`, say of the pictures behind ``view``, ``float32 (h, w)``
        on the grid of the latents; ``elsewhere`` where it shows none, ``mapped`` where it shows a map.
        """
        rows, columns = grids.shape[1:]
        found = self.pixels_of(view, grids, np.where(view.mapped, mapped, elsewhere))
        cells: np.ndarray = found.reshape(rows, DOWNSAMPLING, columns, DOWNSAMPLING).mean((1, 3)).astype(np.float32)
        return cells

    def pixels_of(self, view: View, grids: np.ndarray, elsewhere: np.ndarray | float) -> np.ndarray:
        """Return what ``grids`` (see :meth:`behind`) say of the pictures behind each pixel, ``float32 (H, W)``."""
        out = np.empty(view.source.shape, np.float32)
        out[:] = elsewhere
        points.behind(view.source, grids, DOWNSAMPLING, out)
        return out

    def remember(
        self, picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, changed: np.ndarray | None = None,
        sure: np.ndarray | None = None, clear: np.ndarray | None = None, without: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Add a picture; see the module's docstring for what of it and what of the others is kept.

        Args:
            picture: ``uint8 (H, W, 3)``.
            distance: ``float32 (H, W)``, 0 for what moves with the lens.
            eye: where it was taken, ``(5,)``.
            changed: where it is known to differ from what was remembered, though perhaps by little, ``bool (H, W)``.
            sure: see :attr:`sure`, ``(h, w)``; None for a real picture.
            clear: see :attr:`clear`, ``(h, w)``; None for a real picture.
            without: what of it is not to be kept, ``bool (H, W)``.
        """
        view = self.view(eye)
        wrong = contradicts(view.picture, view.known, picture)
        if changed is not None:
            wrong |= changed & view.known
        own = ~view.known | wrong | (distance < points.FINER * view.distance * view.coarseness)
        own |= distance > view.distance / points.BEHIND
        own &= ~widened(distance == 0)
        if without is not None:
            own &= ~without
        turns, shifts = all_between(self.eyes[: self.count], eye)
        self._changed()
        points.forget_all(
            self.distances, self.own, self.reach, self.rays, turns, shifts, self.focal, distance, wrong
        )  # fmt: skip
        self._keep(picture, distance, eye, own, 1.0 if sure is None else sure, 1.0 if clear is None else clear)

    def add(self, picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, own: np.ndarray) -> None:
        """Add a picture of what was never seen, as far as no other shows the same as well.

        Args:
            picture: ``uint8 (H, W, 3)``.
            distance: ``float32 (H, W)``.
            eye: where it is put, ``(5,)``.
            own: the part of it that may be taken, ``bool (H, W)``.
        """
        view = self.view(eye)
        fresh = ~view.known | (distance < points.FINER * view.distance * view.coarseness)
        fresh |= distance > view.distance / points.BEHIND  # hidden there, but perhaps not from elsewhere
        self._keep(picture, distance, eye, own & fresh, 0.0, 1.0)

    def _keep(
        self, picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, own: np.ndarray, sure: np.ndarray | float,
        clear: np.ndarray | float,
    ) -> None:  # fmt: skip
        """Add a picture, unless it has too few pixels of its own."""
        if own.sum() < NEW_SHARE * own.size:
            return
        self._changed()
        if self.count == len(self.eyes):
            self._make_room()
        at = self.count
        self.pictures[at], self.distances[at], self.own[at], self.eyes[at] = picture, distance, own, eye
        self.sure[at], self.clear[at], self.reach[at] = sure, clear, points.extents(distance, own)
        self.count += 1

    def surroundings(
        self, eye: np.ndarray, cells: np.ndarray | None = None, colours: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return what is known close by ``eye (5,)``, see :class:`latentcraft.model.relief.Nearby`: its boxes ``uint8
        (LINES, LINES, LEVELS)`` and tints ``uint8 (LINES, LINES, 4)``. Where there is a map of blocks, columns of which
        no real picture tells are by its ``cells`` and its faces' mean ``colours``, see
        :func:`latentcraft.model.relief.fill_cells`.
        """
        level = np.array([*eye[:4], 0.0])
        boxes, tints = relief.empty()
        turns, shifts = all_between(self.eyes[: self.count], level)
        least = 0.0 if cells is None else REAL
        relief.fill_all(
            self.distances, self.own, self.pictures, self.sure, least, self.rays, turns, shifts, self.focal, boxes,
            tints,
        )  # fmt: skip
        if cells is not None and colours is not None:
            mapped = relief.empty()
            relief.fill_cells(cells, colours, level[:3], axes(level[3], 0.0), *mapped)
            seen = boxes.max(-1, keepdims=True) >= relief.SURFACE
            boxes, tints = (np.where(seen, *parts) for parts in zip((boxes, tints), mapped, strict=True))
        return relief.rounded(boxes, tints)

    def carve(self, corner: np.ndarray) -> None:
        """Forget what is in the cell with the lower ``corner (3,)``: it was dug out."""
        self._changed()
        for number in range(self.count):
            eye = self.eyes[number]
            if np.abs(eye[:3] - corner).max() < FAR:
                points.carve(
                    self.distances[number], self.own[number], self.rays, axes(eye[3], eye[4]), eye[:3],
                    np.asarray(corner, np.float64), MARGIN,
                )  # fmt: skip

    def fade(self, least: float) -> None:
        """Forget all pixels that are less :attr:`clear` than ``least``, as if nobody had looked there."""
        self._changed()
        dim = (self.clear[: self.count] < least).repeat(DOWNSAMPLING, 1).repeat(DOWNSAMPLING, 2)
        self.own[: self.count] &= ~dim
        self.distances[: self.count][dim] = 0.0

    def disown(self, number: int, mask: np.ndarray) -> None:
        """Forget what is in a ``mask bool (H, W)`` of a picture: something else stands there."""
        self._changed()
        self.own[number] &= ~mask

    def _make_room(self) -> None:
        """Drop the picture with the fewest pixels of its own."""
        poorest = int(self.own.reshape(len(self.own), -1).sum(1).argmin())
        for part in (self.pictures, self.distances, self.own, self.reach, self.eyes, self.sure, self.clear):
            part[poorest:-1] = part[poorest + 1 :]
        self.count -= 1

    def save(self) -> dict[str, np.ndarray]:
        """Return copies of everything there is."""
        return {name: getattr(self, name)[: self.count].copy() for name in PARTS}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`save` returned."""
        self._changed()
        self.count = len(arrays["eyes"])
        self.sure[: self.count] = self.clear[: self.count] = 1.0  # what was saved by earlier versions does not say
        for name in arrays.keys() & set(PARTS):
            getattr(self, name)[: self.count] = arrays[name]
        for number in range(self.count):
            self.reach[number] = points.extents(self.distances[number], self.own[number])


def contradicts(view: np.ndarray, known: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return where two pictures ``uint8 (H, W, 3)`` do not show the same, ``bool (H, W)``, among ``known`` pixels."""
    out = np.zeros(known.shape, np.bool_)
    points.compare(view, known, picture, out)
    return out


def widened(mask: np.ndarray) -> np.ndarray:
    """Return ``mask (H, W)`` with a pixel more on each side: what hangs before the lens colours its neighbours too."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide
