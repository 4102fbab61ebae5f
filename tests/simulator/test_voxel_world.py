"""The voxel world: determinism, physics, tasks, save and restore."""

import math
from pathlib import Path

import numba
import numpy as np
import pytest

from latentcraft.errors import UserError
from latentcraft.model import actions as action_space
from latentcraft.model.camera import SKY
from latentcraft.simulator.protocol import WARMUP_CHUNKS, Start, WorldState
from latentcraft.simulator.voxel import blocks as block_types
from latentcraft.simulator.voxel import physics
from latentcraft.simulator.voxel.blocks import AIR, BEDROCK, WATER
from latentcraft.simulator.voxel.compiling import cache_folder
from latentcraft.simulator.voxel.tasks import horizontal_distance
from latentcraft.simulator.voxel.terrain import MAP_SIZE
from latentcraft.simulator.voxel.world import VoxelWorld

SEED = 7
FLOOR = 10
"""The flat test map's highest stone block."""


def script(chunks, b=1, seed=0):
    """A reproducible mess of all buttons and camera moves, float32 (chunks, b, 4, 20)."""
    random = np.random.default_rng(seed)
    actions = (random.random((chunks, b, 4, action_space.ACTION_SIZE)) < 0.3).astype(np.float32)
    actions[..., action_space.BUTTON_INDEX["forward"]] = 1
    actions[..., action_space.PITCH :] = random.uniform(-9, 9, (chunks, b, 4, 2))
    return actions


def action(**buttons):
    """One action vector from keywords; ``hotbar_3`` is ``hotbar.3``."""
    return action_space.to_vector({name.replace("_", "."): value for name, value in buttons.items()})


def flat_game(x=8.5, z=8.5, yaw=0.0):
    """A grid of stone up to FLOOR and a player on it."""
    blocks = np.zeros((MAP_SIZE, MAP_SIZE, 64), np.uint8)
    blocks[..., : FLOOR + 1] = block_types.STONE
    return physics.build_grid(blocks), *physics.new_player(x, FLOOR + 1.0, z, yaw)


def play(game, vector, ticks):
    """Tick with one action; returns the list of heights and the events of the last tick."""
    events, heights = np.empty(4, np.int64), []
    for _ in range(ticks):
        physics.tick(*game, vector, events)
        heights.append(game[1][physics.Y])
    return heights, events


def dig_until_gone(world, limit=40):
    """Hold attack for up to ``limit`` chunks; returns the sum of rewards until the target changes."""
    before, total = world.game(0).target, 0.0
    attack = np.broadcast_to(action(attack=1), (1, 4, action_space.ACTION_SIZE))
    for _ in range(limit):
        total += float(world.step(attack).rewards.sum())
        if world.game(0).target != before:
            return total
    raise AssertionError("the block did not break")


def player_of(world):
    """The running game's own state, to put the player somewhere."""
    game = world._games[0]
    return game, game.body, game.status


def stand(world, x, y, z, yaw, pitch):
    """Put the player somewhere, at rest."""
    game, body, status = player_of(world)
    body[:] = (x % MAP_SIZE, y, z % MAP_SIZE, yaw, pitch, 0, 0, 0)
    physics.aim(game.grid, body, status)


def noop_chunk():
    return action_space.noop(1, 4)


def test_same_seed_and_actions_give_the_same_bits():
    runs = []
    for _ in range(2):
        world = VoxelWorld()
        frames = [world.reset([Start(seed=SEED)])]
        frames += [world.step(chunk).frames for chunk in script(6)]
        runs.append(np.stack(frames))
    assert np.array_equal(*runs)
    assert runs[0].std() > 10  # and they show something


def test_other_seeds_give_other_frames():
    world = VoxelWorld(num_worlds=2)
    frames = world.reset([Start(seed=1), Start(seed=2)])
    assert not np.array_equal(frames[0], frames[1])


def test_a_batch_member_equals_a_single_world():
    actions = script(4, b=2)
    batch, single = VoxelWorld(num_worlds=2, task="explore"), VoxelWorld(task="explore")
    assert np.array_equal(batch.reset([Start(seed=3), Start(seed=4)])[1], single.reset([Start(seed=4)])[0])
    for chunk in actions:
        both, one = batch.step(chunk), single.step(chunk[1:])
        assert np.array_equal(both.frames[1], one.frames[0])
        assert np.array_equal(both.rewards[1], one.rewards[0])
        assert both.infos[1]["pose"] == one.infos[0]["pose"]


@pytest.mark.parametrize("task", ["free", "explore", "build", "navigate-shaped"])
def test_restore_continues_to_the_bit(task):
    world, other = VoxelWorld(task=task), VoxelWorld(task=task)
    world.reset([Start(seed=SEED)])
    for chunk in script(8):
        last = world.step(chunk)
    state = world.save()
    assert np.array_equal(other.restore(state), last.frames[0])
    assert np.array_equal(other.history()[0], world.history()[0])
    for chunk in script(5, seed=1):
        a, b = world.step(chunk), other.step(chunk)
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.rewards, b.rewards)
    # Playing on did not write into the saved state.
    assert np.array_equal(other.restore(state), last.frames[0])


def test_restore_refuses_a_foreign_state():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    with pytest.raises(UserError, match="dream"):
        world.restore(WorldState("dream"))
    with pytest.raises(UserError, match="task"):
        VoxelWorld(task="chop").restore(world.save())
    with pytest.raises(UserError, match="frame_size"):
        VoxelWorld(frame_size=(64, 64)).restore(world.save())


def test_history_is_the_warm_up():
    world = VoxelWorld()
    first = world.reset([Start(seed=SEED)])
    frames, actions, poses = world.history(0)
    assert frames.shape == (WARMUP_CHUNKS * 4, 96, 160, 3) and frames.dtype == np.uint8
    assert actions.shape == (WARMUP_CHUNKS * 4, action_space.ACTION_SIZE) and actions.dtype == np.float32
    assert np.array_equal(frames[-4:], first[0])
    assert poses.shape == (WARMUP_CHUNKS * 4, 5) and tuple(poses[-1]) == world.game(0).pose


def test_a_lead_is_played_before_the_game_begins():
    """The game begins where playing the lead from the seed's start leads to; the history goes on through it."""
    played, led = VoxelWorld(1, "free", (32, 48)), VoxelWorld(1, "free", (32, 48))
    played.reset([Start(seed=SEED)])
    acts = script(3)
    frames = [played.step(part).frames[0] for part in acts]
    lead = acts[:, 0].reshape(12, -1)
    begun = led.reset([Start(seed=SEED, lead=lead)])
    assert np.array_equal(begun[0], frames[-1])
    history = led.history(0)
    assert len(history.frames) == (WARMUP_CHUNKS + 3) * 4 and np.array_equal(history.actions[-12:], lead)
    assert np.array_equal(history.frames[-12:], np.concatenate(frames))
    assert np.array_equal(led.step(acts[0]).frames, played.step(acts[0]).frames)
    led.reset([Start(seed=SEED)])
    assert len(led.history(0).frames) == WARMUP_CHUNKS * 4
    for bad, error in ((lead[:3], "whole chunks"), (lead[:, :4], "20"), (lead + np.nan, "finite|NaN")):
        with pytest.raises(UserError, match=error):
            led.reset([Start(seed=SEED, lead=bad)])


def test_a_reset_with_a_bad_start_changes_nothing():
    world = VoxelWorld(num_worlds=2)
    world.reset([Start(seed=1), Start(seed=2)])
    with pytest.raises(UserError, match="seed"):
        world.reset([Start(seed=5), Start(seed=-1)])
    assert [world.save(index).meta["seed"] for index in range(2)] == [1, 2]


def test_reset_of_some_leaves_the_others_alone():
    world = VoxelWorld(num_worlds=2)
    world.reset([Start(seed=1), Start(seed=2)])
    chunk = world.step(script(1, b=2)[0])
    frames = world.reset([None, Start(seed=5)])
    assert np.array_equal(frames[0], chunk.frames[0])
    assert not np.array_equal(frames[1], chunk.frames[1])


def test_surroundings_are_the_blocks_around_the_player():
    world = VoxelWorld()
    world.reset([Start(seed=3)])
    game = world.game(0)
    x, y, z = (math.floor(value) for value in game.pose[:3])
    corner, blocks = world.surroundings(0, (8, 90, 6))
    assert corner.tolist() == [x - 4, y - 45, z - 3] and blocks.shape == (8, 90, 6)
    for i, j, k in ((0, 44, 0), (4, 44, 3), (4, 45, 3), (7, 50, 5)):
        cell = game.blocks[(corner[0] + i) % 256, (corner[2] + k) % 256, corner[1] + j]
        assert blocks[i, j, k] == cell
    assert blocks[4, 44, 3] != AIR and blocks[4, 45, 3] in (AIR, WATER)  # what one stands on, and in
    assert (blocks[:, : max(0, -corner[1])] == BEDROCK).all()
    assert (blocks[:, 64 - corner[1] :] == AIR).all()


def test_a_full_turn_shows_the_same_frame():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    for _ in range(4):  # come to rest
        world.step(noop_chunk())
    x, y, z, _, _ = world.game(0).pose
    stand(world, x, y, z, -60.0, 0.0)
    before = world.game(0).pose
    turn = np.broadcast_to(action(camera=(0, 30)), (1, 4, action_space.ACTION_SIZE))
    world.step(turn)
    quarter = world.game(0).pose
    for _ in range(2):
        world.step(turn)
    assert world.game(0).pose == before
    frame = world.render_pose(0, before)
    assert np.array_equal(frame, world.render_pose(0, (x, y, z, -60.0 + 360.0, 0.0)))
    assert not np.array_equal(frame, world.render_pose(0, quarter))


def test_turning_right_turns_towards_minus_x_from_plus_z():
    game = flat_game()
    play(game, action(camera=(0, 30)), 3)
    assert game[1][physics.BODY_YAW] == pytest.approx(90)
    play(game, action(forward=1), 20)
    assert game[1][physics.X] < 8.5 - 2


@pytest.mark.parametrize(
    ("buttons", "speed"), [({}, 4.317), ({"sprint": 1}, 5.612), ({"sneak": 1}, 1.295)], ids=["walk", "sprint", "sneak"]
)
def test_speeds(buttons, speed):
    game = flat_game()
    vector = action(forward=1, **buttons)
    play(game, vector, 20)
    before = game[1][physics.Z]
    play(game, vector, 20)
    assert game[1][physics.Z] - before == pytest.approx(speed, rel=0.01)


def test_jump_is_a_block_and_a_quarter_high():
    game = flat_game()
    play(game, action(), 3)
    heights, _ = play(game, action(jump=1), 8)
    assert max(heights) - (FLOOR + 1) == pytest.approx(1.252, abs=0.01)
    heights, _ = play(game, action(), 12)
    assert heights[-1] == FLOOR + 1 and game[2][physics.ON_GROUND]


def test_a_wall_stops_the_player():
    game = flat_game()
    for y in (FLOOR + 1, FLOOR + 2):
        physics.set_block(game[0], 8, y, 12, block_types.BRICK)
    play(game, action(forward=1, sprint=1), 60)
    assert game[1][physics.Z] == pytest.approx(12 - physics.WIDTH / 2)
    assert game[1][physics.X] == 8.5


def test_walking_round_the_map_comes_back():
    game = flat_game(z=MAP_SIZE - 1.0)
    play(game, action(forward=1), 20)
    assert 0 < game[1][physics.Z] < 4
    game = flat_game(x=0.5, yaw=90.0)  # looks along -x, over the seam
    physics.set_block(game[0], MAP_SIZE - 2, FLOOR + 1, 8, block_types.BRICK)
    play(game, action(forward=1), 30)
    assert game[1][physics.X] == pytest.approx(MAP_SIZE - 1 + physics.WIDTH / 2)


def test_the_view_crosses_the_seam():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    y = world.game(0).pose[1]
    inside = world.render_pose(0, (0.01, y + 8, 100.0, 90.0, 10.0))
    assert np.array_equal(inside, world.render_pose(0, (MAP_SIZE + 0.01, y + 8, 100.0, 90.0, 10.0)))
    beyond = world.render_pose(0, (MAP_SIZE - 0.01, y + 8, 100.0, 90.0, 10.0))
    assert np.abs(inside.astype(int) - beyond).mean() < 2  # two centimetres on, the same view


def test_sneaking_stops_at_an_edge_and_walking_does_not():
    for sneak in (0, 1):
        game = flat_game()
        game[0].blocks[:, 10:, FLOOR] = block_types.AIR
        game = physics.build_grid(game[0].blocks), *game[1:]
        play(game, action(forward=1, sneak=sneak), 60)
        assert (game[1][physics.Y] == FLOOR + 1) == bool(sneak)


def test_water_slows_and_jump_swims_up():
    game = flat_game()
    game[0].blocks[..., FLOOR + 1 : FLOOR + 7] = block_types.WATER
    game = physics.build_grid(game[0].blocks), *game[1:]
    play(game, action(), 2)
    assert game[2][physics.IN_WATER]
    heights, _ = play(game, action(jump=1, forward=1), 60)
    assert heights[-1] > FLOOR + 4
    assert (game[1][physics.Z] - 8.5) / 3 < 2.5  # m/s
    heights, _ = play(game, action(), 10)
    assert 0 < heights[0] - heights[-1] < 1.2


def test_digging_takes_its_ticks_and_letting_go_starts_anew():
    game = flat_game()
    game[1][physics.BODY_PITCH] = 90
    ticks = int(block_types.DIG_TICKS[block_types.STONE])
    play(game, action(attack=1), ticks - 1)
    play(game, action(), 1)
    _, events = play(game, action(attack=1), ticks - 1)
    assert events[physics.DUG_CELL] < 0 and game[0].blocks[8, 8, FLOOR] == block_types.STONE
    _, events = play(game, action(attack=1), 1)
    assert events[physics.DUG_BLOCK] == block_types.STONE and game[0].blocks[8, 8, FLOOR] == block_types.AIR
    heights, _ = play(game, action(), 12)
    assert heights[-1] == FLOOR  # the player fell into the hole


def test_placing_uses_the_slot_and_waits():
    game = flat_game()
    game[1][physics.BODY_PITCH] = 40
    _, events = play(game, action(use=1, hotbar_3=1), 1)
    assert events[physics.PLACED_BLOCK] == block_types.HOTBAR[2]
    assert (game[0].blocks == block_types.BRICK).sum() == 1
    play(game, action(use=1), 3)
    assert (game[0].blocks == block_types.BRICK).sum() == 1
    play(game, action(use=1), 1)
    assert (game[0].blocks == block_types.BRICK).sum() == 2


def test_nothing_is_placed_inside_the_player():
    game = flat_game()
    game[1][physics.BODY_PITCH] = 90
    before = game[0].blocks.copy()
    play(game, action(use=1), 6)
    assert np.array_equal(before, game[0].blocks)


def test_column_words_follow_every_edit():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    for chunk in script(15):
        chunk[..., action_space.PITCH] = np.abs(chunk[..., action_space.PITCH])
        world.step(chunk)
    grid = player_of(world)[0].grid
    assert player_of(world)[0].edits
    for kept, fresh in zip(grid, physics.build_grid(grid.blocks), strict=True):
        assert np.array_equal(kept, fresh)


def test_chop_pays_for_grown_logs_once():
    world = VoxelWorld(task="chop")
    world.reset([Start(seed=SEED)])
    view = world.game(0)
    logs = np.argwhere(view.blocks == block_types.LOG)
    x, _, z = view.pose[:3]
    nearest = min(horizontal_distance(x, z, log[0] + 0.5, log[1] + 0.5) for log in logs)
    assert nearest < 8
    # Stand in the trunk's neighbour column, made free, and look at the log.
    log_x, log_z, log_y = (int(value) for value in min(logs, key=lambda log: log[2]))
    game = player_of(world)[0]
    for y in (log_y, log_y + 1):
        physics.set_block(game.grid, log_x, y, (log_z - 2) % MAP_SIZE, block_types.AIR)
        physics.set_block(game.grid, log_x, y, (log_z - 1) % MAP_SIZE, block_types.AIR)
    physics.set_block(game.grid, log_x, log_y - 1, (log_z - 2) % MAP_SIZE, block_types.STONE)
    stand(world, log_x + 0.5, log_y, log_z - 1.5, 0.0, 40.0)
    assert world.game(0).target == (log_x, log_y, log_z)
    assert dig_until_gone(world) == 1.0
    assert world.game(0).blocks[log_x, log_z, log_y] == block_types.AIR
    physics.set_block(game.grid, log_x, log_y, log_z, block_types.LOG)  # put back: the cell was changed before
    stand(world, log_x + 0.5, log_y, log_z - 1.5, 0.0, 40.0)
    assert dig_until_gone(world) == 0.0


@pytest.mark.parametrize("task", ["navigate", "navigate-shaped"])
def test_navigate_pays_and_ends_at_the_beacon(task):
    world = VoxelWorld(task=task)
    world.reset([Start(seed=SEED)])
    view = world.game(0)
    x, y, z = view.beacon
    assert 11 <= horizontal_distance(view.pose[0], view.pose[2], x + 0.5, z + 0.5) <= 41
    assert (view.blocks[x, z] == block_types.BEACON).sum() > 3
    chunk = world.step(noop_chunk())
    assert not chunk.terminated.any()
    before = chunk.infos[0]["distance"]
    stand(world, x + 2.5, y + 6, z + 0.5, 0.0, 0.0)
    chunk = world.step(noop_chunk())
    assert chunk.terminated.tolist() == [[True] * 4]
    shaped = 0.1 * (before - 2.0) if task == "navigate-shaped" else 0.0
    assert chunk.rewards[0, 0] == pytest.approx(1.0 + shaped, abs=1e-4)
    assert not world.step(noop_chunk()).rewards.any()


def test_build_pays_per_cell_takes_back_and_ends():
    world = VoxelWorld(task="build")
    world.reset([Start(seed=SEED)])
    view = world.game(0)
    markers = view.markers
    assert 4 <= len(markers) <= 8
    assert (view.blocks[markers[:, 0], markers[:, 2], markers[:, 1]] == block_types.MARKER).all()
    # Through a marker onto the ground below it: the block replaces the marker.
    x, y, z = (int(value) for value in markers[0])
    game = player_of(world)[0]
    assert physics.is_solid(game.grid, x, y - 1, z) and not physics.is_solid(game.grid, x, y, z)
    place = noop_chunk()
    place[0, 0] = action(use=1)
    for k in (1, 2):  # stand two blocks back, in free cells
        for up in range(3):
            physics.set_block(game.grid, x, y + up, (z - k) % MAP_SIZE, block_types.AIR)
        physics.set_block(game.grid, x, y - 1, (z - k) % MAP_SIZE, block_types.STONE)
    stand(world, x + 0.5, y, z - 1.5, 0.0, 39.0)
    assert world.game(0).target == (x, y - 1, z)
    chunk = world.step(place)
    assert chunk.rewards.sum() == 1 and chunk.infos[0]["filled"] == 1
    assert world.game(0).target == (x, y, z)
    assert dig_until_gone(world) == -1.0
    assert world.game(0).blocks[x, z, y] == block_types.MARKER
    for cell in markers:
        physics.set_block(game.grid, int(cell[0]), int(cell[1]), int(cell[2]), block_types.PLANKS)
    chunk = world.step(noop_chunk())
    assert chunk.terminated.all() and chunk.rewards.sum() == len(markers)


def test_explore_pays_new_ground_once():
    world = VoxelWorld(task="explore")
    world.reset([Start(seed=SEED)])
    x, y, z = world.game(0).pose[:3]
    assert world.step(noop_chunk()).rewards.sum() == 0
    stand(world, x + 40, 60, z + 40, 0.0, 0.0)
    assert world.step(noop_chunk()).rewards.tolist() == [[1, 0, 0, 0]]
    stand(world, x, y, z, 0.0, 0.0)
    assert world.step(noop_chunk()).rewards.sum() == 0


@pytest.mark.parametrize("task", ["chop", "navigate", "build"])
def test_every_seed_has_a_site(task):
    world = VoxelWorld(task=task, frame_size=(16, 16))
    for seed in range(300, 306):
        world.reset([Start(seed=seed)])
        view = world.game(0)
        assert view.task == task
        assert view.beacon is not None or task != "navigate"
        assert len(view.markers) >= 4 or task != "build"


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (48, 16), (160, 16), (320, 64), (1024, 16)])
def test_frame_sizes(size):
    world = VoxelWorld(frame_size=size, chunk=2)
    assert world.reset([Start(seed=SEED)]).shape == (1, 2, *size, 3)
    # Looking at the sky only the held block and the crosshair are drawn over the bare view: neither wraps round.
    game, _, status = player_of(world)
    stand(world, *game.pose[:3], 0, -90)
    frame = np.empty((*size, 3), np.uint8)
    for status[physics.SWING] in range(6):
        game.draw(world._renderers[0], frame)
        drawn = (frame != world.render_pose(0, game.pose)).any(axis=(0, 2))
        assert drawn.any() and not drawn[0] and not drawn[-1]


def test_compiled_code_is_cached_by_the_state_of_all_sources():
    before = numba.config.CACHE_DIR
    folder = cache_folder()
    assert folder is not None and folder.name.startswith("numba-")
    assert Path(physics.tick._cache.cache_path).parent == folder
    compiled_elsewhere = numba.njit(cache=True)(noop_chunk)
    assert folder not in Path(compiled_elsewhere._cache.cache_path).parents
    assert numba.config.CACHE_DIR == before


def test_distances_are_where_the_blocks_are():
    world = VoxelWorld(num_worlds=2)
    world.reset([Start(seed=SEED), Start(seed=SEED + 1)])
    down = np.zeros((2, 4, action_space.ACTION_SIZE), np.float32)
    down[..., action_space.PITCH] = 30
    world.step(down)
    world.step(down)  # straight down now
    assert world.game(0).pose[4] == 90
    for index in (1, 0):
        distance = world.distances(index)
        assert distance.shape == world.spec.frame_size
        assert distance[44, 76] == pytest.approx(physics.EYE, rel=0.02)  # the ground under the feet
    assert distance[48, 80] == 0  # the crosshair
    assert (distance[-12:, -20:] == 0).any()  # the held block
    up = -2 * down
    world.step(up)
    world.step(up)
    assert (world.distances(0) == SKY).any()


def test_infos():
    world = VoxelWorld(task="navigate")
    world.reset([Start(seed=SEED)])
    info = world.step(noop_chunk()).infos[0]
    assert info["task"] == "navigate" and info["poses"].shape == (4, 5) and info["poses"].dtype == np.float32
    assert np.allclose(info["poses"][-1], info["pose"])
    assert info["caption"].endswith("go to the beacon")
    assert info["changes"].shape == (4, 2) and not info["changes"].any()
    assert info["spots"].shape == (4, 2, 3) and not info["spots"].any()
    stand(world, 12.5, 40.0, 12.5, 0.0, 90.0)
    physics.set_block(player_of(world)[0].grid, 12, 39, 12, block_types.LEAVES)
    attack = np.broadcast_to(action(attack=1), (1, 4, action_space.ACTION_SIZE))
    infos = [world.step(attack).infos[0] for _ in range(2)]
    dug, spots = (np.concatenate([info[name] for info in infos]) for name in ("changes", "spots"))
    first = block_types.DIG_TICKS[block_types.LEAVES] - 1
    assert dug[:, 0].nonzero()[0][0] == first and not dug[:, 1].any()
    assert spots[first, 0].tolist() == [12, 39, 12]
    assert not spots[~dug].any() and np.isfinite(spots).all()


def test_spots_lie_on_the_players_side_of_the_seam():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    stand(world, 0.2, 40.0, 12.5, 90.0, 45.0)  # looks along -x, over the edge of the map
    physics.set_block(player_of(world)[0].grid, -1 % MAP_SIZE, 40, 12, block_types.LEAVES)
    attack = np.broadcast_to(action(attack=1), (1, 4, action_space.ACTION_SIZE))
    spots = np.concatenate([world.step(attack).infos[0]["spots"] for _ in range(2)])
    assert spots[spots.any(-1)][0].tolist() == [-1, 40, 12]


def test_the_view_of_a_game_is_read_only():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    with pytest.raises(ValueError, match="read-only"):
        world.game(0).blocks[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VoxelWorld(frame_size=(100, 160)), "16"),
        (lambda: VoxelWorld(task="fly"), "fly"),
        (lambda: VoxelWorld(num_worlds=0), "num_worlds"),
        (lambda: VoxelWorld().step(action_space.noop(1, 4)), "reset"),
        (lambda: VoxelWorld().reset([None]), "reset"),
        (lambda: VoxelWorld().reset([]), "start"),
        (lambda: VoxelWorld().reset([Start()]), "seed"),
        (lambda: VoxelWorld().reset([Start(seed=-1)]), "seed"),
        (lambda: VoxelWorld().game(1), "no world 1"),
    ],
)
def test_bad_input_gets_one_clear_line(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_bad_actions_change_nothing():
    world = VoxelWorld()
    world.reset([Start(seed=SEED)])
    pose = world.game(0).pose
    for bad in (action_space.noop(1, 3), np.full((1, 4, action_space.ACTION_SIZE), np.nan, np.float32)):
        with pytest.raises(UserError):
            world.step(bad)
    assert world.game(0).pose == pose


def test_fewer_frames_are_the_same_game_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch):
    starts = [Start(seed=SEED + index) for index in range(5)]
    worlds = {frames: VoxelWorld(5, "explore", (32, 48), frames=frames) for frames in ("all", "last", "none")}
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    worlds["threads"] = VoxelWorld(5, "explore", (32, 48))
    assert len(worlds["threads"]._renderers) == 3
    shown = {name: [world.reset(starts)] for name, world in worlds.items()}
    paid = {name: [] for name in worlds}
    for chunk in script(6, b=5):
        for name, world in worlds.items():
            step = world.step(chunk)
            shown[name].append(step.frames)
            paid[name].append((step.rewards, [info["poses"] for info in step.infos]))
    assert shown["none"][0].shape == shown["none"][1].shape == (5, 0, 32, 48, 3)
    np.testing.assert_equal(shown["threads"], shown["all"])
    np.testing.assert_equal([part[:, -1:] for part in shown["all"]], shown["last"])
    for name in worlds:
        np.testing.assert_equal(paid[name], paid["all"])
        worlds[name].close()


def test_a_state_fits_worlds_that_show_other_frames():
    seen = VoxelWorld(frame_size=(32, 48))
    seen.reset([Start(seed=SEED)])
    last = seen.step(script(1)[0]).frames[0, -1]
    blind = seen.like(2, frames="none")
    assert blind.spec.num_worlds == 2 and blind.spec.frames == "none" and blind.spec.frame_size == (32, 48)
    for index in range(2):
        assert blind.restore(seen.save(), index).shape == (0, 32, 48, 3)
    np.testing.assert_equal(seen.restore(blind.save(1)), np.stack([last] * 4))  # drawn where somebody looks


def test_restoring_takes_back_what_was_changed_since():
    """A game of the same seed and task is not built anew; only its changed blocks are."""
    world, fresh = VoxelWorld(frame_size=(32, 48)), VoxelWorld(frame_size=(32, 48))
    world.reset([Start(seed=SEED)])
    before = world.save()
    down = np.zeros((1, 4, action_space.ACTION_SIZE), np.float32)
    down[...] = action(attack=1, camera=(10, 0))
    while len(world._games[0].edits) < 3:
        world.step(down)
    after = world.save()
    for state in (before, after, before):
        world.restore(state)
        fresh._games[0] = None
        fresh.restore(state)
        for mine, anew in zip(world._games[0].grid, fresh._games[0].grid, strict=True):
            assert np.array_equal(mine, anew)
        assert world._games[0].edits == fresh._games[0].edits


def test_a_skipped_chunk_changes_nothing_but_what_was_shown_of_it():
    whole, skipping = VoxelWorld(2, frame_size=(32, 48)), VoxelWorld(2, frame_size=(32, 48))
    actions = action_space.noop(2, 4)
    actions[0, :, action_space.BUTTON_INDEX["forward"]] = 1
    for world in (whole, skipping):
        world.reset([Start(seed=7), Start(seed=8)])
    shown = whole.step(actions).frames
    skipping.skip(actions)
    assert (skipping.reset([None, None]) == shown[:, -1:]).all()
    state = skipping.save(0)
    after = whole.step(actions).frames
    assert (skipping.step(actions).frames == after).all()
    skipping.restore(state, 0)
    assert (skipping.step(actions).frames[0] == after[0]).all()
