"""Hands at work: what they strike and change is shown in the coming views of each world."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.camera import pixel_rays
from latentcraft.model.cells import no_holds
from latentcraft.model.handiwork import changed_cells, worked
from latentcraft.model.held import Held
from latentcraft.model.matter import MatterNet
from latentcraft.model.place import Place, views_of
from latentcraft.model.scene import Scene
from latentcraft.model.views import Views


def made(
    scene: Scene, net: MatterNet, views: Sequence[Views | None], holds: Tensor, held: Held,
    places: Sequence[Place | None] | None,
) -> list[Views | None]:  # fmt: skip
    """Return ``views`` with what hands make in them.

    Args:
        scene: the nets.
        net: of these the one that says what that looks like.
        views: what is remembered of the coming chunks.
        holds: which cells are changed, see :func:`changed_by`.
        held: what is in the hands.
        places: the worlds' memories, which forget what is dug out, and get what the views become.
    """
    out = list(views)
    told = ~holds[..., 0].isnan().cpu().numpy()
    for index in np.flatnonzero(told.any((1, 2))).tolist():
        view, place = views[index], None if places is None else places[index]
        if view is None:
            continue
        hold = holds[index].cpu().numpy()
        behind = None
        if place is not None:
            dug = changed_cells(hold, view.eyes, "dug")
            for cell in dug:
                place.memory.carve(cell)
                place.make(cell, 0)
            if scene.completion is not None:
                block = int(scene.completion.placed[max(0, int(held.slots[index][-1]))])
                for cell in changed_cells(hold, view.eyes, "placed") if block else ():
                    place.make(cell, block)
            if dug or place.blocks is not None:
                views_of([place], view.eyes[None])
                behind = place.guess_ahead()
        height, width = view.known.shape[1:]
        rays = pixel_rays(height, width, float(hold[told[index]][0, 5]))
        out[index] = worked(net, view, hold, held.slots[index], rays, behind)
        if place is not None:
            place.ahead = out[index]
    return out


def marked(
    scene: Scene | None, places: Sequence[Place | None] | None, views: Sequence[Views | None], actions: Tensor,
    changes: Tensor, *, before: bool,
) -> list[Views | None]:  # fmt: skip
    """Return ``views``, which are :attr:`Place.ahead`, with frames that show hands at work: all ``before`` the
    first in which they change something, or the others.
    """
    out = list(views)
    aim = None if scene is None or scene.matter is None else scene.matter.aim
    for index, place in enumerate(places or ()):
        if place is not None and views[index] is not None:
            acted, done = actions[index].float().cpu().numpy(), changes[index].any(-1).cpu().numpy()
            first = int(done.argmax()) if done.any() else len(done)
            out[index] = place.mark(range(first) if before else range(first, len(done)), acted, aim)
    return out


def changed_by(
    scene: Scene | None, views: Sequence[Views | None], changes: Tensor, spots: Tensor | None,
    places: Sequence[Place | None] | None = None,
) -> Tensor:  # fmt: skip
    """Return which cells the hand changes in each of ``views``, ``(k, f, 2, 6)``; see :meth:`Views.holds`."""
    holds = no_holds(changes)
    for index, view in enumerate(views):
        if view is not None and scene is not None and changes[index].any():
            where = None if spots is None else spots[index].cpu().numpy()
            lens, matter = scene.config.depth.field_of_view, scene.matter
            aim = None if matter is None else matter.aim
            place = None if places is None else places[index]
            blocks = None if place is None else place.blocks
            holds[index] = torch.from_numpy(view.holds(changes[index].cpu().numpy(), where, lens, aim, blocks))
    return holds
