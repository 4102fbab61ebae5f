"""What a hand's work looks like is learned from recordings, and drawn on the block that is aimed at."""

import numpy as np
import pytest
import torch

from latentcraft.__main__ import main
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, HOTBAR_SLOTS
from latentcraft.model.blockmap import FACES, BlockMap
from latentcraft.model.blockrays import TEXELS
from latentcraft.model.camera import BOX, eyes_of, pixel_rays
from latentcraft.model.completion import CompletionConfig, CompletionNet
from latentcraft.model.episodes import list_episodes, read_all, read_blocks
from latentcraft.model.evidence import corner_of
from latentcraft.model.marks import NO_PART, NOTHING, PARTS, STAGES, Marks, Strike, mark, parts_of
from latentcraft.model.place import Place
from latentcraft.model.relief import AIR
from latentcraft.model.train.marks import Marking
from latentcraft.model.train.swing import learn_swing
from latentcraft.model.train.textures import Textures
from latentcraft.model.views import Views
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.blocks import DIG_TICKS
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE, LENS, STONE = (48, 80), 70.0, 4
RAYS = pixel_rays(*SIZE, LENS)
EYE = np.array([8.5, 20.5, 8.5, 0.0, 0.0])  # looks along +z
AIMED = np.array([8, 20, 11])


def marks() -> Marks:
    """Each stage is darker than the one before; blocks of stone break after 10 ticks."""
    dims = np.linspace(0.9, 0.1, STAGES)[:, None, None].repeat(PARTS, 1).repeat(PARTS, 2)
    return Marks(dims.astype(np.float32), np.array([0, 0, 0, 0, 10], np.float32), 4.5)


@pytest.fixture
def blocks() -> BlockMap:
    """Air, and a wall of stone that begins at z = 11."""
    found, corner = BlockMap(), corner_of(EYE)
    found.follow(EYE)
    entries = np.full(BOX, AIR, np.uint8)
    entries[:, :, 11 - corner[2] :] = STONE + AIR
    found.learn(corner, entries)
    return found


def views(*, mapped: bool, off: float = 1.0) -> Views:
    """Return four views of that wall, all grey."""
    distance = np.repeat((off * 2.5 / RAYS[2])[None], 4, 0).astype(np.float32)
    shape, there = distance.shape, np.ones(distance.shape, np.bool_)
    return Views(
        np.full((*shape, 3), 200, np.uint8), there, np.ones(shape, np.float32), distance, EYE[None].repeat(4, 0),
        mapped=there & mapped,
    )  # fmt: skip


def test_a_strike_goes_on_while_the_same_block_is_aimed_at():
    other = np.array([8, 20, 12])
    strike = NOTHING
    for _ in range(3):
        strike = strike.going_on(AIMED, strikes=True)
    assert strike == Strike((8, 20, 11), 3) and Strike.of(strike.array) == strike
    assert strike.going_on(other, strikes=True).ticks == 1
    assert strike.going_on(AIMED, strikes=False) == Strike((8, 20, 11), 0)
    assert strike.going_on(None, strikes=True) == NOTHING == Strike.of(NOTHING.array)


def test_a_block_is_in_the_next_stage_after_each_tenth_of_its_time():
    found = marks()
    assert [found.stage(STONE, ticks) for ticks in (0, 1, 5, 9, 10, 99)] == [0, 2, 6, 10, 10, 10]
    assert found.stage(1, 5) == found.stage(-2, 5) == 6  # nobody saw it break, or nobody knows it


def test_parts_are_counted_from_the_upper_edge_of_a_face():
    part = parts_of(AIMED, EYE, RAYS, (2.5 / RAYS[2]).astype(np.float32))
    rows, columns = (part != NO_PART).nonzero()
    assert len(rows) > 100 and (np.diff(part[rows.min() : rows.max() + 1, columns.min() + 1] // PARTS) >= 0).all()
    assert part[rows.min(), columns.min() + 1] // PARTS <= 1
    x = EYE[0] + RAYS[0] / RAYS[2] * -2.5  # at yaw 0 right is -x
    inside = part != NO_PART
    np.testing.assert_array_equal(part[inside] % PARTS, np.floor((x[inside] - 8) * PARTS))
    assert (parts_of(AIMED, EYE, RAYS, np.full(SIZE, 9.0, np.float32)) == NO_PART).all()


@pytest.mark.parametrize("mapped", [True, False])
def test_the_block_that_is_struck_shows_it_and_no_other(blocks, mapped):
    actions = np.zeros((4, ACTION_SIZE), np.float32)
    actions[1:, BUTTON_INDEX["attack"]] = 1
    # What is remembered is not exactly where it is.
    before = views(mapped=mapped, off=1.0 if mapped else 1.05)
    seen, strike = mark(before, range(4), marks(), NOTHING, actions, RAYS, LENS, blocks)
    assert strike == Strike((8, 20, 11), 3)
    changed = (seen.pictures != 200).any(-1)
    part = parts_of(AIMED, EYE, RAYS, before.distances[0], 0.15)
    assert all(np.array_equal(frame, part != NO_PART) for frame in changed)
    shades = [int(frame[part != NO_PART].mean()) for frame in seen.pictures]
    assert shades == [int(200 * marks().dims[stage, 0, 0] + 0.5) for stage in (0, 2, 3, 4)]
    assert seen.bare is not None and (seen.bare == 200).all() and (before.pictures == 200).all()
    assert np.array_equal(seen.certain(), changed | mapped)
    away = views(mapped=mapped)._replace(eyes=(EYE - [0, 0, 3, 0, 0])[None].repeat(4, 0))
    far = away._replace(distances=away.distances * 2.2)
    out, strike = mark(far, range(4), marks(), NOTHING, actions, RAYS, LENS, blocks)
    assert strike == NOTHING and (out.pictures == 200).all()  # out of reach


def test_marks_are_nothing_to_remember():
    place = Place(SIZE, LENS)
    place.begin(EYE)
    place.ahead = views(mapped=False)._replace(bare=np.full((4, *SIZE, 3), 200, np.uint8))
    place.ahead.pictures[:, 20:30, 30:50] = 90
    calm = np.full((4, SIZE[0] // 8, SIZE[1] // 8), 0.1, np.float32)
    shown = place.sharpened(np.where(place.ahead.pictures == 90, 95, 195).astype(np.uint8), calm, calm)
    assert (shown[-1, 20:30, 30:50] == 90).all() and place.marked.sum() == 200
    state = place.save()
    place.remember(shown[-1], np.full(SIZE, 2.5, np.float32), 0.0)
    assert (place.memory.pictures[0] == 200).all()
    other = Place(SIZE, LENS)
    other.restore(state)
    other.remember(shown[-1], np.full(SIZE, 2.5, np.float32), 0.0)
    assert (other.memory.pictures[0] == 200).all()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "data"
    keys = ["episodes=6", "ticks=300", "workers=0", "hands=1.0", "task=free", f"frame_size=[{SIZE[0]},{SIZE[1]}]"]
    assert main(["record", f"out={out}", "seed=31", *keys]) == 0
    return list_episodes(out)


def test_outline_cracks_and_how_long_blocks_last_are_learned(recorded):
    textures, marking = Textures(20, LENS), Marking(20, LENS)
    for path, episode in read_all(recorded, frame_size=SIZE):
        eyes = eyes_of(episode.poses, episode.actions[:, BUTTON_INDEX["sneak"]])
        marking.see(episode, eyes, read_blocks(path))
    flat = np.full((20, FACES, TEXELS, TEXELS, 3), 0.5, np.float32)
    found = marking.result(flat, np.ones(20, np.float32))
    assert found.dims.shape == (STAGES, PARTS, PARTS) and textures.frames == []
    dug = np.flatnonzero(found.lasts)
    assert len(dug) >= 2 and np.abs(found.lasts[dug] - DIG_TICKS[dug]).max() <= 1
    assert 2.0 < found.reach <= 4.5
    rim = np.ones((PARTS, PARTS), bool)
    rim[1:-1, 1:-1] = False
    middle = found.dims[:, 4:-4, 4:-4].mean((1, 2))
    assert found.dims[0][rim].mean() < 0.8 * middle[0]
    assert middle[8] < 0.85 * middle[0] and middle[4] > middle[8]


def test_how_a_hand_swings_is_learned(recorded):
    frames = []
    for slot in range(HOTBAR_SLOTS):
        world = VoxelWorld(frame_size=SIZE)
        world.reset([Start(seed=5)])
        actions = np.zeros((1, 4, ACTION_SIZE), np.float32)
        actions[0, 0, BUTTON_INDEX[f"hotbar.{slot + 1}"]] = 1
        frames.append(world.step(actions).frames[0, -1])
    looks = np.stack(frames)
    shape = looks.std(0).max(-1) > 4
    swing, placing = learn_swing(
        recorded, torch.from_numpy(shape), torch.from_numpy(looks / np.float32(255)).permute(0, 3, 1, 2), SIZE
    )  # fmt: skip
    size = max(12, SIZE[0] // 5)
    true = [bob * size // 16 for bob in (0, 2, 4, 5, 4, 2)]
    assert placing and swing.tolist() == [[dip, -dip] for dip in true]
    nothing = learn_swing(recorded, torch.from_numpy(shape & False), torch.from_numpy(looks), SIZE)
    assert nothing[0].tolist() == [[0, 0]] and not nothing[1]


def test_who_has_never_seen_blocks_break_marks_none():
    net = CompletionNet(CompletionConfig(width=8, deep=16))
    assert net.marks() is None
    net.reach.fill_(4.5)  # dug a few times, but no kind often enough
    assert net.marks() is None
    net.lasts[3] = 8
    found = net.marks()
    assert found is not None and found.stage(7, 4) == 6
    earlier = CompletionNet(CompletionConfig(width=8, deep=16, marks=False))
    assert earlier.marks() is None and "dims" not in earlier.state_dict()
