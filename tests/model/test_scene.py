"""A world seen through a camera: its depth, its body, and guesses that remember."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, YAW
from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig
from latentcraft.model.body import BodyConfig, BodyNet, follow, from_world, to_world
from latentcraft.model.camera import SKY
from latentcraft.model.depth import ATTACHED, DepthConfig, DepthNet
from latentcraft.model.dit import before
from latentcraft.model.guesser import Guesser
from latentcraft.model.memory import AROUND
from latentcraft.model.motion import Motion, MotionConfig
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.scene import Scene, SceneConfig, strayed, views_of
from latentcraft.model.train.body import BodyStage, BodyStageConfig
from latentcraft.model.train.depth import DepthData, DepthStage, DepthStageConfig, log_distance
from latentcraft.model.train.survey import BodyData, jolted, survey

SMALL = SceneConfig(DepthConfig(widths=(16, 16, 16), depths=(1, 1, 1)), BodyConfig(chunk=2, width=32))
SIZE = (32, 48)


def codec() -> Autoencoder:
    torch.manual_seed(0)
    config = AutoencoderConfig(
        encoder_widths=(8, 16), encoder_depths=(1, 1), decoder_widths=(8, 16), decoder_depths=(1, 1)
    )
    return Autoencoder(config).requires_grad_(False).eval()


@pytest.fixture
def guesser() -> Guesser:
    autoencoder = codec()
    motion = Motion(MotionConfig(chunk=2, width=16, fine_width=16, dilations=(1, 2)))
    scene = Scene(SMALL)
    for parameter in (*motion.parameters(), *scene.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return Guesser(autoencoder, motion.requires_grad_(False).eval(), scene.requires_grad_(False).eval())


def walk(chunks: int) -> torch.Tensor:
    """A path that turns right by 3 degrees a frame while it goes ahead, ``(1, chunks, 2, 5)``."""
    turns = torch.zeros(1, 2 * chunks, 2)
    turns[..., 1] = 3.0
    steps = torch.zeros(1, 2 * chunks, 3)
    steps[..., 2] = 0.1
    return follow(torch.tensor([[10.0, 3.0, -7.0, 40.0, 5.0]]), steps, turns).unflatten(1, (chunks, 2))


def latents(chunks: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return Autoencoder.normalise(torch.randn(1, chunks, 2, 4, 6, 8, generator=generator))


def test_steps_go_to_the_world_and_back():
    step, yaw = torch.randn(5, 3), 360 * torch.rand(5)
    torch.testing.assert_close(from_world(to_world(step, yaw), yaw), step)
    ahead = to_world(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([90.0]))
    torch.testing.assert_close(ahead, torch.tensor([[-1.0, 0.0, 0.0]]), atol=1e-6, rtol=0)


def test_a_body_follows_its_steps_and_cannot_look_beyond_straight_down():
    path = walk(3)[0].flatten(0, 1)
    torch.testing.assert_close(path[:, 3], 40 + 3 * torch.arange(1.0, 7.0).double())
    lengths = path[:, :3].diff(dim=0).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.1))
    down = follow(torch.zeros(1, 5), torch.zeros(1, 4, 3), torch.full((1, 4, 2), 30.0))
    assert down[0, -1, 4] == 90


def test_along_a_clip_is_chunk_by_chunk(guesser: Guesser):
    past, eyes = before(latents(5)), walk(5)
    actions = torch.randn(1, 5, 2, ACTION_SIZE)
    together = guesser.along(past, actions, eyes=eyes)
    place = guesser.place(SIZE)
    for index in range(5):
        one = guesser(past[:, index], actions[:, index], places=[place], eyes=eyes[:, index])
        torch.testing.assert_close(one.mean, together.mean[:, index], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.spread, together.spread[:, index], rtol=1e-4, atol=1e-5)


def test_the_past_beyond_the_last_chunk_is_remembered(guesser: Guesser):
    actions, eyes = torch.zeros(1, 3, 2, ACTION_SIZE), walk(1).expand(1, 3, 2, 5)
    one, other = latents(3), latents(3)
    other[:, 0] = latents(1, seed=1)[:, 0]
    for remembering, changed in ((eyes, True), (None, False)):
        guesses = [guesser.along(before(chunks), actions, eyes=remembering).mean[:, 2] for chunks in (one, other)]
        assert torch.equal(*guesses) != changed


def test_a_body_moves_by_its_actions_where_no_path_is_given(guesser: Guesser):
    place = guesser.place(SIZE)
    assert place is not None
    actions = torch.zeros(1, 2, ACTION_SIZE)
    actions[..., YAW] = 5.0
    past = latents(1)[:, 0]
    for _ in range(3):
        guesser(past, actions, places=[place])
    assert place.eye is not None
    assert place.eye[3] == pytest.approx(30, abs=0.1)  # the gain begins as one
    assert place.memory.count >= 1
    guesser(past, actions, torch.tensor([False]), places=[place])
    assert place.eye is None  # who does not know the actions does not know where it is
    assert place.memory.count == 0


def test_a_leap_makes_it_forget(guesser: Guesser):
    eyes = walk(2)
    place = guesser.place(SIZE)
    assert place is not None
    actions, past = torch.zeros(1, 2, ACTION_SIZE), latents(1)[:, 0]
    place.arrive(eyes[0, 0].numpy())
    guesser(past, actions, places=[place], eyes=eyes[:, 1])
    assert place.memory.count == 1
    far = eyes[:, 1] + 100
    assert place.eye is not None
    assert strayed(place.eye, far[0].numpy())
    guesser(past, actions, places=[place], eyes=far)
    assert place.memory.count == 0
    np.testing.assert_allclose(place.eye, far[0, -1].numpy())


def test_remembered_pixels_are_laid_over_only_where_the_dream_shows_the_same(guesser: Guesser):
    place = guesser.place(SIZE)
    assert place is not None
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 40, (*SIZE, 3)).astype(np.uint8) + 100
    place.remember(picture, np.full(SIZE, 5.0, np.float32), 0.0)
    eyes = np.zeros((2, 5))
    views_of([place], eyes[None])
    plain, expected = np.full((2, *SIZE, 3), 119, np.uint8), np.ones((2, 4, 6))
    sure = 0.2 * expected
    np.testing.assert_array_equal(place.sharpened(plain, expected, sure), np.stack([picture] * 2))
    changed = plain.copy()
    changed[1, 10:20, 10:30] = 255
    shown = place.sharpened(changed, expected, sure)
    assert (shown[1, 12:18, 12:28] == 255).all()
    np.testing.assert_array_equal(shown[0], picture)
    # A small change that the judge did not expect, such as a crack, is shown too, and remembered.
    surprising = expected.copy()
    surprising[1, 1, 2] = 9.0
    shown = place.sharpened(plain, surprising, sure)
    np.testing.assert_array_equal(shown[1, 8:16, 16:24], plain[1, 8:16, 16:24])
    np.testing.assert_array_equal(shown[1, :8], picture[:8])
    # Where the judge doubts what is remembered, the dream is shown; what is remembered stays.
    shown_vague = place.sharpened(plain, expected, np.full_like(sure, 0.8))
    np.testing.assert_array_equal(shown_vague, plain)
    assert not place.changed.any()
    shown = place.sharpened(plain, surprising, sure)
    place.remember(shown[1], np.full(SIZE, 5.0, np.float32), 0.0)
    assert place.memory.count == 2 and place.memory.own[1, 8:16, 16:24].all()
    assert not place.memory.own[0, 9:15, 17:23].any() and place.memory.own[0, 20:, :].all()


def test_level_ground_is_as_far_as_the_pitch_says():
    net = DepthNet(SMALL.depth)
    level = net.level(torch.tensor([30.0]), *SIZE).exp()[0, 0]
    middle = level[15:17, 23:25].mean().item()
    assert middle == pytest.approx(1.62 / np.sin(np.radians(30)), rel=0.02)
    assert net.level(torch.tensor([-60.0]), *SIZE).exp().min() > 80  # looking up there is no ground


def test_distances_name_the_sky_and_what_hangs_before_the_lens():
    net = DepthNet(SMALL.depth)
    net.forward = lambda picture, pitch: torch.tensor([[[0.1, 5.0, 200.0]]]).log()  # type: ignore[method-assign]
    net.hide(torch.zeros(1, 3, dtype=torch.bool))
    assert net.distances(torch.zeros(1, 3, 1, 3), torch.zeros(1)).flatten().tolist() == pytest.approx([0.0, 5.0, SKY])
    net.hide(torch.tensor([[False, True, False]]))
    assert net.distances(torch.zeros(1, 3, 1, 3), torch.zeros(1)).flatten().tolist() == pytest.approx([0.0, 0.0, SKY])
    said = log_distance(torch.tensor([0.0, 0.1, 2.0, SKY])).exp()
    torch.testing.assert_close(said, torch.tensor([ATTACHED, ATTACHED, 2.0, 128.0]))


def test_the_depth_net_learns_that_bright_is_near(tmp_path: Path):
    autoencoder, generator = codec(), torch.Generator().manual_seed(0)
    tone = torch.randint(0, 2, (64, 1, 1, 1), generator=generator)
    frames = (60 + 150 * tone).expand(-1, *SIZE, 3).to(torch.uint8)
    distance = torch.where(tone == 1, 1.0, 20.0)[..., 0].expand(-1, *SIZE).half()
    data = DepthData(autoencoder.encode(frames).half(), distance, torch.zeros(64))
    quick = OptimizerConfig(matrix_lr=0.02, other_lr=3e-3, warmup=5, ema=0.9)
    config = DepthStageConfig(steps=60, batch=8, model=SMALL.depth, optimizer=quick)
    stage = DepthStage(config, data, data, autoencoder, seed=0, dtype=torch.float32)
    for step in range(60):
        stage.train_step(step, 60)
    assert stage.validate(60, tmp_path)["relative_error"] < 0.3  # knowing nothing misses 1.5
    assert (tmp_path / "depth-000060.png").exists()


def test_the_body_net_learns_to_walk_and_that_walls_stop(tmp_path: Path):
    rng = torch.Generator().manual_seed(0)
    k, f = 512, 2
    near = torch.zeros(k, 10, AROUND, AROUND, dtype=torch.uint8)
    walled = torch.rand(k, generator=rng) < 0.5
    near[walled, 3:8, 6] = 60
    forward = torch.rand(k, generator=rng) < 0.7
    actions = torch.zeros(k, f, ACTION_SIZE)
    actions[forward, :, BUTTON_INDEX["forward"]] = 1
    steps = torch.zeros(k, f, 3)
    steps[forward & ~walled, :, 2] = 0.2
    start = torch.cat([torch.randn(k, 3, generator=rng), 360 * torch.rand(k, 1, generator=rng), torch.zeros(k, 1)], 1)
    path = follow(start, steps, actions[..., [YAW - 1, YAW]])
    eyes = torch.cat([start[:, None].double(), start[:, None].double(), path], 1)
    data = BodyData(near, torch.zeros(k, 4, 6, 8).half(), eyes, actions)
    quick = OptimizerConfig(matrix_lr=0.02, other_lr=3e-3, warmup=5, decay_share=1.0, ema=0.9)
    config = BodyStageConfig(steps=200, batch=64, model=SMALL.body, optimizer=quick)
    stage = BodyStage(config, data, data, seed=0, dtype=torch.float32)
    for step in range(200):
        stage.train_step(step, 200)
    assert stage.validate(200, tmp_path)["missed"] < 0.05  # of 0.4 metres
    net = stage.result()
    assert isinstance(net, BodyNet)
    torch.testing.assert_close(net.gain.float(), torch.ones(2), atol=0.05, rtol=0)


def test_a_body_that_has_sunk_is_brought_back_to_the_ground_and_no_further():
    path = walk(2)[0, :, :].flatten(0, 1)
    off = torch.tensor([0.2, -0.3, 0.1], dtype=torch.float64)
    moved = jolted(path, off)
    torch.testing.assert_close(moved[:2, :3], path[:2, :3] + off)  # where it came from is off alike: its speed is true
    torch.testing.assert_close(moved[-1, 1], path[-1, 1])
    torch.testing.assert_close(moved[-1, [0, 2]], path[-1, [0, 2]] + off[[0, 2]])
    torch.testing.assert_close(moved[:, 3:], path[:, 3:])


def test_a_survey_walks_through_the_episodes_that_have_poses(tmp_path: Path):
    path = walk(10)[0].flatten(0, 1)
    episode = {
        "latents": latents(10)[0].flatten(0, 1).half(), "eyes": path, "actions": torch.randn(20, ACTION_SIZE),
    }  # fmt: skip
    save_file({name: part.contiguous() for name, part in episode.items()}, tmp_path / "a.safetensors")
    blind = episode | {"eyes": torch.full_like(path, torch.nan)}
    save_file({name: part.contiguous() for name, part in blind.items()}, tmp_path / "b.safetensors")
    told = {"chunk": 2, "levels": 20, "jolts": 1, "seed": 0}
    data = survey([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], codec(), DepthNet(SMALL.depth), **told)
    assert data is not None
    assert data.near.shape == (2 * 9, 20, AROUND, AROUND)  # nine chunks have a frame before and two after
    torch.testing.assert_close(data.eyes[0], path[:4])
    torch.testing.assert_close(data.actions[2], episode["actions"][4:6])
    assert not torch.equal(data.eyes[1, 1], path[1])
    again = survey([tmp_path / "a.safetensors"], codec(), DepthNet(SMALL.depth), **told)
    assert again is not None and torch.equal(again.eyes, data.eyes)
    assert survey([tmp_path / "b.safetensors"], codec(), DepthNet(SMALL.depth), **told) is None
