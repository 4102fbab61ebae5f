"""The shipped checkpoint: the right file, and a dream that does what the player does."""

import math

import numpy as np
import pytest
import torch

from latentcraft.agents.learning.policy import load_policy_file
from latentcraft.agents.players import AUTOPILOT, make_player
from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.model.camera import EYE_HEIGHT
from latentcraft.model.checkpoint import SHIPPED, load_checkpoint
from latentcraft.model.shipped import AUTOPILOT as AUTOPILOT_FILE
from latentcraft.model.standing import BASE, SHAPE
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.tasks import BEACON_REACH
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE, place_beacon
from latentcraft.simulator.voxel.world import VoxelWorld

SEEDS = [HELD_OUT_SEED + offset for offset in (1, 2, 3, 5)]


@pytest.fixture(scope="module")
def dream() -> DreamWorld:
    return DreamWorld(num_worlds=len(SEEDS))


def error(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.square(one.astype(np.float64) - two.astype(np.float64)).mean())


def turning(degrees: float) -> np.ndarray:
    script = noop(len(SEEDS), 4)
    script[..., YAW] = degrees
    return script


def test_size_and_provenance():
    assert SHIPPED.stat().st_size <= 48_000_000
    provenance = load_checkpoint().provenance
    assert provenance["frames"] >= 150_000  # of its last fine-tuning; what it began with had learned from 499,095
    assert provenance["dynamics_seconds"] > 0
    assert provenance["autoencoder_seconds"] > 0


def test_a_start_looks_like_the_reference(dream: DreamWorld):
    reference = VoxelWorld(num_worlds=len(SEEDS))
    starts = [Start(seed=seed) for seed in SEEDS]
    np.testing.assert_array_equal(dream.reset(starts), reference.reset(starts))
    still = noop(len(SEEDS), 4)
    psnr = 10 * np.log10(255**2 / error(dream.step(still).frames, reference.step(still).frames))
    assert psnr > 22


@pytest.mark.parametrize("size", [(48, 80), (96, 160), (192, 320)])
def test_it_knows_distances_in_pictures_of_any_size(size: tuple[int, int]):
    depth = load_checkpoint(dtype=torch.float32).scene.depth
    world = VoxelWorld(num_worlds=len(SEEDS), frame_size=size)
    frames = torch.from_numpy(world.reset([Start(seed=seed) for seed in SEEDS])[:, -1]).permute(0, 3, 1, 2) / 127.5 - 1
    pitches = torch.tensor([world.game(index).pose[4] for index in range(len(SEEDS))])
    told = depth.distances(frames, pitches).numpy()
    true = np.stack([world.distances(index) for index in range(len(SEEDS))])
    solid = (true > 0.2) & (true < 30) & (told > 0)
    off = np.log(told[solid] / true[solid])
    assert abs(np.median(off)) < 0.15 and np.median(abs(off)) < 0.25


def test_turning_turns_the_way_the_player_turns(dream: DreamWorld):
    """After two chunks, the dream lies nearer the true frames than those of the opposite turn, on every seed's sum."""
    reference = VoxelWorld(num_worlds=len(SEEDS))
    starts = [Start(seed=seed) for seed in SEEDS]
    seen = {}
    for name, world in (("dream", dream), ("reference", reference)):
        for side in (-2.5, 2.5):
            world.reset(starts)
            seen[name, side] = np.concatenate([world.step(turning(side)).frames for _ in range(2)], axis=1)
    for side in (-2.5, 2.5):
        dreamed = seen["dream", side]
        assert error(dreamed, seen["reference", side]) < error(dreamed, seen["reference", -side])


def test_a_place_that_left_the_frame_comes_back(dream: DreamWorld):
    """After 60 degrees to the right and back, the view is nearer the first one than what was seen in between."""
    first = dream.reset([Start(seed=seed) for seed in SEEDS])[:, -1]
    for _ in range(5):
        away = dream.step(turning(3.0)).frames[:, -1]
    for _ in range(5):
        back = dream.step(turning(-3.0)).frames[:, -1]
    for index in range(len(SEEDS)):
        assert error(back[index], first[index]) < 0.4 * error(away[index], first[index])


def test_it_is_less_sure_of_what_comes_into_view(dream: DreamWorld):
    starts = [Start(seed=seed) for seed in SEEDS]
    dream.reset(starts)
    still = [info["uncertainty"] for info in dream.step(noop(len(SEEDS), 4)).infos]
    dream.reset(starts)
    turned = [info["uncertainty"] for info in dream.step(turning(4.0)).infos]
    assert all(0 < before < after <= 1 for before, after in zip(still, turned, strict=True))


def test_what_it_invented_it_stays_unsure_of_and_what_was_real_it_knows_again(dream: DreamWorld):
    dream.reset([Start(seed=seed) for seed in SEEDS])
    looks: list[list[float]] = []
    for angle in (3.0,) * 8 + (0.0,) * 4 + (-3.0,) * 8:  # 96 degrees to the right, a while there, and back
        looks.append([info["uncertainty"] for info in dream.step(turning(angle)).infos])
    for away, later, back in zip(looks[7], looks[11], looks[-1], strict=True):
        assert back < 0.7 * later and later > 0.8 * away, (away, later, back)


def test_the_autopilot_plays_the_dream_by_what_it_sees_and_the_same_again():
    def play(seed: int) -> tuple[np.ndarray, np.ndarray]:
        world = DreamWorld(num_worlds=1, steps=1)
        frames = world.reset([Start(seed=HELD_OUT_SEED + 1)])[0]
        player, acted = make_player(AUTOPILOT, world, seed), []
        for _ in range(12):
            acted.append(player.act(world, frames))
            frames = world.step(acted[-1][None]).frames[0]
        return np.stack(acted), frames

    (actions, frames), again, other = play(0), play(0), play(1)
    assert np.array_equal(actions, again[0]) and np.array_equal(frames, again[1])
    assert not np.array_equal(actions, other[0])
    assert len(np.unique(actions[:, 0], axis=0)) >= 4  # it does not stand, nor hold one move
    saved = load_policy_file(AUTOPILOT_FILE)
    assert saved.provenance["loss"] < saved.provenance["guessing"]  # on episodes it did not learn from


def test_felling_pays_in_the_dream_as_in_the_reference_and_digging_does_not():
    """Of the first held-out games of chop, those in which striking ahead fells a log, and as many where it digs."""
    trees, others = [900004, 900005, 900009, 900012, 900013, 900015], [900002, 900014, 900020, 900026, 900027, 900028]
    strike = noop(len(trees + others), 4)
    strike[..., BUTTON_INDEX["attack"]] = 1
    paid = {}
    for world in (DreamWorld(num_worlds=12, task="chop", frames="last"), VoxelWorld(num_worlds=12, task="chop")):
        world.reset([Start(seed=seed) for seed in trees + others])
        paid[world.spec.name] = sum(world.step(strike).rewards.sum(1) for _ in range(6))
    assert paid["voxel"].tolist() == [1] * 6 + [0] * 6
    assert (paid["dream"][:6] > 0.5).sum() >= 3
    assert (paid["dream"][6:] < 0.5).sum() >= 5 and paid["dream"][6:].mean() < 0.25 < paid["dream"][:6].mean()


def beacon_from(world: VoxelWorld) -> np.ndarray:
    """Return how far away the beacon of the game is, to the east, up from the feet, and to the south."""
    (x, y, z, *_), beacon = world.game().pose, world.game().beacon
    assert beacon is not None
    half = MAP_SIZE / 2  # the map goes round
    east, south = (beacon[0] + 0.5 - x + half) % MAP_SIZE - half, (beacon[2] + 0.5 - z + half) % MAP_SIZE - half
    return np.array([east, beacon[1] - y, south])


def test_going_pays_most_where_the_beacon_is_seen(dream: DreamWorld):
    scene, world = dream.model.scene, VoxelWorld(1, "navigate-shaped", (96, 160))
    assert scene is not None and scene.goals is not None
    task, ahead = torch.full((4,), TASK_INDEX["navigate-shaped"]), torch.tensor([[0.0, 0.2]] * 4)
    paid = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 16):
        world.reset([Start(seed=seed)])
        (x, y, z, *_), (east, _, south) = world.game().pose, beacon_from(world)
        there = math.degrees(math.atan2(-east, south))
        looks = np.stack([world.render_pose(0, (x, y, z, there + turn, 0.0)) for turn in (0, 90, 180, 270)])
        way, end = scene.goals(dream.model.autoencoder.encode(torch.from_numpy(looks)), ahead, task)
        assert end.sigmoid().max() < 0.1  # it is 12 blocks away at least
        paid.append(way.tolist())
    told = np.array(paid)
    assert (told.argmax(1) == 0).mean() > 0.5 and told[:, 0].mean() > 1.5 * told[:, 1:].mean()


def test_it_says_where_a_beacon_stands_that_is_seen_and_what_coming_nearer_pays(dream: DreamWorld):
    scene, world = dream.model.scene, VoxelWorld(1, "navigate", (96, 160))
    assert scene is not None and scene.whereabouts is not None
    net, there, off = scene.whereabouts, [], []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 24):
        world.reset([Start(seed=seed)])
        (x, y, z, *_), (east, up, south) = world.game().pose, beacon_from(world)
        yaw = math.degrees(math.atan2(-east, south)) + (seed % 3 - 1) * 15  # in the middle or to a side
        looks = np.stack([world.render_pose(0, (x, y, z, yaw + turn, 0.0)) for turn in (0, 180)])
        told = net(torch.from_numpy(looks).permute(0, 3, 1, 2) / 127.5 - 1, torch.zeros(2))
        there.append((1 - told.logits.softmax(1)[:, -1]).tolist())
        eye = np.array([x, y + EYE_HEIGHT, z, yaw, 0.0])
        cell = net.draw(looks[:1], eye[None], np.random.default_rng(0))
        off.append(np.abs(cell + [0.5, 0, 0.5] - [x + east, y + up, z + south]) / math.hypot(east, south))
    chances, errors = np.array(there), np.array(off)
    seen = chances[:, 0] > 0.5  # behind trees and hills it is not
    assert seen.mean() >= 0.4 and chances[:, 1].mean() < 0.15
    assert np.median(np.hypot(errors[seen, 0], errors[seen, 2])) < 0.2 and np.median(errors[seen, 1]) < 0.08
    for name, rate in (("navigate", 0.0), ("navigate-shaped", 0.1)):
        task = TASK_INDEX[name]
        assert bool(net.by_place[task]) and float(net.rate[task]) == pytest.approx(rate, abs=0.002)
        assert float(net.prize[task]) == pytest.approx(1, abs=0.02)
        assert float(net.reach[task]) == pytest.approx(BEACON_REACH, abs=0.1)
    assert net.by_place.sum() == 2
    blocks = np.zeros((MAP_SIZE, MAP_SIZE, MAP_HEIGHT), np.uint8)
    place_beacon(blocks, 8, 20, 8)
    own = blocks[8 - BASE[0] : 8 + 3, 8 - BASE[2] : 8 + 3, 20 - BASE[1] : 20 - BASE[1] + SHAPE[1]] > 0
    assert np.array_equal(net.goal().shape, own.transpose(0, 2, 1))
