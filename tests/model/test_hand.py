"""The hand: what it is taught, when its events happen, and what the other nets make of them."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_nets import frozen

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.body import BodyConfig
from latentcraft.model.camera import pixel_rays
from latentcraft.model.cells import hold, no_holds
from latentcraft.model.depth import DepthConfig
from latentcraft.model.dit import DiTConfig, SpacetimeDiT
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.hand import DUE, Grip, HandConfig, HandNet, work
from latentcraft.model.in_frame import AROUND, changed_places, hand_region, place_features
from latentcraft.model.latents import LatentDataset
from latentcraft.model.motion import Motion, MotionConfig
from latentcraft.model.optimizer import OptimizerConfig
from latentcraft.model.place import Place, views_of
from latentcraft.model.scene import Scene, SceneConfig
from latentcraft.model.train.bench import random_dataset
from latentcraft.model.train.hand import HandStage, HandStageConfig, agreement
from latentcraft.model.train.motion import MotionStage, MotionStageConfig
from latentcraft.model.views import Views

TICKS = 6
"""Ticks a button has to be held in the game that is learned here."""


def digging_game(episodes: int = 24, frames: int = 96) -> LatentDataset:
    """A game in which something breaks in every :data:`TICKS`-th tick of holding attack, if the middle is bright."""
    rng = np.random.default_rng(0)
    data = random_dataset(episodes * frames, (4, 6), 8)
    held, bright = np.zeros(episodes * frames, bool), np.zeros(episodes * frames, bool)
    for first in range(0, len(held), frames):
        bright[first : first + frames] = rng.random() < 0.7
        at = first
        while at < first + frames:
            length = int(rng.integers(1, 20))
            held[at : at + length] = rng.random() < 0.6
            at += length
    changes, run = torch.zeros(len(held), 2), 0
    for tick in range(len(held)):
        run = run + 1 if held[tick] and tick % frames else 0
        if run == TICKS:
            run = 0
            changes[tick, 0] = bool(bright[tick])
    data.latents[:] = torch.from_numpy(np.where(bright, 1.0, -1.0)).half()[:, None, None, None]
    data.actions[:, BUTTON_INDEX["attack"]] = torch.from_numpy(held).float()
    spans = torch.tensor([[first, frames] for first in range(0, len(held), frames)])
    deeds = changes.any(-1).nonzero()[:, 0]
    return replace(data, changes=changes, spans=spans, deeds=torch.stack([deeds, deeds // frames], -1))


def test_a_hand_learns_how_long_to_hold_and_what_breaks(tmp_path):
    data = digging_game()
    quick = OptimizerConfig(matrix_lr=0.02, other_lr=4e-3, warmup=5, ema=0.9)
    config = HandStageConfig(
        steps=300, batch=16, chunks=8, noise=0.1, wear_share=0.0, model=HandConfig(width=32), optimizer=quick
    )
    stage = HandStage(config, data, data, seed=0, dtype=torch.float32)
    for step in range(300):
        stage.train_step(step, 300)
    stage.optimizer.copy_average_to(stage.average)
    figures = stage.validate(300, tmp_path)
    # Some clips begin in the middle of a blow, and nobody can know for how long the button has been held.
    assert figures["dug_recall"] > 0.7 and figures["dug_precision"] > 0.7
    net = stage.result()
    actions = torch.zeros(2, 24, ACTION_SIZE)
    actions[:, 4:, BUTTON_INDEX["attack"]] = 1
    sights = torch.stack([torch.ones(4, 6, 8), -torch.ones(4, 6, 8)])
    grip, done = Grip.loose(2, 32), []
    for chunk in actions.split(4, 1):
        changes, grip = work(net, grip, sights, chunk)
        done.append(changes)
    events = torch.cat(done, 1)
    assert events[0, :, 0].nonzero()[:, 0].tolist() == [9, 15, 21]
    assert not events[1].any() and not events[..., 1].any()


def test_an_event_happens_when_it_is_more_likely_than_not_to_have_happened():
    net = HandNet(HandConfig(width=8))
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    last = net.final[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias.data[:] = torch.tensor([0.2, 0.01]).logit()  # one kind may happen, the other is not under way
    changes, grip = work(net, Grip.loose(1, 8), torch.zeros(1, 4, 6, 8), torch.zeros(1, 40, ACTION_SIZE))
    # 1 - 0.8 ** 4 = 0.59 is the first above one half.
    assert changes[0, :8, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert not changes[..., 1].any() and not grip.hazard.any()
    _, grip = work(net, grip, torch.zeros(1, 4, 6, 8), torch.zeros(1, 2, ACTION_SIZE))
    assert 0 < grip.hazard[0, 0] < DUE and grip.hazard[0, 1] == 0


def test_the_middle_of_a_small_picture_is_padded():
    net = HandNet(HandConfig(window=6))
    small = torch.ones(2, 2, 4, 8)
    middle = net.middle(small).unflatten(-1, (6, 6, 8))
    assert middle[:, 2:4, 1:5].all() and middle.sum() == small.sum()
    large = torch.arange(12 * 20.0).view(12, 20, 1).expand(12, 20, 8)
    assert net.middle(large).unflatten(-1, (6, 6, 8))[0, 0, 0] == 3 * 20 + 7


def test_agreement_forgives_a_tick_or_two():
    true, found = torch.zeros(1, 20, 2), torch.zeros(1, 20, 2)
    true[0, [3, 10], 0] = 1
    found[0, [5, 16], 0] = 1
    figures = agreement(found, true)
    assert figures["dug_recall"] == figures["dug_precision"] == 0.5
    assert figures["placed_recall"] == 0


def test_places_are_told_of_changes_from_their_frame_on():
    changes = torch.zeros(3, 4, 2)
    changes[1, 2, 0] = 1
    told = changed_places(changes, 4, 6).unflatten(-1, (2, AROUND))
    assert not told[[0, 2]].any() and not told[1, :2].any() and not told[..., 1, :].any()
    assert (told[1, 2:, :, 0, 0] == 1).all()
    torch.testing.assert_close(told[1, 3, :, 0, 1:], place_features(4, 6, changes.device))


def test_hands_change_what_is_around_the_middle_from_then_to_the_end_of_the_chunk():
    changes = torch.zeros(1, 3, 4, 2)
    changes[0, 1, 2, 1] = 1
    where = hand_region(changes, no_holds(changes), 12, 20)[0, ..., 0]
    assert where[1, :, 5, 9].tolist() == [False, False, True, True]
    assert not where[[0, 2]].any() and not where[:, :, :, :2].any() and where[1, 2, 1, 9]
    holds = no_holds(changes)
    holds[0, 1, 2:, 1] = torch.from_numpy(hold(np.array([0, 0, 1]), np.array([0.5, 0.5, 0.4, 0.0, 0.0]), 70.0))
    close = hand_region(changes, holds, 12, 20)[0, ..., 0]
    assert close[1, 2:].all()  # it fills the view
    assert torch.equal(close[1, :2], where[1, :2]) and not close[[0, 2]].any()


def nets() -> tuple[Motion, SpacetimeDiT]:
    torch.manual_seed(0)
    motion = Motion(MotionConfig(width=16, fine_width=16, dilations=(1, 2), hand=True))
    dit = SpacetimeDiT(DiTConfig(width=32, depth=3, head_size=16, context=5, touch_width=16))
    for parameter in (*motion.parameters(), *dit.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return motion.requires_grad_(False), dit.requires_grad_(False)


@torch.no_grad()
def test_a_change_is_judged_and_drawn_from_its_frame_on_and_one_world_does_not_hang_on_another():
    motion, dit = nets()
    found = Autoencoder.normalise(torch.randn(3, 4, 4, 6, 8))
    told = torch.zeros(3, motion.turn.in_features)
    given = found[:, -1], torch.ones(3, 4, 4, 6, 4), torch.randn(3, 16, 4, 6), told, torch.ones(3).bool()
    changes = torch.zeros(3, 4, 2)
    changes[1, 2, 1] = 1
    plain, changed = motion.judged(found, *given), motion.judged(found, *given, changes)
    assert torch.equal(plain.mean[[0, 2]], changed.mean[[0, 2]]) and torch.equal(plain.mean[1, :2], changed.mean[1, :2])
    assert not torch.equal(plain.spread[1, 2:], changed.spread[1, 2:])
    assert torch.equal(changed.changes, changes)

    latents = torch.randn(3, 1, 1, 4, 4, 6, 8)
    level = torch.full((3, 1, 1), 0.5), torch.zeros(3, 1, 1, dtype=torch.int64), torch.zeros(3, 1, 4, ACTION_SIZE)
    guess = Guess(*(part[:, None] for part in changed))

    def dream(what: torch.Tensor) -> torch.Tensor:
        return dit(latents, *level, guess=guess._replace(changes=what[:, None])).latents[:, 0, 0]

    before, after = dream(0 * changes), dream(changes)
    assert torch.equal(before[[0, 2]], after[[0, 2]]) and torch.equal(before[1, :2], after[1, :2])
    assert not torch.equal(before[1, 2:], after[1, 2:])
    more = changes.clone()
    more[2, 0, 0] = 1  # another world's hand does something, too
    assert torch.equal(dream(more)[1], after[1])


def test_hands_go_on_where_they_were_and_let_go_where_no_action_is_known():
    torch.manual_seed(0)
    codec, _ = frozen()
    motion, _ = nets()
    scene = Scene(
        SceneConfig(DepthConfig(widths=(16,) * 3, depths=(1,) * 3), BodyConfig(width=16), HandConfig(width=16))
    )
    guesser = Guesser(codec, motion, scene.requires_grad_(False).eval())
    place, other = guesser.place((32, 48)), guesser.place((32, 48))
    assert isinstance(place, Place) and isinstance(other, Place)
    past = Autoencoder.normalise(torch.randn(1, 4, 4, 6, 8))
    actions = torch.zeros(1, 4, ACTION_SIZE)
    actions[..., BUTTON_INDEX["attack"]] = 1
    guesser(past, actions, places=[place])
    assert place.grip is not None and place.grip.hidden.any()
    other.restore(place.save())
    guesses = [guesser(past, actions, places=[each]) for each in (place, other)]
    assert torch.equal(guesses[0].changes, guesses[1].changes) and torch.equal(guesses[0].mean, guesses[1].mean)
    assert other.grip is not None and torch.equal(place.grip.hidden, other.grip.hidden)
    known = torch.ones(1, 4, 2)
    assert torch.equal(guesser(past, actions, places=[place], changes=known).changes, known)
    unknown = torch.zeros(1, dtype=torch.bool)
    assert not guesser(past, actions, unknown, places=[place], changes=known).changes.any()
    guesser(past, actions, unknown, places=[other])
    assert other.grip is None
    empty = guesser.place((32, 48))
    assert empty is not None
    other.restore(empty.save())
    assert other.grip is None


def test_where_the_hand_changed_something_the_judge_can_learn_alone():
    torch.manual_seed(0)
    codec, _ = frozen()
    with pytest.raises(UserError, match="motion.only_hand=true needs motion.flow_weight=0 and motion.model.hand=true"):
        MotionStageConfig(only_hand=True)
    config = MotionStageConfig(
        batch=2, chunks=3, flow_weight=0.0, only_hand=True, optimizer=OptimizerConfig(other_lr=1e-2, warmup=1),
        model=MotionConfig(width=16, fine_width=16, dilations=(1, 2), hand=True),
    )  # fmt: skip
    data = random_dataset(200, (4, 6), 8)
    data.changes[:] = 0
    data.changes[::6, 1] = 1
    stage = MotionStage(config, data, data, codec, seed=0, dtype=torch.float32)
    before = copy.deepcopy(stage.network.state_dict())
    for step in range(3):
        stage.train_step(step, 3)
    moved = {name for name, part in stage.network.state_dict().items() if not torch.equal(part, before[name])}
    assert moved and all(name.startswith("judge_hand") for name in moved)


def test_what_the_hand_changed_is_forgotten_though_it_looks_alike():
    place = Scene(SceneConfig(DepthConfig(widths=(8,) * 3, depths=(1,) * 3), BodyConfig(width=16))).place((32, 48))
    frames, calm = np.zeros((4, 32, 48, 3), np.uint8), np.zeros((4, 4, 6), np.float32)
    spread = np.full((4, 4, 6), 0.2, np.float32)
    spread[3, 1:3, 2:4] = 0.95
    place.sharpened(frames, calm, spread)
    assert not place.changed.any()
    place.sharpened(frames, calm, spread, hand=True)
    assert place.changed[8:24, 16:32].all() and place.changed.sum() == 16 * 16


@pytest.mark.parametrize(("kind", "near"), [(0, 3), (1, 2)])
def test_what_was_remembered_of_a_dug_block_and_behind_a_placed_one_is_forgotten(kind, near):
    """Before a wall three metres ahead: the face of a block is dug out of it, or hidden by a block before it."""
    place = Scene(SceneConfig(DepthConfig(widths=(8,) * 3, depths=(1,) * 3), BodyConfig(width=16))).place((32, 48))
    eye, rays = np.array([0.5, 0.5, 0.0, 0.0, 0.0]), place.memory.rays
    place.begin(eye)
    wall = (3 / rays[2]).astype(np.float32)
    place.remember(np.full((32, 48, 3), 90, np.uint8), wall, 0.0)
    views_of([place], np.broadcast_to(eye, (1, 4, 5)))
    holds = np.full((4, 2, 6), np.nan, np.float32)
    holds[2:, kind] = hold(np.array([0, 0, near]), eye, 70.0)
    frames, calm = np.full((4, 32, 48, 3), 90, np.uint8), np.zeros((4, 4, 6), np.float32)
    place.sharpened(frames, calm, calm, hand=True, holds=holds)
    focal = 24 / math.tan(math.radians(35))
    side = focal / near  # pixels that a metre fills there
    row, column = np.mgrid[:32, :48]
    within = (np.abs(row - 15.5) < side / 2 - 0.6) & (np.abs(column - 23.5) < side / 2 - 0.6)
    around = (np.abs(row - 15.5) < side / 2 + 0.6) & (np.abs(column - 23.5) < side / 2 + 0.6)
    assert within.any() and place.changed[within].all() and not place.changed[~around].any()
    place.sharpened(frames, calm, calm, holds=holds)  # the hand did nothing
    assert not place.changed.any()


def test_where_the_hand_works_is_told_from_where_it_looks():
    """Known from the recording, or else the cell in the middle of what is remembered, for the rest of the chunk."""
    eyes = np.tile(np.array([0.5, 0.5, 0.0, 0.0, 0.0]), (4, 1))
    eyes[:, 3] = 0, 0, 0, 5
    distances = np.broadcast_to(3 / pixel_rays(96, 160)[2], (4, 96, 160)).astype(np.float32)
    views = Views(np.zeros((4, 96, 160, 3), np.uint8), np.ones((4, 96, 160), bool), distances, distances, eyes)
    changes = np.zeros((4, 2))
    changes[1, 0] = changes[2, 1] = 1
    holds = views.holds(changes, None, 70.0)
    assert np.isnan(holds[0]).all() and np.isnan(holds[1, 1]).all()
    assert holds[1, 0].tolist() == [-0.5, -0.5, 3, 0, 0, 70] and holds[2, 1].tolist() == [-0.5, -0.5, 2, 0, 0, 70]
    assert holds[3, :, 3].tolist() == [5, 5] and np.array_equal(holds[3, :, :3], holds[2, :, :3])
    spots = np.full((4, 2, 3), np.nan)
    spots[1, 0] = 7, 8, 9
    told = views.holds(changes, spots, 70.0)
    assert told[1, 0, :3].tolist() == [6.5, 7.5, 9] and np.array_equal(told[:, 1], holds[:, 1], equal_nan=True)
    assert np.isnan(views._replace(distances=np.full_like(distances, np.inf)).holds(changes, None, 70.0)).all()
