"""How the error went lately, as a picture that stands beside the others."""

from collections import deque

import numpy as np

SPAN = 160
"""Ticks shown: 8 seconds."""
LOWEST, HIGHEST = 5.0, 35.0
"""Decibels at the picture's bottom and top; a quite different picture has about 10."""
LINES = (10.0, 20.0, 30.0)
"""Decibels with a line to read by."""
BACK, LINE, FILL, EDGE = (16, 16, 20), (70, 70, 80), (60, 10, 90), (250, 140, 20)


class Curve:
    """PSNR over the last :data:`SPAN` ticks; going back in time takes away what came after."""

    def __init__(self) -> None:
        """Begin empty."""
        self._values: deque[tuple[int, float]] = deque(maxlen=SPAN)

    def add(self, ticks: int, decibel: float) -> None:
        """Add the value of the next picture, of a chunk that ended ``ticks`` into the game."""
        while self._values and self._values[-1][0] > ticks:
            self._values.pop()
        self._values.append((ticks, decibel))

    def clear(self) -> None:
        """Begin anew."""
        self._values.clear()

    def picture(self, height: int, width: int) -> np.ndarray:
        """Draw it, ``uint8 (height, width, 3)``, the present at the right."""
        out = np.empty((height, width, 3), np.uint8)
        out[:] = BACK
        for decibel in LINES:
            out[_row(decibel, height)] = LINE
        columns = np.linspace(width, 0, SPAN, endpoint=False)  # the right end of each tick's stretch
        step = max(1, round(width / SPAN))
        for right, (_, decibel) in zip(columns.astype(int), reversed(self._values), strict=False):
            row, stretch = _row(decibel, height), slice(max(0, right - step), right)
            out[row:, stretch] = out[row:, stretch] // 2 + np.array(FILL, np.uint8) // 2
            out[max(0, row - 1) : row + 1, stretch] = EDGE
        return out


def _row(decibel: float, height: int) -> int:
    share = (min(max(decibel, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return round((1 - share) * (height - 1))
