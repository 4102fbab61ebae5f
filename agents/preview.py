"""The picture a game begins with, long before the networks are there that dream on from it."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from latentcraft.errors import UserError
from latentcraft.simulator.dream.context import read_context
from latentcraft.simulator.protocol import Start, WorldSpec


def first_picture(
    start: Start, *, checkpoint: Path, task: str = "free", frame_size: tuple[int, int] | None = None
) -> np.ndarray | None:
    """Return what a dream's ``reset`` to ``start`` will show, ``uint8 (H, W, 3)``, without importing torch.

    A dream goes on from pictures that are there before it: the reference world's warm-up, an episode's or a video's
    frames. Its reset shows the last of these, to the bit; only that takes the networks, which take seconds.

    Args:
        start: where the game begins.
        checkpoint: the dream's; only its header is read.
        task: the dream's.
        frame_size: (H, W), None for the checkpoint's.

    Returns:
        The picture, or None where there is none before the dream's own, or something is wrong: opening the world then
        says what.
    """
    try:
        with safe_open(str(checkpoint), "np") as file:
            metadata = file.metadata() or {}
        height, width = frame_size or json.loads(metadata["frame_size"])
        chunk = int(json.loads(metadata["dit"])["chunk"])
        frames = read_context(start, WorldSpec("dream", 1, (height, width), chunk, task)).frames
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, UserError):
        return None
    return frames[-1] if len(frames) else None
