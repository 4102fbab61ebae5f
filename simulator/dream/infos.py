"""What a dream's step says of itself beside frames and pay; the entries are those of
:class:`latentcraft.simulator.dream.world.DreamWorld`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from latentcraft.model.place import Place
from latentcraft.model.whereabouts import distances_on_ground


def infos_of(
    captions: Sequence[str], places: Sequence[Place | None], *, spread: Tensor, terminated: Tensor,
    changes: Tensor | None, spots: Sequence[np.ndarray], task: str, recalls: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the info of each game after a chunk.

    Args:
        captions: of the games.
        places: what they remember, as it is after the chunk.
        spread: of the guesses that the chunk was denoised from, ``(b, f, h, w, 1)``.
        terminated: logits of the end, ``(b, f)``.
        changes: what the hand changed, ``(b, f, 2)``; None where the dream has not learned what a hand does.
        spots: where, ``float32 (f, 2, 3)`` each, see :func:`spots_of`.
        task: of all games.
        recalls: whether there is a bank of recorded places.
    """
    ends = terminated.float().sigmoid().amax(1).tolist()
    chunk_alone = spread.square().flatten(1).mean(1).tolist()
    infos = []
    for index, (caption, place) in enumerate(zip(captions, places, strict=True)):
        unsure = chunk_alone[index] if place is None else 1 - float(place.sure.mean())
        info: dict[str, Any] = {"caption": caption, "task": task, "uncertainty": unsure}
        if task != "free":
            info["end_probability"] = ends[index]
        if changes is not None:
            info |= {"changes": changes[index].bool().cpu().numpy(), "spots": spots[index]}
        if place is not None and place.goal is not None and (eye := place.eye) is not None:
            info |= {"goal": place.goal.copy(), "distance": float(distances_on_ground(place.goal, eye))}
        if recalls:
            info["recalled"] = recalled_of(place)
        infos.append(info)
    return infos


def recalled_of(place: Place | None) -> int:
    """Return of which place of the bank a picture was brought for the last chunk, -1 for none."""
    new = place is not None and place.ahead is not None and place.ahead.recalled is not None
    return int(place.recalled[-1]) if place is not None and new else -1


def spots_of(place: Place | None, holds: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Return where the hand changes something, ``float32 (f, 2, 3)``, 0 where it does not, infinite where nobody knows;
    see :class:`latentcraft.model.guess.Guess` for ``holds`` and ``changes``.
    """
    eyes = np.nan if place is None or place.ahead is None else place.ahead.eyes[:, None, :3]
    corners = np.nan_to_num(np.round(holds[..., :3] + eyes), nan=np.inf)  # NaN would not equal itself
    return np.where(changes[..., None] > 0, corners, 0).astype(np.float32)
