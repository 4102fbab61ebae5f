"""What environments show: pictures, latents, both, nothing; and that no more is drawn or decoded for it."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from fake_world import FakeWorld
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FrameStackObservation
from gymnasium.wrappers.utils import create_zero_array

from latentcraft.envs.env import WorldEnv
from latentcraft.envs.observations import Encoder
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.worlds import make_world

SIZE = (32, 48)
WALK = {"forward": 1, "camera": np.array([1, 3], np.float32)}
BOTH = {"forward": np.ones(2, int), "camera": np.array([[1, 3], [0, -4]], np.float32)}


@pytest.fixture(params=["voxel", "dream"])
def arguments(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> dict[str, Any]:
    return {"world": request.param, "frame_size": SIZE, "checkpoint": tiny_checkpoint, "steps": 1}


def check(env: gymnasium.Env) -> None:
    """Gymnasium's full check, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*we recommend using a symmetric and normalized space.*")
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("observation, per_frame", [("rgb", True), ("latent", False), ("both", True)])
def test_check_env_is_clean_for_every_observation(arguments: dict, observation: str, per_frame: bool):
    env = WorldEnv(**arguments, observation=observation, per_frame_observations=per_frame)
    many = (4,) if per_frame else ()
    rgb = spaces.Box(0, 255, (*many, *SIZE, 3), np.uint8)
    shown = env.observation_space
    latent = shown["latent"] if observation == "both" else shown
    if observation == "rgb":
        assert shown == rgb
    else:
        assert latent.shape == (*many, 4, 6, 8) and latent.dtype == np.float32
        np.testing.assert_allclose(latent.high, 8**0.5, rtol=1e-5)
    if observation == "both":
        assert shown == spaces.Dict({"rgb": rgb, "latent": latent})
    check(env)


def test_both_worlds_have_the_same_latent_space_and_begin_alike(tiny_checkpoint: Path):
    seen = {}
    for world in ("voxel", "dream"):
        env = gymnasium.make(
            f"latentcraft/{world.capitalize()}-v0", observation="both", frame_size=SIZE, checkpoint=tiny_checkpoint
        )
        space = env.observation_space
        seen[world], _ = env.reset(seed=HELD_OUT_SEED)
        for _ in range(2):  # the passive checker looks at each
            observation = env.step(env.action_space.sample())[0]
        np.testing.assert_allclose(np.square(observation["latent"]).mean(-1), 1, atol=1e-3)
    assert space == env.observation_space
    np.testing.assert_equal(seen["voxel"]["rgb"], seen["dream"]["rgb"])
    np.testing.assert_allclose(seen["voxel"]["latent"], seen["dream"]["latent"], atol=0.1)  # number formats differ


def test_latents_are_those_of_the_frames_shown(arguments: dict):
    env = WorldEnv(**arguments, observation="both", per_frame_observations=True)
    observation, info = env.reset(seed=3)
    for _ in range(2):
        np.testing.assert_equal(observation["rgb"], info["frames"])
        if arguments["world"] == "voxel":
            np.testing.assert_equal(observation["latent"], Encoder(arguments["checkpoint"])(info["frames"]))
        else:
            np.testing.assert_equal(observation["latent"], env.world.latents()[0])
        observation, *_, info = env.step(WALK)


def test_a_dream_of_latents_decodes_one_frame_a_step_and_is_the_same_dream(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded = []
    plain = Autoencoder.decode_pixels
    monkeypatch.setattr(Autoencoder, "decode_pixels", lambda net, z: decoded.append(len(z)) or plain(net, z))
    runs, counts = {}, {}
    for observation in ("both", "latent"):
        env = WorldVectorEnv(
            "dream", num_envs=2, checkpoint=tiny_checkpoint, steps=1, observation=observation, recall=False
        )
        first, info = env.reset(seed=[5, 6])
        assert ("frames" in info) == (observation == "both")
        env.step(BOTH)
        decoded.clear()
        runs[observation] = [first, *(env.step(BOTH)[0] for _ in range(3))]
        counts[observation] = sum(decoded)
    assert counts == {"both": 3 * 2 * 4, "latent": 3 * 2}
    np.testing.assert_equal([step["latent"] for step in runs["both"]], runs["latent"])


def test_the_reference_world_draws_what_is_observed(monkeypatch: pytest.MonkeyPatch):
    from latentcraft.simulator.voxel.render import Renderer

    drawn = []
    plain = Renderer.draw
    monkeypatch.setattr(Renderer, "draw", lambda *args, **keys: drawn.append(1) or plain(*args, **keys))
    shown = {}
    for name, options in {
        "all": {}, "last": {"info_frames": False}, "none": {"observation": "none"},
        "each": {"info_frames": False, "per_frame_observations": True},
    }.items():  # fmt: skip
        env = WorldEnv("voxel", frame_size=SIZE, **options)
        env.reset(seed=2)
        drawn.clear()
        shown[name], *_, info = env.step(WALK)
        assert len(drawn) == {"all": 4, "last": 1, "none": 0, "each": 4}[name]
        assert ("frames" in info) == (name == "all")
    np.testing.assert_equal(shown["all"], shown["last"])
    np.testing.assert_equal(shown["each"][-1], shown["last"])
    assert shown["none"].shape == (0,) and shown["none"] in env.observation_space or shown["none"].size == 0


def test_rendering_works_beside_latents(arguments: dict):
    env = WorldEnv(**arguments, observation="latent", render_mode="rgb_array")
    env.reset(seed=2)
    observation, *_, info = env.step(WALK)
    assert observation in env.observation_space and "frames" not in info
    assert env.render().shape == (*SIZE, 3) and env.render().any()
    listed = WorldEnv(**arguments, observation="latent", render_mode="rgb_array_list")
    listed.reset(seed=2)
    listed.step(WALK)
    frames = listed.render()
    assert len(frames) == 5
    np.testing.assert_equal(frames[-1], env.render())


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_batches_observe_as_single_games_do(arguments: dict, mode: str):
    batch = WorldVectorEnv(**arguments, num_envs=2, observation="both", autoreset_mode=mode, max_episode_steps=2)
    first, _ = batch.reset(seed=[3, 4])
    assert first in batch.observation_space
    single = WorldEnv(**arguments, observation="both")
    alone, _ = single.reset(seed=4)
    np.testing.assert_equal(first["rgb"][1], alone["rgb"])
    np.testing.assert_allclose(first["latent"][1], alone["latent"], atol=1e-3)
    for step in range(3):
        observation, _, _, truncated, infos = batch.step(BOTH)
        assert observation in batch.observation_space
        if mode == "SameStep" and step == 1:
            assert truncated.all() and set(infos["final_obs"][0]) == {"rgb", "latent"}
            assert (infos["final_obs"][1]["latent"] != observation["latent"][1]).any()
    np.testing.assert_allclose(np.square(observation["latent"]).mean(-1), 1, atol=1e-3)


def test_gymnasiums_frame_stack(arguments: dict):
    for observation in ("rgb", "latent", "both"):
        env = FrameStackObservation(WorldEnv(**arguments, observation=observation), 3)
        first, _ = env.reset(seed=1)
        assert first in env.observation_space
        second = env.step(WALK)[0]
        leaf = (lambda value: value["latent"]) if observation == "both" else (lambda value: value)
        assert leaf(first).shape[0] == 3
        np.testing.assert_equal(leaf(second)[:2], leaf(first)[1:])
        assert (leaf(second)[2] != leaf(first)[2]).any()
        assert create_zero_array(env.observation_space) in env.observation_space


def test_frame_stack_of_a_vector_of_single_environments(tiny_checkpoint: Path):
    env = gymnasium.make_vec(
        "latentcraft/Voxel-v0", num_envs=2, vectorization_mode="sync", frame_size=SIZE,
        wrappers=[lambda inner: FrameStackObservation(inner, 2)],
    )  # fmt: skip
    observation, _ = env.reset(seed=1)
    assert observation.shape == (2, 2, *SIZE, 3)


def test_truncated_where_the_dream_is_unsure(tiny_checkpoint: Path):
    arguments: dict[str, Any] = {"checkpoint": tiny_checkpoint, "steps": 1}
    free = WorldEnv("dream", **arguments)
    free.reset(seed=5)
    told = [free.step(WALK)[4]["uncertainty"] for _ in range(4)]
    assert all(0 < value <= 1 for value in told)
    bound = sorted(told)[2]  # exceeded once
    env = WorldEnv("dream", **arguments, max_uncertainty=bound)
    env.reset(seed=5)
    for expected in told:
        _, _, terminated, truncated, info = env.step(WALK)
        assert not terminated and info["uncertainty"] == expected
        assert truncated == (expected > bound)
        if truncated:
            break
    assert truncated
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(WALK)
    env.reset(seed=5)
    env.step(WALK)


class Unsure(FakeWorld):
    """Says how sure it is: less with every step."""

    def step(self, actions: np.ndarray):
        chunk = super().step(actions)
        return chunk._replace(infos=[info | {"uncertainty": 0.2 * self._ticks[0] / 4} for info in chunk.infos])


def test_a_batch_is_truncated_where_unsure_and_an_end_comes_first():
    env = WorldVectorEnv(Unsure(2), max_uncertainty=0.5)
    env.reset(seed=1)
    results = [env.step({}) for _ in range(4)]
    assert [step[3].tolist() for step in results] == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert not any(step[2].any() for step in results)
    assert "seed" in results[3][4]  # NEXT_STEP: the step after the end is the reset
    single = WorldEnv(Unsure(task="navigate"), max_uncertainty=0.5)  # ends in its third step, as it becomes unsure
    single.reset(seed=1)
    assert [single.step({})[2:4] for _ in range(3)] == [(False, False), (False, False), (True, False)]
    sure = WorldEnv(FakeWorld(), max_uncertainty=0.01)  # says nothing of it
    sure.reset(seed=1)
    assert sure.step({})[3] is False


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"observation": "pixels"}, "'pixels'"),
        ({"max_uncertainty": 0}, "max_uncertainty"),
        ({"max_uncertainty": float("nan")}, "max_uncertainty"),
        ({"max_uncertainty": "high"}, "max_uncertainty"),
        ({"world": FakeWorld(frames="none")}, "frames='none'"),
        ({"world": FakeWorld(frames="last")}, "frames='last'"),
        ({"observation": "latent", "checkpoint": "no.safetensors"}, "no.safetensors"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, named: str):
    for make in (WorldEnv, WorldVectorEnv):
        with pytest.raises(UserError) as caught:
            make(**{"world": FakeWorld(), **arguments})
        assert named in str(caught.value) and "\n" not in str(caught.value)


def test_bad_frames_are_named(tiny_checkpoint: Path):
    for world in ("voxel", "dream"):
        with pytest.raises(UserError, match="'some'"):
            make_world(world, checkpoint=tiny_checkpoint, frames="some")
