"""Recall: recorded places that stand in for what a world has not dreamed yet.

Where the memory of places knows too little of the coming view, the bank is asked for a picture that goes on from what
is known (bank.py). It is put where the eye will be, looking the same way, and as one turns and walks the other pictures
of its place around it. All are remembered like what was seen: from then on they are that world. Of each only that is
taken which no remembered picture has looked at or through. What the transformer has to draw are the seams.

It also draws whatever is walked up to, or was disturbed, and draws over its own drawings, a little worse each time.
Where much of a view has become such, it is looked up as it is, and what was drawn makes room for what is then recalled;
but never what a hand has made.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcraft.model import points
from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder
from latentcraft.model.awaited import Awaited
from latentcraft.model.bank import Bank, look_of
from latentcraft.model.camera import EYE_HEIGHT, SKY, axes, between
from latentcraft.model.depth import DepthNet
from latentcraft.model.guess import Guess
from latentcraft.model.memory import Memory, View, widened
from latentcraft.model.place import Drawn, Place, views_of
from latentcraft.model.views import Views

LACKING = 0.1
"""Share of a view that nobody knows from which on a place is looked up."""
SOON = 0.01
"""The same from which on the next of these is drawn, so that it is there when it is needed."""
SOME = 0.03
"""The same from which on further pictures of the last place are brought."""
AT_ONCE = 2
"""Of which there are so many a chunk at most: each takes about 15 ms of two cores."""
FADED = 0.35
"""Clearness (:attr:`Memory.clear`) below which what is remembered may make room for something recalled."""
WORN = 0.4
"""Share of a view that has so faded from which on it does."""
RECENT = 6
"""Places that are not recalled again so soon."""
CLOSE_BY = 3.0
"""Metres from where a picture is put within which nothing is taken of it that others look towards at all: near surfaces
are remembered with gaps. From farther on, what they have before them hides what is behind, and that may be taken."""
FEET = 4.0
"""Metres around the eye within which nothing is recalled: other ground would lift or drop whoever stands there."""
SKY_GAIN = 2.0
"""Largest factor by which a recalled sky is scaled to be of the remembered one's colour; the inverse of the least."""
SKY_SHARE = 0.01
"""Of a picture that is sky, from which on one knows its colour."""
FRAYED = 0.25
"""Share by which a distance leaps between neighbouring pixels where a thing ends."""
SEAM = 0.5
"""Spread of the guess along the seams, at least."""


def recall(bank: Bank, autoencoder: Autoencoder, depth: DepthNet, place: Place, view: Views) -> Views:
    """Return what ``place`` sees ahead where it remembered ``view``: the same, unless too little of it was known.

    Of a place that was looked up the matching picture is brought at once, and the others when they are needed.

    Args:
        bank: where to look.
        autoencoder: of the pictures.
        depth: tells how far away everything in them is.
        place: of the world; its :attr:`Place.ahead` is what is returned.
        view: of the coming chunk.
    """
    if place.frame_size != frame_size(bank):
        return view
    eye, brought = view.eyes[-1], False
    picture, distance, known, clear = view.pictures[-1], view.distances[-1], view.known[-1], place.clear_ahead

    def bring(at: int, found: Drawn) -> View:
        pictures, distances = coloured(*found, place.awaited)
        put(place.memory, pictures, distances, place.awaited.eyes[at : at + 1], eye)
        place.awaited = place.awaited.without(at)
        return place.view(eye)

    for _ in range(AT_ONCE):
        if lacking(place, known) < SOME or (at := place.awaited.nearest(eye)) is None:
            break
        foresee(bank, autoencoder, depth, place, at)
        now, brought = bring(at, place.foreseen.pop(int(place.awaited.rows[at]))), True
        picture, distance, known = now.picture, now.distance, now.known
        clear = place.memory.behind(now, place.memory.clear, 0.0)
    faded = clear < FADED
    worn = lacking(place, ~(known & faded.repeat(DOWNSAMPLING, 0).repeat(DOWNSAMPLING, 1)))
    if lacking(place, known) >= LACKING or worn >= WORN:
        if worn >= WORN:
            place.memory.fade(FADED)
        parts = (picture, distance, known)
        look, share = look_of(*(torch.from_numpy(np.ascontiguousarray(part))[None] for part in parts))
        grid = place.blocks is not None
        avoided = torch.from_numpy(place.recalled)
        match = bank.match(look[0], share[0], float(eye[4]), avoided, float(eye[3]) if grid else None)
        rows = bank.together(match.picture)
        carry = stepped if grid else moved
        eyes = carry(bank.eyes[rows].double().cpu().numpy(), eye, mirrored=match.mirrored)
        gain = match.gain.cpu().numpy()
        place.awaited = Awaited(rows.numpy(), eyes, gain, gain, np.array(match.mirrored))
        found = drawn(bank, autoencoder, depth, place.awaited, 0)
        place.awaited = place.awaited._replace(sky=sky_gain(place.memory, *found, gain))
        place.recalled = np.append(place.recalled, np.int32(bank.places[match.picture]))[-RECENT:]
        place.foreseen.clear()
        bring(0, found)
        brought = True
    if not brought:
        return view
    ahead = views_of([place], view.eyes[None])[0]
    place.ahead = ahead._replace(recalled=ahead.known & ~view.known)
    return place.ahead


def foresee(
    bank: Bank, autoencoder: Autoencoder, depth: DepthNet, place: Place, at: int | None = None
) -> None:  # fmt: skip
    """Draw an awaited picture ahead of time, into :attr:`Place.foreseen`: by default the next one, if there is one and
    something is lacking.
    """
    if at is None and place.ahead is not None and lacking(place, place.ahead.known[-1]) >= SOON:
        at = place.awaited.nearest(place.ahead.eyes[-1])
    if at is not None and (row := int(place.awaited.rows[at])) not in place.foreseen:
        place.foreseen[row] = drawn(bank, autoencoder, depth, place.awaited, at)


def lacking(place: Place, known: np.ndarray) -> float:
    """Return the share of a view that is not ``known``, ``bool (H, W)``; what hangs before the lens does not count, nor
    does the ground at the feet.
    """
    eye = np.zeros(5) if place.eye is None else place.eye
    return float((~known & ~place.attached & ~at_the_feet(place.memory.rays, eye[4])).mean())


def at_the_feet(rays: np.ndarray, pitch: float) -> np.ndarray:
    """Return along which of ``rays (3, H, W)`` of an eye at ``pitch`` level ground is within :data:`FEET`."""
    down = rays[2] * math.sin(math.radians(pitch)) - rays[1] * math.cos(math.radians(pitch))
    return down > EYE_HEIGHT / FEET


def drawn(
    bank: Bank, autoencoder: Autoencoder, depth: DepthNet, awaited: Awaited, at: int
) -> Drawn:
    """Return the awaited picture number ``at`` as it was recorded."""
    row = torch.from_numpy(awaited.rows[at : at + 1])
    pixels = autoencoder.decode_pixels(bank.decoded(row)).float().clamp(-1, 1)
    return Drawn(pixels, depth.distances(pixels, bank.eyes[row, 4]).cpu().numpy())


def coloured(pixels: Tensor, distances: np.ndarray, awaited: Awaited) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`drawn` does as this world has it, in its colours and mirrored or not: ``uint8 (1, H, W, 3)``
    and ``float32 (1, H, W)``.
    """
    land, sky = (torch.from_numpy(gain).to(pixels.device)[:, None, None] for gain in (awaited.gain, awaited.sky))
    gain = torch.where(torch.from_numpy(is_sky(distances)).to(pixels.device)[:, None], sky, land)
    pictures = Autoencoder.to_frames((pixels + 1) * gain - 1).contiguous().cpu().numpy()
    if awaited.mirrored:
        pictures, distances = (np.ascontiguousarray(part[:, :, ::-1]) for part in (pictures, distances))
    return pictures, distances


def is_sky(distances: np.ndarray) -> np.ndarray:
    """Return where ``distances (..., H, W)`` are the sky's, ``bool``."""
    return distances > SKY / 4


def sky_gain(memory: Memory, pixels: Tensor, distances: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return by how much the sky of a picture (see :func:`drawn`) is to be scaled to be of the remembered sky's
    colour, ``float32 (3,)``; ``gain (3,)``, like the rest, where either has too little of it.
    """
    there = is_sky(distances[0])
    pictures, remembered = memory.pictures[: memory.count], is_sky(memory.distances[: memory.count])
    remembered &= memory.own[: memory.count]
    if min(there.sum(), remembered.sum()) < SKY_SHARE * there.size:
        return gain
    known = pictures[remembered].mean(0) + 1
    own = (pixels[0].cpu().numpy()[:, there].mean(1) + 1) * 127.5 * gain + 1
    ratio = np.clip(known / own, 1 / SKY_GAIN, SKY_GAIN)
    return (gain * ratio).astype(np.float32)


def frame_size(bank: Bank) -> tuple[int, int]:
    """Return (H, W) of a bank's pictures."""
    rows, columns = bank.config.grid
    return rows * DOWNSAMPLING, columns * DOWNSAMPLING


def moved(eyes: np.ndarray, target: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
    """Return ``eyes (k, 5)`` carried along and turned so that the first is where ``target (5,)`` is and looks its way;
    every pitch stays, since what is up does. In a mirror what was to its right is to its left.
    """
    away, turn = (eyes[:, :3] - eyes[0, :3]) @ axes(eyes[0, 3], 0), eyes[:, 3:4] - eyes[0, 3]
    if mirrored:
        away[:, 0], turn = -away[:, 0], -turn
    return np.concatenate([target[:3] + away @ axes(target[3], 0).T, target[3] + turn, eyes[:, 4:]], 1)


def stepped(eyes: np.ndarray, target: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
    """Return ``eyes (k, 5)`` carried along by whole metres and turned by quarters, so that the first is close to
    ``target (5,)`` and looks about its way: the blocks that they see stay in the grid. The mirror is across x.
    """
    out = eyes.copy()
    if mirrored:
        out[:, 0], out[:, 3] = -out[:, 0], -out[:, 3]
    quarters = int(np.rint((target[3] - out[0, 3]) / 90))
    for _ in range(quarters % 4):  # a quarter more of yaw turns +z to -x, and +x to +z
        out[:, 0], out[:, 2] = -out[:, 2].copy(), out[:, 0].copy()
    out[:, 3] += 90 * quarters
    out[:, :3] += np.rint(target[:3] - out[0, :3])
    return out


def put(
    memory: Memory, pictures: np.ndarray, distances: np.ndarray, eyes: np.ndarray, body: np.ndarray | None = None
) -> None:  # fmt: skip
    """Add pictures to ``memory`` as far as they show what nobody has looked at, or through, so far.

    Args:
        memory: of a world.
        pictures: ``uint8 (k, H, W, 3)``.
        distances: ``float32 (k, H, W)``.
        eyes: where they are put, ``(k, 5)``.
        body: the eye of who is there, ``(5,)``: nothing is put within :data:`FEET` of it.
    """
    before = []
    for number in range(memory.count):
        seen, looker = memory.distances[number].copy(), memory.eyes[number].copy()
        if np.linalg.norm(looker[:3] - eyes[0, :3]) < CLOSE_BY:
            seen[seen > 0] = np.inf  # whatever is behind would only be seen through gaps
        before.append((seen, looker))
    everywhere = np.ones(pictures.shape[1:3], np.bool_)
    for picture, distance, eye in zip(pictures, distances, eyes, strict=True):
        own = ~widened(distance == 0) & ~frayed(distance)
        own[[0, -1]] = own[:, [0, -1]] = False  # of which no other picture could tell whether it looks there
        if body is not None:
            turn, shift = between(eye, body)
            there = np.einsum("ij,jhw->ihw", turn, memory.rays * distance) + shift[:, None, None]
            own &= np.linalg.norm(there, axis=0) > FEET
        reach = points.extents(distance, own)
        for seen, looker in before:
            turn, shift = between(eye, looker)
            points.forget(distance, own, reach, memory.rays, turn, shift, memory.focal, seen, everywhere)
        memory.add(picture, distance, eye, own)


def frayed(distance: np.ndarray) -> np.ndarray:
    """Return where a picture's ``distance (H, W)`` leaps: nobody knows to which side such pixels belong."""
    height, width = distance.shape
    padded = np.pad(distance, 1, mode="edge")
    around = np.stack([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])
    return around.max(0) > (1 + FRAYED) * around.min(0)


def doubted(guess: Guess, views: Sequence[Views | None]) -> Guess:
    """Let the transformer draw the seams anew: what ``guess`` says of them is known no better than by :data:`SEAM`."""
    seams = [None if view is None else view.seams() for view in views]
    told = {index: cells for index, cells in enumerate(seams) if cells is not None}
    if not told:
        return guess
    sewn = torch.zeros_like(guess.spread, dtype=torch.bool)
    for index, cells in told.items():
        sewn[index] = torch.from_numpy(cells)[..., None].to(sewn.device)
    spread = torch.where(sewn, guess.spread.clamp(min=SEAM), guess.spread)
    # The mean of unit variance is its correlation with the truth times a picture.
    kept = torch.sqrt((1 - spread.square()) / (1 - guess.spread.square()).clamp(min=1e-6)).clamp(max=1.0)
    return guess._replace(mean=guess.mean * kept, spread=spread, carried=guess.carried * kept)
