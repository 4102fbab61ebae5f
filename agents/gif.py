"""Films as GIFs, as large as they may be."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from latentcraft.agents.video import check_suffix, enlarge, watchable_scale
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.protocol import TICKS_PER_SECOND


@dataclass(frozen=True)
class Look:
    """How one GIF is made."""

    width: int
    """Frames are enlarged to about this width, pixels."""
    every: int
    """One frame in so many is shown."""
    colors: int
    """256 for each frame, or fewer for the whole film."""


LOOKS = (Look(480, 1, 256), Look(480, 2, 256), Look(320, 2, 128), Look(320, 2, 64), Look(320, 2, 32), Look(160, 2, 64),
         Look(160, 4, 32))  # fmt: skip
"""From the best to the smallest. Wider ones take tens of megabytes; a frame lasts 50, 100 or 200 ms, which browsers
obey."""
SAMPLED = 12
"""Frames a film's palette is chosen from."""


def write_gif(
    path: Path,
    film: Callable[[], Iterable[np.ndarray]],
    *,
    megabytes: float | None = None,
    looks: Sequence[Look] = LOOKS,
) -> Look:
    """Write a GIF that repeats; it replaces ``path`` only when whole.

    Args:
        path: the file.
        film: returns the frames ``uint8 (H, W, 3)``, 20 a second, anew at each call.
        megabytes: what it may take at most (1e6 bytes); None for the best look.
        looks: tried in turn until one is small enough.

    Returns:
        How it looks.

    Raises:
        UserError: another suffix than ``.gif``, a path that cannot be written, a film too long for ``megabytes``.
    """
    check_suffix(path, (".gif",))
    for look in looks:
        data = _encode(film(), look)
        if megabytes is None or len(data) <= megabytes * 1e6:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
            return look
    raise UserError(f"cannot write {path}: even at its smallest it takes {len(data) / 1e6:.1f} MB; film fewer seconds")


def _encode(frames: Iterable[np.ndarray], look: Look) -> bytes:
    shown = list(islice(frames, 0, None, look.every))
    scale = max(1, min(watchable_scale(shown[0].shape[1]), round(look.width / shown[0].shape[1])))
    palette = None if look.colors == 256 else _palette(shown, look.colors)
    pictures = (_picture(enlarge(frame, scale), palette) for frame in shown)
    file = BytesIO()
    duration = 1000 * look.every // TICKS_PER_SECOND
    next(pictures).save(file, "GIF", save_all=True, append_images=pictures, duration=duration, loop=0)
    return file.getvalue()


def _palette(frames: Sequence[np.ndarray], colors: int) -> Image.Image:
    """Return a picture with the colours that suit moments spread over the film."""
    sample = frames[:: -(-len(frames) // SAMPLED)]
    return Image.fromarray(np.concatenate(sample)).quantize(colors, dither=Image.Dither.NONE)


def _picture(frame: np.ndarray, palette: Image.Image | None) -> Image.Image:
    picture = Image.fromarray(frame)
    if palette is None:
        return picture.quantize(256, dither=Image.Dither.NONE)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)
