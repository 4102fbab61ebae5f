"""Rays through a map of blocks (blockmap.py): what they meet, and how a view is painted with it."""

import numpy as np

from latentcraft.model.points import compiled
from latentcraft.model.relief import AIR, GUESSED

UNKNOWN = 0
"""Entry of a cell that nobody knows; that of kind ``k`` is ``k + 1``, and kind 0 is :data:`AIR`."""
SETTLED, MADE = 128, 64
"""Added to an entry that is to stay, and to one that a hand made: that is shown whatever memory has there.
:data:`GUESSED` is added to one of whose cell nothing was seen."""
KIND = 31
"""The rest of an entry."""
TEXELS, LEVELS, TEXTURE = 16, 5, 341
"""Along a side of a face's texture; sizes it is kept in, each half the one before; texels of all of them."""
DRAWN_TO = 14.0
"""Metres up to which the map is shown."""
ENLARGED = 1.4
"""Coarseness of a remembered pixel from which on the map is the sharper."""
ALIKE = 0.15
"""Share by which distances may differ that are of the same surface."""
FOOTPRINT = 1.6
"""Texels that a pixel covers, along each axis in the square, from which on the next coarser texture is shown."""


@compiled
def texel_of(axis, dx, dy, dz, x, y, z, t, focal):
    """Return which texel of ``FACES * TEXTURE`` a ray sees that meets a cell across an ``axis``.

    Args:
        axis: which.
        dx: of the ray's unit vector; a cell is met from below where it is positive.
        dy: likewise.
        dz: likewise.
        x: where in the cell, 0 to 1.
        y: likewise.
        z: likewise.
        t: how far away, metres.
        focal: pixels.
    """
    u, v = (z if axis == 0 else x), (z if axis == 1 else 1 - y)
    way = dx if axis == 0 else (dy if axis == 1 else dz)
    u, v = min(max(u, 0.0), 0.9999), min(max(v, 0.0), 0.9999)
    covered = (t * TEXELS / focal) ** 2 / (FOOTPRINT * max(abs(way), 0.02))
    level, start, size = 0, 0, TEXELS
    while covered > 1 and level < LEVELS - 1:
        covered, start, size, level = covered / 4, start + size * size, size // 2, level + 1
    return (2 * axis + (way < 0)) * TEXTURE + start + int(v * size) * size + int(u * size)


@compiled
def follow(cells, turn, place, rays, row, column, focal, near, until, before, limit, guessed, settle):
    """Follow the ray of a pixel through a map to the first block.

    Args:
        cells: entries, ``uint8 SIDES``; that of what is met is marked if ``settle``.
        turn: from the camera's axes to the world's, ``(3, 3)``.
        place: of the lens, ``(3,)``.
        rays: ``float32 (3, H, W)``.
        row: of the pixel.
        column: of the pixel.
        focal: pixels.
        near: metres from which on blocks count. What is seen through a cell that a hand has dug out counts anyhow.
        until: metres up to which they do, likewise.
        before: metres up to which blocks count that a hand made.
        limit: metres up to which any do.
        guessed: whether cells of which nothing was seen count as known.
        settle: whether the block is to stay.

    Returns:
        Its entry, 0 for none; how far away it is; and which texel is seen, see
        :class:`latentcraft.model.blockmap.Cast`.
    """
    mask_x, mask_y, mask_z = cells.shape[0] - 1, cells.shape[1] - 1, cells.shape[2] - 1
    i, j, k = int(np.floor(place[0])), int(np.floor(place[1])), int(np.floor(place[2]))
    inside = cells[i & mask_x, j & mask_y, k & mask_z] & KIND
    inside = AIR if inside == UNKNOWN else inside  # as under water
    a, b, c = rays[0, row, column], rays[1, row, column], rays[2, row, column]
    dx = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
    dy = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c
    dz = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c
    dx = dx if abs(dx) > 1e-9 else 1e-9
    dy = dy if abs(dy) > 1e-9 else 1e-9
    dz = dz if abs(dz) > 1e-9 else 1e-9
    t, axis, found, through = 0.0, 0, 0, False
    ix, iy, iz = 1 / dx, 1 / dy, 1 / dz
    tx = (i + (dx > 0) - place[0]) * ix
    ty = (j + (dy > 0) - place[1]) * iy
    tz = (k + (dz > 0) - place[2]) * iz
    while t < limit:
        if tx <= ty and tx <= tz:
            t, axis = tx, 0
            i += 1 if dx > 0 else -1
            tx += abs(ix)
        elif ty <= tz:
            t, axis = ty, 1
            j += 1 if dy > 0 else -1
            ty += abs(iy)
        else:
            t, axis = tz, 2
            k += 1 if dz > 0 else -1
            tz += abs(iz)
        found = cells[i & mask_x, j & mask_y, k & mask_z]
        if (found & KIND != AIR and found & KIND != inside) or (not guessed and found & GUESSED):
            break
        through = through or found & MADE != 0
    made, whole = found & MADE != 0, found
    found = found & KIND if guessed or not found & GUESSED else UNKNOWN
    if found <= AIR or found == inside or t >= limit:
        return 0, 0.0, 0
    if not through and not (near <= t < until) and not (made and t < before):
        return 0, 0.0, 0
    if settle:
        cells[i & mask_x, j & mask_y, k & mask_z] = (whole | SETTLED) & ~GUESSED
    x, y, z = place[0] + t * dx - i, place[1] + t * dy - j, place[2] + t * dz - k
    return int(found), t, texel_of(axis, dx, dy, dz, x, y, z, t, focal)


@compiled
def march(cells, turn, place, rays, focal, far, entry, distance, texel):
    """See :meth:`latentcraft.model.blockmap.BlockMap.cast`; of the last three, see
    :class:`latentcraft.model.blockmap.Cast`, those are overwritten that meet something.
    """
    height, width = far.shape
    for row in range(height):
        for column in range(width):
            limit = far[row, column]
            if limit > 0:
                met, away, at = follow(
                    cells, turn, place, rays, row, column, focal, 0.0, np.inf, 0.0, limit, True, False
                )  # fmt: skip
                if met:
                    entry[row, column], distance[row, column], texel[row, column] = met, away, at


@compiled
def paint(
    cells, turn, place, rays, focal, vague, fixed, firm, worked, guessed, textures, gains, picture, distance,
    coarseness, source, mapped,
):  # fmt: skip
    """See :meth:`latentcraft.model.blockmap.BlockMap.show`; ``textures`` are those of
    :class:`latentcraft.model.blockmap.Looks`, times ``gains (kinds, 3)``. The last five are a view's, see
    :class:`latentcraft.model.memory.View`.
    """
    height, width = source.shape
    for row in range(height):
        for column in range(width):
            poor = source[row, column] < 0 and not mapped[row, column]
            poor = poor or coarseness[row, column] > ENLARGED or vague[row, column]
            # Of what memory has sharp only that is doubted which would fly in the air.
            near = 0.0
            if not poor:
                near = np.inf if guessed or fixed[row, column] else (1 + ALIKE) * distance[row, column]
            if near >= DRAWN_TO and not worked:
                continue
            before, until = (1 - ALIKE) * distance[row, column], np.inf
            if firm[row, column] and source[row, column] >= 0:
                until = (1 + ALIKE) * distance[row, column]
            met, away, at = follow(
                cells, turn, place, rays, row, column, focal, near, until, before, DRAWN_TO, guessed, guessed
            )  # fmt: skip
            if not met:
                continue
            face, texel = at // TEXTURE, at % TEXTURE
            for channel in range(3):
                bright = textures[met - AIR, face, texel, channel] * gains[met - AIR, channel]
                picture[row, column, channel] = np.uint8(min(max(255 * bright + 0.5, 0.0), 255.0))
            distance[row, column], coarseness[row, column] = away, 1.0
            source[row, column], mapped[row, column] = -1, True
