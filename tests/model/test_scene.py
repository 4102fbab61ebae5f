"""A world seen through a camera: its depth, its body, and guesses that remember."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, YAW
from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig
from latentcraft.model.awaited import Awaited
from latentcraft.model.body import LEVEL, BodyConfig, BodyNet, Gait, Said, follow, from_world, to_world, walk
from latentcraft.model.camera import SKY
from latentcraft.model.depth import ATTACHED, DepthConfig, DepthNet
from latentcraft.model.dit import before
from latentcraft.model.guesser import Guesser
from latentcraft.model.motion import Motion, MotionConfig
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.place import views_of
from latentcraft.model.relief import LEVELS, LINES, LOWEST, Nearby
from latentcraft.model.relief import SIZE as BOX
from latentcraft.model.scene import Scene, SceneConfig, strayed
from latentcraft.model.train.body import BodyStage, BodyStageConfig, back_on, events, lesson
from latentcraft.model.train.depth import DepthData, DepthStage, DepthStageConfig, log_distance
from latentcraft.model.train.survey import BodyData, survey

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


def stroll(chunks: int) -> torch.Tensor:
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
    path = stroll(3)[0].flatten(0, 1)
    torch.testing.assert_close(path[:, 3], 40 + 3 * torch.arange(1.0, 7.0).double())
    lengths = path[:, :3].diff(dim=0).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.1))
    down = follow(torch.zeros(1, 5), torch.zeros(1, 4, 3), torch.full((1, 4, 2), 30.0))
    assert down[0, -1, 4] == 90


def test_along_a_clip_is_chunk_by_chunk(guesser: Guesser):
    past, eyes = before(latents(5)), stroll(5)
    actions = torch.randn(1, 5, 2, ACTION_SIZE)
    together = guesser.along(past, actions, eyes=eyes)
    place = guesser.place(SIZE)
    for index in range(5):
        one = guesser(past[:, index], actions[:, index], places=[place], eyes=eyes[:, index])
        torch.testing.assert_close(one.mean, together.mean[:, index], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.spread, together.spread[:, index], rtol=1e-4, atol=1e-5)


def test_the_past_beyond_the_last_chunk_is_remembered(guesser: Guesser):
    actions, eyes = torch.zeros(1, 3, 2, ACTION_SIZE), stroll(1).expand(1, 3, 2, 5)
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
    eyes = stroll(2)
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
    place.begin(np.zeros(5))
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


def test_what_is_drawn_again_and_again_fades_but_never_what_a_hand_made(guesser: Guesser):
    place = guesser.place(SIZE)
    assert place is not None
    place.begin(np.zeros(5))
    place.remember(np.full((*SIZE, 3), 100, np.uint8), np.full(SIZE, 5.0, np.float32), 0.0)
    plain, expected = np.full((2, *SIZE, 3), 100, np.uint8), np.ones((2, 4, 6))
    spread = np.zeros((2, 4, 6), np.float32)
    spread[:, 0], spread[:, 1], spread[:, 2] = 0.3, 0.6, 0.9
    views_of([place], np.zeros((1, 2, 5)))
    place.sharpened(plain, expected, spread)
    np.testing.assert_allclose(place.clear[:, 0], [1 - 0.3**4, 1 - 0.6**4, 1 - 0.9**4, 1], rtol=1e-6)
    np.testing.assert_allclose(place.sure[:, 0], [1 - 0.3**2, 1 - 0.6**2, 1 - 0.9**2, 1], rtol=1e-6)
    gain, sky = np.full(3, 0.9, np.float32), np.full(3, 1.2, np.float32)
    place.awaited = Awaited(np.array([3]), np.ones((1, 5)), gain, sky, np.array(True))
    place.recalled = np.array([4, 2], np.int32)
    again = guesser.place(SIZE)
    again.restore(place.save())
    np.testing.assert_array_equal(again.clear, place.clear)
    np.testing.assert_array_equal(again.recalled, place.recalled)
    for one, two in zip(again.awaited, place.awaited, strict=True):
        np.testing.assert_array_equal(one, two)
    again.forget()
    assert not len(again.recalled) and not len(again.awaited.rows)
    place.sharpened(plain, expected, spread, hand=True)
    np.testing.assert_allclose(place.clear[:, 0], [1 - 0.3**4, 1 - 0.6**4, 1, 1], rtol=1e-6)


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
    stage.optimizer.copy_average_to(stage.average)
    assert stage.validate(60, tmp_path)["relative_error"] < 0.3  # knowing nothing misses 1.5
    assert (tmp_path / "depth-000060.png").exists()


def ground(k: int, walled: torch.Tensor) -> torch.Tensor:
    """Boxes with level ground 1.62 m below the eye and, where ``walled``, a wall half a metre ahead."""
    boxes = torch.zeros(k, LINES, LINES, LEVELS, dtype=torch.uint8)
    floor = int((-1.62 - LOWEST) / BOX)
    boxes[..., floor] = 64
    boxes[walled, LINES // 2 + 2 :, :, floor : floor + 10] = 64
    return boxes


def test_the_body_net_learns_to_walk_to_stop_at_walls_and_to_stand_exactly(tmp_path: Path):
    rng = torch.Generator().manual_seed(0)
    k, f = 256, 2
    walled, forward = torch.rand(k, generator=rng) < 0.5, torch.rand(k, generator=rng) < 0.7
    actions = torch.zeros(k, f, ACTION_SIZE)
    actions[forward, :, BUTTON_INDEX["forward"]] = 1
    steps = torch.zeros(k, f, 3)
    steps[forward & ~walled, :, 2] = 0.1
    start = torch.cat([torch.randn(k, 3, generator=rng), 360 * torch.rand(k, 1, generator=rng), torch.zeros(k, 1)], 1)
    data = BodyData(
        ground(k, walled), torch.zeros(k, LINES, LINES, 4, dtype=torch.uint8), torch.zeros(k, 4, 6, 8).half(),
        Gait.standing(start), follow(start, steps, actions[..., [YAW - 1, YAW]]), actions, torch.zeros(k).bool(),
    )  # fmt: skip
    quick = OptimizerConfig(other_lr=3e-3, warmup=5, decay_share=1.0, ema=0.9)
    config = BodyStageConfig(steps=300, batch=64, chunks=1, jolted=0, model=SMALL.body, optimizer=quick)
    stage = BodyStage(config, data, data, seed=0, dtype=torch.float32)
    for step in range(300):
        stage.train_step(step, 300)
    stage.optimizer.copy_average_to(stage.average)
    scores = stage.validate(300, tmp_path)
    assert scores["along"] < 0.05  # of 0.2 metres
    assert scores["height"] < 0.01
    net = stage.result()
    assert isinstance(net, BodyNet)
    torch.testing.assert_close(net.gain, torch.ones(2), atol=0.05, rtol=0)
    still = (~forward).nonzero()[:8, 0]
    path = walk(net, data.nearby(still), data.gaits(still), data.latents[still], actions[still].repeat(1, 50, 1))
    assert torch.equal(path[:, -1, :3], data.gait.eyes[still, :3])  # to the bit, five seconds later


def test_moments_before_something_happens_are_told_apart():
    k, f = 4, 2
    actions, steps = torch.zeros(k, f, ACTION_SIZE), torch.zeros(k, f, 3)
    actions[:3, :, BUTTON_INDEX["forward"]] = 1
    steps[0, :, 2] = 0.2  # walks
    steps[2, 1, 1] = -0.5  # falls, held up; 1 is held up by a wall, 3 stands
    start = torch.zeros(k, 5)
    data = BodyData(
        ground(k, torch.zeros(k).bool()), torch.zeros(k, LINES, LINES, 4, dtype=torch.uint8),
        torch.zeros(k, 4, 6, 8).half(), Gait.standing(start), follow(start, steps, torch.zeros(k, f, 2)), actions,
        torch.zeros(k).bool(),
    )  # fmt: skip
    climbs, falls, stopped = events(data)
    assert climbs.tolist() == falls.tolist() == [2]
    assert stopped.tolist() == [1, 2]


def test_who_is_off_the_path_is_told_the_way_back_but_not_what_nobody_can_see():
    eyes = torch.zeros(4, 5, dtype=torch.float64)
    true = Gait.standing(eyes)
    after = true.moved(eyes, torch.zeros(4, ACTION_SIZE))
    off = torch.zeros(4, 3, dtype=torch.float64)
    off[1, 1], off[2, 1], off[3, 0] = 0.1, -0.6, 5.0
    bodies = true.shifted(off)
    step, moves = lesson(bodies, true, after, bodies.eyes)
    assert moves[:, 1].tolist() == [0, 0, 1, 0]  # up only for who has clearly sunk
    assert 0.1 < step[2, 1] < 0.3
    lost = torch.tensor([False, False, False, True])
    back = back_on(bodies, true, lost)
    assert torch.equal(back.eyes[3], true.eyes[3])
    assert torch.equal(back.eyes[:3], bodies.eyes[:3])


def test_a_gait_knows_its_last_steps_and_where_it_stood():
    gait = Gait.standing(torch.tensor([[0.0, 5.0, 0.0, 0.0, 0.0]]))
    action = torch.zeros(1, ACTION_SIZE)
    action[:, BUTTON_INDEX["jump"]] = 1
    up = gait.eyes + torch.tensor([0, 0.42, 0, 0, 0])
    jumping = gait.moved(up, action)
    assert jumping.stood.item() == 5
    assert jumping.held[0, BUTTON_INDEX["jump"]] == 1
    on = jumping.moved(up + torch.tensor([0.1, LEVEL / 2, 0, 0, 0]), action)
    assert on.stood.item() == pytest.approx(5.42, abs=1e-3)
    torch.testing.assert_close(on.steps[0, :, :2], torch.tensor([[0.1, LEVEL / 2], [0.0, 0.42]]).double())


def test_a_step_is_taken_only_where_the_net_says_that_it_moves():
    said = Said(torch.ones(2, 3), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert said.taken().tolist() == [[1, 0, 1], [0, 1, 0]]


def test_a_place_is_restored_to_the_bit(guesser: Guesser):
    actions = torch.zeros(1, 2, ACTION_SIZE)
    actions[..., 0] = 1
    place, other = guesser.place(SIZE), guesser.place(SIZE)
    assert place is not None and other is not None
    past = latents(3)
    for index in range(2):
        guesser(past[:, index], actions, places=[place])
    other.restore(place.save())
    for each in (place, other):
        guesser(past[:, 2], actions, places=[each])
    assert place.gait is not None and other.gait is not None
    assert all(torch.equal(*parts) for parts in zip(place.gait, other.gait, strict=True))


def test_a_survey_walks_through_the_episodes_that_have_poses(tmp_path: Path):
    path = stroll(10)[0].flatten(0, 1)
    episode = {
        "latents": latents(10)[0].flatten(0, 1).half(), "eyes": path, "actions": torch.randn(20, ACTION_SIZE),
    }  # fmt: skip
    save_file({name: part.contiguous() for name, part in episode.items()}, tmp_path / "a.safetensors")
    blind = episode | {"eyes": torch.full_like(path, torch.nan)}
    save_file({name: part.contiguous() for name, part in blind.items()}, tmp_path / "b.safetensors")
    depth = DepthNet(SMALL.depth)
    data = survey([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], codec(), depth, chunk=2)
    assert data is not None
    assert data.boxes.shape == (9, LINES, LINES, LEVELS)  # nine chunks have a frame before and two after
    torch.testing.assert_close(data.gait.eyes, path[1:19:2])
    torch.testing.assert_close(data.path[2], path[6:8])
    torch.testing.assert_close(data.actions[2], episode["actions"][6:8])
    assert data.follows.tolist() == [False] + [True] * 8
    speeds = from_world(data.gait.steps[4], data.gait.eyes[4, 3].expand(2))
    assert speeds[0, 2] == pytest.approx(0.1)
    assert survey([tmp_path / "b.safetensors"], codec(), depth, chunk=2) is None


def test_nothing_is_near_where_nothing_is_remembered():
    boxes, tints = (np.zeros((1, LINES, LINES, size), np.uint8) for size in (LEVELS, 4))
    assert not Nearby(boxes, tints, np.zeros((1, 5))).columns(np.zeros((1, 5))).any()
