"""Pictures made comparable: small, smooth, without the colour cast and the contrast they happen to have."""

import math

import numpy as np

HUBER = 0.3
"""Difference of normalised pixels beyond which it counts linearly: blocks that are simply wrong must not pull."""
_QUIET = 4.0
"""Grey levels of contrast at least: the noise of a plain wall must not be blown up to a picture."""
_LARGE = 24
"""Passes of smoothing that leave only what is alike everywhere: sky above, ground below."""


def halve(picture: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels of ``(h, w, ...)``."""
    return (picture[::2, ::2] + picture[1::2, ::2] + picture[::2, 1::2] + picture[1::2, 1::2]) / 4


def smooth(picture: np.ndarray, times: int) -> np.ndarray:
    """Blur ``float (h, w, 3)`` with the kernel 1 2 1 along both sides, ``times`` times."""
    for _ in range(times):
        rows = 2 * picture
        rows[1:] += picture[:-1]
        rows[:-1] += picture[1:]
        rows[0] += picture[0]
        rows[-1] += picture[-1]
        picture = 2 * rows
        picture[:, 1:] += rows[:, :-1]
        picture[:, :-1] += rows[:, 1:]
        picture[:, 0] += rows[:, 0]
        picture[:, -1] += rows[:, -1]
        picture /= 16
    return picture


def details(picture: np.ndarray) -> np.ndarray:
    """Return ``picture (h, w, 3)`` without its large shapes."""
    return picture - smooth(picture, _LARGE)


def place_mask(frame_size: tuple[int, int]) -> np.ndarray:
    """Return which pixels show the place, ``float32 (H, W, 1)``: the held block hides the lower right corner."""
    height, width = frame_size
    mask = np.ones((height, width, 1), np.float32)
    mask[height - height // 4 :, width - width // 4 :] = 0
    return mask


def normalise(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return ``picture (h, w, 3)`` with mean 0 in each colour and mean square 1, and 0 where ``mask (h, w, 1)`` is."""
    total = max(1.0, float(mask.sum()))
    picture = (picture - (picture * mask).sum((0, 1)) / total) * mask
    return picture / max(_QUIET, math.sqrt(float(np.square(picture).sum()) / (3 * total)))


def huber(picture: np.ndarray, target: np.ndarray) -> float:
    """Mean Huber loss between two normalised pictures."""
    away = np.abs(picture - target)
    near = np.minimum(away, HUBER)
    return float((near * (away - 0.5 * near)).mean())


def likeness(picture: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    """Correlation, -1 to 1, of the details of two normalised pictures where ``mask (h, w, 1)`` is not 0."""
    a, b = details(picture) * mask, details(target) * mask
    size = math.sqrt(float(np.square(a).sum()) * float(np.square(b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0
