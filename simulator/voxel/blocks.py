"""Block types of the reference world, shared by terrain, physics and renderer.

A map is ``uint8 (X, Z, Y)`` of block ids, y (height) contiguous, wrapping round in x and z. y grows upward, one block
is one metre. Yaw 0 looks along +z, yaw 90 along -x (Minecraft's convention), pitch is positive downward.
"""

import numpy as np

NAMES: tuple[str, ...] = (
    "air", "water", "grass", "dirt", "stone", "sand", "snow", "log", "leaves", "planks", "cobblestone", "brick",
    "glass", "cactus", "ice", "glowstone", "beacon", "bedrock", "marker", "pine_leaves",
)  # fmt: skip
ID = {name: index for index, name in enumerate(NAMES)}
(
    AIR, WATER, GRASS, DIRT, STONE, SAND, SNOW, LOG, LEAVES, PLANKS, COBBLESTONE, BRICK,
    GLASS, CACTUS, ICE, GLOWSTONE, BEACON, BEDROCK, MARKER, PINE_LEAVES,
) = range(len(NAMES))  # fmt: skip

HOTBAR: tuple[int, ...] = (PLANKS, COBBLESTONE, BRICK, DIRT, SAND, LOG, GLASS, SNOW, GLOWSTONE)
"""Block placed by hotbar slots 1 to 9; the supply is endless."""

PASSABLE = np.array([name in ("air", "water", "marker") for name in NAMES])
"""The player walks through these."""
DIG_TICKS = np.array(
    [{"leaves": 4, "pine_leaves": 4, "glass": 4, "stone": 14, "cobblestone": 14,
      "brick": 14, "log": 12, "planks": 10}.get(name, 8) for name in NAMES], np.int32
)  # fmt: skip
"""Ticks ``attack`` must be held on one block until it breaks."""
UNBREAKABLE = np.array([name in ("air", "water", "bedrock", "beacon", "marker") for name in NAMES])
