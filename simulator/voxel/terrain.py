"""Terrain of the reference world: a 256 x 256 map without edges, a pure function of its seed to the bit.

In order: fields (height, biome) from periodic gradient noise, columns with overhangs, caves, skin (grass, sand,
snow), water and ice, houses, then trees, cacti and boulders. All randomness is an integer hash of (place, seed), so
no generator state exists and every part can be changed without disturbing the others. Every coordinate in x and z is
taken modulo :data:`MAP_SIZE`; noise lattices divide the map into whole cells, so the map has no seam.
"""

import math
from typing import NamedTuple

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.voxel.blocks import (
    AIR,
    BEACON,
    BEDROCK,
    BRICK,
    CACTUS,
    COBBLESTONE,
    DIRT,
    GLASS,
    GLOWSTONE,
    GRASS,
    ICE,
    LEAVES,
    LOG,
    PINE_LEAVES,
    PLANKS,
    SAND,
    SNOW,
    STONE,
    WATER,
)
from latentcraft.simulator.voxel.compiling import njit

MAP_SIZE = 256
"""Blocks in x and in z; a power of two, so that wrapping is ``& 255``."""
MAP_HEIGHT = 64
"""Blocks in y."""
SEA_LEVEL = 22
"""y of the topmost water block."""
BEACON_HEIGHT = 13
"""Blocks of a beacon tower."""

BIOMES: tuple[str, ...] = ("plains", "forest", "desert", "snowy", "hills", "ocean", "beach", "snowy_forest")
PLAINS, FOREST, DESERT, SNOWY, HILLS, OCEAN, BEACH, SNOWY_FOREST = range(len(BIOMES))

_WRAP = MAP_SIZE - 1
_MAX_DEPTH = 5  # of water, blocks
_MAX_RISE = 26  # of hills above the sea, blocks: leaves room for a beacon under the map's ceiling

# Independent hash streams, one per use.
_WARP_X, _WARP_Z, _TEMPERATURE, _MOISTURE, _HILLS, _LAKES, _RIVERS, _ROLL, _RIDGE, _SHIFT = range(1, 11)
_CAVES, _HOUSES, _PLANTS, _SPAWN, _SITE = range(11, 16)


class Terrain(NamedTuple):
    """One generated map."""

    blocks: np.ndarray
    """``uint8 (256, 256, 64)`` block ids, indexed ``[x, z, y]``."""
    biome: np.ndarray
    """``uint8 (256, 256)``, indexes :data:`BIOMES`."""
    surface: np.ndarray
    """``int16 (256, 256)``: y of the highest ground block, below any water, tree or house."""


@njit(cache=True)
def _hash(a: int, b: int, stream: int, seed: int) -> int:
    """Return 32 well-mixed bits (murmur3's finaliser) of two coordinates, a stream number and the seed."""
    h = (a * 0x9E3779B1 + b * 0x85EBCA77 + stream * 0xC2B2AE3D + seed * 0x27D4EB2F) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    h = (h ^ (seed >> 32)) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    h = (h + b * 0x165667B1) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    return h ^ (h >> 15)


@njit(cache=True)
def _uniform(a: int, b: int, stream: int, seed: int) -> float:
    """Return a hash as a float in [0, 1)."""
    return _hash(a, b, stream, seed) / 4294967296.0


@njit(cache=True)
def _corner(h: int, u: float, v: float) -> float:
    """Return the dot product of (u, v) with one of eight gradients chosen by ``h``."""
    u = -u if h & 1 else u
    v = -v if h & 2 else v
    return 1.3 * u + 0.54 * v if h & 4 else 0.54 * u + 1.3 * v


@njit(cache=True)
def _noise(x: float, z: float, cells: int, stream: int, seed: int) -> float:
    """Return gradient noise in about [-1, 1] at map position (x, z), with ``cells`` lattice cells across the map."""
    u, v = x * cells / MAP_SIZE, z * cells / MAP_SIZE
    iu, iv = math.floor(u), math.floor(v)
    fu, fv = u - iu, v - iv
    iu, iv = int(iu) % cells, int(iv) % cells
    ju, jv = (iu + 1) % cells, (iv + 1) % cells
    stream = stream + 64 * cells  # octaves of one field differ
    a = _corner(_hash(iu, iv, stream, seed), fu, fv)
    b = _corner(_hash(ju, iv, stream, seed), fu - 1.0, fv)
    c = _corner(_hash(iu, jv, stream, seed), fu, fv - 1.0)
    d = _corner(_hash(ju, jv, stream, seed), fu - 1.0, fv - 1.0)
    su = fu * fu * fu * (fu * (fu * 6.0 - 15.0) + 10.0)
    sv = fv * fv * fv * (fv * (fv * 6.0 - 15.0) + 10.0)
    return (a + su * (b - a)) * (1.0 - sv) + (c + su * (d - c)) * sv


@njit(cache=True)
def _smoothstep(low: float, high: float, value: float) -> float:
    """Return 0 below ``low``, 1 above ``high``, a smooth ramp between."""
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True)
def _fields(seed: int, height: np.ndarray, biome: np.ndarray, hill: np.ndarray, frozen: np.ndarray) -> None:
    """Fill height (blocks), biome, hilliness [0, 1] and frost, each ``(256, 256)``."""
    for ix in range(MAP_SIZE):
        for iz in range(MAP_SIZE):
            # Bend the plane first: straight lattice artefacts become winding borders and shores.
            x = ix + 11.0 * _noise(ix, iz, 10, _WARP_X, seed) + 3.0 * _noise(ix, iz, 29, _WARP_X, seed)
            z = iz + 11.0 * _noise(ix, iz, 10, _WARP_Z, seed) + 3.0 * _noise(ix, iz, 29, _WARP_Z, seed)
            temperature = _noise(x, z, 5, _TEMPERATURE, seed)
            moisture = _noise(x, z, 7, _MOISTURE, seed)
            rise = _smoothstep(0.12, 0.46, _noise(x, z, 5, _HILLS, seed))
            basin = _smoothstep(0.26, 0.50, _noise(x, z, 6, _LAKES, seed))
            river = 1.0 - _smoothstep(0.02, 0.085, abs(_noise(x, z, 3, _RIVERS, seed)))
            roll = _noise(ix, iz, 9, _ROLL, seed) + 0.45 * _noise(ix, iz, 21, _ROLL, seed)
            level = SEA_LEVEL + 3.2 + 2.6 * roll
            if temperature > 0.18 and moisture < 0.2:  # dunes
                level += 1.5 * abs(_noise(ix, iz, 17, _RIDGE, seed))
            level = max(level, SEA_LEVEL + 0.6)
            if rise > 0.0:
                ridge = 1.0 - abs(_noise(x, z, 9, _RIDGE, seed)) * 1.9
                ridge += 0.5 * _noise(x, z, 22, _RIDGE, seed)
                peak = rise * (5.0 + 12.0 * max(0.0, ridge))
                # Terraces of six blocks make cliffs with walkable shelves between them.
                step = math.floor(peak / 6.0)
                peak = 6.0 * (step + _smoothstep(0.35, 0.75, peak / 6.0 - step)) * 0.6 + peak * 0.4
                level += peak
            level -= basin * (level - (SEA_LEVEL - 4.2))
            level -= river * (1.0 - 0.75 * rise) * (level - (SEA_LEVEL - 2.4))
            level = min(max(level, SEA_LEVEL - _MAX_DEPTH + 0.5), SEA_LEVEL + _MAX_RISE)
            height[ix, iz] = level
            hill[ix, iz] = rise
            frozen[ix, iz] = temperature < -0.24
            ground = math.floor(level)
            if ground < SEA_LEVEL:
                kind = OCEAN
            elif rise > 0.45 and ground > SEA_LEVEL + 6:
                kind = HILLS
            elif temperature < -0.18:
                kind = SNOWY_FOREST if moisture > 0.0 else SNOWY
            elif temperature > 0.18 and moisture < 0.2:
                kind = DESERT
            elif ground <= SEA_LEVEL + 1 and max(basin, river) > 0.03:
                kind = BEACH
            elif moisture > 0.02:
                kind = FOREST
            else:
                kind = PLAINS
            biome[ix, iz] = kind


@njit(cache=True)
def _columns(seed: int, blocks: np.ndarray, height: np.ndarray, hill: np.ndarray) -> None:
    """Fill stone up to the height field; in hills each level reads the field shifted, which makes overhangs.

    Shifting sideways by a function of y bends cliffs without ever cutting a piece of rock loose from the ground.
    """
    for x in range(MAP_SIZE):
        for z in range(MAP_SIZE):
            column = blocks[x, z]
            ground = math.floor(height[x, z])
            column[0] = BEDROCK
            column[1 : ground + 1] = STONE
            if hill[x, z] < 0.12:
                continue
            amount = 5.5 * min(1.0, 1.5 * hill[x, z])
            dx = amount * _noise(x, z, 9, _SHIFT, seed)
            dz = amount * _noise(x, z, 10, _SHIFT, seed)
            for y in range(SEA_LEVEL + 2, SEA_LEVEL + _MAX_RISE + 1):
                bend = math.sin((y - SEA_LEVEL) * 0.62)
                sx, sz = int(math.floor(x + dx * bend + 0.5)) & _WRAP, int(math.floor(z + dz * bend + 0.5)) & _WRAP
                column[y] = STONE if y <= height[sx, sz] else AIR


@njit(cache=True)
def _dry_rock(height: np.ndarray, x: int, z: int) -> bool:
    """Return whether no water lies within two blocks: caves stay away from it, since water here does not flow."""
    for dx in range(-2, 3, 2):
        for dz in range(-2, 3, 2):
            if height[(x + dx) & _WRAP, (z + dz) & _WRAP] < SEA_LEVEL + 1:
                return False
    return True


@njit(cache=True)
def _carve(blocks: np.ndarray, height: np.ndarray, x: float, y: float, z: float, radius: float) -> None:
    """Cut a flattened ball of air out of the rock."""
    reach = int(math.ceil(radius))
    cx, cy, cz = int(math.floor(x)), int(math.floor(y)), int(math.floor(z))
    for dx in range(-reach, reach + 1):
        for dz in range(-reach, reach + 1):
            px, pz = (cx + dx) & _WRAP, (cz + dz) & _WRAP
            if not _dry_rock(height, px, pz):
                continue
            for dy in range(-reach, reach + 1):
                if dx * dx + dz * dz + 1.3 * dy * dy <= radius * radius and 3 < cy + dy < MAP_HEIGHT - 1:
                    blocks[px, pz, cy + dy] = AIR


@njit(cache=True)
def _caves(seed: int, blocks: np.ndarray, height: np.ndarray) -> None:
    """Dig tunnels that start at the foot of steep slopes and run into the hill, so that their mouths can be seen."""
    dug = 0
    for attempt in range(1500):
        if dug >= 22:
            break
        x = _hash(attempt, 0, _CAVES, seed) & _WRAP
        z = _hash(attempt, 1, _CAVES, seed) & _WRAP
        here = height[x, z]
        if here < SEA_LEVEL + 2:
            continue
        gx = height[(x + 4) & _WRAP, z] - height[(x - 4) & _WRAP, z]
        gz = height[x, (z + 4) & _WRAP] - height[x, (z - 4) & _WRAP]
        steep = math.sqrt(gx * gx + gz * gz)
        if steep < 6.0:
            continue
        ux, uz = gx / steep, gz / steep
        ahead = height[int(x + 6 * ux) & _WRAP, int(z + 6 * uz) & _WRAP]
        if ahead < here + 5.0:
            continue
        dug += 1
        px, py, pz = x - 2.0 * ux, here + 1.6, z - 2.0 * uz
        heading = math.atan2(uz, ux)
        sink = -0.05 - 0.2 * _uniform(attempt, 2, _CAVES, seed)
        length = 22 + _hash(attempt, 3, _CAVES, seed) % 26
        width = 1.9 + 0.9 * _uniform(attempt, 4, _CAVES, seed)
        for step in range(length):
            wave = _uniform(attempt, 100 + step, _CAVES, seed)
            _carve(blocks, height, px, py, pz, width * (1.25 - 0.5 * step / length) + 0.5 * wave)
            if step > 6:
                heading += 0.5 * (_uniform(attempt, 300 + step // 3, _CAVES, seed) - 0.5)
                py = max(6.0, py + sink)
            px += math.cos(heading)
            pz += math.sin(heading)
        # A lamp at the far end makes the depth of the tunnel readable.
        for _ in range(6):
            ex, ez, ey = int(math.floor(px)) & _WRAP, int(math.floor(pz)) & _WRAP, int(py)
            if blocks[ex, ez, ey] == STONE:
                blocks[ex, ez, ey] = GLOWSTONE
                break
            px += math.cos(heading)
            pz += math.sin(heading)


@njit(cache=True)
def _skin(blocks: np.ndarray, biome: np.ndarray, surface: np.ndarray, frozen: np.ndarray) -> None:
    """Find the ground, cover it according to the biome, fill in water and ice."""
    for x in range(MAP_SIZE):
        for z in range(MAP_SIZE):
            y = MAP_HEIGHT - 1
            while blocks[x, z, y] == AIR:
                y -= 1
            surface[x, z] = y
    for x in range(MAP_SIZE):
        for z in range(MAP_SIZE):
            y = int(surface[x, z])
            drop = 0
            for dx, dz in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                drop = max(drop, y - surface[(x + dx) & _WRAP, (z + dz) & _WRAP])
            kind = biome[x, z]
            top, under, depth = GRASS, DIRT, 3
            if kind == DESERT or kind == BEACH or kind == OCEAN:
                top, under, depth = SAND, SAND, 4
                if kind == OCEAN and y < SEA_LEVEL - 3:
                    top = DIRT
            elif kind == SNOWY or kind == SNOWY_FOREST:
                top = SNOW
            elif kind == HILLS:
                depth = 2
                if y > SEA_LEVEL + 20 or (frozen[x, z] and drop < 3):
                    top, under = SNOW, STONE
                elif drop >= 2 or y > SEA_LEVEL + 16:
                    top, under = STONE, STONE
            if drop >= 4 and kind != DESERT and kind != BEACH:
                top, under = STONE, STONE
            if blocks[x, z, y] != STONE:  # bedrock, or a cave's lamp at the surface
                continue
            blocks[x, z, y] = top
            for k in range(1, depth + 1):
                if blocks[x, z, y - k] == STONE:
                    blocks[x, z, y - k] = under
            for w in range(y + 1, SEA_LEVEL + 1):
                blocks[x, z, w] = WATER
            if y < SEA_LEVEL and frozen[x, z]:
                blocks[x, z, SEA_LEVEL] = ICE


@njit(cache=True)
def _build_house(
    seed: int,
    number: int,
    blocks: np.ndarray,
    surface: np.ndarray,
    x0: int,
    z0: int,
    wx: int,
    wz: int,
    floor: int,
) -> None:
    """Build a house of outer size (wx, wz) whose floor block lies at y = ``floor``, corner at (x0, z0)."""
    style = _hash(number, 10, _HOUSES, seed)
    wall, roof = PLANKS, BRICK
    if style % 3 == 1:
        wall, roof = COBBLESTONE, PLANKS
    elif style % 3 == 2:
        wall, roof = BRICK, COBBLESTONE
    storey = 3 + (style >> 4) % 2
    for dx in range(-2, wx + 2):  # level the ground and one step round it
        for dz in range(-2, wz + 2):
            x, z = (x0 + dx) & _WRAP, (z0 + dz) & _WRAP
            top = blocks[x, z, surface[x, z]]
            outer = dx == -2 or dz == -2 or dx == wx + 1 or dz == wz + 1
            target = min(max(surface[x, z], floor - 1), floor + 1) if outer else floor
            blocks[x, z, surface[x, z]] = top if surface[x, z] == target else DIRT
            for y in range(surface[x, z] + 1, target):
                blocks[x, z, y] = DIRT
            blocks[x, z, target] = top
            blocks[x, z, target + 1 : MAP_HEIGHT] = AIR
            surface[x, z] = target
    for dx in range(wx):
        for dz in range(wz):
            x, z = (x0 + dx) & _WRAP, (z0 + dz) & _WRAP
            edge_x, edge_z = dx == 0 or dx == wx - 1, dz == 0 or dz == wz - 1
            blocks[x, z, floor] = COBBLESTONE if wall == PLANKS else PLANKS
            if not (edge_x or edge_z):
                continue
            for y in range(floor + 1, floor + 1 + storey):
                block = LOG if edge_x and edge_z else wall
                along = dz if edge_x else dx
                span = wz if edge_x else wx
                if y == floor + 2 and not (edge_x and edge_z) and (along == span // 2 or (span > 6 and along % 2 == 0)):
                    block = GLASS
                blocks[x, z, y] = block
    side = (style >> 8) % 4  # the door
    dx = 0 if side == 0 else wx - 1 if side == 1 else wx // 2
    dz = 0 if side == 2 else wz - 1 if side == 3 else wz // 2
    x, z = (x0 + dx) & _WRAP, (z0 + dz) & _WRAP
    blocks[x, z, floor + 1] = AIR
    blocks[x, z, floor + 2] = AIR
    eaves = floor + 1 + storey
    gabled = (style >> 12) % 3 > 0
    along_x = wx >= wz  # the ridge runs along the longer side
    for dx in range(-1, wx + 1):
        for dz in range(-1, wz + 1):
            x, z = (x0 + dx) & _WRAP, (z0 + dz) & _WRAP
            in_x, in_z = min(dx + 1, wx - dx), min(dz + 1, wz - dz)
            rise = min(in_x, in_z)
            if gabled:
                rise = in_z if along_x else in_x
            y = eaves - 1 + rise
            blocks[x, z, y] = roof
            gable_end = (dx == 0 or dx == wx - 1) if along_x else (dz == 0 or dz == wz - 1)
            if gabled and gable_end:
                for fill in range(eaves, y):
                    if blocks[x, z, fill] == AIR:
                        blocks[x, z, fill] = wall
    # The lamp hangs where every window shows it.
    cx, cz = (x0 + wx // 2) & _WRAP, (z0 + wz // 2) & _WRAP
    blocks[cx, cz, floor + storey] = GLOWSTONE


@njit(cache=True)
def _houses(seed: int, blocks: np.ndarray, surface: np.ndarray, taken: np.ndarray) -> None:
    """Put a house on flat dry ground in about every second cell of a 5 x 5 grid; mark the plots in ``taken``."""
    cells = 5
    pitch = MAP_SIZE // cells
    for cell in range(cells * cells):
        if _hash(cell, 1, _HOUSES, seed) % 16 >= 11:
            continue
        for attempt in range(24):
            number = cell * 64 + attempt
            x0 = (cell % cells) * pitch + _hash(number, 2, _HOUSES, seed) % (pitch - 12)
            z0 = (cell // cells) * pitch + _hash(number, 3, _HOUSES, seed) % (pitch - 12)
            wx = 5 + 2 * (_hash(number, 4, _HOUSES, seed) % 2)
            wz = 5 + 2 * (_hash(number, 5, _HOUSES, seed) % 2)
            low, high, total = MAP_HEIGHT, 0, 0
            for dx in range(-2, wx + 2):
                for dz in range(-2, wz + 2):
                    y = int(surface[(x0 + dx) & _WRAP, (z0 + dz) & _WRAP])
                    low, high, total = min(low, y), max(high, y), total + y
            if low < SEA_LEVEL or high - low > 2:
                continue
            area = (wx + 4) * (wz + 4)
            _build_house(seed, number, blocks, surface, x0, z0, wx, wz, (total + area // 2) // area)
            for dx in range(-4, wx + 4):
                for dz in range(-4, wz + 4):
                    taken[(x0 + dx) & _WRAP, (z0 + dz) & _WRAP] = True
            break


@njit(cache=True)
def _leaf_disc(seed: int, blocks: np.ndarray, x: int, y: int, z: int, radius: int, block: int, ragged: bool) -> None:
    """Lay one level of a crown, a square without its corners; ``ragged`` keeps every second corner."""
    if y >= MAP_HEIGHT:
        return
    for dx in range(-radius, radius + 1):
        for dz in range(-radius, radius + 1):
            if radius > 0 and abs(dx) == radius and abs(dz) == radius:
                if not ragged or _hash(x + dx, (z + dz) * 64 + y, _PLANTS, seed) & 1:
                    continue
            px, pz = (x + dx) & _WRAP, (z + dz) & _WRAP
            if blocks[px, pz, y] == AIR:
                blocks[px, pz, y] = block


@njit(cache=True)
def _oak(seed: int, blocks: np.ndarray, x: int, y: int, z: int, trunk: int, large: bool) -> None:
    """Grow a round-crowned tree with its first log at y."""
    for k in range(trunk):
        blocks[x, z, y + k] = LOG
    top = y + trunk - 1
    if large:
        _leaf_disc(seed, blocks, x, top - 2, z, 2, LEAVES, False)
        _leaf_disc(seed, blocks, x, top - 1, z, 3, LEAVES, True)
        _leaf_disc(seed, blocks, x, top, z, 3, LEAVES, False)
        _leaf_disc(seed, blocks, x, top + 1, z, 2, LEAVES, True)
        _leaf_disc(seed, blocks, x, top + 2, z, 1, LEAVES, False)
    else:
        _leaf_disc(seed, blocks, x, top - 1, z, 2, LEAVES, True)
        _leaf_disc(seed, blocks, x, top, z, 2, LEAVES, False)
        _leaf_disc(seed, blocks, x, top + 1, z, 1, LEAVES, True)
        _leaf_disc(seed, blocks, x, top + 2, z, 1, LEAVES, False)


@njit(cache=True)
def _pine(seed: int, blocks: np.ndarray, x: int, y: int, z: int, trunk: int, snowy: bool) -> None:
    """Grow a conical tree with its first log at y; in snowy land the tip and some boughs carry snow."""
    for k in range(trunk):
        blocks[x, z, y + k] = LOG
    tip = y + trunk
    for k in range(trunk - 1):
        level = tip - k
        radius = 0 if k == 0 else 1 if k % 2 == 1 else min(3 if trunk > 8 else 2, (k + 2) // 2)
        if level - y >= 2:
            _leaf_disc(seed, blocks, x, level, z, radius, PINE_LEAVES, False)
    if snowy and tip + 1 < MAP_HEIGHT:
        blocks[x, z, tip + 1] = SNOW


@njit(cache=True)
def _plants(seed: int, blocks: np.ndarray, biome: np.ndarray, surface: np.ndarray, taken: np.ndarray) -> None:
    """Scatter trees, cacti and boulders: at most one in each cell of 5 x 5 blocks, jittered so that no grid shows."""
    pitch = 5
    for cell_x in range(MAP_SIZE // pitch):
        for cell_z in range(MAP_SIZE // pitch):
            key = cell_x * 64 + cell_z
            x = cell_x * pitch + _hash(key, 1, _PLANTS, seed) % pitch
            z = cell_z * pitch + _hash(key, 2, _PLANTS, seed) % pitch
            y = int(surface[x, z])
            ground = blocks[x, z, y]
            if taken[x, z] or y < SEA_LEVEL or y > MAP_HEIGHT - 16 or blocks[x, z, y + 1] != AIR:
                continue
            chance = _uniform(key, 3, _PLANTS, seed)
            size = _hash(key, 4, _PLANTS, seed)
            kind = biome[x, z]
            if ground == GRASS:
                wanted = 0.62 if kind == FOREST else 0.2 if kind == HILLS else 0.07
                if chance < wanted:
                    # Pines grow in groups: which tree is a matter of the place, not of each tree's dice.
                    grove = _noise(x, z, 11, _PLANTS, seed)
                    if kind == HILLS or (kind == FOREST and grove > 0.12):
                        _pine(seed, blocks, x, y + 1, z, 6 + size % 4, False)
                    else:
                        large = size % 5 == 0
                        _oak(seed, blocks, x, y + 1, z, (6 if large else 4) + (size >> 8) % 2, large)
                elif chance > 0.985:
                    _boulder(seed, blocks, x, y, z, COBBLESTONE)
            elif ground == SNOW and kind != HILLS:
                wanted = 0.55 if kind == SNOWY_FOREST else 0.05
                if chance < wanted:
                    _pine(seed, blocks, x, y + 1, z, 6 + size % 5, True)
                elif chance > 0.985:
                    _boulder(seed, blocks, x, y, z, STONE)
            elif ground == SAND and kind == DESERT:
                if chance < 0.13:
                    for k in range(1, 3 + size % 2 + (size >> 4) % 2):
                        blocks[x, z, y + k] = CACTUS
                elif chance > 0.99:
                    _boulder(seed, blocks, x, y, z, STONE)


@njit(cache=True)
def _boulder(seed: int, blocks: np.ndarray, x: int, y: int, z: int, block: int) -> None:
    """Put a lump of rock of one to three blocks across on the ground."""
    for dx in range(-1, 2):
        for dz in range(-1, 2):
            px, pz = (x + dx) & _WRAP, (z + dz) & _WRAP
            if (dx == 0 or dz == 0) and _hash(x + dx, z + dz, _PLANTS, seed) % 4 > 0:
                for k in range(0, 3 if dx == 0 and dz == 0 else 2):
                    if blocks[px, pz, y + k] == AIR:
                        blocks[px, pz, y + k] = block


@njit(cache=True)
def _generate(seed: int, blocks: np.ndarray, biome: np.ndarray, surface: np.ndarray) -> None:
    """Run every stage in order, in place."""
    height = np.empty((MAP_SIZE, MAP_SIZE), np.float64)
    hill = np.empty((MAP_SIZE, MAP_SIZE), np.float64)
    frozen = np.empty((MAP_SIZE, MAP_SIZE), np.bool_)
    taken = np.zeros((MAP_SIZE, MAP_SIZE), np.bool_)
    _fields(seed, height, biome, hill, frozen)
    _columns(seed, blocks, height, hill)
    _caves(seed, blocks, height)
    _skin(blocks, biome, surface, frozen)
    _houses(seed, blocks, surface, taken)
    _plants(seed, blocks, biome, surface, taken)


def _checked_seed(seed: int) -> int:
    """Return ``seed`` as an int that fits numba's int64.

    Raises:
        UserError: not an integer in [0, 2**63).
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= int(seed) < 2**63:
        raise UserError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
    return int(seed)


def generate(seed: int) -> Terrain:
    """Make the map of ``seed``.

    Raises:
        UserError: the seed is not an integer in [0, 2**63).
    """
    seed = _checked_seed(seed)
    blocks = np.zeros((MAP_SIZE, MAP_SIZE, MAP_HEIGHT), np.uint8)
    biome = np.zeros((MAP_SIZE, MAP_SIZE), np.uint8)
    surface = np.zeros((MAP_SIZE, MAP_SIZE), np.int16)
    _generate(seed, blocks, biome, surface)
    return Terrain(blocks, biome, surface)


@njit(cache=True)
def _open_place(blocks: np.ndarray, surface: np.ndarray, x: int, z: int) -> bool:
    """Return whether (x, z) is dry ground under open sky with level, free ground one block round it."""
    y = surface[x, z]
    if y < SEA_LEVEL or y > MAP_HEIGHT - 16:
        return False
    for k in range(y + 1, MAP_HEIGHT):
        if blocks[x, z, k] != AIR:
            return False
    for dx in range(-1, 2):
        for dz in range(-1, 2):
            px, pz = (x + dx) & _WRAP, (z + dz) & _WRAP
            if abs(surface[px, pz] - y) > 1:
                return False
            for k in range(surface[px, pz] + 1, y + 4):
                if blocks[px, pz, k] != AIR:
                    return False
    return True


@njit(cache=True)
def _sight(blocks: np.ndarray, x: int, y: int, z: int, yaw: float, limit: int) -> int:
    """Return how many blocks one sees freely from (x, y, z) at ``yaw`` degrees, at most ``limit``."""
    ux, uz = -math.sin(math.radians(yaw)), math.cos(math.radians(yaw))
    for step in range(1, limit + 1):
        px, pz = int(math.floor(x + 0.5 + step * ux)) & _WRAP, int(math.floor(z + 0.5 + step * uz)) & _WRAP
        if blocks[px, pz, y] != AIR:
            return step - 1
    return limit


@njit(cache=True)
def _find_spawn(blocks: np.ndarray, surface: np.ndarray, seed: int) -> tuple[int, int, float]:
    """Return the first open place in the seed's order, looking where the view is free."""
    for attempt in range(8192):
        x = _hash(attempt, 0, _SPAWN, seed) & _WRAP
        z = _hash(attempt, 1, _SPAWN, seed) & _WRAP
        if not _open_place(blocks, surface, x, z):
            continue
        base = 360.0 * _uniform(attempt, 2, _SPAWN, seed)
        best, best_sight = base, -1
        for turn in range(8):
            yaw = (base + 45.0 * turn) % 360.0
            sight = _sight(blocks, x, surface[x, z] + 2, z, yaw, 10)
            if sight > best_sight:
                best, best_sight = yaw, sight
            if sight >= 10:
                break
        if best_sight >= 6 or attempt > 4096:
            return x, z, best - 360.0 if best > 180.0 else best
    return -1, -1, 0.0


def find_spawn(terrain: Terrain, seed: int) -> tuple[int, int, float]:
    """Return an open dry block column and a free direction to look in, as (x, z, yaw in degrees, -180 to 180).

    The player stands at ``(x + 0.5, surface[x, z] + 1, z + 0.5)``; the eight columns around are free as well.
    """
    x, z, yaw = _find_spawn(terrain.blocks, terrain.surface, _checked_seed(seed))
    if x < 0:
        raise UserError(f"the map has no open dry place to stand on (spawn seed {seed})")
    return int(x), int(z), float(yaw)


@njit(cache=True)
def _walkable(blocks: np.ndarray, surface: np.ndarray, x0: int, z0: int, swim: bool, reached: np.ndarray) -> None:
    """Mark in ``reached`` every column one can walk to from (x0, z0): up one block, down three, two of headroom."""
    queue = np.empty((MAP_SIZE * MAP_SIZE, 2), np.int32)
    queue[0, 0], queue[0, 1] = x0, z0
    reached[x0, z0] = True
    head, tail = 0, 1
    while head < tail:
        x, z = queue[head, 0], queue[head, 1]
        head += 1
        here = max(surface[x, z], SEA_LEVEL)
        for dx, dz in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            px, pz = (x + dx) & _WRAP, (z + dz) & _WRAP
            if reached[px, pz]:
                continue
            there = max(surface[px, pz], SEA_LEVEL)
            if not swim and blocks[px, pz, there] == WATER:
                continue
            if there > here + 1 or there < here - 3:
                continue
            if blocks[px, pz, there + 1] != AIR or blocks[px, pz, there + 2] != AIR:
                continue
            reached[px, pz] = True
            queue[tail, 0], queue[tail, 1] = px, pz
            tail += 1


@njit(cache=True)
def _beacon_site(
    blocks: np.ndarray, surface: np.ndarray, x: int, z: int, seed: int, distance: float
) -> tuple[int, int, int]:
    """Return the best site in the seed's order; see :func:`beacon_site`."""
    for swim in (False, True):
        reached = np.zeros((MAP_SIZE, MAP_SIZE), np.bool_)
        _walkable(blocks, surface, x, z, swim, reached)
        for attempt in range(1024):
            angle = 2.0 * math.pi * _uniform(attempt, 0, _SITE, seed)
            # Ever wider rings round the wanted distance, from 10 % to 50 %.
            spread = 0.1 + 0.4 * attempt / 1024
            radius = distance * (1.0 + spread * (2.0 * _uniform(attempt, 1, _SITE, seed) - 1.0))
            px = int(math.floor(x + radius * math.cos(angle))) & _WRAP
            pz = int(math.floor(z + radius * math.sin(angle))) & _WRAP
            if reached[px, pz] and _open_place(blocks, surface, px, pz):
                return px, int(surface[px, pz]) + 1, pz
    return -1, -1, -1


def beacon_site(terrain: Terrain, x: int, z: int, seed: int, distance: float) -> tuple[int, int, int]:
    """Return where a beacon tower can stand about ``distance`` blocks from (x, z), as its lowest block (x, y, z).

    The place is dry, open and reachable on foot, by water where there is no other way.

    Raises:
        UserError: the distance is not between 4 and 120 blocks, or no such place exists.
    """
    if not 4 <= distance <= 120:
        raise UserError(f"beacon distance must be from 4 to 120 blocks, got {distance!r}")
    x, z = int(x) % MAP_SIZE, int(z) % MAP_SIZE
    px, py, pz = _beacon_site(terrain.blocks, terrain.surface, x, z, _checked_seed(seed), float(distance))
    if px < 0:
        raise UserError(f"no dry reachable place for a beacon about {distance} blocks from x={x}, z={z}")
    return int(px), int(py), int(pz)


def place_beacon(blocks: np.ndarray, x: int, y: int, z: int) -> None:
    """Write a glowing tower of :data:`BEACON_HEIGHT` blocks with its lowest block at (x, y, z), in place.

    Its head is wider than its shaft, so that it stays visible a hundred blocks away.
    """
    top = min(y + BEACON_HEIGHT, MAP_HEIGHT)
    blocks[x % MAP_SIZE, z % MAP_SIZE, y:top] = BEACON
    for dx, dz in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        blocks[(x + dx) % MAP_SIZE, (z + dz) % MAP_SIZE, top - 3 : top - 1] = BEACON
