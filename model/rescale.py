"""Pictures of any size for nets that have learned from one: as many pixels a degree, which is how nets know of sizes.

A depth net that had learned from pictures 160 pixels wide took what it saw in those of 80 to be twice as far away (0.99
of the distance off in the median, 0.19 at the width it knows), and in those of 320 half as far (1.09, and 0.10).
"""

import torch.nn.functional as F
from torch import Tensor


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


def as_before(maps: Tensor, height: int, width: int) -> Tensor:
    """Return what a net says of each pixel of what :func:`as_wide` returned, ``(k, H, W)``, for those of pictures
    ``height`` and ``width`` large, ``(k, height, width)``: each gets the nearest one's, never a mean across an edge.
    """
    if maps.shape[1:] == (height, width):
        return maps
    tall = max(1, round(height * maps.shape[2] / width))
    top = (maps.shape[1] - tall) // 2
    inside = maps[:, None, top : top + tall]
    return F.interpolate(inside, (height, width), mode="nearest-exact")[:, 0]
