import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.agents.record import (
    RecordConfig,
    check_config,
    episode_task,
    main,
    record,
    remove_leftovers,
)
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.model.episodes import list_episodes, read_all, read_distances, read_episode
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.seam import unwrapped
from latentcraft.simulator.voxel.world import VoxelWorld

SMALL = {"frame_size": (32, 48), "ticks": 40, "workers": 0}


def test_records_resumes_and_tells_what_it_did(tmp_path, capsys):
    config = RecordConfig(out=tmp_path, episodes=2, seed=40, task="explore", **SMALL)
    assert main(config) == 0
    assert "2 episodes, 82 frames" in capsys.readouterr().out
    names = [path.name for path in list_episodes(tmp_path)]
    assert names == ["voxel-explore-0000040.jsonl", "voxel-explore-0000041.jsonl"]
    before = (tmp_path / names[0]).stat().st_mtime_ns
    stats = record(replace(config, episodes=3))
    assert stats.frames == 41 and len(list_episodes(tmp_path)) == 3
    assert (tmp_path / names[0]).stat().st_mtime_ns == before
    assert main(config) == 0 and "no new episodes" in capsys.readouterr().out


def test_an_episode_is_what_its_actions_do(tmp_path):
    """Replaying the recorded actions in the world gives the recorded poses and rewards, frame for frame."""
    record(RecordConfig(out=tmp_path, episodes=1, seed=7, task="navigate-shaped", **SMALL))
    episode = read_episode(list_episodes(tmp_path)[0])
    assert episode.seed == 7 and episode.task == "navigate-shaped" and episode.caption
    world = VoxelWorld(task="navigate-shaped", frame_size=(32, 48), chunk=1)
    frame = world.reset([Start(seed=7)])[0, -1]
    assert np.abs(episode.frames[0].astype(int) - frame).mean() < 12
    assert episode.poses is not None
    for i in range(1, len(episode)):
        chunk = world.step(episode.actions[i][None, None])
        np.testing.assert_allclose(chunk.infos[0]["pose"], episode.poses[i], atol=1e-2)
        np.testing.assert_allclose(chunk.rewards[0, 0], episode.rewards[i], atol=1e-3)
    assert np.abs(episode.frames[-1].astype(int) - chunk.frames[0, 0]).mean() < 12


def test_what_the_hand_did_is_recorded_as_the_world_told(tmp_path):
    record(RecordConfig(out=tmp_path, episodes=1, seed=11, task="free", hands=1.0, **SMALL | {"ticks": 160}))
    episode = read_episode(list_episodes(tmp_path)[0])
    assert episode.changes is not None and episode.changes.any() and not episode.changes[0].any()
    world = VoxelWorld(frame_size=(32, 48), chunk=1)
    world.reset([Start(seed=11)])
    told = [world.step(action[None, None]).infos[0] for action in episode.actions[1:]]
    np.testing.assert_array_equal(episode.changes[1:], [info["changes"][0] for info in told])
    spots = np.where(np.isnan(episode.spots), 0, episode.spots)
    np.testing.assert_array_equal(spots[1:], [info["spots"][0] for info in told])
    np.testing.assert_array_equal(np.isfinite(episode.spots).all(-1), episode.changes)


def test_games_without_outlines_differ_in_nothing_else(tmp_path):
    options = SMALL | {"ticks": 160, "frame_size": (96, 160)}
    for share in (0.0, 1.0):
        config = RecordConfig(out=tmp_path / str(share), episodes=1, seed=11, task="free", hands=1.0, **options)
        record(replace(config, outlines=share))
    bare, lined = (read_episode(list_episodes(tmp_path / str(share))[0]) for share in (0.0, 1.0))
    np.testing.assert_array_equal(bare.actions, lined.actions)
    np.testing.assert_array_equal(bare.poses, lined.poses)
    np.testing.assert_array_equal(bare.spots, lined.spots)
    apart = np.abs(bare.frames.astype(int) - lined.frames).max(-1) > 60
    assert apart.any((1, 2)).mean() > 0.3 and apart.mean() < 0.1


def test_a_policy_is_recorded_beside_the_explorer(tmp_path):
    """Its moves are held for whole chunks of four ticks; poses and rewards are those of its actions."""
    config = RecordConfig(out=tmp_path, episodes=1, seed=7, task="chop", player="autopilot", **SMALL)
    record(config)
    record(replace(config, player="explorer"))
    names = [path.name for path in list_episodes(tmp_path)]
    assert names == ["voxel-autopilot-chop-0000007.jsonl", "voxel-chop-0000007.jsonl"]
    policy, explorer = (read_episode(tmp_path / name) for name in names)
    assert not np.array_equal(policy.actions, explorer.actions)
    held = policy.actions[1:41].reshape(10, 4, -1)
    assert (held == held[:, :1]).all() and held.any()
    world = VoxelWorld(task="chop", frame_size=(32, 48))
    world.reset([Start(seed=7)])
    for chunk in range(10):
        played = world.step(held[None, chunk])
        np.testing.assert_allclose(played.infos[0]["poses"], policy.poses[1 + 4 * chunk : 5 + 4 * chunk], atol=1e-2)
    again = tmp_path / "again"
    record(replace(config, out=again))
    assert np.array_equal(read_episode(again / names[0]).actions, policy.actions)


def test_records_a_world_that_tells_no_state(tmp_path, monkeypatch):
    """As the dream: chunks of 4 frames, no game to look into, no poses."""
    world = FakeWorld(frame_size=(32, 48))
    monkeypatch.setattr("latentcraft.agents.record._cached_world", lambda *arguments: world)
    record(RecordConfig(out=tmp_path, episodes=1, world="dream", task="free", **SMALL | {"ticks": 42}))
    episode = read_episode(tmp_path / "dream-free-0000000")
    assert len(episode) == 43 and episode.poses is None and episode.world == "dream"
    forward = episode.actions[:, BUTTON_INDEX["forward"]]
    np.testing.assert_array_equal(episode.rewards, forward)


def test_same_seed_same_episode(tmp_path):
    for name in "ab":
        record(RecordConfig(out=tmp_path / name, episodes=1, seed=11, task="free", **SMALL))
    first, second = (next(iter(read_all(tmp_path / name)))[1] for name in "ab")
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.actions, second.actions)


def test_an_ended_task_ends_the_episode_soon(tmp_path):
    stats = record(RecordConfig(out=tmp_path, episodes=3, seed=0, task="navigate", **SMALL | {"ticks": 400}))
    assert stats.ends["navigate"] >= 1
    for _, episode in read_all(tmp_path):
        assert 41 <= len(episode) <= 401
        if len(episode) < 401:
            assert episode.terminated[-1] and episode.terminated.sum() >= 9 and episode.rewards.sum() == 1


def test_task_mix_has_every_task():
    config = RecordConfig(out=Path("x"))
    tasks = [episode_task(config, seed) for seed in range(400)]
    assert 120 < tasks.count("free") < 200
    assert all(tasks.count(task) > 20 for task in ("chop", "navigate", "navigate-shaped", "build", "explore"))
    assert episode_task(replace(config, task="chop"), 5) == "chop"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 899_999, "episodes": 2}, "held out"),
        ({"seed": -1}, "seed"),
        ({"episodes": 0}, "episodes"),
        ({"ticks": 10}, "ticks"),
        ({"frame_size": (90, 160)}, "multiple of 16"),
        ({"task": "fish"}, "unknown task"),
        ({"world": "moon"}, "unknown world"),
        ({"env": "CartPole-v1", "frame_size": None}, "frame_size"),
        ({"player": "tour"}, "player=tour is a script"),
        ({"player": "autopilot", "hands": 0.5}, "hands= is the explorer's"),
        ({"task_share": 1.5}, "task_share must be from 0 to 1, got 1.5"),
        ({"player": "autopilot", "task_share": 1.0}, "task_share= is the explorer's"),
        ({"outlines": 1.5}, "outlines must be from 0 to 1, got 1.5"),
        ({"world": "dream", "outlines": 0.5}, "outlines= is the reference world's"),
        ({"player": "nobody"}, "no player 'nobody'"),
    ],
)
def test_bad_keys_are_named_before_anything_is_written(tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason):
        record(RecordConfig(**{"out": tmp_path / "new", "episodes": 1} | changes))
    assert not (tmp_path / "new").exists()
    check_config(RecordConfig(out=tmp_path, seed=899_999, episodes=1))


def test_unwritable_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        record(RecordConfig(out=tmp_path / "file" / "x", episodes=1, **SMALL))


def test_processes_record_the_same_as_one(tmp_path):
    config = RecordConfig(out=tmp_path / "one", episodes=3, seed=20, **SMALL)
    record(config)
    record(replace(config, out=tmp_path / "two", workers=2))
    one, two = list_episodes(tmp_path / "one"), list_episodes(tmp_path / "two")
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("ending", ["ctrl-c", "kill"])
def test_an_ending_leaves_only_whole_episodes(tmp_path, ending):
    """Ctrl-C reaches the workers too, ``kill`` only the parent; after both no process and no torn file is left."""
    words = [f"out={tmp_path}", "episodes=500", "frame_size=[32,48]", "ticks=200", "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "latentcraft", "record", *words],
        start_new_session=True, stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores Ctrl-C, and so would whatever it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list_episodes(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    if ending == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    with pytest.raises(ProcessLookupError):  # nobody of its process group is left
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    episodes = list_episodes(tmp_path)
    assert len(episodes) >= 3
    assert len(list(tmp_path.iterdir())) == 4 * len(episodes)  # video, distances, blocks, jsonl
    assert len(list(read_all(episodes))) == len(episodes)


@pytest.mark.skipif(os.name != "posix", reason="asks whether a process runs")
def test_leftovers_of_dead_processes_go(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine, gone = tmp_path / f".a.tmp-{os.getpid()}.mp4", tmp_path / f".a.tmp-{dead.pid}.mp4"
    other = tmp_path / ".a.tmp-notes.txt"
    for path in (mine, gone, other):
        path.touch()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])
    remove_leftovers(tmp_path / "missing")


def test_distances_are_recorded_beside_the_video(tmp_path):
    record(RecordConfig(out=tmp_path, episodes=1, seed=7, task="free", **SMALL))
    episode = list_episodes(tmp_path)[0]
    found = read_distances(episode)
    assert found is not None
    index, distance = found
    assert index.tolist() == list(range(7, 41, 7))
    world = VoxelWorld(frame_size=(32, 48), chunk=1)
    world.reset([Start(seed=7)])
    for i, action in enumerate(read_episode(episode).actions[1:15], start=1):
        world.step(action[None, None])
        if i in (7, 14):
            np.testing.assert_allclose(distance[i // 7 - 1], world.distances(0).astype(np.float16), rtol=0.02)


def test_a_path_across_the_seam_of_the_map_goes_on():
    poses = np.zeros((4, 5))
    poses[:, 0] = [254.0, 255.5, 1.0, 2.5]
    poses[:, 2] = [1.0, 0.2, 255.9, 255.0]
    path = unwrapped(poses)
    np.testing.assert_allclose(path[:, 0], [254.0, 255.5, 257.0, 258.5])
    np.testing.assert_allclose(path[:, 2], [1.0, 0.2, -0.1, -1.0])
