"""Memory of places: a camera's geometry, views drawn from remembered pictures, and when memory gives way to the eye."""

import numpy as np
import pytest

from latentcraft.model import points, relief
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.camera import EYE_HEIGHT, FIELD_OF_VIEW, SKY, axes, between, focal_length, pixel_rays
from latentcraft.model.memory import Memory, contradicts
from latentcraft.model.relief import LINES, Nearby

SIZE = (48, 80)
STILL = np.zeros(5)


def moved(**change: float) -> np.ndarray:
    eye = np.zeros(5)
    for name, value in change.items():
        eye[["x", "y", "z", "yaw", "pitch"].index(name)] = value
    return eye


def wall(ahead: float, eye: np.ndarray, *, texel: float = 1.0, hole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Draw a chequered wall across z = ``ahead`` and its distances, exactly, from ``eye``; a hole shows sky."""
    rays = np.einsum("ij,jhw->ihw", axes(eye[3], eye[4]), pixel_rays(*SIZE).astype(float))
    distance = (ahead - eye[2]) / np.maximum(rays[2], 1e-6)
    x, y = eye[0] + distance * rays[0], eye[1] + distance * rays[1]
    tone = np.where((np.floor(x / texel) + np.floor(y / texel)) % 2 == 0, 200, 60)
    picture = np.stack([tone, tone // 2, 255 - tone], -1).astype(np.uint8)
    if hole:
        gap = (np.abs(x) < 1) & (np.abs(y) < 1)
        picture[gap], distance[gap] = (90, 160, 255), SKY
    return picture, distance.astype(np.float32)


def remembering(*eyes: np.ndarray, ahead: float = 4.0) -> Memory:
    memory = Memory(SIZE, field_of_view=FIELD_OF_VIEW)
    for eye in eyes:
        memory.remember(*wall(ahead, eye), eye)
    return memory


def error(memory: Memory, eye: np.ndarray, ahead: float = 4.0) -> tuple[float, float]:
    """Return the mean error of the remembered pixels and their share."""
    view, (truth, _) = memory.view(eye), wall(ahead, eye)
    difference = np.abs(view.picture.astype(int) - truth)[view.known]
    return float(difference.mean()), float(view.known.mean())


def test_the_camera_looks_where_the_reference_world_does():
    ahead = axes(90.0, 0.0) @ np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(ahead, [-1, 0, 0], atol=1e-12)  # yaw is positive to the right, whose side is -x
    down = axes(0.0, 90.0) @ np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(down, [0, -1, 0], atol=1e-12)
    rays = pixel_rays(*SIZE)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=0), 1, rtol=1e-6)
    left, right = np.degrees(np.arctan2(rays[0, 24, [0, -1]], rays[2, 24, [0, -1]]))
    assert right == pytest.approx(-left, abs=1e-4)
    assert 68 < right - left < FIELD_OF_VIEW  # between centres of the outermost pixels


def test_points_go_from_one_eye_to_another():
    source, target = moved(x=1, z=2, yaw=30), moved(x=-1, y=1, yaw=-15, pitch=20)
    turn, shift = between(source, target)
    point = np.array([0.3, -0.2, 5.0])
    world = axes(source[3], source[4]) @ point + source[:3]
    np.testing.assert_allclose(axes(target[3], target[4]).T @ (world - target[:3]), turn @ point + shift)


def test_an_empty_memory_knows_nothing():
    view = Memory(SIZE, field_of_view=FIELD_OF_VIEW).view(STILL)
    assert not view.known.any()
    assert np.isinf(view.distance).all()


def test_the_same_view_is_remembered_to_the_bit():
    picture, distance = wall(4.0, STILL)
    memory = remembering(STILL)
    view = memory.view(STILL)
    assert view.known.all()
    np.testing.assert_array_equal(view.picture, picture)
    np.testing.assert_allclose(view.distance, distance, rtol=1e-5)


@pytest.mark.parametrize(
    ("eye", "least"),
    [(moved(yaw=10), 0.8), (moved(yaw=-10), 0.8), (moved(pitch=8), 0.75), (moved(x=0.5), 0.85), (moved(z=1), 0.99)],
)
def test_other_views_are_drawn_from_it(eye: np.ndarray, least: float):
    missed, known = error(remembering(STILL), eye)
    assert known > least
    # Pixels are mixed along the chequers' edges only; a view that were off by half a chequer would miss about 60.
    assert missed < 8


def test_what_left_the_frame_is_there_when_the_eye_comes_back():
    turned = [moved(yaw=angle) for angle in range(0, 60, 10)]
    memory = remembering(*turned)
    missed, known = error(memory, STILL)
    assert known == 1
    assert missed < 1  # from the first picture itself


def test_nearer_pictures_take_the_place_of_farther_ones():
    memory = remembering(STILL, moved(z=2))
    missed, _ = error(memory, moved(z=2))
    assert missed == 0
    assert memory.view(moved(z=2)).coarseness.mean() < 1.05
    assert remembering(STILL).view(moved(z=2)).coarseness.mean() > 1.5


def test_what_was_dug_is_forgotten_and_what_was_placed_is_seen():
    memory = remembering(STILL)
    holed = wall(4.0, STILL, hole=True)
    memory.remember(*holed, STILL)
    view = memory.view(STILL)
    hole = holed[1] == SKY
    inner = hole & np.roll(hole, 3, 0) & np.roll(hole, -3, 0) & np.roll(hole, 3, 1) & np.roll(hole, -3, 1)
    assert inner.any()
    assert (view.picture[inner] == (90, 160, 255)).all()
    memory.remember(*wall(4.0, STILL), STILL)
    np.testing.assert_array_equal(memory.view(STILL).picture[inner], wall(4.0, STILL)[0][inner])


def test_what_is_behind_does_not_show_through_what_stands_before_it():
    """Also at the frame's edge, where turning the view pulls pixels apart."""
    behind, before = (np.full((*SIZE, 3), tone, np.uint8) for tone in (200, 40))
    memory = Memory(SIZE, field_of_view=FIELD_OF_VIEW)
    memory.remember(behind, np.full(SIZE, 6.0, np.float32), STILL)
    distance = np.full(SIZE, 6.0, np.float32)
    distance[8:40, 20:60] = 2.0
    memory.remember(np.where(distance[..., None] < 3, before, behind), distance, STILL)
    for yaw in (-30.0, -20.0, 20.0, 30.0):
        shown = memory.view(moved(yaw=yaw)).picture[..., 0]
        dark = (shown > 0) & (shown < 100)
        # Within the outline of what stands before, row by row.
        rows = np.flatnonzero(dark.sum(1) > 8)[2:-2]
        assert len(rows) > 10
        for row in rows:
            left, right = np.flatnonzero(dark[row])[[0, -1]]
            assert dark[row, left + 1 : right].all(), (yaw, row)


def test_what_moves_with_the_lens_is_not_remembered():
    picture, distance = wall(4.0, STILL)
    distance[20:24, 30:34] = 0
    memory = Memory(SIZE, field_of_view=FIELD_OF_VIEW)
    memory.remember(picture, distance, STILL)
    known = memory.view(STILL).known
    assert not known[20:24, 30:34].all()
    assert known[:16].all()


def test_standing_still_keeps_one_picture_and_room_is_made():
    memory = remembering(*[STILL] * 5)
    assert memory.count == 1
    memory = Memory(SIZE, field_of_view=FIELD_OF_VIEW, capacity=3)
    for angle in range(0, 360, 30):
        memory.remember(*wall(4.0, STILL), moved(yaw=angle))
    assert memory.count == 3
    assert memory.view(moved(yaw=330)).known.mean() > 0.95  # the last is among them


def test_surroundings_say_on_which_side_the_wall_is():
    boxes, _ = remembering(STILL, ahead=1.5).surroundings(STILL)
    lines = boxes.sum((1, 2))
    assert lines[LINES // 2 :].sum() > 0
    assert lines[: LINES // 2].sum() == 0  # nothing behind
    turned, _ = remembering(STILL, ahead=1.5).surroundings(moved(yaw=180))
    assert turned.sum((1, 2))[: LINES // 2].sum() > 0  # now it is behind


def test_columns_tell_the_height_of_the_ground_from_wherever_they_are_seen():
    """A floor 1.5 m below the eye on the right half, a step of 0.37 m on the left."""
    boxes, tints = relief.empty()
    height, width = SIZE
    rays = pixel_rays(height, width)
    down = np.array([0.0, 0.0, 0.0, 0.0, 60.0])
    turn, shift = between(down, np.zeros(5))
    x, y, _ = np.einsum("ij,jhw->ihw", turn, rays)
    distances = np.where(y < -0.1, np.where(x > 0, 1.5, 1.13) / np.maximum(-y, 0.1), 50.0).astype(np.float32)
    picture = np.full((*SIZE, 3), (200, 100, 50), np.uint8)
    own = np.ones(SIZE, np.bool_)
    sure = np.ones((1, 1), np.float32)
    relief.fill(distances, own, picture, sure, 0.0, rays, turn, shift, focal_length(width), boxes, tints)
    boxes, tints = relief.rounded(boxes, tints)
    nearby = Nearby(boxes[None], tints[None], np.zeros((1, 5)))
    ahead, middle = relief.CELLS - 1, relief.CELLS // 2
    for up, yaw in ((0.0, 0.0), (0.11, 0.0), (-0.25, 0.0), (0.0, 8.0)):
        columns = nearby.columns(np.array([[0.0, up, 0.0, yaw, 0.0]])).reshape(relief.CELLS, relief.CELLS, -1)
        right, left = columns[ahead, middle + 2], columns[ahead, middle - 2]
        assert right[relief.BANDS + 1] == left[relief.BANDS + 1] == 1
        assert right[relief.BANDS] == pytest.approx(EYE_HEIGHT - 1.5 - up, abs=0.04)
        assert left[relief.BANDS] == pytest.approx(EYE_HEIGHT - 1.13 - up, abs=0.04)
    assert right[relief.BANDS + 2 : relief.BANDS + 5] == pytest.approx(np.array([200, 100, 50]) / 255 - 0.5, abs=0.01)


def test_saved_and_restored_it_draws_the_same():
    memory = remembering(STILL, moved(yaw=20), moved(z=2))
    other = remembering(moved(yaw=90))
    other.restore(memory.save())
    for eye in (STILL, moved(yaw=15), moved(x=0.3, z=1)):
        np.testing.assert_array_equal(other.view(eye).picture, memory.view(eye).picture)
    other.remember(*wall(4.0, moved(yaw=-20)), moved(yaw=-20))
    assert other.count == memory.count + 1


def test_contradictions_are_found_among_known_pixels_only():
    picture = np.full((*SIZE, 3), 100, np.uint8)
    other = picture.copy()
    other[10:30, 10:30] = 200
    known = np.ones(SIZE, np.bool_)
    known[:, :20] = False
    found = contradicts(picture, known, other)
    assert found[15:25, 25].all()
    assert not found[:, :20].any()
    assert not found[40:].any()


def test_pixels_are_as_sure_as_the_picture_they_come_from():
    memory = Memory(SIZE, field_of_view=FIELD_OF_VIEW)
    memory.remember(*wall(4.0, STILL), STILL)
    right = moved(yaw=35.0)
    halves = np.repeat([[0.2, 0.6]], SIZE[0] // DOWNSAMPLING, 0).repeat(SIZE[1] // DOWNSAMPLING // 2, 1)
    memory.remember(*wall(4.0, right), right, sure=halves)
    np.testing.assert_array_equal(memory.behind(memory.view(STILL), memory.sure, 0.0), 1)  # a real picture's
    seen = memory.behind(memory.view(right), memory.sure, 0.0)
    assert seen[:, 0].min() > 0.95 and seen[:, -1].max() == pytest.approx(0.6)  # the left half was seen before
    nothing = memory.behind(memory.view(moved(yaw=180.0)), memory.sure, 0.3)
    np.testing.assert_allclose(nothing, 0.3)
    again = Memory(SIZE, field_of_view=FIELD_OF_VIEW)
    again.restore(memory.save())
    np.testing.assert_array_equal(again.behind(again.view(right), again.sure, 0.0), seen)
    again.restore({name: part for name, part in memory.save().items() if name != "sure"})  # of before
    np.testing.assert_array_equal(again.behind(again.view(right), again.sure, 0.0), 1)


@pytest.mark.parametrize("size", [SIZE, (32, 32), (16, 16)])
def test_leaving_out_what_is_out_of_view_changes_nothing(size: tuple[int, int]):
    rng = np.random.default_rng(3)
    memory = Memory(size, field_of_view=FIELD_OF_VIEW)
    for _ in range(4):
        eye = np.array([*rng.uniform(-2, 2, 3), rng.uniform(-180, 180), rng.uniform(-60, 60)])
        distance = rng.choice([0.4, 3.0, 9.0, SKY], size).astype(np.float32) * rng.uniform(0.8, 1.2)
        memory.remember(rng.integers(0, 256, (*size, 3), np.uint8), distance, eye)
    again = Memory(size, field_of_view=FIELD_OF_VIEW)
    again.restore(memory.save())
    blind = Memory(size, field_of_view=FIELD_OF_VIEW)
    blind.restore(memory.save())
    blind.reach[..., 0], blind.reach[..., 1] = 0.0, 2 * SKY  # of which nothing can be left out
    left_out = 0
    for _ in range(60):
        eye = np.array([*rng.uniform(-4, 4, 3), rng.uniform(-180, 180), rng.uniform(-80, 80)])
        one, two, three = memory.view(eye), again.view(eye), blind.view(eye)
        for other in (two, three):
            np.testing.assert_array_equal(one.source, other.source)
            np.testing.assert_array_equal(one.picture, other.picture)
        turn, shift = between(memory.eyes[0], eye)
        shown = points.in_view(memory.reach[0], memory.rays, turn, shift, memory.focal)
        left_out += int((~shown & (memory.reach[0, ..., 1] > 0)).sum())
    assert left_out > 50


@pytest.mark.parametrize("size", [SIZE, (32, 32), (16, 16)])
def test_no_pixel_in_view_is_in_a_block_that_is_left_out(size: tuple[int, int]):
    rng = np.random.default_rng(4)
    rays, focal = pixel_rays(*size), focal_length(size[1])
    own = np.ones(size, np.bool_)
    for _ in range(2000):
        distance = np.full(size, rng.choice([1.0, 4.0, 20.0]), np.float32)
        here, there = (np.array([*rng.uniform(-6, 6, 3), rng.uniform(-180, 180), rng.uniform(-80, 80)]) for _ in "ab")
        turn, shift = between(here, there)
        x, y, z = np.einsum("ij,jhw->ihw", turn, rays * distance) + shift[:, None, None]
        inside = (np.abs(x) * focal <= z * size[1] / 2) & (np.abs(y) * focal <= z * size[0] / 2) & (z > points.NEAR)
        shown = points.in_view(points.extents(distance, own), rays, turn, shift, focal)
        kept = shown.repeat(points.BLOCK, 0).repeat(points.BLOCK, 1)
        assert not (inside & ~kept).any()
