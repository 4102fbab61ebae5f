"""Aim: which face of the world's grid is in the middle of the view, where a hand would work.

The depth net errs by some per cent, which is as much as a face is from the next. But of all faces that the middle of
the view meets only one shows blocks that are square and whole when the picture is laid out flat on its plane. So a
small net looks at each of them that way, and at how far things seem to be there.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latentcraft.model.camera import axes, focal_length
from latentcraft.model.cells import Face

SAMPLES = 8
"""Points along a side of a block on the plane of a face."""
WINDOW = 3 * SAMPLES
"""Such points along a side of what is looked at: the face and its neighbours."""
MOST_OFF = 0.5
"""Largest difference of two distances, in their logarithms, that is told."""
MOST = 8
"""Faces that are looked at, the nearest."""


def laid_out(
    picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, corners: np.ndarray, planes: np.ndarray,
    samples: int, field_of_view: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Lay a picture out flat on planes of the grid, around a block of each.

    Args:
        picture: ``uint8 (H, W, 3)``.
        distance: of it, metres, ``(H, W)``; 0 or infinite where nothing is known.
        eye: where it is seen from, ``(5,)``.
        corners: lower corners of the blocks, ``(k, 3)``.
        planes: across which axis each plane stands, ``(k,)``; it contains the corner.
        samples: points along a side of a block.
        field_of_view: horizontal, degrees.

    Returns:
        Colours ``uint8 (k, n, n, 3)`` of the block and its neighbours, ``n = 3 * samples``; whether anything is seen
        there, ``bool (k, n, n)``; and the logarithm of how much farther it is than the plane, ``float32 (k, n, n)``.
    """
    height, width = distance.shape
    along = (np.arange(3 * samples) + 0.5) / samples - 1
    second, first = np.meshgrid(along, along, indexing="ij")
    points = np.zeros((len(corners), 3, *first.shape))
    for point, axis in zip(points, planes, strict=True):
        one, other = (part for part in range(3) if part != axis)
        point[one], point[other] = first, second
    away = points + (corners - eye[:3])[:, :, None, None]
    right, up, ahead = np.einsum("ij,fihw->jfhw", axes(eye[3], eye[4]), away)
    focal, before = focal_length(width, field_of_view), np.maximum(ahead, 1e-3)
    column, row = right / before * focal + width / 2 - 0.5, -up / before * focal + height / 2 - 0.5
    inside = (ahead > 0.05) & (row > -0.5) & (row < height - 0.5) & (column > -0.5) & (column < width - 0.5)
    row, column = (np.clip(np.rint(part), 0, size - 1).astype(int) for part, size in ((row, height), (column, width)))
    seen = distance[row, column]
    known = inside & np.isfinite(seen) & (seen > 0)
    off = np.log(np.where(known, seen, 1.0) / np.maximum(np.linalg.norm(away, axis=1), 1e-3))
    return picture[row, column], known, np.where(known, off, 0.0).astype(np.float32)


def told_of(
    faces: Sequence[Face], picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, field_of_view: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what :class:`AimNet` is told of ``faces``: ``float32 (k, 5, WINDOW, WINDOW)`` and ``float32 (k, 5)``."""
    planes = np.array([face.axis for face in faces])
    corners = np.stack([np.maximum(face.behind, face.before) for face in faces]).astype(np.float64)
    colours, known, off = laid_out(picture, distance, eye, corners, planes, SAMPLES, field_of_view)
    off = np.clip(off, -MOST_OFF, MOST_OFF) / MOST_OFF
    flat = np.concatenate([colours.transpose(0, 3, 1, 2) / 255.0, known[:, None], off[:, None]], 1) * known[:, None]
    numbers = np.array([
        [face.distance / 5, *(face.axis == axis for axis in range(3)), face.before[face.axis] > face.behind[face.axis]]
        for face in faces
    ])  # fmt: skip
    return flat.astype(np.float32), numbers.astype(np.float32)


class AimNet(nn.Module):
    """Says of faces how probable it is that they are what is seen."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(5, 24, 3, 2, padding=1), nn.SiLU(), nn.Conv2d(24, 48, 3, 2, padding=1), nn.SiLU(),
            nn.Conv2d(48, 48, 3, 2, padding=1), nn.SiLU(), nn.Flatten(),
        )  # fmt: skip
        self.read = nn.Linear(48 * 9 + 5, width)
        self.weigh = nn.Sequential(nn.SiLU(), nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, flat: Tensor, numbers: Tensor, there: Tensor) -> Tensor:
        """Return logits ``(b, k)``, minus infinity for those that are not ``there``.

        Args:
            flat: see :func:`told_of`, ``(b, k, 5, WINDOW, WINDOW)``.
            numbers: likewise, ``(b, k, 5)``.
            there: ``bool (b, k)``.
        """
        b, k = there.shape
        seen = self.look(flat.flatten(0, 1)).unflatten(0, (b, k))
        each = self.read(torch.cat([seen, numbers], -1)) * there[..., None]
        rest = (each.sum(1, keepdim=True) - each) / there.sum(1).clamp(min=2)[:, None, None]
        logits: Tensor = self.weigh(torch.cat([each, rest], -1))[..., 0]
        return logits.masked_fill(~there, float("-inf"))

    @torch.no_grad()
    def chosen(
        self, faces: Sequence[Face], picture: np.ndarray, distance: np.ndarray, eye: np.ndarray, field_of_view: float
    ) -> Face:
        """Return which of ``faces`` is in the middle of a ``picture``; arguments as for :func:`laid_out`."""
        nearest = list(faces)[:MOST]
        told = (torch.from_numpy(part)[None] for part in told_of(nearest, picture, distance, eye, field_of_view))
        return nearest[int(self(*told, torch.ones(1, len(nearest), dtype=torch.bool))[0].argmax())]
