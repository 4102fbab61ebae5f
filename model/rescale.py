"""Pictures of any size for nets that have learned from one: as many pixels a degree, which is how nets know of sizes.

A depth net that had learned from pictures 160 pixels wide took what it saw in those of 80 to be twice as far away (0.99
of the distance off in the median, 0.19 at the width it knows), and in those of 320 half as far (1.09, and 0.10).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SLOPE = 1.3
"""How many times as far away as one beside it a pixel may be and belong to the same surface."""


def as_wide(pictures: Tensor, width: int | None, multiple: int) -> Tensor:
    """Return ``pictures (k, c, H, W)``, -1 to 1, as wide as ``width``, and as high as goes with that, rounded up to a
    ``multiple`` by the outermost rows alike above and below; as they are for None or where nothing is to be done.
    """
    if width is None or pictures.shape[3] == width:
        return pictures
    tall = max(1, round(pictures.shape[2] * width / pictures.shape[3]))
    scaled = F.interpolate(pictures.float(), (tall, width), mode="bicubic", antialias=True).clamp(-1, 1)
    missing = -tall % multiple
    return F.pad(scaled, (0, 0, missing // 2, missing - missing // 2), mode="replicate")


def as_before(distances: Tensor, height: int, width: int) -> Tensor:
    """Return the ``distances (k, H, W)``, above zero, of the pixels of what :func:`as_wide` returned for those of
    pictures ``height`` and ``width`` large, ``(k, height, width)``.

    On one surface they are told apart as those on a plane (whose inverse grows evenly); across an edge each pixel gets
    the nearest one's, never a mean.
    """
    if distances.shape[1:] == (height, width):
        return distances
    tall = max(1, round(height * distances.shape[2] / width))
    top = (distances.shape[1] - tall) // 2
    inside = distances[:, None, top : top + tall]
    nearest = F.interpolate(inside, (height, width), mode="nearest-exact")
    if width <= distances.shape[2]:
        return nearest[:, 0]
    even = 1 / F.interpolate(1 / inside, (height, width), mode="bilinear")
    farthest = F.max_pool2d(inside, 3, stride=1, padding=1)
    closest = -F.max_pool2d(-inside, 3, stride=1, padding=1)
    edge = F.interpolate((farthest > SLOPE * closest).float(), (height, width), mode="nearest-exact") > 0
    return torch.where(edge, nearest, even)[:, 0]
