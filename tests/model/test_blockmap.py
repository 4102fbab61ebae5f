"""A map of blocks shows cubes where they are, moves along, and knows what a hand made."""

import numpy as np
import pytest

from latentcraft.model import place as places
from latentcraft.model.blockmap import FACES, SIDES, BlockMap, Looks
from latentcraft.model.blockrays import DRAWN_TO, MADE, SETTLED, TEXELS, UNKNOWN
from latentcraft.model.camera import BOX
from latentcraft.model.evidence import corner_of, evidence
from latentcraft.model.memory import Memory, View
from latentcraft.model.place import Place
from latentcraft.model.relief import AIR

STONE, GRASS = 4, 2
EYE = np.array([8.5, 20.5, 8.5, 0.0, 0.0])  # looks along +z


def looks() -> Looks:
    """Every kind has one grey, every face of it another."""
    shade = np.arange(STONE + 1)[:, None] * 0.1 + np.arange(FACES)[None] * 0.01
    return Looks.of(np.broadcast_to(shade[:, :, None, None, None], (STONE + 1, FACES, TEXELS, TEXELS, 3)).copy())


@pytest.fixture
def blocks() -> BlockMap:
    """Air, and a wall of stone that begins at z = 12."""
    found = BlockMap()
    found.follow(EYE)
    entries = np.full(BOX, AIR, np.uint8)
    corner = corner_of(EYE)
    entries[:, :, 12 - corner[2] :] = STONE + AIR
    found.learn(corner, entries)
    return found


def memory() -> Memory:
    return Memory((32, 48), field_of_view=70.0)


def test_a_ray_meets_the_first_block_exactly(blocks: BlockMap):
    rays = memory().rays
    met = blocks.cast(EYE, rays, memory().focal, np.full(rays.shape[1:], DRAWN_TO, np.float32))
    assert (met.entry == STONE + AIR).all()
    np.testing.assert_allclose(met.distance, 3.5 / rays[2], rtol=1e-5)
    near = blocks.cast(EYE, rays, memory().focal, np.full(rays.shape[1:], 3.0, np.float32))
    assert (near.entry == UNKNOWN).all() and np.isinf(near.distance).all()


def test_what_is_not_known_hides_what_is_behind_it(blocks: BlockMap):
    blocks.cells[:, :, 10] = UNKNOWN
    rays = memory().rays
    met = blocks.cast(EYE, rays, memory().focal, np.full(rays.shape[1:], DRAWN_TO, np.float32))
    assert (met.entry == UNKNOWN).all()
    assert blocks.aimed(EYE, 5.0) is None


def test_the_middle_of_the_view_is_known(blocks: BlockMap):
    aimed = blocks.aimed(EYE, 5.0)
    assert aimed is not None
    assert aimed[0].tolist() == [8, 20, 12] and aimed[1].tolist() == [8, 20, 11]
    assert blocks.aimed(EYE, 3.0) is None


def test_it_shows_what_memory_has_not_or_not_as_sharp(blocks: BlockMap):
    place = memory()
    view = View(32, 48)
    view.source[:, :24], view.distance[:, :24] = 0, 3.6
    view.coarseness[:, 12:24] = 3.0
    blocks.show(view, EYE, place.rays, place.focal, looks())
    assert not view.mapped[:, :12].any() and view.mapped[:, 12:].all() and view.known.all()
    assert (view.picture[:, 12:] == round(255 * (0.1 * STONE + 0.01 * 4))).all()  # the face towards -z
    assert (view.coarseness[:, 12:] == 1).all()
    assert blocks.cells[8, 20, 12] & SETTLED  # it was shown, and stays
    blocks.learn(corner_of(EYE), np.full(BOX, AIR, np.uint8))
    assert blocks.at(np.array([8, 20, 12])) == STONE + AIR
    assert blocks.at(np.array([8, 20, 14])) == AIR


def test_what_is_covered_is_learned_anew(blocks: BlockMap):
    corner = corner_of(EYE)
    middle = tuple(np.array([8, 20, 20]) - corner)
    blocks.cells[8, 20, 20] = GRASS + AIR | SETTLED
    fresh = np.full(BOX, STONE + AIR, np.uint8)
    open_above = fresh.copy()
    open_above[middle[0], middle[1] + 1, middle[2]] = AIR
    blocks.learn(corner, open_above)
    assert blocks.at(np.array([8, 20, 20])) == GRASS + AIR  # it can be seen
    blocks.learn(corner, fresh)
    assert blocks.at(np.array([8, 20, 20])) == STONE + AIR
    blocks.put(np.array([8, 20, 20]), GRASS + AIR)
    blocks.learn(corner, fresh)
    assert blocks.at(np.array([8, 20, 20])) == GRASS + AIR  # a hand's


def test_what_was_not_really_shown_does_not_stay(blocks: BlockMap):
    corner, cell, made = corner_of(EYE), np.array([8, 20, 12]), np.array([8, 21, 12])
    blocks.cells[tuple(cell)] |= SETTLED
    blocks.put(made, STONE + AIR)
    blocks.loosen()
    assert blocks.is_old(EYE)
    blocks.learn(corner, np.full(BOX, AIR, np.uint8))
    assert blocks.at(cell) == AIR
    assert blocks.at(made) == STONE + AIR
    blocks.cells[tuple(cell)] = STONE + AIR | SETTLED
    blocks.free(cell, made)
    assert blocks.at(cell) == AIR  # somebody is there
    assert blocks.at(made) == STONE + AIR


def test_what_is_clear_does_not_give_way_to_what_is_behind_it(blocks: BlockMap):
    place = memory()
    shown = []
    for firm in (False, True):
        view = View(32, 48)
        view.source[:], view.distance[:], view.coarseness[:] = 0, 1.5, 3.0  # a trunk, enlarged, before a wall
        mask = np.full((32, 48), firm)
        blocks.show(view, EYE, place.rays, place.focal, looks(), firm=mask)
        shown.append(view.mapped.any())
    assert shown == [True, False]
    view = View(32, 48)
    view.source[:], view.distance[:], view.coarseness[:] = 0, 3.6, 3.0  # the wall itself is shown as sharp as it is
    blocks.show(view, EYE, place.rays, place.focal, looks(), firm=np.full((32, 48), True))
    assert view.mapped.any()


def test_a_place_keeps_what_stands_in_ones_way(blocks: BlockMap, monkeypatch):
    place = Place((32, 48), 70.0, looks())
    place.blocks = blocks
    place.memory.remember(np.full((32, 48, 3), 90, np.uint8), np.full((32, 48), 1.5, np.float32), EYE)
    closer = EYE + np.array([0, 0, 0.8, 0, 0])
    view = place.view(closer)
    middle = view.coarseness[12:20, 18:30]
    assert (middle > 1.5).all() and not view.mapped[12:20, 18:30].any()
    monkeypatch.setattr(places, "UPRIGHT", (1.0, 2.0))  # as if that were high up
    assert place.view(closer).mapped[12:20, 18:30].all()


def test_what_a_hand_made_stands_before_what_is_remembered(blocks: BlockMap):
    place, view = memory(), View(32, 48)
    view.source[:], view.distance[:] = 0, 3.6  # the wall, sharp
    blocks.put(np.array([8, 20, 10]), STONE + AIR)
    blocks.show(view, EYE, place.rays, place.focal, looks())
    assert view.mapped[16, 24] and view.distance[16, 24] < 1.6
    assert not view.mapped[0, 0]
    assert blocks.cells[8, 20, 10] & MADE


def test_light_is_what_is_seen_over_what_textures_have(blocks: BlockMap):
    place = memory()
    blocks_seen = np.full((32, 48, 3), (110, 100, 95), np.uint8)
    place.remember(blocks_seen, (3.5 / place.rays[2]).astype(np.float32), EYE)
    blocks.light_up(place, looks())
    np.testing.assert_allclose(blocks.gain, np.array([110, 100, 95]) / 255 / 0.44, rtol=0.03)
    # It is a light: it may be bright or dim, but no wall is painted by it.
    blocks.light[:] = 0
    place.remember(np.full((32, 48, 3), (250, 20, 20), np.uint8), (3.5 / place.rays[2]).astype(np.float32), EYE)
    blocks.light_up(place, looks())
    assert blocks.gain.max() / blocks.gain.min() < 1.3


def test_the_window_moves_along_and_forgets_what_leaves_it(blocks: BlockMap):
    there, gone = np.array([8, 20, 12]), np.array([8 - BOX[0] // 2, 20, 8])
    assert blocks.at(gone) == AIR
    eye = EYE.copy()
    while eye[0] < EYE[0] + SIDES[0] // 2 - BOX[0] // 2 + 1:
        eye[0] += 5
        blocks.follow(eye)
    assert blocks.at(there) == STONE + AIR
    assert blocks.at(gone) == UNKNOWN
    blocks.follow(EYE + np.array([1000, 0, 0, 0, 0]))
    assert (blocks.cells == UNKNOWN).all()


def test_saved_and_restored_it_is_the_same(blocks: BlockMap):
    blocks.put(np.array([8, 20, 10]), AIR)
    other = BlockMap()
    other.restore(blocks.save())
    assert (other.cells == blocks.cells).all() and other.worked
    assert other.centre is not None and (other.centre == blocks.centre).all()
    other.restore({})  # saved by a version that had none
    assert other.centre is None and not other.cells.any() and not other.worked


def test_evidence_tells_where_surfaces_are_and_what_was_seen_through():
    place = memory()
    picture = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    place.remember(picture, (3.5 / place.rays[2]).astype(np.float32), EYE)  # a wall at z = 12
    corner = corner_of(EYE)
    seen = evidence(place, corner)
    wall = tuple(np.array([8, 20, 12]) - corner)
    assert seen[0][wall] > 1
    np.testing.assert_allclose(seen[1:4, *wall], np.array([200, 100, 50]) / 255, atol=0.01)
    assert seen[6][wall] < -0.2  # at its near side
    assert seen[9][wall] == 0
    before = tuple(np.array([8, 20, 10]) - corner)
    assert seen[0][before] == 0 and seen[9][before] > 0.5
    behind = tuple(np.array([8, 20, 14]) - corner)
    assert seen[0][behind] == seen[9][behind] == 0
