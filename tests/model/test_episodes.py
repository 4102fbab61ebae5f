import json
from pathlib import Path

import av
import numpy as np
import pytest

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, BUTTONS, PITCH, YAW, noop
from latentcraft.model.camera import SKY
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.episodes import list_episodes, read_all, read_blocks, read_distances, read_episode


def grey(value: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def random_actions(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    actions = (rng.random((count, 20)) < 0.3).astype(np.float32)
    actions[:, PITCH:] = rng.uniform(-30, 30, (count, 2))
    return actions


def write(path: Path, count: int = 12, **head) -> np.ndarray:
    """Write an episode whose frame ``i`` is grey level ``10 * i``; returns the actions given to ``add``."""
    actions = random_actions(count)
    with EpisodeWriter(path, **head) as writer:
        writer.first(grey(0), pose=(0, 1, 2, 3, 4), caption="a place")
        for i in range(1, count):
            writer.add(actions[i], grey(10 * i % 250), reward=i / 4, terminated=i > 7, pose=(i, 1, 2, 3, 4))
    return actions


def write_video(path: Path, count: int, size: tuple[int, int] = (32, 48)) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(10 * i % 250, size), format="rgb24")))
        container.mux(stream.encode(None))


def test_round_trip(tmp_path):
    actions = write(tmp_path / "one", seed=7, world="voxel", task="chop")
    episode = read_episode(tmp_path / "one.jsonl")
    assert episode.frames.shape == (12, 32, 48, 3) and len(episode) == 12
    np.testing.assert_allclose(episode.frames.mean((1, 2, 3)), np.arange(12) * 10, atol=2)
    assert not episode.actions[0].any()
    np.testing.assert_array_equal(episode.actions[1:, :PITCH], actions[1:, :PITCH])
    np.testing.assert_allclose(episode.actions[1:, PITCH:], actions[1:, PITCH:], atol=1e-5)
    np.testing.assert_allclose(episode.rewards, [0] + [i / 4 for i in range(1, 12)])
    assert episode.terminated.tolist() == [False] * 8 + [True] * 4
    assert episode.poses is not None and episode.poses[:, 0].tolist() == list(range(12))
    assert (episode.task, episode.caption, episode.seed, episode.world) == ("chop", "a place", 7, "voxel")


def test_timing_is_vpts(tmp_path):
    """Line i holds the action taken on seeing frame i; the reader hands it out with frame i + 1."""
    lines = []
    for i in range(4):
        line = dict.fromkeys(BUTTONS, 0) | {"camera": [0.5 * i, float(i)], "reward": 10 + i, "terminated": i == 2}
        line |= {"pose": [i, 0, 0, 0, 0], "forward": int(i == 1)}
        lines.append(line)
    lines[0] |= {"seed": 3, "world": "voxel", "task": "navigate", "caption": "hills", "frame_size": [32, 48]}
    (tmp_path / "hand.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_video(tmp_path / "hand.mp4", 4)
    episode = read_episode(tmp_path / "hand")
    assert episode.actions[:, YAW].tolist() == [0, 0, 1, 2]
    assert episode.actions[:, PITCH].tolist() == [0, 0, 0.5, 1]
    assert episode.actions[:, BUTTON_INDEX["forward"]].tolist() == [0, 0, 1, 0]
    assert episode.rewards.tolist() == [0, 10, 11, 12]
    assert episode.terminated.tolist() == [False, False, False, True]
    # What is seen is not shifted: frame i and pose i stand on line i.
    np.testing.assert_allclose(episode.frames.mean((1, 2, 3)), [0, 10, 20, 30], atol=2)
    assert episode.poses is not None and episode.poses[:, 0].tolist() == [0, 1, 2, 3]


def test_writer_uses_the_same_timing_on_disk(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.first(grey(0))
        action = noop()
        action[BUTTON_INDEX["jump"]] = 1
        writer.add(action, grey(50), reward=1)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["jump"] for line in lines] == [1, 0] and [line["reward"] for line in lines] == [1, 0]
    assert lines[0]["frame_size"] == [32, 48] and lines[0]["pose"] is None
    assert read_episode(tmp_path / "a").poses is None


def vpt_line(**changes) -> dict:
    line = {
        "mouse": {"dx": 0.0, "dy": 0.0, "dwheel": 0.0, "buttons": [], "newButtons": []},
        "keyboard": {"keys": [], "newKeys": [], "chars": ""},
        "hotbar": 0, "tick": 1, "isGuiOpen": False, "xpos": 1.5, "ypos": 64.0, "zpos": 2.5, "yaw": 10.0, "pitch": 5.0,
    }  # fmt: skip
    return line | changes


def test_reads_vpts_own_lines(tmp_path):
    mouse = {"dx": 20.0, "dy": -40.0, "buttons": [0], "newButtons": [0]}
    keys = ["key.keyboard.w", "key.keyboard.space", "key.keyboard.left.control", "key.keyboard.e"]
    lines = [
        vpt_line(mouse=mouse | {"newButtons": []}, keyboard={"keys": keys}),
        vpt_line(mouse=mouse | {"buttons": [1], "dx": 1e4}, hotbar=4),
        vpt_line(hotbar=4),
        vpt_line(),
    ]
    (tmp_path / "vpt.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    write_video(tmp_path / "vpt.mp4", 5, size=(72, 128))  # one frame more than lines: cut
    episode = read_episode(tmp_path / "vpt", frame_size=(32, 48))
    assert episode.frames.shape == (4, 32, 48, 3)
    pressed = [{BUTTONS[i] for i in np.flatnonzero(action[:PITCH])} for action in episode.actions]
    assert pressed == [set(), {"forward", "jump", "sprint", "attack"}, {"use", "hotbar.5"}, set()]
    np.testing.assert_allclose(episode.actions[1, PITCH:], [-6, 3], rtol=1e-6)
    assert episode.actions[2, YAW] == 30  # clipped
    assert episode.poses is not None and episode.poses[0].tolist() == [1.5, 64, 2.5, 10, 5]
    assert episode.world == "minecraft" and episode.task == "free" and not episode.rewards.any()


def test_vpt_attack_stuck_from_the_start_is_ignored(tmp_path):
    stuck = {"dx": 0, "dy": 0, "buttons": [0], "newButtons": []}
    lines = [vpt_line(mouse=stuck | {"newButtons": fresh}) for fresh in ([0], [], [0], [])]
    (tmp_path / "vpt.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_video(tmp_path / "vpt.mp4", 4)
    assert read_episode(tmp_path / "vpt").actions[:, BUTTON_INDEX["attack"]].tolist() == [0, 0, 0, 1]


def test_frame_size_resizes(tmp_path):
    write(tmp_path / "a")
    assert read_episode(tmp_path / "a", frame_size=(16, 32)).frames.shape == (12, 16, 32, 3)


def test_exception_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), EpisodeWriter(tmp_path / "a") as writer:
        writer.first(grey(0))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_exception_keeps_what_was_there(tmp_path):
    write(tmp_path / "a", seed=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(tmp_path / "a", seed=2) as writer:
        writer.first(grey(0))
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_frame_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no frame"), EpisodeWriter(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_odd_frame_size_is_named(tmp_path):
    with pytest.raises(UserError, match="33x48"), EpisodeWriter(tmp_path / "a") as writer:
        writer.first(grey(0, (33, 48)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    real_open = Path.open

    def full(self, mode="r", **options):
        return real_open(Path("/dev/full") if self.suffix == ".mp4" and "w" in mode else self, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match="No space left"), EpisodeWriter(tmp_path / "a") as writer:
        writer.first(grey(0))
        for i in range(50):
            writer.add(noop(), np.random.default_rng(i).integers(0, 255, (32, 48, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_list_is_sorted_and_needs_a_directory(tmp_path):
    for name in ("b", "a.x", "c"):
        write(tmp_path / name, 2)
    (tmp_path / ".a.tmp-1.jsonl").touch()
    (tmp_path / "orphan.mp4").touch()
    assert [path.name for path in list_episodes(tmp_path)] == ["a.x.jsonl", "b.jsonl", "c.jsonl"]
    with pytest.raises(UserError, match="no directory"):
        list_episodes(tmp_path / "nowhere")


def change_line(path: Path, row: int, change) -> None:
    lines = path.read_text().splitlines()
    lines[row] = change(lines[row])
    path.write_text("\n".join(lines))


BAD = {
    "not JSON": lambda line: line[:40],
    "missing": lambda line: line.replace('"jump"', '"jumps"'),
    "0 or 1": lambda line: line.replace('"jump":0', '"jump":2').replace('"jump":1', '"jump":2'),
    "not a JSON object": lambda line: "[1]",
    "not a number": lambda line: json.dumps(json.loads(line) | {"camera": "left"}),
    "finite": lambda line: json.dumps(json.loads(line) | {"reward": float("nan")}),
    "within 30": lambda line: json.dumps(json.loads(line) | {"camera": [0, 31]}),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_line_is_named(tmp_path, reason):
    write(tmp_path / "a")
    change_line(tmp_path / "a.jsonl", 4, BAD[reason])
    with pytest.raises(UserError, match=rf"a\.jsonl, line 5: .*{reason}"):
        read_episode(tmp_path / "a")


def test_bad_pose_is_named(tmp_path):
    write(tmp_path / "a")
    change_line(tmp_path / "a.jsonl", 4, lambda line: json.dumps(json.loads(line) | {"pose": [1, 2]}))
    with pytest.raises(UserError, match="pose"):
        read_episode(tmp_path / "a")


def test_torn_video_missing_video_and_count_mismatch_are_named(tmp_path):
    write(tmp_path / "a", 40)
    video = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(video[: len(video) // 2])
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_episode(tmp_path / "a")
    write_video(tmp_path / "a.mp4", 39)
    with pytest.raises(UserError, match="39 frames but the jsonl 40 lines"):
        read_episode(tmp_path / "a")
    write_video(tmp_path / "a.mp4", 41)
    with pytest.raises(UserError, match="41 frames but the jsonl 40 lines"):
        read_episode(tmp_path / "a")
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_episode(tmp_path / "a")
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(UserError, match="empty"):
        read_episode(tmp_path / "a")
    with pytest.raises(UserError, match="b.jsonl"):
        read_episode(tmp_path / "b")


def test_read_all_skips_the_bad_and_names_it(tmp_path):
    for name in "abc":
        write(tmp_path / name)
    (tmp_path / "b.mp4").write_bytes(b"torn")
    messages: list[str] = []
    read = [path.stem for path, _ in read_all(tmp_path, report=messages.append)]
    assert read == ["a", "c"]
    assert len(messages) == 1 and "b.mp4" in messages[0] and "\n" not in messages[0]
    with pytest.warns(UserWarning, match="b.mp4"):
        assert len(list(read_all(list_episodes(tmp_path)))) == 2


def test_distances_go_with_the_episode(tmp_path):
    distance = np.full((32, 48), 3.5, np.float32)
    distance[:4], distance[-4:] = SKY, 0
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.first(grey(0))
        for i in range(1, 8):
            writer.add(noop(), grey(i), distance=i * distance if i % 3 == 0 else None)
    found = read_distances(tmp_path / "a.jsonl")
    assert found is not None
    assert found[0].tolist() == [3, 6]
    np.testing.assert_allclose(found[1][0, 16], 10.5)
    write(tmp_path / "a")  # another episode of that name has none
    assert read_distances(tmp_path / "a") is None
    (tmp_path / "a.depth.npz").write_bytes(b"PK torn")
    with pytest.raises(UserError, match=r"a\.depth\.npz"):
        read_distances(tmp_path / "a")


def test_blocks_go_with_the_episode(tmp_path):
    kinds = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.first(grey(0))
        for i in range(1, 8):
            told = (np.array([i, -i, 0]), kinds + np.uint8(i)) if i % 3 == 0 else None
            writer.add(noop(), grey(i), blocks=told)
    found = read_blocks(tmp_path / "a.jsonl")
    assert found is not None
    index, corner, blocks = found
    assert index.tolist() == [3, 6] and corner.tolist() == [[3, -3, 0], [6, -6, 0]]
    assert blocks.dtype == np.uint8 and (blocks[1] == kinds + 6).all()
    write(tmp_path / "a")  # another episode of that name has none
    assert read_blocks(tmp_path / "a") is None
    (tmp_path / "a.blocks.npz").write_bytes(b"PK torn")
    with pytest.raises(UserError, match=r"a\.blocks\.npz"):
        read_blocks(tmp_path / "a")
    np.savez(tmp_path / "a.blocks.npz", index=np.zeros(2), corner=np.zeros((2, 2)), blocks=np.zeros((2, 1, 1, 1)))
    with pytest.raises(UserError, match=r"corner \(k, 3\)"):
        read_blocks(tmp_path / "a")


def test_what_the_hand_did_goes_with_the_frames_it_led_to(tmp_path):
    frame = np.zeros((16, 16, 3), np.uint8)
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.first(frame)
        for dug, placed in ((False, False), (True, False), (False, True)):
            writer.add(noop(), frame, changes=(dug, placed))
    assert [json.loads(line)["dug"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [0, 1, 0, 0]
    changes = read_episode(tmp_path / "a").changes
    assert changes is not None and changes.tolist() == [[False] * 2, [False] * 2, [True, False], [False, True]]
    lines = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(lines.replace('"dug":1', '"dug":7'))
    with pytest.raises(UserError, match="line 2: dug and placed must be 0 or 1"):
        read_episode(tmp_path / "a")
    (tmp_path / "a.jsonl").write_text(lines.replace('"dug":1,', ""))
    assert read_episode(tmp_path / "a").changes is None
    assert np.isnan(read_episode(tmp_path / "a").spots).all()  # it never said where


def test_where_the_hand_did_it_goes_with_the_frames_too(tmp_path):
    frame, spots = np.zeros((16, 16, 3), np.uint8), np.full((2, 3), np.nan)
    spots[1] = 3, 64, -2
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.first(frame)
        writer.add(noop(), frame, changes=(True, False))
        writer.add(noop(), frame, changes=(False, True), spots=spots)
        writer.add(noop(), frame, changes=(False, False), spots=spots)
    lines = (tmp_path / "a.jsonl").read_text()
    assert lines.count("_at") == 1 and '"placed_at":[3.0,64.0,-2.0]' in lines.splitlines()[1]
    read = read_episode(tmp_path / "a").spots
    assert read.dtype == np.float32 and read[2, 1].tolist() == [3, 64, -2] and np.isfinite(read).sum() == 3
    (tmp_path / "a.jsonl").write_text(lines.replace("[3.0,64.0,-2.0]", "[3.0,64.0]"))
    with pytest.raises(UserError, match=r"line 2: placed_at must be 3 numbers \[x, y, z\]"):
        read_episode(tmp_path / "a")
