"""Colours: turns what the pixels see into a picture, with light, fog, water, glass, sky and clouds.

One thread, nothing allocated; see :mod:`latentcraft.simulator.voxel.raycast` for how the faces are found.
"""

from typing import Any

import numpy as np

from latentcraft.simulator.voxel import textures
from latentcraft.simulator.voxel.blocks import GLASS, MARKER, NAMES, WATER
from latentcraft.simulator.voxel.physics import WRAP
from latentcraft.simulator.voxel.raycast import (
    FACE_BOTTOM,
    FACE_TOP,
    FACE_X,
    FACE_Z,
    NOTHING,
    RIM,
    SKY,
    advance,
    bit,
    compiled,
    inlined,
    meet,
    ray,
    trace,
    unpack,
)
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE

(ZENITH, HORIZON, SUN_COLOUR, LIGHT, CLOUD_COLOUR, SUN_DIRECTION) = range(0, 18, 3)
FOG, LOD, SUN_STRENGTH, CLOUD_SHIFT, CRACKED = range(18, 23)
TABLE_SIZE = 23
"""Entries of the frame's table, ``float64 (23,)``: five colours (0 to 255; LIGHT multiplies textures) and a direction
of three numbers each, fog distance (blocks), texture detail, visibility of the sun, drift of the clouds (blocks), and
how far the target is dug (0 to 1)."""
WATER_FOG = 18.0
"""How far (blocks) one sees under water."""
CLOUD_CELL = 8
"""Side of a cell of the cloud layer, blocks."""
_CLOUD_HEIGHT = 84.0
"""Blocks above the map's floor."""
_SHADES = np.array([0.65, 0.8, 1.0, 0.5])
"""Brightness of x sides, z sides, tops and bottoms: what lets an eye (and a network) tell faces apart."""
_ROOFED = 0.72
"""Brightness under anything solid: tree shadows on the ground, dim rooms, dark caves."""
_OCCLUSION = 0.38
"""How much a solid neighbour darkens the edge it stands on."""
_NEAR = 24.0
"""Distance (blocks) to which corners and edges are worth darkening."""
_WATER_DEPTH = 12.0
"""How far into water one sees from above."""
_LAYERS = 5
"""Translucent faces (glass, markers) one ray may pass."""
_TEXTURE_FACE = np.array([textures.SIDE, textures.SIDE, textures.TOP, textures.BOTTOM])
_MIP_OFFSET = np.array([0, 256, 320, 336, 340])
_SHEER = np.isin(np.arange(len(NAMES)), (WATER, GLASS, MARKER))
_CLOUD_BITS, _CLOUD_WRAP = CLOUD_CELL.bit_length() - 1, WRAP // CLOUD_CELL


@inlined
def _haze(table, dy):
    """Colour of the plain sky at a height: what fog fades to."""
    lift = min(1.0, max(0.0, dy * 1.9))
    lift = lift * (2.0 - lift)
    return (
        table[HORIZON] + (table[ZENITH] - table[HORIZON]) * lift,
        table[HORIZON + 1] + (table[ZENITH + 1] - table[HORIZON + 1]) * lift,
        table[HORIZON + 2] + (table[ZENITH + 2] - table[HORIZON + 2]) * lift,
    )


@inlined
def _mix(a, b, share):
    """The colour ``a`` with ``share`` of ``b``."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


@inlined
def _add(a, b, share):
    """The colour ``a`` plus ``share`` of ``b``."""
    return a[0] + share * b[0], a[1] + share * b[1], a[2] + share * b[2]


@inlined
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


@inlined
def _fogged(table, seen, t, dy, fog_start, fog_scale, deep, under_water, glows):
    """What is left of a colour at distance ``t``."""
    fog = min((t - fog_start) * fog_scale, 1.0)
    if fog <= 0.0:
        return seen
    if under_water:
        return _mix(seen, deep, 0.25 + 0.75 * fog)
    return _mix(seen, _haze(table, dy), fog * fog * (0.5 if glows else 1.0))  # lights shine through haze


@inlined
def _behind(table, clouds, ox, oy, oz, dx, dy, dz, iy, deep, under_water):
    """Colour of a ray that meets nothing."""
    seen = _sky(table, clouds, ox, oy, oz, dx, dy, dz, iy)
    return _mix(deep, seen, max(0.0, dy) * 0.5) if under_water else seen


@inlined
def _is_target(target, cx, cy, cz):
    """Whether a cell is the one under the crosshair."""
    return target[1] == cy and target[0] == cx & WRAP and target[2] == cz & WRAP


@inlined
def _facing(face, dx, dy, dz):
    """Cosine between a ray and the face it hits."""
    return abs(dx) if face == FACE_X else (abs(dz) if face == FACE_Z else abs(dy))


@inlined
def _face_light(solid, table, glows, cx, cy, cz, face, px, pz):
    """What lights a face: a bit for each solid cell round the open cell before it, and the colour of its light.

    The bit is ``3 * (right + 1) + up + 1`` (0 to 8); right and up are those of the texture. A glowing face has none.
    """
    if glows:
        return 0, (1.0, 1.0, 1.0)
    ax = cx + (1 - 2 * px if face == FACE_X else 0)
    az = cz + (1 - 2 * pz if face == FACE_Z else 0)
    ay = cy + int(face == FACE_TOP) - int(face == FACE_BOTTOM)
    ay = min(max(ay, 1), MAP_HEIGHT - 2)
    bits = 0
    for right in range(-1, 2):
        if face >= FACE_TOP:
            for up in range(-1, 2):
                bits |= bit(solid, ax + right, az - up, ay) << (3 * right + up + 4)
        else:
            word = solid[ax & WRAP, (az + right) & WRAP] if face == FACE_X else solid[(ax + right) & WRAP, az & WRAP]
            bits |= int((word >> np.uint64(ay - 1)) & np.uint64(7)) << (3 * right + 3)
    light = _SHADES[face] * (_ROOFED if solid[ax & WRAP, az & WRAP] >> np.uint64(ay + 1) else 1.0)
    return bits, (light * table[LIGHT], light * table[LIGHT + 1], light * table[LIGHT + 2])


@inlined
def _surface(mips, table, block, around, light, aimed, hx, hy, hz, cx, cy, cz, face, t, facing):
    """Lit colour of the face of ``block`` hit at (hx, hy, hz), and how near (blocks) the point is to the face's rim.

    ``around`` and ``light`` are :func:`_face_light`'s; ``aimed`` says whether the block is under the crosshair.
    """
    u = hz - cz if face == FACE_X else hx - cx
    v = hz - cz if face >= FACE_TOP else cy + 1 - hy
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


@compiled
def _see_through(
    grid, mips, glowing, clouds, table, target, ox, oy, oz, dx, dy, dz, ix, iy, iz, cx, cy, cz, face, t,
    fog_start, fog_end, deep, under_water,
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
            ground, bx, by, bz, bottom, bt = trace(
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
        cx, cy, cz, face, t = advance(ox, oy, oz, dy, ix, iy, iz, px, pz, cx, cy, cz)
        hit, cx, cy, cz, face, t = trace(
            columns, coarse, ox, oy, oz, dx, dy, dz, ix, iy, iz, px, pz, cx, cy, cz, face, t, fog_end
        )
        hit = hit and t < fog_end
    return colour


@compiled
def paint(
    grid: Any, mips: np.ndarray, glowing: np.ndarray, clouds: np.ndarray, directions: np.ndarray, table: np.ndarray,
    target: np.ndarray, ox: float, oy: float, oz: float, under_water: bool, cells: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``out`` ``uint8 (H, W, 3)`` with the colours of the faces the pixels see.

    Args:
        grid: the map, :class:`latentcraft.simulator.voxel.physics.Grid`.
        mips: textures ``uint8 (blocks, 3, 341, 3)``: 16, 8, 4, 2 and 1 texels a side, flattened.
        glowing: ``bool (blocks,)``.
        clouds: filled cells ``bool (32, 32)``.
        directions: unit vectors ``float32 (6, H, W)`` to the pixels and one over each.
        table: what is the same for all pixels, ``float64 (23,)``; see :data:`TABLE_SIZE`.
        target: block under the crosshair ``int64 (3,)``, or -1.
        ox: eye x, raised by the map's size.
        oy: eye y.
        oz: eye z, raised by the map's size.
        under_water: whether the eye is.
        cells: what the pixels see, from :func:`latentcraft.simulator.voxel.raycast.find`.
        out: the frame.
    """
    fog_end = WATER_FOG if under_water else table[FOG]
    blocks, solid = grid.blocks, grid.solid
    deep = (26.0 * table[LIGHT], 62.0 * table[LIGHT + 1], 150.0 * table[LIGHT + 2])
    fog_start = 0.0 if under_water else 0.4 * fog_end
    fog_scale = 1.0 / (fog_end - fog_start)
    line = out.shape[1] + 2 * RIM
    for row in range(out.shape[0]):
        last, block, around, light, glows, aimed = NOTHING, 0, 0, (1.0, 1.0, 1.0), False, False
        for column in range(out.shape[1]):
            dx, dy, dz, ix, iy, iz = ray(directions, row, column)
            cell = int(cells[(row + RIM) * line + column + RIM])
            if cell == SKY:
                colour = _behind(table, clouds, ox, oy, oz, dx, dy, dz, iy, deep, under_water)
            else:
                cx, cy, cz, face = unpack(cell)
                if cell != last:
                    last, block = cell, blocks[cx & WRAP, cz & WRAP, cy]
                    glows, aimed = glowing[block], _is_target(target, cx, cy, cz)
                    around, light = _face_light(solid, table, glows, cx, cy, cz, face, int(dx > 0), int(dz > 0))
                t = meet(cell, ox, oy, oz, ix, iy, iz, int(dx > 0), int(dz > 0))
                if _SHEER[block]:
                    colour = _see_through(
                        grid, mips, glowing, clouds, table, target, ox, oy, oz, dx, dy, dz, ix, iy, iz, cx, cy, cz,
                        face, t, fog_start, fog_end, deep, under_water,
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
