"""Block textures, painted by code: 16 x 16 texels, three faces a block.

Everything is drawn from patches of 2 x 2 texels and up, with clear mean colours: a video autoencoder at 160 x 96 has
to learn these pictures, and per-texel noise would be lost on it.
"""

from collections.abc import Callable

import numpy as np

from latentcraft.simulator.voxel.blocks import ID, NAMES

SIZE = 16
"""Texels along a side."""
SIDE, TOP, BOTTOM = range(3)

_EMISSIVE = ("glowstone", "beacon", "marker")

Colour = tuple[int, int, int]


def _grain(key: int, patch: int = 2) -> np.ndarray:
    """Return ``float (16, 16)`` in [-1, 1], constant on patches of ``patch`` texels, a hash of ``key``."""
    n = SIZE // patch
    h = np.arange(n * n, dtype=np.uint64) + np.uint64(1 + key * 7919)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 0x7FEB352D)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    cells = h.astype(np.float64) / 2.0**31 - 1.0
    return np.kron(cells.reshape(n, n), np.ones((patch, patch)))


def _speckled(colour: Colour, key: int, amount: float, patch: int = 2) -> np.ndarray:
    """Return ``float (16, 16, 3)``: ``colour`` made lighter and darker in patches by up to ``amount`` (a share)."""
    grain = 0.65 * _grain(key, patch) + 0.35 * _grain(key + 1, 4)
    return np.asarray(colour, float) * (1.0 + amount * grain[..., None])


def _grass_side() -> np.ndarray:
    """Dirt with a green fringe of uneven depth."""
    tile, grass = _speckled((134, 96, 67), 10, 0.16), _speckled((98, 160, 58), 20, 0.12)
    depth = 4 + np.round(1.4 * _grain(30)[0]).astype(int)
    fringe = np.arange(SIZE)[:, None] < depth[None]
    return np.where(fringe[..., None], grass, tile)


def _bark() -> np.ndarray:
    """Vertical grooves."""
    stripes = np.kron(np.array([0.0, -0.22, 0.06, -0.12, 0.1, -0.24, 0.04, -0.1]), np.ones(2))
    return np.asarray((112, 84, 50), float) * (1.0 + stripes[None, :, None] + 0.07 * _grain(40, 4)[..., None])


def _rings() -> np.ndarray:
    """Square year rings inside bark."""
    edge = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1])
    ring = np.minimum(edge[:, None], edge[None])
    tile = np.where((ring % 4 < 2)[..., None], (186, 152, 96), (154, 120, 72)).astype(float)
    tile[ring < 2] = (104, 78, 46)
    return tile


def _foliage(colour: Colour, key: int) -> np.ndarray:
    """Leaves with dark holes between."""
    tile = _speckled(colour, key, 0.2)
    tile[_grain(key + 5) > 0.58] *= 0.5
    return tile


def _planks() -> np.ndarray:
    """Four boards with staggered joints."""
    tile = _speckled((172, 136, 82), 60, 0.06, 4)
    rows = np.arange(SIZE)
    tile *= np.kron(np.array([1.0, 0.93, 1.04, 0.96]), np.ones(4))[:, None, None]
    tile[rows % 4 == 3] *= 0.68
    tile[0:3, 4], tile[4:7, 12], tile[8:11, 7], tile[12:15, 1] = [np.asarray((122, 92, 54), float)] * 4
    return tile


def _bricks() -> np.ndarray:
    """Four courses in running bond with pale mortar."""
    tile = _speckled((158, 76, 60), 70, 0.12)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mortar = (rows % 4 == 3) | ((columns + 4 * (rows // 4 % 2)) % 8 == 7)
    tile[mortar] = (186, 172, 160)
    return tile


def _cobble() -> np.ndarray:
    """Rounded stones: each texel belongs to its nearest of a few centres (wrapping), dark between them."""
    centres = np.array([(2, 3), (1, 10), (6, 7), (6, 14), (10, 2), (11, 9), (15, 6), (14, 13)], float)
    shades = np.array([132, 112, 142, 120, 126, 138, 108, 130], float)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    delta = np.stack([rows, columns], -1)[:, :, None] - centres  # (16, 16, centres, 2)
    distance = np.sort(np.hypot(*np.moveaxis((delta + 8) % 16 - 8, -1, 0)), -1)
    nearest = np.argmin(np.hypot(*np.moveaxis((delta + 8) % 16 - 8, -1, 0)), -1)
    tile = np.repeat(shades[nearest][..., None], 3, -1)
    tile[distance[..., 1] - distance[..., 0] < 1.0] = 74
    return tile


def _stone() -> np.ndarray:
    """Grey with faint level layers."""
    tile = _speckled((126, 126, 128), 80, 0.1)
    tile[[4, 5, 12, 13]] *= 0.92
    return tile


def _glass() -> np.ndarray:
    """A pale pane with a white frame and a diagonal glint."""
    tile = np.full((SIZE, SIZE, 3), (176, 212, 226), float)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    glint = ((rows + columns) % 16 < 3) & (rows > 2) & (rows < 13)
    tile[glint] = (226, 242, 248)
    tile[:2], tile[-2:], tile[:, :2], tile[:, -2:] = [np.asarray((236, 240, 240), float)] * 4
    return tile


def _cactus_side() -> np.ndarray:
    """Ribs with pale spikes."""
    ribs = np.kron(np.array([-0.25, 0.05, 0.12, -0.15, 0.05, 0.12, -0.15, -0.25]), np.ones(2))
    tile = np.asarray((64, 132, 52), float) * (1.0 + np.tile(ribs[None, :, None], (SIZE, 1, 3)))
    for row, column in ((2, 4), (6, 10), (10, 4), (14, 10), (2, 14), (10, 14)):
        tile[row, column : column + 2] = (206, 216, 160)
    return tile


def _cactus_top() -> np.ndarray:
    """A pale star on green with a dark rim."""
    tile = _speckled((84, 152, 66), 90, 0.06)
    edge = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1])
    tile[np.minimum(edge[:, None], edge[None]) < 2] = (44, 100, 38)
    tile[7:9, 4:12] = tile[4:12, 7:9] = (150, 190, 110)
    return tile


def _ice() -> np.ndarray:
    """Pale blue with white cracks."""
    tile = _speckled((146, 188, 236), 100, 0.05, 4)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    tile[(rows + 2 * columns) % 16 < 2] = (200, 224, 248)
    tile[(2 * rows - columns) % 32 < 2] = (190, 216, 246)
    return tile


def _glowstone() -> np.ndarray:
    """Bright yellow blotches in amber."""
    tile = _speckled((196, 140, 64), 110, 0.1)
    bright = _grain(113) + 0.6 * _grain(114, 4) > 0.05
    tile[bright] = (255, 222, 136)
    return tile


def _beacon_side() -> np.ndarray:
    """Cyan with magenta bands: a colour nothing else in the world has."""
    tile = np.full((SIZE, SIZE, 3), (70, 244, 250), float)
    tile[0:4] = tile[8:12] = (250, 70, 232)
    tile[:, 6:10] = 0.5 * tile[:, 6:10] + 0.5 * 255
    return tile


def _beacon_top() -> np.ndarray:
    """A white core in cyan, magenta rim."""
    tile = np.full((SIZE, SIZE, 3), (70, 244, 250), float)
    tile[:3], tile[-3:], tile[:, :3], tile[:, -3:] = [np.asarray((250, 70, 232), float)] * 4
    tile[6:10, 6:10] = 255
    return tile


def _water() -> np.ndarray:
    """Blue with level ripples."""
    tile = _speckled((48, 96, 196), 120, 0.08, 4)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    tile[(rows % 8 < 2) & ((columns + rows // 8 * 6) % 12 < 7)] = (74, 124, 216)
    return tile


def _bedrock() -> np.ndarray:
    """Dark and light lumps."""
    return _speckled((72, 72, 74), 130, 0.5)


def _marker() -> np.ndarray:
    """An orange frame with a cross: place a block here."""
    tile = np.full((SIZE, SIZE, 3), (255, 196, 60), float)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    cross = (np.abs(rows - columns) < 2) | (np.abs(rows + columns - SIZE + 1) < 2)
    edge = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1])
    tile[cross | (np.minimum(edge[:, None], edge[None]) < 2)] = (226, 70, 30)
    return tile


def _dirt() -> np.ndarray:
    """Brown lumps."""
    return _speckled((134, 96, 67), 10, 0.16)


# Painters in the order (side, top, bottom); a single one paints all three.
_PAINTERS: dict[str, tuple[Callable[[], np.ndarray], ...]] = {
    "water": (_water,),
    "grass": (_grass_side, lambda: _speckled((98, 160, 58), 20, 0.12), _dirt),
    "dirt": (_dirt,),
    "stone": (_stone,),
    "sand": (lambda: _speckled((222, 206, 154), 140, 0.06),),
    "snow": (lambda: _speckled((238, 243, 250), 150, 0.035),),
    "log": (_bark, _rings, _rings),
    "leaves": (lambda: _foliage((62, 128, 42), 160),),
    "pine_leaves": (lambda: _foliage((40, 92, 66), 170),),
    "planks": (_planks,),
    "cobblestone": (_cobble,),
    "brick": (_bricks,),
    "glass": (_glass,),
    "cactus": (_cactus_side, _cactus_top, _cactus_top),
    "ice": (_ice,),
    "glowstone": (_glowstone,),
    "beacon": (_beacon_side, _beacon_top, _beacon_top),
    "bedrock": (_bedrock,),
    "marker": (_marker,),
}


def atlas() -> np.ndarray:
    """Return all textures, ``uint8 (len(NAMES), 3, 16, 16, 3)``: block, face (side, top, bottom), row, column, RGB.

    Row 0 is the upper edge of a side face. Air is black.
    """
    tiles = np.zeros((len(NAMES), 3, SIZE, SIZE, 3), np.uint8)
    for name, painters in _PAINTERS.items():
        for face in range(3):
            tile = painters[face if len(painters) == 3 else 0]()
            tiles[ID[name], face] = np.clip(np.round(tile), 0, 255)
    return tiles


def emissive() -> np.ndarray:
    """Return ``bool (len(NAMES),)``: blocks that shine with their full colour day and night."""
    return np.array([name in _EMISSIVE for name in NAMES])
