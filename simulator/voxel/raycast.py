"""What every pixel sees first: rays through the block map, one thread, nothing allocated.

What makes it fast (the figures are in ``latentcraft bench``):

- a ray walks columns, not blocks: the part of a column it passes is one mask against the column's 64-bit word;
- 8 x 8 columns whose OR the ray misses are crossed in one stride, and rays that leave above the highest block stop;
- only pixels whose neighbours disagree are traced. :func:`find` looks at every eighth pixel of every eighth row first,
  then at the middles between; where the neighbours see one face, so does the middle, and where they see one plane,
  it is intersected directly. What could hide between them is narrower than the gap, so this is used only as far as
  blocks are wider than that.

Inside, x and z are raised by the map's size, so that they stay positive and truncation is floor.
"""

import math
from typing import Any

import numpy as np

from latentcraft.simulator.voxel.compiling import njit
from latentcraft.simulator.voxel.physics import COARSE, WRAP
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT

FACE_X, FACE_Z, FACE_TOP, FACE_BOTTOM = range(4)
SKY = -1
"""In place of a packed cell: the pixel sees the sky."""
NOTHING = -2
"""In place of a packed cell: not known; also what lies beyond the frame."""
RIM = 4
"""Pixels round the scratch arrays, so that every pixel has neighbours; as wide as the widest gap."""
_PHASES = np.array([
    (8, 0, 0), (4, 0, 4), (4, 4, 0), (4, 4, 4), (2, 0, 2), (2, 2, 0), (2, 2, 2), (1, 0, 1), (1, 1, 0), (1, 1, 1),
])  # fmt: skip
"""Order of looking: gap to the neighbours seen before, first row and first column. The stride is twice the gap."""
_PLANE = np.array([(1023 << 18) | 3, (1023 << 8) | 3, (63 << 2) | 3, (63 << 2) | 3]) | (1 << 31)
"""Bits of a packed cell that say which plane its face lies in, and the sign."""
_SHIFT, _COARSE_WRAP = COARSE.bit_length() - 1, WRAP // COARSE
_ONE, _TWO, _NONE = np.uint64(1), np.uint64(2), np.uint64(0)
_FAR = 1e9
_TINY, _F1 = np.float32(1e-9), np.float32(1)

# Fused multiply-adds round otherwise than other machines might, but always alike on one. Nothing here allocates, and
# without numba's runtime (``_nrt``) it does not count references to arrays either, which took a third of the time.
_OPTIONS: dict[str, Any] = {"_nrt": False, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
compiled = njit(**_OPTIONS)
inlined = njit(forceinline=True, **_OPTIONS)


@inlined
def _span(low, high):
    """Bits ``low`` to ``high`` (either order) of a column word, clipped to the map's height."""
    bottom, top = max(min(low, high), 0), min(max(low, high), MAP_HEIGHT - 1)
    return (_TWO << np.uint64(top)) - (_ONE << np.uint64(bottom)) if bottom <= top else _NONE


@inlined
def trace(columns, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz, cx, cy, cz, face, t, t_end):
    """Follow a ray from its entry (distance ``t``, through ``face``) into cell (cx, cy, cz) to the first cell set in
    ``columns``; returns (hit, cx, cy, cz, face, t).

    (px, pz) is 1 where the direction is positive, else 0; (ix, iy, iz) is one over the direction. Where the ray goes
    next is computed without branches, since no processor can guess it.
    """
    sx, sz = 2 * px - 1, 2 * pz - 1
    stride_x, stride_z = abs(ix), abs(iz)
    while t < t_end:
        # The coarse cell as a whole: from here to where the ray leaves it.
        bx, bz = cx >> _SHIFT, cz >> _SHIFT
        far_x, far_z = (bx + px) << _SHIFT, (bz + pz) << _SHIFT
        tx, tz = (far_x - ox) * ix, (far_z - oz) * iz
        leave = min(tx, tz)
        cy_out = int(oy + dy * leave)
        if coarse[bx & _COARSE_WRAP, bz & _COARSE_WRAP] & _span(cy, cy_out) == 0:
            face = int(tx >= tz)  # FACE_X is 0, FACE_Z is 1
            inside_x = min(max(int(ox + dx * leave), bx << _SHIFT), (bx << _SHIFT) + COARSE - 1)
            inside_z = min(max(int(oz + dz * leave), bz << _SHIFT), (bz << _SHIFT) + COARSE - 1)
            cx = inside_x if face else far_x - 1 + px
            cz = far_z - 1 + pz if face else inside_z
            t, cy = leave, cy_out
            continue
        # Something is near its path: column by column until the ray leaves the coarse cell.
        tx, tz = (cx + px - ox) * ix, (cz + pz - oz) * iz
        while True:
            leave = min(tx, tz)
            cy_out = int(oy + dy * leave)
            bits = columns[cx & WRAP, cz & WRAP] & _span(cy, cy_out)
            if bits != 0:
                start = cy
                cy = min(max(cy, 0), MAP_HEIGHT - 1)
                step = 1 if dy > 0 else -1
                while (bits >> np.uint64(cy)) & _ONE == 0:
                    cy += step
                if cy != start:
                    face = FACE_BOTTOM if dy > 0 else FACE_TOP
                    t = (cy + (0 if dy > 0 else 1) - oy) * iy
                return True, cx, cy, cz, face, t
            t, cy = leave, cy_out
            along_x = tx < tz
            face = 0 if along_x else 1
            cx += sx if along_x else 0
            cz += 0 if along_x else sz
            tx += stride_x if along_x else 0.0
            tz += 0.0 if along_x else stride_z
            if ((cx >> _SHIFT) ^ bx) | ((cz >> _SHIFT) ^ bz) or t >= t_end:
                break
    return False, cx, cy, cz, face, t


@inlined
def advance(ox, oy, oz, dy, ix, iy, iz, px, pz, cx, cy, cz):
    """Leave one block cell; returns the next cell, the face entered and the distance."""
    tx, tz = (cx + px - ox) * ix, (cz + pz - oz) * iz
    ty = (cy + (1 if dy > 0 else 0) - oy) * iy
    if ty < tx and ty < tz:
        return cx, cy + (1 if dy > 0 else -1), cz, (FACE_BOTTOM if dy > 0 else FACE_TOP), ty
    if tx < tz:
        return cx + 2 * px - 1, cy, cz, FACE_X, tx
    return cx, cy, cz + 2 * pz - 1, FACE_Z, tz


@inlined
def bit(columns, x, z, y):
    """1 if the cell is set in ``columns``, else 0; y within the map."""
    return int((columns[x & WRAP, z & WRAP] >> np.uint64(y)) & _ONE)


@inlined
def _not_zero(component):
    """A direction's component (float32), moved away from zero so that it can be divided by."""
    return _TINY if abs(component) < _TINY else component


@inlined
def ray(directions, row, column):
    """A pixel's direction and one over it, as float64."""
    return (
        float(directions[0, row, column]), float(directions[1, row, column]), float(directions[2, row, column]),
        float(directions[3, row, column]), float(directions[4, row, column]), float(directions[5, row, column]),
    )  # fmt: skip


@inlined
def _pack(cx, cy, cz, face):
    """One number for a face of a cell."""
    return (((cx << 10) | cz) << 8) | (cy << 2) | face


@inlined
def unpack(cell):
    """Turn :func:`_pack`'s number back into (cx, cy, cz, face)."""
    return cell >> 18, (cell >> 2) & 63, (cell >> 8) & 1023, cell & 3


@inlined
def meet(cell, ox, oy, oz, ix, iy, iz, px, pz):
    """Distance to the plane of a face."""
    cx, cy, cz, face = unpack(cell)
    if face == FACE_X:
        return (cx + 1 - px - ox) * ix
    if face == FACE_Z:
        return (cz + 1 - pz - oz) * iz
    return (cy + int(face == FACE_TOP) - oy) * iy


@inlined
def _open_face(columns, cell, x, y, z, px, pz):
    """The face in the plane of ``cell``'s at point (x, y, z), or nothing if no open face is there."""
    cx, cy, cz, face = unpack(cell)
    ax = bx = int(x)
    ay = by = int(y)
    az = bz = int(z)
    if face == FACE_X:
        ax, bx = cx, cx + 1 - 2 * px
    elif face == FACE_Z:
        az, bz = cz, cz + 1 - 2 * pz
    else:
        ay, by = cy, cy + int(face == FACE_TOP) - int(face == FACE_BOTTOM)
    if min(ay, by) < 0 or max(ay, by) >= MAP_HEIGHT or bit(columns, ax, az, ay) <= bit(columns, bx, bz, by):
        return NOTHING
    return _pack(ax, ay, az, face)


@compiled
def point(rays: np.ndarray, yaw: float, pitch: float, directions: np.ndarray) -> None:
    """Turn the camera: fill ``directions`` ``float32 (6, H, W)`` with unit vectors (x, y, z) and one over each.

    Args:
        rays: unit vectors ``float32 (3, H, W)`` of the pixels: right, up, ahead.
        yaw: degrees.
        pitch: degrees.
        directions: overwritten.
    """
    sin_yaw, cos_yaw = np.float32(math.sin(math.radians(yaw))), np.float32(math.cos(math.radians(yaw)))
    sin_pitch, cos_pitch = np.float32(math.sin(math.radians(pitch))), np.float32(math.cos(math.radians(pitch)))
    for row in range(rays.shape[1]):
        for column in range(rays.shape[2]):
            side, up, ahead = rays[0, row, column], rays[1, row, column], rays[2, row, column]
            flat = ahead * cos_pitch + up * sin_pitch
            dx = _not_zero(-cos_yaw * side - sin_yaw * flat)
            dy = _not_zero(up * cos_pitch - ahead * sin_pitch)
            dz = _not_zero(-sin_yaw * side + cos_yaw * flat)
            directions[0, row, column], directions[1, row, column], directions[2, row, column] = dx, dy, dz
            directions[3, row, column], directions[4, row, column] = _F1 / dx, _F1 / dy
            directions[5, row, column] = _F1 / dz


@compiled
def find(
    columns: np.ndarray, coarse: np.ndarray, directions: np.ndarray, ox: float, oy: float, oz: float,
    fog: float, ceiling: float, wide: float, cells: np.ndarray, depths: np.ndarray,
) -> None:  # fmt: skip
    """Find the face every pixel sees first.

    Args:
        columns: words ``uint64 (X, Z)`` of what can be seen.
        coarse: OR of what can be seen, ``uint64 (X / 8, Z / 8)``.
        directions: :func:`point`'s ``float32 (6, H, W)``.
        ox: eye x, raised by the map's size.
        oy: eye y.
        oz: eye z, raised by the map's size.
        fog: distance (blocks) beyond which nothing is seen.
        ceiling: height above which nothing stands.
        wide: distance (blocks) to which a block is as wide as two pixels.
        cells: ``int32 ((H + 8) * (W + 8),)``, rows with a rim of :data:`RIM` pixels that holds :data:`NOTHING`; the
            rest is overwritten with packed cells or :data:`SKY`.
        depths: ``float32 ((H + 8) * (W + 8),)``, its rim 0; the rest is overwritten with about how far the face is.
    """
    height, width = directions.shape[1], directions.shape[2]
    line = width + 2 * RIM
    eye_x, eye_y, eye_z = int(ox), math.floor(oy), int(oz)
    for phase in range(len(_PHASES)):
        gap, first_row, first_column = _PHASES[phase, 0], _PHASES[phase, 1], _PHASES[phase, 2]
        # So far a block is wider than the gap between the neighbours, and none hides there.
        fill = wide / gap
        stride = gap if phase == 0 else 2 * gap
        side = gap if first_column else gap * line
        other = gap * line if first_row else gap
        for row in range(first_row, height, stride):
            for column in range(first_column, width, stride):
                place = (row + RIM) * line + column + RIM
                # What the neighbours seen before agree on, if they do: one face, the sky, or at least one plane.
                cell, near = NOTHING, 0.0
                differ = _PLANE[0]
                if phase:
                    cell = int(cells[place - side])
                    differ = cell ^ cells[place + side]
                    differ |= (cell ^ cells[place - other]) | (cell ^ cells[place + other])
                    near = min(min(depths[place - side], depths[place + side]),
                               min(depths[place - other], depths[place + other]))  # fmt: skip
                    if differ == 0 and (near < fill or cell == SKY):
                        cells[place], depths[place] = cell, near
                        continue
                dx, dy, dz, ix, iy, iz = ray(directions, row, column)
                px, pz = int(dx > 0), int(dz > 0)
                t = 0.0
                if cell >= 0 and differ & _PLANE[cell & 3] == 0 and near < fill:
                    t = meet(cell, ox, oy, oz, ix, iy, iz, px, pz)
                    cell = _open_face(columns, cell, ox + dx * t, oy + dy * t, oz + dz * t, px, pz)
                else:
                    cell = NOTHING
                if cell == NOTHING:
                    t_end = min(fog, (ceiling - oy) * iy) if dy > 0 else fog
                    # Nothing stands much nearer than what the neighbours see, as long as blocks are wider than gaps.
                    t = min(0.97 * near - 0.6, fill)
                    cx, cy, cz, face = int(ox + dx * t), int(oy + dy * t), int(oz + dz * t), FACE_X
                    if t < 0.5 or not 0 <= cy < MAP_HEIGHT or bit(columns, cx, cz, cy):
                        cx, cy, cz, face, t = advance(ox, oy, oz, dy, ix, iy, iz, px, pz, eye_x, eye_y, eye_z)
                    hit, cx, cy, cz, face, t = trace(
                        columns, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz, cx, cy, cz, face, t, t_end
                    )
                    cell = _pack(cx, cy, cz, face) if hit and t < fog else SKY
                cells[place] = cell
                depths[place] = t if cell >= 0 else _FAR


@compiled
def measure(cells: np.ndarray, directions: np.ndarray, ox: float, oy: float, oz: float, sky: float, out: np.ndarray):
    """Fill ``out`` ``float32 (H, W)`` with the exact distances of what :func:`find` found; ``sky`` where it is sky."""
    line = out.shape[1] + 2 * RIM
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            cell = cells[(row + RIM) * line + column + RIM]
            if cell < 0:
                out[row, column] = sky
                continue
            dx, _, dz, ix, iy, iz = ray(directions, row, column)
            out[row, column] = meet(cell, ox, oy, oz, ix, iy, iz, int(dx > 0), int(dz > 0))
