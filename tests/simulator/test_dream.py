"""The learned world's promises, on a tiny random checkpoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentcraft.errors import UserError
from latentcraft.model import recall
from latentcraft.model.actions import YAW, noop
from latentcraft.model.camera import EYE_HEIGHT
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.outcomes import NEVER, REWARD_BINS
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.world import VoxelWorld
from latentcraft.simulator.worlds import make_world


def actions(chunks: int, seed: int = 0, worlds: int = 1) -> np.ndarray:
    """Random actions ``(chunks, worlds, 4, 20)``."""
    rng = np.random.default_rng(seed)
    made = (rng.random((chunks, worlds, 4, 20)) < 0.3).astype(np.float32)
    made[..., 18:] = rng.uniform(-10, 10, (chunks, worlds, 4, 2))
    return made


def play(world: DreamWorld, script: np.ndarray) -> np.ndarray:
    return np.stack([world.step(chunk).frames for chunk in script])


@pytest.fixture
def world(tiny_checkpoint: Path) -> DreamWorld:
    return DreamWorld(checkpoint=tiny_checkpoint, steps=2, task="chop")


def test_same_seed_and_actions_give_the_same_frames_to_the_bit(world: DreamWorld, tiny_checkpoint: Path):
    script = actions(9)
    world.reset([Start(seed=900001)])
    first = play(world, script)
    world.reset([Start(seed=900001)])
    assert np.array_equal(play(world, script), first)
    other = DreamWorld(checkpoint=tiny_checkpoint, steps=2, task="chop")
    other.reset([Start(seed=900001)])
    assert np.array_equal(play(other, script), first)
    other.reset([Start(seed=900002)])
    assert not np.array_equal(play(other, script), first)


def test_a_restored_game_goes_on_to_the_bit_also_in_another_world_object(world: DreamWorld, tiny_checkpoint: Path):
    script = actions(14)
    world.reset([Start(seed=3)])
    play(world, script[:8])  # past the ring's capacity, so that slots have been overwritten
    state = world.save()
    after = [world.step(chunk) for chunk in script[8:]]
    shown = world.restore(state)
    again = [world.step(chunk) for chunk in script[8:]]
    for one, two in zip(after, again, strict=True):
        assert np.array_equal(one.frames, two.frames)
        assert np.array_equal(one.rewards, two.rewards)
        assert np.array_equal(one.terminated, two.terminated)
        assert np.array_equal(one.infos[0]["changes"], two.infos[0]["changes"])
        assert np.array_equal(one.infos[0]["spots"], two.infos[0]["spots"], equal_nan=True)
        spots = one.infos[0]["spots"]
        assert spots.shape == (4, 2, 3) and not spots[~one.infos[0]["changes"]].any()
    assert after[0].infos[0]["changes"].shape == (4, 2) and any(one.infos[0]["changes"].any() for one in after)
    other = DreamWorld(checkpoint=tiny_checkpoint, steps=2, task="chop")
    other.steps = 1  # the state knows with how many it was played
    assert np.array_equal(other.restore(state), shown)
    assert np.array_equal(other.step(script[8]).frames, after[0].frames)


def test_rewards_count_as_much_as_the_task_is_likely_to_go_on_and_end_with_it(tiny_checkpoint: Path):
    model = load_checkpoint(tiny_checkpoint)
    outcome = model.dit.outcome
    outcome.weight.zero_()
    said = outcome.bias.zero_().view(model.dit.config.chunk, -1)
    said[:, REWARD_BINS.index(1.0)] = NEVER  # every tick is paid
    said[:, -1] = torch.tensor(0.1).logit()  # and the last with a probability of 0.1
    world = DreamWorld(checkpoint=model, steps=1, task="explore")
    world.reset([Start(seed=3)])
    chunks = [world.step(chunk) for chunk in actions(2)]
    state, last = world.save(), world.step(actions(1)[0])
    rewards = np.concatenate([chunk.rewards[0] for chunk in (*chunks, last)])
    terminated = np.concatenate([chunk.terminated[0] for chunk in (*chunks, last)])
    goes_on = 0.9 ** np.arange(12)
    np.testing.assert_allclose(rewards, np.where(np.arange(12) < 7, goes_on, 0), atol=2e-3)
    assert terminated.tolist() == [False] * 6 + [True] * 6  # 0.9 ** 7 is the first below one half
    world.reset([Start(seed=3)])
    assert world.step(actions(1)[0]).rewards[0, 0] == pytest.approx(1, abs=2e-3)
    world.restore(state)
    assert not world.step(actions(1)[0]).rewards.any()


def test_saving_is_a_copy(world: DreamWorld):
    world.reset([Start(seed=3)])
    state = world.save()
    before = {name: array.copy() for name, array in state.arrays.items()}
    play(world, actions(3))
    assert all(np.array_equal(before[name], array) for name, array in state.arrays.items())


def test_a_later_action_changes_no_earlier_frame_and_this_one_changes_this_chunk(world: DreamWorld):
    script = actions(5)
    changed = script.copy()
    changed[3, ..., 0] = 1 - changed[3, ..., 0]
    world.reset([Start(seed=3)])
    first = play(world, script)
    world.reset([Start(seed=3)])
    second = play(world, changed)
    assert np.array_equal(first[:3], second[:3])
    assert not np.array_equal(first[3], second[3])


def test_a_lead_belongs_to_the_context(tiny_checkpoint: Path):
    """The dream of a start with a lead goes on from what the reference world showed at its end."""
    dream, reference = DreamWorld(checkpoint=tiny_checkpoint), VoxelWorld(1, "free", (32, 48))
    lead = actions(2, seed=3)[:, 0].reshape(8, 20)
    start = Start(seed=5, lead=lead)
    assert np.array_equal(dream.reset([start]), reference.reset([start]))
    assert dream._places[0].eye[4] == pytest.approx(reference.game(0).pose[4])
    begun = reference.reset([Start(seed=5, lead=lead)])
    assert not np.array_equal(dream.reset([Start(seed=5)]), begun)
    with pytest.raises(UserError, match="give it with a seed only"):
        dream.reset([Start(lead=lead)])


def test_reset_of_one_game_leaves_the_others_alone(tiny_checkpoint: Path):
    world = DreamWorld(num_worlds=2, checkpoint=tiny_checkpoint, steps=1)
    script = actions(4, worlds=2)
    world.reset([Start(seed=1), Start(seed=2)])
    play(world, script[:2])
    kept = world.save(1)
    shown = world.reset([Start(seed=5), None])
    for name, array in world.save(1).arrays.items():
        assert np.array_equal(array, kept.arrays[name]), name
    assert np.array_equal(shown[1], world.restore(kept, 1))


def test_a_seed_starts_from_the_reference_worlds_warm_up(world: DreamWorld):
    reference = VoxelWorld(frame_size=world.spec.frame_size, task="chop")
    reference.reset([Start(seed=900003)])
    frames = reference.history(0).frames
    shown = world.reset([Start(seed=900003)])
    np.testing.assert_array_equal(shown[0], frames[-4:])


def test_a_seed_and_an_episode_say_where_the_eye_is_and_a_picture_does_not(world: DreamWorld, tmp_path: Path):
    def eye() -> np.ndarray:
        return world.save(0).arrays["place.gait.eyes"][0]

    reference = VoxelWorld(frame_size=world.spec.frame_size, task="chop")
    reference.reset([Start(seed=900003)])
    world.reset([Start(seed=900003)])
    x, y, z, yaw, pitch = reference.game(0).pose
    np.testing.assert_allclose(eye(), (x, y + EYE_HEIGHT, z, yaw, pitch))

    frame = np.full((32, 48, 3), 90, np.uint8)
    with EpisodeWriter(tmp_path / "led", seed=1, world="voxel", task="chop") as episode:
        episode.first(frame, pose=(0, 0, 0, 0, 0))
        for tick in range(1, 20):
            episode.add(noop(), frame, reward=0.0, terminated=False, pose=(tick, 2, 3, 4 * tick, 30))
    world.reset([Start(episode=tmp_path / "led.jsonl")])
    np.testing.assert_allclose(eye(), (15, 2 + EYE_HEIGHT, 3, 60, 30), atol=1e-5)

    picture = tmp_path / "start.png"
    Image.fromarray(frame).save(picture)
    world.reset([Start(media=picture)])
    assert np.isnan(eye()).all()


def test_starts_from_image_video_episode_and_nothing(world: DreamWorld, tmp_path: Path):
    rng = np.random.default_rng(0)
    picture = tmp_path / "start.png"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(picture)
    with EpisodeWriter(tmp_path / "some", seed=1, world="voxel", task="free") as episode:
        episode.first(rng.integers(0, 255, (32, 48, 3), np.uint8))
        for _ in range(30):
            episode.add(noop(), rng.integers(0, 255, (32, 48, 3), np.uint8), reward=0.0, terminated=False)
    shown = []
    for start in (
        Start(media=picture), Start(media=tmp_path / "some.mp4"), Start(episode=tmp_path / "some.jsonl"),
        Start(episode=tmp_path / "some.mp4", frame=9), Start(), Start(seed=4),
    ):  # fmt: skip
        assert world.reset([start]).shape == (1, 4, 32, 48, 3)
        shown.append(world.step(actions(1)[0]).frames)
    assert len({frames.tobytes() for frames in shown}) == len(shown)


def test_starts_from_nothing_differ_by_their_noise_and_equal_games_leave_equal_states(tiny_checkpoint: Path):
    world = DreamWorld(num_worlds=2, checkpoint=tiny_checkpoint, steps=1)
    shown = world.reset([Start(noise_seed=1), Start(noise_seed=2)])
    assert not np.array_equal(shown[0], shown[1])
    world.reset([Start(seed=4), Start(seed=4)])
    play(world, actions(8, worlds=2))  # fills the ring
    world.reset([Start(seed=4), Start(seed=4)])
    for one, two in zip(world.save(0).arrays.values(), world.save(1).arrays.values(), strict=True):
        assert np.array_equal(one, two)
    assert not world.save(0).arrays["keys"][:, :, :, 4:].any()


def test_state_of_a_bf16_world_is_exact(tiny_checkpoint: Path):
    import torch

    world = DreamWorld(checkpoint=tiny_checkpoint, steps=1, dtype=torch.bfloat16)
    script = actions(9)
    world.reset([Start(seed=4)])
    play(world, script[:6])
    state = world.save()
    after = play(world, script[6:])
    world.restore(state)
    assert np.array_equal(play(world, script[6:]), after)


def test_where_nothing_is_known_a_recorded_place_is_recalled_and_stays(tiny_checkpoint: Path, monkeypatch):
    # To random nets everything is an edge.
    monkeypatch.setattr(recall, "frayed", lambda distance: np.zeros(distance.shape, np.bool_))
    model = load_checkpoint(tiny_checkpoint)
    turn = noop(1, 4)
    turn[..., YAW] = 10.0
    plain = DreamWorld(checkpoint=replace(model, bank=None))
    world = DreamWorld(checkpoint=model)
    for each in (world, plain):
        each.reset([Start(seed=900001)])
    still = world.step(noop(1, 4))
    assert still.infos[0]["recalled"] == -1 and "recalled" not in plain.step(noop(1, 4)).infos[0]
    before = world.save()
    turned = world.step(turn)
    assert turned.infos[0]["recalled"] in (0, 1)
    assert not np.array_equal(turned.frames, plain.step(turn).frames)
    assert len(world.save().arrays["place.eyes"]) > len(before.arrays["place.eyes"]) + 1  # more than what was seen
    # The same place is recalled by a world that was restored, and in a batch beside others.
    pair = DreamWorld(num_worlds=2, checkpoint=model)
    pair.reset([Start(seed=5), Start(seed=900001)])
    pair.restore(before, 1)
    assert pair.step(np.concatenate([turn, turn])).infos[1]["recalled"] == turned.infos[0]["recalled"]
    alone = DreamWorld(checkpoint=model, recall=False)
    place, mapped = alone.model.guesser.place((32, 48)), model.guesser.place((32, 48))
    assert place is not None and mapped is not None
    assert place.blocks is None and mapped.blocks is not None  # and the loaded model keeps its map
    alone.reset([Start(seed=900001)])
    assert "recalled" not in alone.step(turn).infos[0] and alone.like().model.bank is None
    # Pictures of another size are of no use.
    wide = DreamWorld(checkpoint=model, frame_size=(48, 64))
    wide.reset([Start(seed=900001)])
    assert wide.step(turn).infos[0]["recalled"] == -1


def test_number_of_steps_may_change_in_play(world: DreamWorld):
    script = actions(1)[0]
    seen = set()
    for steps in (1, 2, 4, 8):
        world.reset([Start(seed=1)])
        world.steps = steps
        seen.add(world.step(script).frames.tobytes())
    assert len(seen) == 4
    with pytest.raises(UserError, match="1, 2, 4, 8"):
        world.steps = 3


def test_another_frame_size_runs(tiny_checkpoint: Path):
    world = make_world("dream", checkpoint=tiny_checkpoint, frame_size=(48, 32), steps=1)
    world.reset([Start(seed=1)])
    assert world.step(actions(1)[0]).frames.shape == (1, 4, 48, 32, 3)


def test_bad_input_is_named(world: DreamWorld, tiny_checkpoint: Path, tmp_path: Path):
    with pytest.raises(UserError, match="call reset"):
        world.step(actions(1)[0])
    with pytest.raises(UserError, match="never reset"):
        world.reset([None])
    with pytest.raises(UserError, match="nothing to save"):
        world.save()
    world.reset([Start(seed=1)])
    state = world.save()
    with pytest.raises(UserError, match="no game -1"):
        world.save(-1)
    with pytest.raises(UserError, match="no game 1"):
        world.restore(state, 1)
    with pytest.raises(UserError, match="checkpoint"):
        world.restore(replace(state, meta=state.meta | {"checkpoint": "another"}))
    with pytest.raises(UserError, match="NaN"):
        world.step(actions(1)[0] * np.nan)
    with pytest.raises(UserError, match="shape"):
        world.step(actions(1)[0][:, :2])
    with pytest.raises(UserError, match=r"no\.png"):
        world.reset([Start(media=tmp_path / "no.png")])
    with pytest.raises(UserError, match="voxel"):
        world.restore(replace(state, world="voxel"))
    with pytest.raises(UserError, match="chunks of 4"):
        make_world("dream", checkpoint=tiny_checkpoint, chunk=3)
    with pytest.raises(UserError, match="multiples of 16"):
        make_world("dream", checkpoint=tiny_checkpoint, frame_size=(100, 160))
    with pytest.raises(UserError, match="task"):
        make_world("dream", checkpoint=tiny_checkpoint, task="fly")
    torn = tmp_path / "torn.txt"
    torn.write_text("not a video")
    with pytest.raises(UserError, match=r"torn\.txt"):
        world.reset([Start(media=torn)])
    # None of this moved the game.
    assert np.array_equal(world.save().arrays["keys"], state.arrays["keys"])
