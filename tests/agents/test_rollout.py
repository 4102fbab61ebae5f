from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import FakeWorld
from PIL import Image

from latentcraft.agents import rollout as module
from latentcraft.agents.rollout import RolloutConfig, main, pad_to_chunks, rollout
from latentcraft.agents.script import parse_script
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.actions import noop
from latentcraft.model.episodes import EpisodeWriter
from latentcraft.simulator.protocol import Start

ACTIONS = parse_script("- {hold: forward, turn: left 30, for: 10 ticks}").actions


@pytest.fixture
def fake_worlds(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorld]:
    """Let the command build fake worlds; returns them as they are made."""
    made: list[FakeWorld] = []

    def make_world(name: str, *, num_worlds, task, frame_size, chunk, checkpoint, steps):
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
        ("out=null", "nothing would be written"),
        ("frame=3", "frame=3 must"),
        ("media=nowhere.png", "no file nowhere.png"),
        ("world=voxel media=x.png", "media starts a dream only"),
        ("world=both episode=x.jsonl", "episode starts a dream only"),
        ("world=voxel seed=null", "seed=null starts a dream only"),
        ("episode=x.jsonl media=x.png", "not both"),
        ("world=dreem", "did you mean dream"),
    ],
)
def test_bad_words_fail_before_any_world_is_made(word: str, reason: str, fake_worlds: list[FakeWorld]):
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
    assert (first.frames[0, 0] != first.frames[0, -1]).any()
