"""Cells: which block the middle of a view meets, and what of a picture a block fills."""

import math

import numpy as np
import torch

from latentcraft.model.camera import axes, pixel_rays
from latentcraft.model.cells import MEETING, REACH, face_seen, faces_ahead, hold, meetings, no_holds

EYE = np.array([10.3, 65.62, 20.8, 37.0, 41.0])
RAYS = pixel_rays(96, 160)


def to_ground(height: float) -> np.ndarray:
    """Distances of level ground at ``height``, infinite above the horizon."""
    down = np.einsum("j,jhw->hw", axes(*EYE[3:])[1], RAYS)
    return np.where(down < -1e-3, (height - EYE[1]) / np.minimum(down, -1e-3), np.inf).astype(np.float32)


def test_the_faces_ahead_are_those_the_view_passes_through():
    found, ahead = faces_ahead(EYE), axes(*EYE[3:])[:, 2]
    assert [face.distance for face in found] == sorted(face.distance for face in found)
    for face in found:
        near, far = (EYE[:3] + (face.distance + step) * ahead for step in (-1e-6, 1e-6))
        assert np.array_equal(np.floor(far), face.behind) and np.array_equal(np.floor(near), face.before)
        assert np.flatnonzero(face.behind != face.before).tolist() == [face.axis]
    assert len(found) == np.abs(np.floor(EYE[:3] + REACH * ahead) - np.floor(EYE[:3])).sum()
    level = faces_ahead(np.array([0.5, 0.5, 0.5, 0.0, 0.0]))  # along an axis nothing else is met
    assert [face.behind.tolist() for face in level] == [[0, 0, z] for z in range(1, 6)]


def test_the_face_that_is_seen_is_found_though_distances_are_a_little_off():
    for height in (64.0, 63.0):
        for scale in (0.97, 1.0, 1.03):
            face = face_seen(scale * to_ground(height), RAYS, EYE)
            assert face is not None and face.axis == 1
            hit = EYE[:3] + (height - EYE[1]) / axes(*EYE[3:])[1, 2] * axes(*EYE[3:])[:, 2]
            assert face.behind.tolist() == [math.floor(hit[0]), height - 1, math.floor(hit[2])]
            assert face.before.tolist() == [math.floor(hit[0]), height, math.floor(hit[2])]
    assert face_seen(np.full((96, 160), np.inf, np.float32), RAYS, EYE) is None
    assert face_seen(np.zeros((96, 160), np.float32), RAYS, EYE) is None  # all of it moves with the lens


def test_a_picture_is_told_where_its_rays_enter_and_leave_a_cell():
    cell = np.array([9, 63, 22])
    holds = no_holds(torch.zeros(3, 4, 2))
    holds[1, 2, 0] = torch.from_numpy(hold(cell, EYE, 70.0))
    told = meetings(holds, 12, 20)
    assert told.shape == (3, 4, 12, 20, 2 * MEETING)
    assert told[1, 2, ..., :MEETING].any() and not told[..., MEETING:].any()
    told[1, 2] = 0
    assert not told.any()
    # Every ray again, one by one.
    told = meetings(holds, 12, 20)[1, 2, ..., :MEETING].unflatten(-1, (2, 2, 6)).numpy()
    rays = pixel_rays(48, 80)  # as many as are looked at
    counted = np.zeros((12, 20, 2, 2, 6))
    for row, column in np.ndindex(48, 80):
        way = axes(*EYE[3:]) @ rays[:, row, column].astype(float)
        sides = np.sort(np.stack([cell - EYE[:3], cell + 1 - EYE[:3]]) / way, 0)
        if sides[0].max() < sides[1].min():
            part = counted[row // 4, column // 4, row % 4 // 2, column % 4 // 2]
            part[sides[0].argmax()] += 0.25
            part[3 + sides[1].argmin()] += 0.25
    np.testing.assert_allclose(told, counted, atol=1e-6)
    assert 200 < counted.sum() * 2 < 2000


def test_a_cell_in_the_middle_of_the_view_lies_in_the_middle_of_the_picture():
    face = face_seen(to_ground(64.0), RAYS, EYE)
    assert face is not None
    holds = no_holds(torch.zeros(1, 2))
    holds[0, 0] = torch.from_numpy(hold(face.behind, EYE, 70.0))
    told = meetings(holds, 12, 20)[0, ..., :MEETING].unflatten(-1, (4, 6)).sum((-2, -1)) / 8
    assert told[5:7, 9:11].mean() > 0.8 and told.sum() < 80
    behind = hold(face.behind, np.array([*EYE[:3], EYE[3] + 180, 0.0]), 70.0)
    holds[0, 0] = torch.from_numpy(behind)
    assert not meetings(holds, 12, 20).any()  # it is behind the eye
