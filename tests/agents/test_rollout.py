import errno
import json
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import FakeWorld
from PIL import Image

from latentcraft.agents import rollout as module
from latentcraft.agents.players import PolicyPlayer
from latentcraft.agents.rollout import RolloutConfig, Runs, main, pad_to_chunks, play, rollout, rollout_players
from latentcraft.agents.script import load_script, parse_script
from latentcraft.agents.seeds import read_seeds
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, noop
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.episodes import read_episode
from latentcraft.simulator.protocol import Start

ACTIONS = parse_script("- {hold: forward, turn: left 30, for: 10 ticks}").actions


@pytest.fixture
def fake_worlds(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorld]:
    """Let the command build fake worlds; returns them as they are made."""
    made: list[FakeWorld] = []

    def make_world(name: str, *, num_worlds, task, frame_size, chunk, checkpoint, steps, recall):
        # A checkpoint of uncommon frames and chunks, which the reference has to follow.
        own = ((16, 48), 2) if name == "dream" else ((16, 32), 4)
        made.append(FakeWorld(num_worlds, task, frame_size or own[0], chunk or own[1]))
        return made[-1]

    monkeypatch.setattr(module, "make_world", make_world)
    return made


def frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_padding_reaches_whole_chunks():
    assert pad_to_chunks(noop(8), 4).shape == (8, 20)
    padded = pad_to_chunks(ACTIONS, 4)
    assert padded.shape == (12, 20) and not padded[10:].any()
    np.testing.assert_array_equal(padded[:10], ACTIONS)


def test_a_rollout_is_the_worlds_own_steps():
    result = rollout(FakeWorld(2, "navigate"), ACTIONS, [Start(seed=1), Start(seed=2)])
    world = FakeWorld(2, "navigate")
    start = world.reset([Start(seed=1), Start(seed=2)])
    chunks = [world.step(np.stack([part] * 2)) for part in pad_to_chunks(ACTIONS, 4).reshape(3, 4, 20)]
    np.testing.assert_array_equal(result.start, start[:, -1])
    np.testing.assert_array_equal(result.frames, np.concatenate([chunk.frames for chunk in chunks], axis=1))
    np.testing.assert_array_equal(result.rewards, np.concatenate([chunk.rewards for chunk in chunks], axis=1))
    assert result.rewards.sum() == 20
    assert result.terminated.argmax(axis=1).tolist() == [9, 9]
    assert len(result.infos) == len(result.chunk_seconds) == 3
    assert result.infos[2][1]["caption"] == "game 2"
    film = result.film(1)
    assert len(film) == 13
    np.testing.assert_array_equal(film[0], start[1, -1])
    np.testing.assert_array_equal(film[1:], result.frames[1])


def test_actions_may_differ_between_games():
    both = np.stack([ACTIONS, noop(10)])
    result = rollout(FakeWorld(2), both, [Start(seed=1), Start(seed=1)])
    assert result.rewards.sum(axis=1).tolist() == [10, 0]
    assert (result.start[0] == result.start[1]).all() and (result.frames[0] != result.frames[1]).any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="one for each"):
        rollout(FakeWorld(2), ACTIONS, [Start(seed=1)])
    for bad in (ACTIONS[:, :5], ACTIONS[:0], np.stack([ACTIONS] * 3), ACTIONS[0]):
        with pytest.raises(UserError, match="actions must be"):
            rollout(FakeWorld(2), bad, [Start(seed=1), Start(seed=2)])


def test_the_command_writes_a_video_and_a_strip(tmp_path: Path, fake_worlds: list[FakeWorld], capsys):
    out, strip = tmp_path / "x.mp4", tmp_path / "x.png"
    words = ["script=full_turn", "world=voxel", "seed=900001", f"out={out}", f"strip={strip}"]
    assert main(compose_config("rollout", words)) == 0
    assert frame_count(out) == 201 and strip.stat().st_size > 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and str(out) in printed and str(strip) in printed and "900001" in printed
    assert [world.closed for world in fake_worlds] == [True]


def test_both_worlds_and_many_seeds_share_one_video(tmp_path: Path, fake_worlds: list[FakeWorld]):
    out = tmp_path / "x.mp4"
    assert main(RolloutConfig(world="both", seed=(900000, 900001), out=out, task="navigate")) == 0
    assert frame_count(out) == 241
    assert [world.spec.num_worlds for world in fake_worlds] == [2, 2]
    assert fake_worlds[0].spec == fake_worlds[1].spec and fake_worlds[0].spec.chunk == 2


def test_a_dream_and_its_reference_are_kept_side_by_side(tmp_path: Path, tiny_checkpoint: Path, capsys):
    (tmp_path / "short.yaml").write_text("- {hold: forward, turn: left 20, for: 2 chunks}")
    words = [f"script={tmp_path / 'short.yaml'}", "world=both", "seeds=900001-900002", f"folder={tmp_path / 'runs'}"]
    assert main(compose_config("rollout", [*words, f"checkpoint={tiny_checkpoint}", "steps=1", "scale=2"])) == 0
    assert "dream: 8 frames" in capsys.readouterr().out
    dream, reference = (read_episode(tmp_path / "runs" / f"seed_900001_{name}") for name in ("dream", "reference"))
    assert dream.frames.shape == reference.frames.shape == (9, 64, 96, 3)
    assert dream.world == "dream" and dream.poses is None
    assert reference.world == "voxel" and reference.poses is not None
    np.testing.assert_array_equal(dream.actions, reference.actions)
    assert frame_count(tmp_path / "runs" / "seed_900002_side_by_side.mp4") == 9


def test_the_bundled_scripts_are_listed(capsys, fake_worlds: list[FakeWorld]):
    assert main(compose_config("rollout", ["script=list"])) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) >= 6 and not fake_worlds
    assert any(line.startswith("build_tower: ") and "params.height=5" in line for line in printed)


def test_nothing_asked_for_writes_a_video(tmp_path: Path, fake_worlds: list[FakeWorld], monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text("- wait: 2 chunks")
    assert main(compose_config("rollout", ["script=short.yaml", "out=null"])) == 0
    assert frame_count(tmp_path / "rollout.mp4") == 5  # chunks of the dream's two frames
    assert main(compose_config("rollout", ["script=short.yaml", "sheet=x.png"])) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"rollout.mp4", "short.yaml", "x.png"}


WANDER = """
params: {time: 1s}
seed: 5
steps: [{hold: forward, turn: either 10 to 40, for: $time to 12 ticks}]
"""


def test_a_folder_holds_every_run_as_video_and_log(tmp_path: Path, fake_worlds: list[FakeWorld], capsys):
    (tmp_path / "wander.yaml").write_text(WANDER)
    folder = tmp_path / "runs"
    words = [f"script={tmp_path / 'wander.yaml'}", "world=both", "seeds=900001-900003", f"folder={folder}"]
    assert main(compose_config("rollout", [*words, "params.time=3 ticks"])) == 0
    assert "runs (16 files)" in capsys.readouterr().out
    stems = [f"seed_{seed}_{world}" for seed in (900001, 900002, 900003) for world in ("dream", "reference")]
    names = {stem + suffix for stem in stems for suffix in (".mp4", ".jsonl")}
    names |= {f"seed_{seed}_side_by_side.mp4" for seed in (900001, 900002, 900003)}
    assert {path.name for path in folder.iterdir()} == names | {"contact_sheet.png"}
    assert [world.spec.num_worlds for world in fake_worlds] == [3, 3]

    # Each pair is an episode; what it holds is what was played, and the same in both worlds.
    played = load_script(tmp_path / "wander.yaml", chunk=2, params={"time": "3 ticks"}).actions
    for stem in stems:
        episode = read_episode(folder / stem, frame_size=(16, 48))
        assert len(episode) == len(pad_to_chunks(played, 2)) + 1
        np.testing.assert_allclose(episode.actions[1 : len(played) + 1], played, atol=1e-5)
        assert episode.rewards.sum() == played[:, 0].sum() and str(episode.seed) in stem
        assert episode.caption == f"game {episode.seed}"
    line = json.loads((folder / "seed_900001_dream.jsonl").read_text().splitlines()[0])
    assert line["forward"] == 1 and line["hotbar.9"] == 0 and len(line["camera"]) == 2
    assert frame_count(folder / "seed_900001_side_by_side.mp4") == len(episode)


def test_the_same_rollout_twice_leaves_the_same_files(tmp_path: Path, fake_worlds: list[FakeWorld]):
    (tmp_path / "wander.yaml").write_text(WANDER)
    config = RolloutConfig(script=str(tmp_path / "wander.yaml"), world="both", seeds=(900001,), params={"time": "0.2s"})
    for name in ("a", "b"):
        play(config).write(folder=tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_five_lines_of_python_do_the_same(tmp_path: Path, fake_worlds: list[FakeWorld], monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentcraft.agents.rollout_files.watchable_scale", lambda width: 1)  # for speed
    lines = module.__doc__.split(".. code-block:: python")[1].split(":func:")[0]
    exec(textwrap.dedent(lines), names := {})  # the example as it is documented
    runs = names["runs"]
    shape = re.search(r"uint8 (\(.*?\))", lines)[1].replace("96, 160", "16, 48")
    assert capsys.readouterr().out.startswith(shape)
    assert len(list((tmp_path / "runs").iterdir())) == 11
    np.testing.assert_array_equal(runs["dream"].frames, runs["voxel"].frames)  # fake worlds are all alike
    assert [script.params["height"] for script in runs.scripts] == ["3", "3"]
    files = runs.write(out="all.mp4", strip="strip.png", sheet="sheet.png")
    assert len(files) == 3 and all(path.stat().st_size for path in files)


def test_every_run_may_draw_for_itself(tmp_path: Path, fake_worlds: list[FakeWorld]):
    (tmp_path / "wander.yaml").write_text(WANDER)
    config = RolloutConfig(
        script=str(tmp_path / "wander.yaml"), seeds=range(900001, 900009), params={"time": "2 ticks"}
    )
    same = play(config)["dream"].actions
    assert (same == same[:1]).all()
    runs = play(replace(config, script_seed="each"))
    assert len({game.tobytes() for game in runs["dream"].actions}) == 8
    for script, start, actions in zip(runs.scripts, runs.starts, runs["dream"].actions, strict=True):
        assert script.seed == start.seed
        np.testing.assert_array_equal(actions[: len(script.actions)], script.actions)
        assert not actions[len(script.actions) :].any()
    assert play(replace(config, script_seed=9)).scripts[0].seed == 9


def test_a_failed_file_is_named_and_leaves_what_was_there(tmp_path: Path, fake_worlds: list[FakeWorld], monkeypatch):
    (tmp_path / "short.yaml").write_text("- wait: 2 chunks")
    runs = play(RolloutConfig(script=str(tmp_path / "short.yaml"), seeds=(900001,)))
    (tmp_path / "short.yaml").unlink()
    files = {path: path.read_bytes() for path in runs.write(folder=tmp_path)}

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = "latentcraft.model.episode_writer.EpisodeWriter.add"
    broken = {writer: "seed_900001_dream", "PIL.Image.Image.save": "sheet.png"}
    for function, name in broken.items():
        with monkeypatch.context() as patch, pytest.raises(UserError, match=f"cannot write .*{name}.*No space left"):
            patch.setattr(function, full)
            runs.write(folder=tmp_path)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_contact_sheet_has_a_row_for_every_run(tmp_path: Path, fake_worlds: list[FakeWorld]):
    (tmp_path / "short.yaml").write_text("- {hold: jump, turn: left 90, for: 6s}")
    runs = play(RolloutConfig(script=str(tmp_path / "short.yaml"), world="both", seeds=(900001, 900002)))
    runs.write(sheet=tmp_path / "x.png")
    sheet = np.asarray(Image.open(tmp_path / "x.png"))
    assert sheet.shape[0] == 24 + 4 * (16 + 4)
    np.testing.assert_array_equal(sheet[-16 - 4 : -4, -48 - 4 : -4], runs["voxel"].frames[1, -1])


def test_a_contact_sheet_of_a_single_run_has_more_moments(tmp_path: Path):
    starts = [Start(seed=900001)]
    result = rollout(FakeWorld(), noop(120), starts)
    Runs({"dream": result}, starts, []).write(sheet=tmp_path / "x.png")
    sheet = np.asarray(Image.open(tmp_path / "x.png"))
    assert sheet.shape[0] == 4 + 4 * (16 + 4)
    left = sheet.shape[1] - 10 * (32 + 4)
    np.testing.assert_array_equal(sheet[4:20, left : left + 32], result.start[0])
    np.testing.assert_array_equal(sheet[-16 - 4 : -4, -32 - 4 : -4], result.frames[0, -1])


def test_more_frames_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("latentcraft.agents.playback.MAX_BYTES", 1 << 14)
    with pytest.raises(UserError, match="take fewer seeds"):
        rollout(FakeWorld(2), ACTIONS, [Start(seed=1), Start(seed=2)])


def test_many_runs_share_a_screen(tmp_path: Path, fake_worlds: list[FakeWorld]):
    (tmp_path / "short.yaml").write_text("- wait: 2 chunks")
    runs = play(RolloutConfig(script=str(tmp_path / "short.yaml"), seeds=range(130)))
    runs.write(out=tmp_path / "x.mp4")
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.height <= 2160 and stream.width == 3 * 48


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (5, (5,)),
        ("5-7", (5, 6, 7)),
        ("5-7, 9", (5, 6, 7, 9)),
        ([900001, "3 - 4"], (900001, 3, 4)),
        (range(2), (0, 1)),
    ],
)
def test_seeds_may_be_a_list_or_a_range(given, seeds: tuple[int, ...]):
    assert read_seeds(given) == seeds


def test_a_dream_starts_from_a_picture_an_episode_or_nothing(tmp_path: Path, tiny_checkpoint: Path, capsys):
    picture = tmp_path / "photo.png"
    Image.new("RGB", (60, 40), (200, 30, 30)).save(picture)
    with EpisodeWriter(tmp_path / "walk.jsonl", world="voxel", seed=1, task="free") as writer:
        writer.first(np.zeros((32, 48, 3), np.uint8))
        for action in noop(19):
            writer.add(action, np.zeros((32, 48, 3), np.uint8), reward=0.0, terminated=False)
    (tmp_path / "short.yaml").write_text("- {hold: forward, for: 2 chunks}")
    common = [f"script={tmp_path / 'short.yaml'}", f"checkpoint={tiny_checkpoint}", "steps=1"]
    for name, *words in (
        ("photo, noise 3", f"media={picture}", "seed=3"),
        ("walk, noise 900000", f"episode={tmp_path / 'walk.jsonl'}", "frame=4"),
        ("photo, noise 1, photo, noise 2", f"media={picture}", "seed=[1,2]"),
        ("nothing, noise 0", "seed=null"),
    ):
        out = tmp_path / "x.mp4"
        assert main(compose_config("rollout", [*common, f"out={out}", *words])) == 0
        assert name in capsys.readouterr().out and frame_count(out) == 9


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("script=nope", "no script 'nope'"),
        ("seed=-3", "seed must be"),
        ("seed=[]", "seed must be"),
        ("out=x.gif", "name it .mp4"),
        ("strip=x.jpg", "name it .png"),
        ("sheet=x.jpg", "name it .png"),
        ("seeds=900001-900000", "write 900000-900001"),
        ("seeds=0-99999", "more than 1024"),
        ("seeds=[]", "is no seed"),
        ("seeds=[900001,x]", "seeds=x is no seed"),
        ("seeds=900001,900001 folder=x", "give each seed once"),
        ("folder=pyproject.toml", "pyproject.toml is a file; name another directory"),
        ("folder=pyproject.toml/x", "pyproject.toml is a file"),
        ("out=pyproject.toml/a/x.mp4", "pyproject.toml is a file"),
        ("scale=0", "scale=0 must be 1 or more"),
        ("params.speed=2", "tour.yaml has no parameter 'speed'; it takes none"),
        ("script_seed=some", "script_seed=some is not valid"),
        ("frame=3", "frame=3 must"),
        ("media=nowhere.png", "no file nowhere.png"),
        ("world=voxel media=x.png", "media starts a dream only"),
        ("world=both episode=x.jsonl", "episode starts a dream only"),
        ("world=voxel seed=null", "seed=null starts a dream only"),
        ("episode=x.jsonl media=x.png", "not both"),
        ("world=dreem", "did you mean dream"),
    ],
)
def test_bad_words_fail_before_any_world_is_made(
    word: str, reason: str, root: Path, fake_worlds: list[FakeWorld], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match=reason):
        main(compose_config("rollout", word.split()))
    assert not fake_worlds


def test_the_reference_world_plays_a_script_twice_alike(tmp_path: Path):
    world_module = pytest.importorskip("latentcraft.simulator.voxel.world")
    first, second = (
        rollout(world_module.VoxelWorld(frame_size=(48, 80)), ACTIONS, [Start(seed=900000)]) for _ in range(2)
    )
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.frames.shape == (1, 12, 48, 80, 3)
    assert first.poses is not None and first.poses.shape == (1, 13, 5)
    assert first.poses[0, -1, 3] - first.poses[0, 0, 3] == pytest.approx(-30, abs=0.01)  # the script turns left
    assert (first.frames[0, 0] != first.frames[0, -1]).any()


class Follower:
    """Walks while its last picture is redder than green: by what it sees alone."""

    def act(self, frames: np.ndarray) -> np.ndarray:
        red, green, _ = frames[-1].reshape(-1, 3).mean(0)
        actions = noop(len(frames))
        actions[:, BUTTON_INDEX["forward"]] = red > green
        return actions


def test_players_play_by_what_they_see():
    world, starts = FakeWorld(3), [Start(seed=seed) for seed in (1, 2, 1)]
    players = [PolicyPlayer(str(index), Follower()) for index in range(3)]
    result = rollout_players(world, players, starts, 21)
    assert result.frames.shape[:2] == (3, 24) and result.rewards.sum() > 0
    for game in range(3):
        seen = [result.start[game], *result.frames[game, 3:-1:4]]
        walked = [float(frame[0, 0, 0] > frame[0, 0, 1]) for frame in seen]
        assert result.rewards[game, ::4].tolist() == walked
    assert np.array_equal(result.actions[0], result.actions[2])
    again = rollout(FakeWorld(3), result.actions, starts)
    assert np.array_equal(again.frames, result.frames)


def test_wrong_numbers_of_players():
    with pytest.raises(UserError, match="1 players for 2 games"):
        rollout_players(FakeWorld(2), [PolicyPlayer("one", Follower())], [Start(seed=1)] * 2, 4)


def test_the_explorer_plays_every_game_of_a_rollout(tmp_path: Path):
    config = RolloutConfig(player="explorer", seconds=1, world="voxel", seeds="900001-900002", frame_size=(16, 32))
    runs = play(config)
    assert runs["voxel"].frames.shape[:2] == (2, 20) and not runs.scripts
    assert not np.array_equal(runs["voxel"].actions[0], runs["voxel"].actions[1])
    assert (tmp_path / "contact_sheet.png") in runs.write(folder=tmp_path)
    with pytest.raises(UserError, match="no player 'nobody'"):
        play(RolloutConfig(player="nobody", world="voxel", frame_size=(16, 32)))
