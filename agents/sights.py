"""All that the window showed lately, word for word: figures, notes and key presses with the pictures."""

import zlib
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np


class Sights:
    """The last pictures of a window, one for each tick that was shown.

    Args:
        ticks: how many are kept at most; about 0.1 MB each.
    """

    def __init__(self, ticks: int) -> None:
        self._kept: deque[tuple[tuple[int, int], bytes]] = deque(maxlen=ticks)

    def add(self, size: tuple[int, int], pixels: bytes) -> None:
        """Keep one picture: its (H, W) and its RGB bytes."""
        self._kept.append((size, zlib.compress(pixels, 1)))

    def film(self) -> Callable[[], Iterator[np.ndarray]]:
        """Return what yields the pictures so far ``uint8 (H, W, 3)``, as far back as the window had the size it has."""
        kept = list(self._kept)
        while kept and kept[0][0] != kept[-1][0]:
            kept.pop(0)

        def frames() -> Iterator[np.ndarray]:
            for (height, width), packed in kept:
                yield np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width, 3)

        return frames

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._kept)
