"""Handiwork: what a hand changes is put into the coming views as what matter says it looks like (matter.py).

From the frame in which something breaks or is placed on, the views show the new faces where they lie, in front of or in
place of what was remembered, with exact distances: it is remembered like what was seen. Where a cell is dug out that
has no far side, what was seen behind it is uncovered, if anybody has looked there.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.actions import CHANGES
from latentcraft.model.camera import axes
from latentcraft.model.guess import Guess
from latentcraft.model.held import Held
from latentcraft.model.matter import TEXELS, MatterNet, crossings, overview, surroundings
from latentcraft.model.views import DRAWN, OPEN, Views, share_of

BEFORE = 0.1
"""Share by which something must be nearer than a cell to stand before it."""
SAME = 0.1
"""Share by which something may be nearer than the far side of a cell and yet be behind it."""
NEAR = 0.05
"""Metres before the eye up to which nothing is drawn: it would be inside."""
MOSTLY = 0.5
"""Share of a latent position that the hand has changed from which on it counts as such."""
SOME = 0.25
"""The same for what hangs before the lens."""


def worked(
    net: MatterNet, view: Views, holds: np.ndarray, slots: np.ndarray, rays: np.ndarray, behind: Views | None = None
) -> Views:  # fmt: skip
    """Return ``view`` with what the hand changes in it.

    Args:
        net: says what that looks like.
        view: what is remembered.
        holds: which cells are changed, ``(f, 2, 6)``, see :func:`latentcraft.model.cells.hold`; NaN where none is.
        slots: the block in the hand in each frame, ``int64 (f,)``.
        rays: of the views' pixels, see :func:`latentcraft.model.camera.pixel_rays`.
        behind: what is remembered without the cells that are dug out; None knows nothing.
    """
    told = ~np.isnan(holds[..., 0])
    if not told.any():
        return view
    out = view._replace(
        pictures=view.pictures.copy(), known=view.known.copy(), coarseness=view.coarseness.copy(),
        distances=view.distances.copy(), worked=np.zeros(view.known.shape, np.uint8),
    )  # fmt: skip
    assert out.worked is not None
    looks: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    for frame, kind in np.argwhere(told):
        eye, corner = view.eyes[frame], holds[frame, kind, :3].astype(np.float64)
        enters, leaves = crossings(corner, np.einsum("ij,jhw->ihw", axes(eye[3], eye[4]), rays))
        here = np.isfinite(enters.distance) & (enters.distance > NEAR)
        here &= out.distances[frame] > (1 - BEFORE) * enters.distance
        met = enters if CHANGES[kind] == "placed" else leaves
        u, v = (met.place * TEXELS).astype(np.int64)
        out.worked[frame][here] = DRAWN
        if behind is not None and behind.mapped is not None:  # a map of blocks knows
            shown = here & behind.mapped[frame]
            for part, source in zip(out[:4], behind[:4], strict=True):
                part[frame][shown] = source[frame][shown]
            here = here & ~shown
            if not here.any():
                continue
        cell = (int(kind), *(int(part) for part in np.rint(corner + eye[:3])))
        if cell not in looks:
            lens = float(holds[frame, kind, 5])
            looks[cell] = look(net, view, int(frame), corner, int(kind), max(0, int(slots[frame])), lens)
        colours, solid = looks[cell]
        if CHANGES[kind] == "dug" and behind is not None:
            seen = behind.known[frame] & (behind.distances[frame] > (1 - SAME) * leaves.distance)
            open_ = here & seen & ~solid[met.face, v, u]
            for part, source in zip(out[:4], behind[:4], strict=True):
                part[frame][open_] = source[frame][open_]
            out.worked[frame][open_] = OPEN
            here = here & ~open_
        out.pictures[frame][here] = colours[met.face, v, u][here]
        out.distances[frame][here] = met.distance[here]
        out.known[frame][here], out.coarseness[frame][here] = True, 1.0
    return out


@torch.no_grad()
def look(
    net: MatterNet, view: Views, frame: int, corner: np.ndarray, kind: int, slot: int, field_of_view: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the faces of a cell that is changed in a ``frame`` of a view: colours ``uint8 (FACES, TEXELS, TEXELS, 3)``
    and which parts there are, ``bool (FACES, TEXELS, TEXELS)``; ``corner`` is from the eye to the cell's lower one.
    """
    eye, picture, distance = view.eyes[frame], view.pictures[frame], view.distances[frame]
    around = surroundings(picture, distance, eye, corner + eye[:3], field_of_view)
    told = (torch.from_numpy(part)[None] for part in (around, overview(picture, view.known[frame])))
    colours, solid = net(*told, torch.tensor([kind]), torch.tensor([slot]))
    painted = (colours[0] * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return painted.numpy(), (solid[0] > 0).numpy()


def changed_cells(holds: np.ndarray, eyes: np.ndarray, change: str) -> list[np.ndarray]:
    """Return the lower corners ``(3,)`` of cells with a ``change``, as ``holds (f, 2, 6)`` from ``eyes (f, 5)`` say."""
    corners = holds[:, CHANGES.index(change), :3]
    there = ~np.isnan(corners[:, 0])
    return list(np.unique(np.rint(corners[there] + eyes[there, :3]), axis=0))


def certain(views: Sequence[Views | None], held: Held | None, last: Tensor) -> Tensor | None:
    """Return where the coming pictures are what a hand made, laid open or holds, ``bool (k, f, h, w, 1)``; None where
    none is.

    Args:
        views: of each world.
        held: what is in the hands.
        last: latents ``(k, h, w, c)``.
    """
    work = {at: view.worked for at, view in enumerate(views) if view is not None and view.worked is not None}
    new = None if held is None else held.new
    shown = {at: view.certain() for at, view in enumerate(views) if view is not None and view.mapped is not None}
    if not work and not shown and new is None:
        return None
    frames = len(next(iter((work or shown).values()))) if new is None else len(new[0])
    sure = np.zeros((len(views), frames, *last.shape[1:3]), np.bool_)
    for index, done in work.items():
        sure[index] = share_of(done > 0) > MOSTLY
    for index, part in shown.items():
        sure[index] |= share_of(part) > MOSTLY
    if new is not None:
        for index, part in enumerate(new):
            sure[index] |= share_of(part) > SOME
    return torch.from_numpy(sure)[..., None].to(last.device)


def settled(guess: Guess, views: Sequence[Views | None]) -> Guess:
    """Return ``guess`` with all that the hand changes in ``views`` settled: nobody is to draw it again."""
    out = guess.settled.clone()
    for index, view in enumerate(views):
        if view is not None and view.worked is not None:
            out[index] = torch.from_numpy(view.worked.any((1, 2))).to(out)[:, None, None, None]
    return guess._replace(settled=out)
