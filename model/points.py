"""Compiled loops over the pixels of remembered pictures: drawn as points, looked up, compared, forgotten.

``turn`` and ``shift`` take a point from a remembered picture's camera axes to those of the view, see
:func:`latentcraft.model.camera.between`; ``rays`` and ``focal`` are both cameras'. Nothing here holds Python's lock.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit

SAME = 0.06
"""Points whose distances differ by less than this share belong to one surface."""
FINER = 0.75
"""A picture taken from this share of another's distance shows a surface enough better to take its place."""
BEHIND = 0.8
"""A point nearer than this share of what is now seen through it is not there any more."""
CONTRADICTION = 28.0
"""Mean difference (of 255) over a few pixels from which two pictures of one surface do not show the same."""
WINDOW = 2
"""Pixels either way over which that mean is taken."""
NEAR = 0.05
"""Metres before the lens that are not drawn."""
LARGEST_DOT = 4.0
"""Pixels a point covers at most, per side."""
CRACK = 2
"""Pixels that are closed between drawn ones, from either side."""
SPECK = 5
"""Of a pixel's eight neighbours that are nearer, from which on it is seen through a gap."""
BLOCK = 8
"""Pixels a side of the parts of a picture that are left out together where none of them can be in view."""
EDGE = 0.2
"""Neighbours whose distances differ by more than this share are not mixed."""

POOL = ThreadPoolExecutor(2)
"""For loops over several pictures: they hold no lock."""


def compiled(function: Callable, *, fastmath: bool | set[str] = False) -> Any:
    """Compile without Python's lock, cached beside the sources where that can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no place for the cache
        return njit(**options)(function)


def compiled_fast(function: Callable) -> Any:
    """Compile likewise, sums in whatever order is the fastest; it is the same each time."""
    return compiled(function, fastmath={"reassoc", "contract", "nsz"})


@compiled
def carry(rays, row, column, distance, turn, shift):
    """Return where a pixel's point lies in the other camera's axes."""
    a, b, c = rays[0, row, column] * distance, rays[1, row, column] * distance, rays[2, row, column] * distance
    return (
        turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c + shift[0],
        turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c + shift[1],
        turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c + shift[2],
    )


@compiled
def extents(distances, own):
    """Return the least and the largest distance of a picture's own pixels in each block, ``float32 (rows, columns,
    2)``; infinity and 0 where there are none.
    """
    height, width = own.shape
    found = np.zeros(((height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK, 2), np.float32)
    found[..., 0] = np.inf
    for row in range(height):
        for column in range(width):
            if own[row, column]:
                block = found[row // BLOCK, column // BLOCK]
                block[0] = min(block[0], distances[row, column])
                block[1] = max(block[1], distances[row, column])
    return found


@compiled
def in_view(reach, rays, turn, shift, focal):
    """Return which blocks of a picture may have own pixels in view, ``bool (rows, columns)``; the others certainly
    have none. For ``reach`` see :func:`extents`.
    """
    height, width = rays.shape[1:]
    rows, columns = reach.shape[:2]
    seen = np.zeros((rows, columns), np.bool_)
    across, down = width / 2 + 1 + LARGEST_DOT, height / 2 + 1 + LARGEST_DOT
    # Rays between a block's corners reach farther than the flat piece that the corners' own span.
    bulge = np.sqrt(1 + 0.5 * (BLOCK / focal) ** 2) - 1
    wide, tall = bulge * (focal + across), bulge * (focal + down)
    for p in range(rows):
        for q in range(columns):
            near, far = reach[p, q]
            if near > far:
                continue
            # How far the block's rays lie on the inner side of each plane that bounds the view, at most.
            left = right = over = under = ahead = -np.inf
            for corner in range(4):
                row = min((p + corner // 2) * BLOCK - corner // 2, height - 1)
                column = min((q + corner % 2) * BLOCK - corner % 2, width - 1)
                a, b, c = rays[0, row, column], rays[1, row, column], rays[2, row, column]
                x = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
                y = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c
                z = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c
                left, right = max(left, z * across + x * focal), max(right, z * across - x * focal)
                over, under, ahead = max(over, z * down - y * focal), max(under, z * down + y * focal), max(ahead, z)
            left, right, over, under, ahead = left + wide, right + wide, over + tall, under + tall, ahead + bulge
            inside = max(near * left, far * left) + shift[2] * across + shift[0] * focal >= 0
            inside &= max(near * right, far * right) + shift[2] * across - shift[0] * focal >= 0
            inside &= max(near * over, far * over) + shift[2] * down - shift[1] * focal >= 0
            inside &= max(near * under, far * under) + shift[2] * down + shift[1] * focal >= 0
            seen[p, q] = inside and max(near * ahead, far * ahead) + shift[2] >= 0
    return seen


@compiled
def own_in_view(own, reach, rays, turn, shift, focal):
    """Return the rows and the columns of a picture's own pixels that may be in view, row by row, ``int32 (2, k)``."""
    height, width = own.shape
    shown = in_view(reach, rays, turn, shift, focal)
    found, count = np.empty((2, height * width), np.int32), 0
    for row in range(height):
        for block in range(shown.shape[1]):
            if shown[row // BLOCK, block]:
                for column in range(block * BLOCK, min((block + 1) * BLOCK, width)):
                    if own[row, column]:
                        found[0, count], found[1, count] = row, column
                        count += 1
    return found[:, :count]


@compiled
def draw(distances, own, reach, rays, turn, shift, focal, number, depth, source, offset, coarseness):
    """Draw the own pixels of picture ``number`` as dots; nearer ones win, of one surface the finer or the earlier.

    Args:
        distances: of the picture, ``float32 (H, W)``.
        own: its own pixels, ``bool (H, W)``.
        reach: see :func:`extents`; may be of more own pixels than are left.
        rays: ``float32 (3, H, W)``.
        turn: ``(3, 3)``.
        shift: ``(3,)``.
        focal: pixels.
        number: of the picture.
        depth: distances of the view so far, ``float32 (H, W)``.
        source: index of the pixel seen there, ``int32 (H, W)``: the picture's number times H * W plus its place.
        offset: squared distance of the dot's centre, ``float32 (H, W)``.
        coarseness: the dot's size, ``float32 (H, W)``.
    """
    height, width = own.shape
    for row, column in own_in_view(own, reach, rays, turn, shift, focal).T:
        d = distances[row, column]
        x, y, z = carry(rays, row, column, d, turn, shift)
        if z < NEAR:
            continue
        across = x / z * focal + width / 2 - 0.5
        down = -y / z * focal + height / 2 - 0.5
        if min(across, down) < -LARGEST_DOT or across > width + LARGEST_DOT or down > height + LARGEST_DOT:
            continue
        distance = np.sqrt(x * x + y * y + z * z)
        # Away from the middle a picture is stretched: dots that did not grow along would show what is behind.
        stretch = max(1.0, (rays[2, row, column] * distance / z) ** 2)
        half = 0.5 * min(max(1.0, stretch * d / distance), LARGEST_DOT) + 0.02
        for i in range(max(0, int(np.ceil(down - half))), min(height - 1, int(np.floor(down + half))) + 1):
            for j in range(max(0, int(np.ceil(across - half))), min(width - 1, int(np.floor(across + half))) + 1):
                before, gap = depth[i, j], SAME * distance
                off = (down - i) * (down - i) + (across - j) * (across - j)
                if distance > before + gap:
                    continue
                if distance >= before - gap:
                    if source[i, j] >= number * height * width:  # of the same picture: no later one was drawn
                        if off >= offset[i, j]:
                            continue
                    elif d > FINER * before * coarseness[i, j]:
                        continue
                depth[i, j], offset[i, j], coarseness[i, j] = distance, off, d / distance
                source[i, j] = number * height * width + row * width + column


@compiled
def draw_all(distances, own, reach, rays, turns, shifts, focal, depth, source, offset, coarseness):
    """Draw all pictures, see :func:`draw`, whose first arguments have an axis more here."""
    for number in range(len(turns)):
        draw(
            distances[number], own[number], reach[number], rays, turns[number], shifts[number], focal, number, depth,
            source, offset, coarseness,
        )  # fmt: skip


@compiled
def drop_specks(depth, source):
    """Take out pixels that most of their neighbours are far before, or far behind: seen through the gaps between a
    surface's dots, or flying about; arrays as for :func:`draw`.
    """
    height, width = depth.shape
    specks = np.zeros(depth.shape, np.bool_)
    for i in range(height):
        for j in range(width):
            if source[i, j] < 0:
                continue
            nearer, farther, d = 0, 0, depth[i, j]
            for row in range(max(0, i - 1), min(height, i + 2)):
                for column in range(max(0, j - 1), min(width, j + 2)):
                    if source[row, column] >= 0:
                        nearer += depth[row, column] < (1 - EDGE) * d
                        farther += depth[row, column] > (1 + EDGE) * d
            specks[i, j] = nearer >= SPECK or farther >= SPECK + 1
    for i in range(height):
        for j in range(width):
            if specks[i, j]:
                source[i, j], depth[i, j] = -1, np.inf


@compiled
def close_cracks(depth, source, coarseness):
    """Give pixels between two drawn ones what the farther of them has; arrays as for :func:`draw`."""
    height, width = depth.shape
    taken = np.full(depth.shape, -1, np.int32)
    for i in range(height):
        for j in range(width):
            if source[i, j] >= 0:
                continue
            best = np.float32(-1)
            for axis in range(2):
                ends, far, where = 0, np.float32(-1), -1
                for sign in (-1, 1):
                    for step in range(1, CRACK + 1):
                        row = i + (sign * step if axis == 0 else 0)
                        column = j + (sign * step if axis == 1 else 0)
                        if row < 0 or column < 0 or row >= height or column >= width:
                            break
                        if source[row, column] >= 0:
                            ends += 1
                            if depth[row, column] > far:
                                far, where = depth[row, column], row * width + column
                            break
                if ends == 2 and far > best:
                    best, taken[i, j] = far, where
    for i in range(height):
        for j in range(width):
            if taken[i, j] >= 0:
                row, column = taken[i, j] // width, taken[i, j] % width
                depth[i, j], coarseness[i, j] = depth[row, column], coarseness[row, column]
                source[i, j] = source[row, column]


@compiled
def look_up(pictures, distances, rays, turns, shifts, focal, depth, source, out):
    """Sample each drawn pixel of a view once in its picture, bilinearly among pixels of one surface.

    Args:
        pictures: ``uint8 (k, H, W, 3)``.
        distances: ``float32 (k, H, W)``.
        rays: as for :func:`draw`.
        turns: of each picture, ``(k, 3, 3)``.
        shifts: ``(k, 3)``.
        focal: as for :func:`draw`.
        depth: as for :func:`draw`.
        source: as for :func:`draw`.
        out: ``uint8 (H, W, 3)``, overwritten where something is drawn.
    """
    height, width = depth.shape
    for i in range(height):
        for j in range(width):
            if source[i, j] < 0:
                continue
            k, place = source[i, j] // (height * width), source[i, j] % (height * width)
            row, column = place // width, place % width
            turn, shift, d = turns[k], shifts[k], depth[i, j]
            a, b, c = rays[0, i, j] * d - shift[0], rays[1, i, j] * d - shift[1], rays[2, i, j] * d - shift[2]
            x = turn[0, 0] * a + turn[1, 0] * b + turn[2, 0] * c
            y = turn[0, 1] * a + turn[1, 1] * b + turn[2, 1] * c
            z = turn[0, 2] * a + turn[1, 2] * b + turn[2, 2] * c
            across, down = float(column), float(row)
            if z > NEAR:
                across = min(max(x / z * focal + width / 2 - 0.5, column - 1.0), column + 1.0)
                down = min(max(-y / z * focal + height / 2 - 0.5, row - 1.0), row + 1.0)
            left, top = int(np.floor(across)), int(np.floor(down))
            here, total, red, green, blue = distances[k, row, column], 0.0, 0.0, 0.0, 0.0
            for low in range(2):
                for right in range(2):
                    r, q = min(max(top + low, 0), height - 1), min(max(left + right, 0), width - 1)
                    if abs(distances[k, r, q] - here) > EDGE * here:
                        continue
                    weight = 1 - abs(down - (top + low))
                    weight *= 1 - abs(across - (left + right))
                    total += weight
                    red += weight * pictures[k, r, q, 0]
                    green += weight * pictures[k, r, q, 1]
                    blue += weight * pictures[k, r, q, 2]
            if total < 1e-3:
                out[i, j] = pictures[k, row, column]
                continue
            out[i, j, 0] = np.uint8(red / total + 0.5)
            out[i, j, 1] = np.uint8(green / total + 0.5)
            out[i, j, 2] = np.uint8(blue / total + 0.5)


@compiled
def behind(source, grids, side, out):
    """Write what ``grids (k, h, w)``, of cells ``side`` pixels wide, say of the picture behind each drawn pixel to
    ``out (H, W)``; for ``source`` see :func:`draw`.
    """
    height, width = source.shape
    for i in range(height):
        for j in range(width):
            if source[i, j] >= 0:
                number, place = source[i, j] // (height * width), source[i, j] % (height * width)
                row, column = place // width // side, place % width // side
                out[i, j] = grids[number, min(row, grids.shape[1] - 1), min(column, grids.shape[2] - 1)]


@compiled
def compare(view, known, picture, out):
    """Mark in ``out`` ``bool (H, W)`` the known pixels around which two pictures differ on average."""
    height, width = known.shape
    # Sums over all rows and columns before: those over a window are differences of four.
    before = np.zeros((height + 1, width + 1, 4), np.int32)
    for i in range(height):
        count, red, green, blue = 0, 0, 0, 0
        for j in range(width):
            if known[i, j]:
                count += 1
                red += int(view[i, j, 0]) - int(picture[i, j, 0])
                green += int(view[i, j, 1]) - int(picture[i, j, 1])
                blue += int(view[i, j, 2]) - int(picture[i, j, 2])
            before[i + 1, j + 1, 0] = before[i, j + 1, 0] + count
            before[i + 1, j + 1, 1] = before[i, j + 1, 1] + red
            before[i + 1, j + 1, 2] = before[i, j + 1, 2] + green
            before[i + 1, j + 1, 3] = before[i, j + 1, 3] + blue
    for i in range(height):
        top, bottom = max(0, i - WINDOW), min(height, i + WINDOW + 1)
        for j in range(width):
            out[i, j] = False
            if not known[i, j]:
                continue
            left, right, most, count = max(0, j - WINDOW), min(width, j + WINDOW + 1), 0, 0
            for channel in range(4):
                total = before[bottom, right, channel] - before[top, right, channel]
                total -= before[bottom, left, channel] - before[top, left, channel]
                if channel == 0:
                    count = total
                else:
                    most = max(most, abs(total))
            out[i, j] = most > CONTRADICTION * count


@compiled
def forget_all(distances, own, reach, rays, turns, shifts, focal, seen, wrong):
    """Disown pixels of all pictures, see :func:`forget`, whose first arguments have an axis more here."""
    for number in range(len(turns)):
        forget(
            distances[number], own[number], reach[number], rays, turns[number], shifts[number], focal, seen, wrong
        )  # fmt: skip


@compiled
def forget(distances, own, reach, rays, turn, shift, focal, seen, wrong):
    """Disown pixels that a new picture shows better, sees through, or contradicts.

    Args:
        distances: as for :func:`draw`.
        own: as for :func:`draw`; overwritten.
        reach: as for :func:`draw`.
        rays: as for :func:`draw`.
        turn: to the new picture.
        shift: to the new picture.
        focal: as for :func:`draw`.
        seen: distances of the new picture, ``float32 (H, W)``.
        wrong: where it contradicts, ``bool (H, W)``.
    """
    height, width = own.shape
    for row, column in own_in_view(own, reach, rays, turn, shift, focal).T:
        d = distances[row, column]
        x, y, z = carry(rays, row, column, d, turn, shift)
        if z < NEAR:
            continue
        j = int(np.floor(x / z * focal + width / 2))
        i = int(np.floor(-y / z * focal + height / 2))
        if i < 1 or j < 1 or i >= height - 1 or j >= width - 1:
            continue
        distance, nearest, attached = np.sqrt(x * x + y * y + z * z), seen[i, j], False
        for k in range(i - 1, i + 2):
            for q in range(j - 1, j + 2):
                attached |= seen[k, q] == 0
                nearest = min(nearest, seen[k, q])
        if attached:
            continue
        through = distance < BEHIND * nearest - 0.1
        if through or (distance < 1.25 * seen[i, j] and (wrong[i, j] or FINER * d > seen[i, j])):
            own[row, column] = False


@compiled
def carve(distances, own, rays, turn, place, corner, margin):
    """Disown the pixels of a picture whose points lie in a cell.

    Args:
        distances: as for :func:`draw`.
        own: as for :func:`draw`; overwritten.
        rays: as for :func:`draw`.
        turn: from the picture's axes to the world's, ``(3, 3)``.
        place: of its lens, ``(3,)``.
        corner: the cell's lower one, ``(3,)``.
        margin: metres by which it reaches beyond its faces.
    """
    height, width = own.shape
    for i in range(height):
        for j in range(width):
            if not own[i, j]:
                continue
            x, y, z = carry(rays, i, j, distances[i, j], turn, place)
            low = min(x - corner[0], y - corner[1], z - corner[2])
            high = max(x - corner[0], y - corner[1], z - corner[2])
            if low > -margin and high < 1 + margin:
                own[i, j] = False
