"""The compiled part of the picture: from a map and an eye to pixels, one thread, nothing allocated.

What makes it fast (the figures are in ``latentcraft bench``):

- a ray walks columns, not blocks: the part of a column it passes is one mask against the column's 64-bit word;
- 8 x 8 columns whose OR the ray misses are crossed in one stride, and rays that leave above the highest block stop;
- only pixels whose neighbours disagree are traced: between neighbours that see one and the same face or plane, it is
  intersected directly (:func:`_find` looks at every eighth pixel of every eighth row first, then fills in).

:func:`cast` first finds what every pixel sees, then paints it. All of it lives in one file, since numba's cache does not notice a change in another file's function. Inside, x and z
are raised by the map's size, so that they stay positive and truncation is floor.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from latentcraft.simulator.voxel import textures
from latentcraft.simulator.voxel.blocks import GLASS, MARKER, NAMES, WATER
from latentcraft.simulator.voxel.physics import COARSE, WRAP
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE

(ZENITH, HORIZON, SUN_COLOUR, LIGHT, CLOUD_COLOUR, SUN_DIRECTION) = range(0, 18, 3)
FOG, LOD, SUN_STRENGTH, CLOUD_SHIFT, CEILING, CRACKED, FILL = range(18, 25)
TABLE_SIZE = 25
"""Entries of the frame's table, ``float64 (25,)``: five colours (0 to 255; LIGHT multiplies textures) and a direction
of three numbers each, fog distance (blocks), texture detail, visibility of the sun, drift of the clouds (blocks), the
height above which nothing stands, how far the target is dug (0 to 1), and the distance to which a block is surely wider
than two pixels."""
_FACE_X, _FACE_Z, _FACE_TOP, _FACE_BOTTOM = range(4)
_SHADES = np.array([0.65, 0.8, 1.0, 0.5])
"""Brightness of x sides, z sides, tops and bottoms: what lets an eye (and a network) tell faces apart."""
_TEXTURE_FACE = np.array([textures.SIDE, textures.SIDE, textures.TOP, textures.BOTTOM])
_ROOFED = 0.72
"""Brightness under anything solid: tree shadows on the ground, dim rooms, dark caves."""
_OCCLUSION = 0.38
"""How much a solid neighbour darkens the edge it stands on."""
_NEAR = 24.0
"""Distance (blocks) to which corners and edges are worth darkening."""
_MIP_OFFSET = np.array([0, 256, 320, 336, 340])
_WATER_FOG = 18.0
"""How far (blocks) one sees under water."""
_WATER_DEPTH = 12.0
"""How far into water one sees from above."""
_CLOUD_HEIGHT, CLOUD_CELL = 84.0, 8
"""Blocks above the map's floor, blocks a cell."""
_LAYERS = 5
"""Translucent faces (glass, markers) one ray may pass."""
_SHIFT, _CLOUD_BITS = COARSE.bit_length() - 1, CLOUD_CELL.bit_length() - 1
_COARSE_WRAP, _CLOUD_WRAP = WRAP // COARSE, WRAP // CLOUD_CELL
_ONE, _TWO, _NONE = np.uint64(1), np.uint64(2), np.uint64(0)
_SKY, _NOTHING = -1, -2
_FAR = 1e9
_TINY, _F1 = np.float32(1e-9), np.float32(1)
_PLANE = np.array([(1023 << 18) | 3, (1023 << 8) | 3, (63 << 2) | 3, (63 << 2) | 3]) | (1 << 31)
"""Bits of a packed cell that say which plane its face lies in, and the sign."""
_SHEER = np.isin(np.arange(len(NAMES)), (WATER, GLASS, MARKER))
RIM = 4
"""Pixels round the scratch arrays, so that every pixel has neighbours."""
_PHASES = np.array([(8, 0, 0)] + [(gap, row * gap, column * gap) for gap in (4, 2, 1) for row, column in ((0, 1), (1, 0), (1, 1))])
"""Order of drawing: distance to the neighbours drawn before, first row and column. Every eighth pixel of every eighth
row comes first, then the middles between, then the middles between those."""
_jit = njit(_nrt=False, cache=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"})
_inline = njit(_nrt=False, forceinline=True, cache=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"})
# Contraction to fused multiply-adds changes roundings against other machines, not from run to run on one.


@_inline
def _span(low, high):
    """Bits ``low`` to ``high`` (either order) of a column word, clipped to the map's height."""
    bottom, top = max(min(low, high), 0), min(max(low, high), MAP_HEIGHT - 1)
    return (_TWO << np.uint64(top)) - (_ONE << np.uint64(bottom)) if bottom <= top else _NONE


@_inline
def _trace(columns, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz, cx, cy, cz, face, t, t_end):
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
            face = int(tx >= tz)  # _FACE_X is 0, _FACE_Z is 1
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
                    face = _FACE_BOTTOM if dy > 0 else _FACE_TOP
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


@_inline
def _advance(ox, oy, oz, dy, ix, iy, iz, px, pz, cx, cy, cz):
    """Leave one block cell; returns the next cell, the face entered and the distance."""
    tx, tz = (cx + px - ox) * ix, (cz + pz - oz) * iz
    ty = (cy + (1 if dy > 0 else 0) - oy) * iy
    if ty < tx and ty < tz:
        return cx, cy + (1 if dy > 0 else -1), cz, (_FACE_BOTTOM if dy > 0 else _FACE_TOP), ty
    if tx < tz:
        return cx + 2 * px - 1, cy, cz, _FACE_X, tx
    return cx, cy, cz + 2 * pz - 1, _FACE_Z, tz


@_inline
def _haze(table, dy):
    """Colour of the plain sky at a height: what fog fades to."""
    lift = min(1.0, max(0.0, dy * 1.9))
    lift = lift * (2.0 - lift)
    return (
        table[HORIZON] + (table[ZENITH] - table[HORIZON]) * lift,
        table[HORIZON + 1] + (table[ZENITH + 1] - table[HORIZON + 1]) * lift,
        table[HORIZON + 2] + (table[ZENITH + 2] - table[HORIZON + 2]) * lift,
    )


@_inline
def _mix(a, b, share):
    """The colour ``a`` with ``share`` of ``b``."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


@_inline
def _add(a, b, share):
    """The colour ``a`` plus ``share`` of ``b``."""
    return a[0] + share * b[0], a[1] + share * b[1], a[2] + share * b[2]


@_inline
def _sky(table, clouds, ox, oy, oz, dx, dy, dz, iy):
    """Colour of the sky along a unit direction, with sun or moon and clouds."""
    colour = _haze(table, dy)
    towards = dx * table[SUN_DIRECTION] + dy * table[SUN_DIRECTION + 1] + dz * table[SUN_DIRECTION + 2]
    if towards > 0.9:
        glow = (towards - 0.9) * 10.0
        glow = (1.0 if towards > 0.9975 else 0.35 * glow * glow * glow) * table[SUN_STRENGTH]
        colour = _mix(colour, (table[SUN_COLOUR], table[SUN_COLOUR + 1], table[SUN_COLOUR + 2]), glow)
    if dy > 0.09:
        away = (_CLOUD_HEIGHT - oy) * iy
        cell_x = int(ox + dx * away + table[CLOUD_SHIFT] + 16 * MAP_SIZE) >> _CLOUD_BITS
        cell_z = int(oz + dz * away + 16 * MAP_SIZE) >> _CLOUD_BITS
        if clouds[cell_x & _CLOUD_WRAP, cell_z & _CLOUD_WRAP]:
            thick = 0.55 * min(1.0, (dy - 0.09) * 5.0)
            colour = _mix(colour, (table[CLOUD_COLOUR], table[CLOUD_COLOUR + 1], table[CLOUD_COLOUR + 2]), thick)
    return colour


@_inline
def _bit(columns, x, z, y):
    """1 if the cell is set in ``columns``, else 0; y within the map."""
    return int((columns[x & WRAP, z & WRAP] >> np.uint64(y)) & _ONE)


@_inline
def _face_light(solid, table, glows, cx, cy, cz, face, px, pz):
    """What lights a face: a bit for each solid cell round the open cell before it, and the colour of its light.

    The bit is ``3 * (right + 1) + up + 1`` (0 to 8); right and up are those of the texture. A glowing face has none.
    """
    if glows:
        return 0, (1.0, 1.0, 1.0)
    ax = cx + (1 - 2 * px if face == _FACE_X else 0)
    az = cz + (1 - 2 * pz if face == _FACE_Z else 0)
    ay = cy + int(face == _FACE_TOP) - int(face == _FACE_BOTTOM)
    ay = min(max(ay, 1), MAP_HEIGHT - 2)
    bits = 0
    for right in range(-1, 2):
        if face >= _FACE_TOP:
            for up in range(-1, 2):
                bits |= _bit(solid, ax + right, az - up, ay) << (3 * right + up + 4)
        else:
            word = solid[ax & WRAP, (az + right) & WRAP] if face == _FACE_X else solid[(ax + right) & WRAP, az & WRAP]
            bits |= int((word >> np.uint64(ay - 1)) & np.uint64(7)) << (3 * right + 3)
    light = _SHADES[face] * (_ROOFED if solid[ax & WRAP, az & WRAP] >> np.uint64(ay + 1) else 1.0)
    return bits, (light * table[LIGHT], light * table[LIGHT + 1], light * table[LIGHT + 2])


@_inline
def _is_target(target, cx, cy, cz):
    """Whether a cell is the one under the crosshair."""
    return target[1] == cy and target[0] == cx & WRAP and target[2] == cz & WRAP


@_inline
def _surface(mips, table, block, around, light, aimed, hx, hy, hz, cx, cy, cz, face, t, facing):
    """Lit colour of the face of ``block`` hit at (hx, hy, hz), and how near (blocks) the point is to the face's rim.

    ``around`` and ``light`` are :func:`_face_light`'s; ``aimed`` says whether the block is under the crosshair.
    """
    u = hz - cz if face == _FACE_X else hx - cx
    v = hz - cz if face >= _FACE_TOP else cy + 1 - hy
    u, v = min(max(u, 0.0), 0.9999), min(max(v, 0.0), 0.9999)
    # Texture level by the area one pixel covers on the face: distance squared over the cosine.
    footprint = t * t * table[LOD]
    wide = max(facing, 0.02)
    level = int(footprint > wide) + int(footprint > 4 * wide) + int(footprint > 16 * wide) + int(footprint > 64 * wide)
    size = 16 >> level
    side, texel = _TEXTURE_FACE[face], _MIP_OFFSET[level] + int(v * size) * size + int(u * size)
    rim_u, rim_v = 0.5 - abs(u - 0.5), 0.5 - abs(v - 0.5)
    rim = min(rim_u, rim_v)

    # Corners: the neighbours beside the two nearer edges, and the one between them.
    near_u, near_v = max(1.0 - 4.0 * rim_u, 0.0), max(1.0 - 4.0 * rim_v, 0.0)
    right, up = 6 * int(u > 0.5), 2 * int(v <= 0.5)
    dark = max(((around >> (right + 1)) & 1) * near_u, ((around >> (3 + up)) & 1) * near_v)
    dark = max(dark, ((around >> (right + up)) & 1) * near_u * near_v)
    dark = 1.0 - (_OCCLUSION * dark if t < _NEAR else 0.0)
    red, green, blue = light[0] * dark, light[1] * dark, light[2] * dark
    if aimed:
        dim = 1.0
        if rim < 0.02 + 0.006 * t:
            dim = 0.35
        elif table[CRACKED] > 0.0:
            # Patches of 2 x 2 texels break off one after another in a hashed order.
            patch = (int(u * 8) * 0x9E3779B1 ^ int(v * 8) * 0x85EBCA77) & 0xFFFFFFFF
            patch = ((patch ^ (patch >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
            dim = 0.45 if ((patch >> 12) & 0xFF) < table[CRACKED] * 200.0 else 1.0
        red, green, blue = red * dim, green * dim, blue * dim
    return (
        mips[block, side, texel, 0] * red,
        mips[block, side, texel, 1] * green,
        mips[block, side, texel, 2] * blue,
    ), rim


@_inline
def _not_zero(component):
    """A direction's component (float32), moved away from zero so that it can be divided by."""
    return _TINY if abs(component) < _TINY else component


@_inline
def _ray(directions, row, column):
    """A pixel's direction and one over it, as float64."""
    return (
        float(directions[0, row, column]), float(directions[1, row, column]), float(directions[2, row, column]),
        float(directions[3, row, column]), float(directions[4, row, column]), float(directions[5, row, column]),
    )  # fmt: skip


@_inline
def _facing(face, dx, dy, dz):
    """Cosine between a ray and the face it hits."""
    return abs(dx) if face == _FACE_X else (abs(dz) if face == _FACE_Z else abs(dy))


@_inline
def _fogged(table, seen, t, dy, fog_start, fog_scale, deep, under_water, glows):
    """What is left of a colour at distance ``t``."""
    fog = min((t - fog_start) * fog_scale, 1.0)
    if fog <= 0.0:
        return seen
    if under_water:
        return _mix(seen, deep, 0.25 + 0.75 * fog)
    return _mix(seen, _haze(table, dy), fog * fog * (0.5 if glows else 1.0))  # lights shine through haze


@_inline
def _behind(table, clouds, ox, oy, oz, dx, dy, dz, iy, deep, under_water):
    """Colour of a ray that meets nothing."""
    seen = _sky(table, clouds, ox, oy, oz, dx, dy, dz, iy)
    return _mix(deep, seen, max(0.0, dy) * 0.5) if under_water else seen


@_inline
def _pack(cx, cy, cz, face):
    """One number for a face of a cell."""
    return (((cx << 10) | cz) << 8) | (cy << 2) | face


@_inline
def _unpack(cell):
    """Turn :func:`_pack`'s number back into (cx, cy, cz, face)."""
    return cell >> 18, (cell >> 2) & 63, (cell >> 8) & 1023, cell & 3


@_inline
def _meet(cell, ox, oy, oz, ix, iy, iz, px, pz):
    """Distance to the plane of a face."""
    cx, cy, cz, face = _unpack(cell)
    if face == _FACE_X:
        return (cx + 1 - px - ox) * ix
    if face == _FACE_Z:
        return (cz + 1 - pz - oz) * iz
    return (cy + int(face == _FACE_TOP) - oy) * iy


@_inline
def _open_face(columns, cell, x, y, z, px, pz):
    """The face in the plane of ``cell``'s at point (x, y, z), or nothing if no open face is there."""
    cx, cy, cz, face = _unpack(cell)
    ax = bx = int(x)
    ay = by = int(y)
    az = bz = int(z)
    if face == _FACE_X:
        ax, bx = cx, cx + 1 - 2 * px
    elif face == _FACE_Z:
        az, bz = cz, cz + 1 - 2 * pz
    else:
        ay, by = cy, cy + int(face == _FACE_TOP) - int(face == _FACE_BOTTOM)
    if min(ay, by) < 0 or max(ay, by) >= MAP_HEIGHT or _bit(columns, ax, az, ay) <= _bit(columns, bx, bz, by):
        return _NOTHING
    return _pack(ax, ay, az, face)


@_jit
def _find(columns, coarse, directions, table, ox, oy, oz, fog_end, cells, depths):
    """Fill ``cells`` and ``depths`` (flat, with a rim) with the first face every pixel sees and about how far it is."""
    height, width = directions.shape[1], directions.shape[2]
    line = width + 2 * RIM
    eye_x, eye_y, eye_z = int(ox), math.floor(oy), int(oz)
    for phase in range(len(_PHASES)):
        gap, first_row, first_column = _PHASES[phase, 0], _PHASES[phase, 1], _PHASES[phase, 2]
        # So far a block is wider than the gap between the neighbours, and none hides there.
        fill = table[FILL] / gap
        stride = gap if phase == 0 else 2 * gap
        side = gap if first_column else gap * line
        other = gap * line if first_row else gap
        for row in range(first_row, height, stride):
            for column in range(first_column, width, stride):
                place = (row + RIM) * line + column + RIM
                # What the neighbours seen before agree on, if they do: one face, the sky, or at least one plane.
                cell, near = _NOTHING, 0.0
                differ = _PLANE[0]
                if phase:
                    cell = int(cells[place - side])
                    differ = cell ^ cells[place + side]
                    differ |= (cell ^ cells[place - other]) | (cell ^ cells[place + other])
                    near = min(min(depths[place - side], depths[place + side]),
                               min(depths[place - other], depths[place + other]))  # fmt: skip
                    if differ == 0 and (near < fill or cell == _SKY):
                        cells[place], depths[place] = cell, near
                        continue
                dx, dy, dz, ix, iy, iz = _ray(directions, row, column)
                px, pz = int(dx > 0), int(dz > 0)
                t = 0.0
                if cell >= 0 and differ & _PLANE[cell & 3] == 0 and near < fill:
                    t = _meet(cell, ox, oy, oz, ix, iy, iz, px, pz)
                    cell = _open_face(columns, cell, ox + dx * t, oy + dy * t, oz + dz * t, px, pz)
                else:
                    cell = _NOTHING
                if cell == _NOTHING:
                    t_end = min(fog_end, (table[CEILING] - oy) * iy) if dy > 0 else fog_end
                    # Nothing stands much nearer than what the neighbours see, as long as blocks are wider than gaps.
                    t = min(0.97 * near - 0.6, fill)
                    cx, cy, cz, face = int(ox + dx * t), int(oy + dy * t), int(oz + dz * t), _FACE_X
                    if t < 0.5 or not 0 <= cy < MAP_HEIGHT or _bit(columns, cx, cz, cy):
                        cx, cy, cz, face, t = _advance(ox, oy, oz, dy, ix, iy, iz, px, pz, eye_x, eye_y, eye_z)
                    hit, cx, cy, cz, face, t = _trace(
                        columns, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz, cx, cy, cz, face, t, t_end
                    )
                    cell = _pack(cx, cy, cz, face) if hit and t < fog_end else _SKY
                cells[place] = cell
                depths[place] = t if cell >= 0 else _FAR


@_jit
def _see_through(
    grid, mips, glowing, clouds, table, target, ox, oy, oz, dx, dy, dz, ix, iy, iz, cx, cy, cz, face, t, fog_start, fog_end, deep,
    under_water,
):  # fmt: skip
    """Colour of a ray that meets water, glass or a marker first."""
    blocks, solid, coarse = grid.blocks, grid.solid, grid.coarse
    columns = solid if under_water else grid.visible
    px, pz = int(dx > 0), int(dz > 0)
    colour, weight, hit, fog_scale = (0.0, 0.0, 0.0), 1.0, True, 1.0 / (fog_end - fog_start)
    for _ in range(_LAYERS):
        if not hit:
            return _add(colour, _behind(table, clouds, ox, oy, oz, dx, dy, dz, iy, deep, under_water), weight)
        block = blocks[cx & WRAP, cz & WRAP, cy]
        facing, opacity = _facing(face, dx, dy, dz), 1.0
        around, light = _face_light(solid, table, glowing[block], cx, cy, cz, face, px, pz)
        seen, rim = _surface(
            mips, table, block, around, light, _is_target(target, cx, cy, cz),
            ox + dx * t, oy + dy * t, oz + dz * t, cx, cy, cz, face, t, facing,
        )  # fmt: skip
        if block == WATER:
            # A mirror at a flat angle, a window into the deep from above.
            mirror = 1.0 - facing
            mirror = 0.08 + 0.6 * mirror * mirror * mirror
            seen = _mix(seen, _haze(table, abs(dy)), mirror)
            ground, bx, by, bz, bottom, bt = _trace(
                solid, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz,
                cx, cy, cz, face, t, min(fog_end, t + _WATER_DEPTH),
            )  # fmt: skip
            if ground:
                block_below = blocks[bx & WRAP, bz & WRAP, by]
                around, light = _face_light(solid, table, glowing[block_below], bx, by, bz, bottom, px, pz)
                bed, rim = _surface(
                    mips, table, block_below, around, light, _is_target(target, bx, by, bz),
                    ox + dx * bt, oy + dy * bt, oz + dz * bt, bx, by, bz, bottom, bt, _facing(bottom, dx, dy, dz),
                )  # fmt: skip
                cover = 1.0 - (1.0 - mirror) * 0.75 / (1.0 + 0.45 * (bt - t))
                seen = _mix((0.7 * bed[0], 0.85 * bed[1], bed[2]), seen, cover)
        elif block == MARKER:
            opacity = 0.85 if rim < 0.1 else 0.35
        elif block == GLASS:
            opacity = 0.8 if rim < 0.1 else 0.25
        seen = _fogged(table, seen, t, dy, fog_start, fog_scale, deep, under_water, glowing[block])
        colour = _add(colour, seen, weight * opacity)
        weight -= weight * opacity
        if weight < 0.02:
            return colour
        cx, cy, cz, face, t = _advance(ox, oy, oz, dy, ix, iy, iz, px, pz, cx, cy, cz)
        hit, cx, cy, cz, face, t = _trace(
            columns, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz, cx, cy, cz, face, t, fog_end
        )
        hit = hit and t < fog_end
    return colour


@_jit
def _paint(grid, mips, glowing, clouds, directions, table, target, ox, oy, oz, under_water, fog_end, cells, out):
    """Turn what the pixels see into colours."""
    blocks, solid = grid.blocks, grid.solid
    deep = (26.0 * table[LIGHT], 62.0 * table[LIGHT + 1], 150.0 * table[LIGHT + 2])
    fog_start = 0.0 if under_water else 0.4 * fog_end
    fog_scale = 1.0 / (fog_end - fog_start)
    line = out.shape[1] + 2 * RIM
    for row in range(out.shape[0]):
        last, block, around, light, glows, aimed = _NOTHING, 0, 0, (1.0, 1.0, 1.0), False, False
        for column in range(out.shape[1]):
            dx, dy, dz, ix, iy, iz = _ray(directions, row, column)
            cell = int(cells[(row + RIM) * line + column + RIM])
            if cell == _SKY:
                colour = _behind(table, clouds, ox, oy, oz, dx, dy, dz, iy, deep, under_water)
            else:
                cx, cy, cz, face = _unpack(cell)
                if cell != last:
                    last, block = cell, blocks[cx & WRAP, cz & WRAP, cy]
                    glows, aimed = glowing[block], _is_target(target, cx, cy, cz)
                    around, light = _face_light(solid, table, glows, cx, cy, cz, face, int(dx > 0), int(dz > 0))
                t = _meet(cell, ox, oy, oz, ix, iy, iz, int(dx > 0), int(dz > 0))
                if _SHEER[block]:
                    colour = _see_through(
                        grid, mips, glowing, clouds, table, target, ox, oy, oz, dx, dy, dz, ix, iy, iz, cx, cy, cz,
                        face, t,                        fog_start, fog_end, deep, under_water,
                    )  # fmt: skip
                else:
                    colour, _ = _surface(
                        mips, table, block, around, light, aimed, ox + dx * t, oy + dy * t, oz + dz * t,
                        cx, cy, cz, face, t, _facing(face, dx, dy, dz),
                    )  # fmt: skip
                    colour = _fogged(table, colour, t, dy, fog_start, fog_scale, deep, under_water, glows)
            out[row, column, 0] = np.uint8(min(colour[0], 255.0))
            out[row, column, 1] = np.uint8(min(colour[1], 255.0))
            out[row, column, 2] = np.uint8(min(colour[2], 255.0))


@_jit
def cast(
    grid: Any, mips: np.ndarray, glowing: np.ndarray, clouds: np.ndarray, rays: np.ndarray, table: np.ndarray,
    ox: float, oy: float, oz: float, yaw: float, pitch: float, target: np.ndarray,
    directions: np.ndarray, cells: np.ndarray, depths: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``out`` ``uint8 (H, W, 3)`` with the world seen from the eye (ox, oy, oz).

    Args:
        grid: the map, :class:`latentcraft.simulator.voxel.physics.Grid`.
        mips: textures ``uint8 (blocks, 3, 341, 3)``.
        glowing: ``bool (blocks,)``.
        clouds: filled cells ``bool (32, 32)``.
        rays: unit vectors ``float32 (3, H, W)``: right, up, ahead.
        table: what is the same for all pixels, ``float64 (25,)``.
        ox: eye x.
        oy: eye y.
        oz: eye z.
        yaw: degrees.
        pitch: degrees.
        target: block under the crosshair ``int64 (3,)``, or -1.
        directions: scratch ``float32 (6, H, W)``: unit vectors x, y, z to the pixels, and one over each.
        cells: scratch ``int32 ((H + 8) * (W + 8),)``, its rim of :data:`RIM` pixels filled with -2.
        depths: scratch ``float32 ((H + 8) * (W + 8),)``, its rim filled with 0.
        out: the frame.
    """
    sin_yaw, cos_yaw = np.float32(math.sin(math.radians(yaw))), np.float32(math.cos(math.radians(yaw)))
    sin_pitch, cos_pitch = np.float32(math.sin(math.radians(pitch))), np.float32(math.cos(math.radians(pitch)))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            side, up, ahead = rays[0, row, column], rays[1, row, column], rays[2, row, column]
            flat = ahead * cos_pitch + up * sin_pitch
            dx = _not_zero(-cos_yaw * side - sin_yaw * flat)
            dy = _not_zero(up * cos_pitch - ahead * sin_pitch)
            dz = _not_zero(-sin_yaw * side + cos_yaw * flat)
            directions[0, row, column], directions[1, row, column], directions[2, row, column] = dx, dy, dz
            directions[3, row, column], directions[4, row, column] = _F1 / dx, _F1 / dy
            directions[5, row, column] = _F1 / dz
    ox, oz = ox + MAP_SIZE, oz + MAP_SIZE
    level = math.floor(oy)
    under_water = 0 <= level < MAP_HEIGHT and grid.blocks[int(ox) & WRAP, int(oz) & WRAP, level] == WATER
    fog_end = _WATER_FOG if under_water else table[FOG]
    columns = grid.solid if under_water else grid.visible
    _find(columns, grid.coarse, directions, table, ox, oy, oz, fog_end, cells, depths)
    _paint(grid, mips, glowing, clouds, directions, table, target, ox, oy, oz, under_water, fog_end, cells, out)
