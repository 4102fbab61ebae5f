"""The picture: light of the moment, what the player does, rain. Rays are in ``raycast``, colours in ``paint``.

Everything drawn is a function of (map, pose, sky, tick, what the player does): the same bits on the same machine.
"""

import math
from typing import NamedTuple

import numpy as np

from latentcraft.model.camera import SKY
from latentcraft.simulator.voxel import paint, raycast, textures
from latentcraft.simulator.voxel.blocks import HOTBAR, WATER
from latentcraft.simulator.voxel.compiling import njit
from latentcraft.simulator.voxel.physics import EYE, WRAP, Grid
from latentcraft.simulator.voxel.sky import Sky
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE

FIELD_OF_VIEW = 70.0
"""Horizontal, degrees."""
_CLOUD_DRIFT = 0.03
"""Blocks a tick."""
_AMBIENT = 0.12
"""Share of full light that is there even at night, so that no forest at midnight is plain black."""
_SWING = (0, 2, 4, 5, 4, 2)
"""How far the held block dips in each phase of the arm's swing, sixteenths of its size."""
_MOONRISE = -0.11
"""Height of the sun's direction below which the moon is drawn instead (where ``sky`` changes the disc's colour)."""


class Overlay(NamedTuple):
    """What the player does, as far as the picture shows it."""

    target: tuple[int, int, int] | None = None
    """Block under the crosshair, darkened along its edges."""
    dig_progress: float = 0.0
    """0 to 1: how much of the target is cracked."""
    slot: int | None = None
    """Selected hotbar slot 0-8; None draws no crosshair and no held block."""
    swing: int = 0
    """Phase of the arm's swing, ticks."""


BARE = Overlay()
"""The world alone."""


@njit(cache=True, error_model="numpy")
def _fall(out, tick, snow, light):
    """Draw rain streaks (or snow flakes) in fixed lanes of the screen; they move on by the same step every tick."""
    height, width = out.shape[0], out.shape[1]
    length = max(1, height // 40) if snow else max(3, height // 9)
    for lane in range(width // 3):
        mixed = (lane * 0x9E3779B1) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        mixed ^= mixed >> 13
        column = mixed % width
        speed = height * (2 + (mixed >> 8) % 3) // (400 if snow else 60)
        start = ((mixed >> 10) % 4096 + tick * max(1, speed)) % (height + length) - length
        for row in range(max(0, start), min(height, start + length)):
            for right in range(column, min(width, column + (length if snow else 1))):
                alpha = 0.7 if snow else 0.28
                out[row, right, 0] = np.uint8(out[row, right, 0] + (235.0 * light - out[row, right, 0]) * alpha)
                out[row, right, 1] = np.uint8(out[row, right, 1] + (240.0 * light - out[row, right, 1]) * alpha)
                out[row, right, 2] = np.uint8(out[row, right, 2] + (250.0 * light - out[row, right, 2]) * alpha)


@njit(cache=True, error_model="numpy")
def _blit(out, sprite, row, column, light):
    """Lay ``sprite`` uint8 (S, S, 4) over the frame; what hangs over the lower or right border is cut off."""
    for i in range(min(sprite.shape[0], out.shape[0] - row)):
        for j in range(min(sprite.shape[1], out.shape[1] - column)):
            if sprite[i, j, 3]:
                for channel in range(3):
                    out[row + i, column + j, channel] = np.uint8(sprite[i, j, channel] * light)


@njit(cache=True, error_model="numpy")
def _crosshair(out, arm):
    """Draw a cross in the middle that is light on dark and dark on light."""
    height, width = out.shape[0], out.shape[1]
    for offset in range(-arm, arm + 1):
        for row, column in ((height // 2 + offset, width // 2), (height // 2, width // 2 + offset)):
            if offset == 0 and row == height // 2 and column != width // 2:
                continue
            bright = int(out[row, column, 0]) + int(out[row, column, 1]) + int(out[row, column, 2])
            out[row, column, :] = 40 if bright > 480 else 240


def _mip_chain(atlas: np.ndarray) -> np.ndarray:
    """Return every texture at 16, 8, 4, 2 and 1 texels a side, flattened: ``uint8 (blocks, 3, 341, 3)``."""
    levels = [atlas.astype(np.float64)]
    while levels[-1].shape[2] > 1:
        fine = levels[-1]
        rows = fine[:, :, ::2] + fine[:, :, 1::2]
        levels.append((rows[:, :, :, ::2] + rows[:, :, :, 1::2]) / 4)
    flat = np.concatenate([level.reshape(*atlas.shape[:2], -1, 3) for level in levels], axis=2)
    assert flat.shape[2] == 256 + 64 + 16 + 4 + 1
    return np.round(flat).astype(np.uint8)


def _held_sprites(atlas: np.ndarray, size: int) -> np.ndarray:
    """Draw each hotbar block as a small cube seen from above a corner, ``uint8 (9, size, size, 4)`` RGBA."""
    sprites = np.zeros((len(HOTBAR), size, size, 4), np.uint8)
    centre = (np.arange(size) + 0.5) / size
    down, right = np.meshgrid(centre, centre, indexing="ij")
    # Isometric: the top is a rhombus over the upper half, the two sides hang below it.
    across, along = (right - 0.5) * 2, (down - 0.25) * 4
    top_u, top_v = (across + along + 1) / 2, (along - across + 1) / 2
    left_u, left_v = right * 2, (down - 0.25 - right / 2) * 2
    right_u, right_v = right * 2 - 1, (down - 0.5 + (right - 0.5) / 2) * 2
    for slot, block in enumerate(HOTBAR):
        for face, u, v, shade in (
            (textures.TOP, top_u, top_v, 1.0), (textures.SIDE, left_u, left_v, 0.8),
            (textures.SIDE, right_u, right_v, 0.6),
        ):  # fmt: skip
            inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
            texel = atlas[block, face, (v[inside] * 16).astype(int), (u[inside] * 16).astype(int)]
            sprites[slot, inside, :3] = texel * shade
            sprites[slot, inside, 3] = 255
    return sprites


def _cloud_cover() -> np.ndarray:
    """Return which cells of the cloud layer are filled, ``bool (32, 32)``; it wraps with the map."""
    side = MAP_SIZE // paint.CLOUD_CELL
    x, z = np.meshgrid(*(2 * np.pi * np.arange(side) / side,) * 2, indexing="ij")
    waves = np.sin(2 * x + np.sin(3 * z)) + np.sin(3 * z + 2 * np.sin(2 * x) + 1) + np.sin(5 * x + 4 * z + 2)
    return waves > 0.75


class Renderer:
    """Draws frames of one size; holds everything that does not change from frame to frame."""

    def __init__(self, frame_size: tuple[int, int]) -> None:
        """Prepare rays, mips and sprites for frames of ``frame_size`` (H, W) pixels."""
        height, width = frame_size
        self.frame_size = (height, width)
        self._origin = (0.0, 0.0, 0.0)
        atlas = textures.atlas()
        self._mips = _mip_chain(atlas)
        self._glowing = textures.emissive()
        self._clouds = _cloud_cover()
        focal = width / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
        rays = np.empty((3, height, width))  # right, up, ahead
        rays[0] = (np.arange(width) + 0.5 - width / 2)[None, :]
        rays[1] = -(np.arange(height) + 0.5 - height / 2)[:, None]
        rays[2] = focal
        self._rays = (rays / np.linalg.norm(rays, axis=0)).astype(np.float32)
        self._directions = np.empty((6, height, width), np.float32)
        padded = (height + 2 * raycast.RIM) * (width + 2 * raycast.RIM)
        self._cells, self._depths = np.full(padded, raycast.NOTHING, np.int32), np.zeros(padded, np.float32)
        self._wide = focal / 1.9
        # A pixel covers t^2 / focal^2 square blocks at distance t; it should cover about one texel (1/256).
        self._lod = 256.0 / (1.6 * focal * focal)
        # Never wider than half the frame: beside its margin and the arm's swing it must not reach over the left border.
        self._sprite_size = min(max(12, height // 5), width // 2)
        self._sprites = _held_sprites(atlas, self._sprite_size)
        self._arm = min(max(2, height // 48), width // 4)

    def draw(
        self,
        out: np.ndarray,
        grid: Grid,
        *,
        pose: tuple[float, float, float, float, float],
        sky: Sky,
        clear: bool,
        tick: int,
        eye: float = EYE,
        snowing: bool | None = None,
        overlay: Overlay = BARE,
    ) -> None:
        """Draw one frame into ``out`` ``uint8 (H, W, 3)``.

        Args:
            out: the frame, overwritten.
            grid: the map.
            pose: feet (x, y, z) in blocks, yaw and pitch in degrees.
            sky: light and colours of the moment.
            clear: whether sun or moon are to be seen.
            tick: moves the clouds and the rain.
            eye: height of the eye over the feet, blocks.
            snowing: what falls where ``sky.rain`` is set: snow, rain, or nothing (None).
            overlay: what the player does.
        """
        x, y, z, yaw, pitch = map(float, pose)
        light = _AMBIENT + (1.0 - _AMBIENT) * float(sky.light)
        table = self._table(sky, light, clear, tick)
        table[paint.CRACKED] = overlay.dig_progress
        target = np.array(overlay.target or (-1, -1, -1), np.int64)
        level, column = math.floor(y + eye), (math.floor(x) & WRAP, math.floor(z) & WRAP)
        under_water = 0 <= level < MAP_HEIGHT and bool(grid.blocks[*column, level] == WATER)
        ceiling = int(grid.coarse.max()).bit_length()
        around = self._origin = x % MAP_SIZE + MAP_SIZE, y + eye, z % MAP_SIZE + MAP_SIZE
        raycast.point(self._rays, yaw, pitch, self._directions)
        raycast.find(
            grid.solid if under_water else grid.visible, grid.coarse, self._directions, *around,
            paint.WATER_FOG if under_water else float(sky.fog_distance), float(ceiling), self._wide,
            self._cells, self._depths,
        )  # fmt: skip
        paint.paint(
            grid, self._mips, self._glowing, self._clouds, self._directions, table, target, *around, under_water,
            self._cells, out,
        )  # fmt: skip
        if sky.rain > 0 and snowing is not None and level >= 0 and not under_water:
            roofed = int(grid.solid[column]) >> level
            if not roofed:
                _fall(out, tick, snowing, light)
        if overlay.slot is not None:
            size = self._sprite_size
            bob = _SWING[overlay.swing % len(_SWING)] * size // 16
            row, left = out.shape[0] - size + size // 8 + bob, out.shape[1] - size - size // 4 - bob
            _blit(out, self._sprites[overlay.slot], row, left, 0.2 + 0.8 * light)
            _crosshair(out, self._arm)

    def distances(self) -> np.ndarray:
        """Return how far everything in the last drawn frame is, metres along each ray, ``float32 (H, W)``."""
        out = np.empty(self.frame_size, np.float32)
        raycast.measure(self._cells, self._directions, *self._origin, SKY, out)
        return out

    def _table(self, sky: Sky, light: float, clear: bool, tick: int) -> np.ndarray:
        """Flatten what the compiled code needs to know of the moment; see :data:`paint.TABLE_SIZE`."""
        table = np.empty(paint.TABLE_SIZE)
        sun = sky.sun_direction if sky.sun_direction[1] > _MOONRISE else -sky.sun_direction
        white = float(sky.light) * (1.0 if clear else 0.8)
        for entry, value in (
            (paint.ZENITH, sky.zenith * 255.0),
            (paint.HORIZON, sky.horizon * 255.0),
            (paint.SUN_COLOUR, sky.sun_colour * 255.0),
            (paint.LIGHT, sky.tint * light),
            (paint.CLOUD_COLOUR, (0.3 * sky.horizon + 0.7 * white * sky.tint) * 255.0),
            (paint.SUN_DIRECTION, sun),
        ):
            table[entry : entry + 3] = value
        table[paint.FOG], table[paint.LOD] = sky.fog_distance, self._lod
        table[paint.SUN_STRENGTH] = 1.0 if clear else 0.12
        table[paint.CLOUD_SHIFT] = tick * _CLOUD_DRIFT % MAP_SIZE
        return table
