from types import SimpleNamespace

import numpy as np
import pytest

from latentcraft.agents import digging, moving, playing
from latentcraft.agents.explorer import MIX, Explorer
from latentcraft.agents.senses import EYE, Senses
from latentcraft.model.actions import BUTTON_INDEX, CAMERA_LIMIT, HOTBAR_SLOTS, PITCH, YAW
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.blocks import BEACON, GRASS, LOG, STONE
from latentcraft.simulator.voxel.world import VoxelWorld

BLIND = SimpleNamespace(spec=SimpleNamespace(chunk=4))
"""A world that tells nothing of its state, as the dream."""


def play(task: str, seed: int, ticks: int = 400) -> tuple[np.ndarray, np.ndarray, bool, list]:
    """Return actions, rewards, whether the task ended, and the poses."""
    world = VoxelWorld(task=task, frame_size=(16, 16), chunk=1)
    explorer = Explorer(seed, task=task)
    world.reset([Start(seed=seed)])
    actions, rewards, poses, ended = [], [], [], False
    for _ in range(ticks):
        actions.append(explorer.act(world)[0])
        chunk = world.step(actions[-1][None, None])
        rewards.append(float(chunk.rewards[0, 0]))
        poses.append(chunk.infos[0]["pose"])
        ended |= bool(chunk.terminated[0, 0])
    return np.array(actions), np.array(rewards), ended, poses


def flat_senses(pose=(8.5, 10.0, 8.5, 0.0, 0.0)) -> tuple[Senses, np.ndarray]:
    """Senses over a flat meadow whose ground is at y = 9; change the blocks to taste."""
    blocks = np.zeros((32, 32, 32), np.uint8)
    blocks[:, :, :10] = GRASS
    me = Senses()
    me.update(SimpleNamespace(blocks=blocks, pose=pose, in_water=False, beacon=None, markers=[]))
    return me, blocks


def test_is_a_function_of_its_seed():
    first, again, other = play("free", 3, 80), play("free", 3, 80), play("free", 4, 80)
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any()


def test_free_play_moves_looks_and_changes_things():
    actions = np.concatenate([play("free", seed, 400)[0] for seed in range(12)])
    shares = dict(zip(BUTTON_INDEX, actions.mean(0), strict=False))
    assert 0.2 < (actions[:, YAW] != 0).mean() < 0.75
    assert 0.1 < shares["forward"] < 0.7
    assert 0.03 < shares["attack"] < 0.35
    assert shares["use"] > 0.005 and shares["jump"] > 0.01


def test_hands_dig_and_place_much_more_and_are_let_go_some_time_after_a_block_broke():
    def deeds(hands: bool) -> tuple[int, int]:
        broke, held_on = 0, 0
        for seed in range(3):
            world = VoxelWorld(frame_size=(16, 16), chunk=1)
            explorer = Explorer(seed, hands=hands)
            world.reset([Start(seed=seed)])
            solid, breaking = 0, False
            for _ in range(300):
                action = explorer.act(world)[0]
                held_on += breaking and bool(action[BUTTON_INDEX["attack"]])
                world.step(action[None, None])
                now = np.count_nonzero(world.game(0).blocks)
                breaking = now < solid
                broke, solid = broke + breaking, now
        return broke, held_on

    (usual, _), (much, held_on) = deeds(False), deeds(True)
    assert much > 1.5 * usual
    assert held_on > 0.8 * much


def test_chops_reaches_the_beacon_and_builds():
    assert sum(play("chop", seed)[1].sum() for seed in range(3)) >= 6
    assert sum(play("navigate", seed)[2] for seed in range(3)) >= 2
    assert sum(play("build", seed)[1].sum() for seed in range(3)) >= 5
    assert sum(play("explore", seed)[1].sum() for seed in range(2)) >= 8


@pytest.mark.parametrize(("side", "sought"), [(0, False), (1, True)])
def test_walks_to_a_beacon_that_it_sees_and_looks_for_one_behind_it(side, sought):
    me, blocks = flat_senses()
    beacon = (8, 10, 20) if side == 0 else (8, 10, 30)  # 12 blocks ahead (yaw 0 is +z); 10 behind, round the map
    blocks[beacon[0], beacon[2], 10:23] = BEACON
    me.view.beacon = beacon
    actions = []
    for action in playing.navigate(me, np.random.default_rng(0)):
        actions.append(action)
        me.follow(action)
        if action[BUTTON_INDEX["forward"]]:
            break
    turned = np.array([action[YAW] for action in actions])
    if not sought:
        assert len(actions) <= 3
    else:  # one way round until it is in the picture, not the short way to it
        assert 145 <= turned.sum() <= 190 and (turned[:-2] == playing.LOOKING).all()


def test_glances_aside_on_its_way_and_then_goes_on_with_it():
    me, _ = flat_senses()
    way = [moving.press("forward", pitch=0.01 * number) for number in range(1000)]
    actions = list(playing.glancing(me, np.random.default_rng(0), iter(way)))
    walked = [action for action in actions if action[BUTTON_INDEX["forward"]]]
    np.testing.assert_array_equal(walked, way)
    aside = np.array([action[YAW] for action in actions if not action[BUTTON_INDEX["forward"]]])
    assert 40 < len(aside) < 400 and (aside > 0).any() and (aside < 0).any()


def test_what_hides_a_beacon_hides_it_from_the_explorer():
    me, blocks = flat_senses()
    blocks[8, 20, 10:23] = BEACON
    assert playing.in_sight(me, (8, 10, 20))
    blocks[:, 14, 10:30] = STONE
    assert not playing.in_sight(me, (8, 10, 20))


def test_does_nothing_but_its_task_where_that_is_all_it_chooses():
    def dug(share: float) -> float:
        explorer = Explorer(2, task="explore", task_share=share)
        world = VoxelWorld(task="explore", frame_size=(16, 16), chunk=1)
        world.reset([Start(seed=2)])
        attacks = 0.0
        for _ in range(400):
            action = explorer.act(world)[0]
            attacks += action[BUTTON_INDEX["attack"]]
            world.step(action[None, None])
        return attacks

    assert dug(1.0) == 0 < dug(0.0)


def test_blind_play_is_valid_and_lively():
    explorer = Explorer(0)
    actions = np.concatenate([explorer.act(BLIND) for _ in range(1000)])  # type: ignore[arg-type]
    assert actions.shape == (4000, 20) and actions.dtype == np.float32 and np.isfinite(actions).all()
    assert set(np.unique(actions[:, :PITCH])) == {0, 1}
    assert np.abs(actions[:, PITCH:]).max() <= CAMERA_LIMIT
    assert explorer.pose(BLIND) is None  # type: ignore[arg-type]
    assert all(actions[:, BUTTON_INDEX[name]].any() for name in ("forward", "attack", "use", "jump", "left", "back"))


@pytest.mark.parametrize("behaviour", [*MIX, playing.chop, playing.navigate, playing.build], ids=lambda b: b.__name__)
def test_every_behaviour_ends_and_keeps_to_the_action_space(behaviour):
    rng = np.random.default_rng(0)
    for me in (Senses(), flat_senses()[0]):
        for count, action in enumerate(behaviour(me, rng)):
            me.follow(action)
            assert action.shape == (20,) and np.isfinite(action).all()
            assert np.abs(action[PITCH:]).max() <= CAMERA_LIMIT
            assert count < 3000


@pytest.mark.parametrize("speed", [1.0, 4.0, 25.0, 100.0])
def test_arcs_turn_exactly_and_within_the_limit(speed):
    for pitch, yaw in ((0, 360), (-60, 170), (1, 0), (0, -0.5)):
        moves = moving.arc(pitch, yaw, speed)
        np.testing.assert_allclose(moves.sum(0), (pitch, yaw), atol=1e-9)
        assert np.abs(moves).max() <= CAMERA_LIMIT
    assert len(moving.arc(0, 0, speed)) == 0


def test_change_and_return_looks_exactly_where_it_looked():
    me, _ = flat_senses()
    heights = []
    for seed in range(6):
        yaws = []
        for action in playing.change_and_return(me, np.random.default_rng(seed)):
            me.follow(action)
            yaws.append((me.yaw, me.pitch, action[:PITCH].any()))
        # The look at the end is one that was held for a while before turning away.
        end = np.array(yaws[-1][:2])
        same = [np.abs((np.array(look[:2]) - end + 180) % 360 - 180).max() < 1e-3 for look in yaws]
        away = same.index(True), len(same) - same[::-1].index(False)
        heights.append(away[0] < away[1] - 10)
    assert all(heights)


def test_rays_angles_and_paths():
    me, blocks = flat_senses()
    blocks[8, 11, 10:12] = STONE  # a wall two ahead (+z)
    hit = me.ray(0, 0)
    assert hit is not None and hit.cell == (8, 11, 11)
    assert hit.before == (8, 11, 10) and abs(hit.distance - 2.5) < 1e-9
    assert me.ray(90, 0) is None  # -x is free
    assert me.ahead(0, 2.6) == "wall" and me.ahead(180) == "free"
    yaw, pitch = me.angles_to((8.5, 10.0 + EYE, 20.5))
    assert abs(yaw) < 1e-6 and abs(pitch) < 1e-6
    assert me.angles_to((7.5, 10.0 + EYE, 8.5))[0] == pytest.approx(90)
    assert me.angles_to((31.5, 10.0 + EYE, 8.5))[0] == pytest.approx(90)  # the short way round the map
    path = me.path((8.5, 14.5), 0.5)
    assert path[0] == (8, 10, 8) and path[-1] == (8, 10, 14) and (8, 10, 11) not in path


def test_finds_the_nearest_log_and_a_face_to_build_on():
    me, blocks = flat_senses()
    blocks[10, 8, 10], blocks[20, 8, 10] = LOG, LOG
    assert me.nearest(LOG, 16)[0] == (10, 10, 8)
    aim = digging.face_towards(me, (8, 10, 11))
    assert aim is not None
    hit = me.ray(*aim)
    assert hit is not None and hit.cell == (8, 9, 11) and hit.before == (8, 10, 11)
    assert digging.face_towards(me, (8, 14, 11)) is None  # in mid air
    assert len(MIX) > 10 and HOTBAR_SLOTS == 9
