"""Recall: what the bank holds is found by what is known of a view, and put where the eye will see it."""

import numpy as np
import pytest
import torch

from latentcraft.errors import UserError
from latentcraft.model.awaited import Awaited
from latentcraft.model.bank import GAIN, Bank, BankConfig, closeness, look_of
from latentcraft.model.camera import EYE_HEIGHT, SKY, axes, pixel_rays
from latentcraft.model.guess import Guess
from latentcraft.model.memory import Memory
from latentcraft.model.recall import (
    FEET,
    SKY_GAIN,
    at_the_feet,
    coloured,
    doubted,
    frayed,
    moved,
    put,
    sky_gain,
    stepped,
)
from latentcraft.model.views import Views

SIZE = (32, 48)
NOBODY = torch.zeros(0, dtype=torch.int32)


def pictures(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth random pictures ``uint8 (k, H, W, 3)``, no darker than a third, and distances."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.35 + 0.3 * torch.rand(count, 4, 4, 6, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")
    return (fine[:, :3] * 255).byte().permute(0, 2, 3, 1).contiguous(), 2 + 30 * fine[:, 3]


def bank_of(shown: torch.Tensor, distances: torch.Tensor, places: list[int]) -> Bank:
    bank = Bank(BankConfig(len(shown), (4, 6)))
    look, _ = look_of(shown, distances, torch.ones(distances.shape, dtype=torch.bool))
    bank.looks.copy_((look * 255).round().byte())
    bank.places.copy_(torch.tensor(places))
    return bank


def half_known(side: str) -> torch.Tensor:
    known = torch.zeros(1, *SIZE, dtype=torch.bool)
    known[..., : SIZE[1] // 2] = side == "left"
    known[..., SIZE[1] // 2 :] = side == "right"
    return known


@pytest.mark.parametrize("side", ["left", "right"])
def test_half_of_a_picture_finds_the_whole(side: str):
    shown, distances = pictures(40)
    bank, known = bank_of(shown, distances, list(range(40))), half_known(side)
    for index in (0, 7, 39):
        hidden = torch.where(known[0, ..., None], shown[index], 0)  # what is not known says nothing
        look, share = look_of(hidden[None], distances[index][None], known)
        match = bank.match(look[0], share[0], 0.0, NOBODY)
        assert (match.picture, match.mirrored) == (index, False)
        torch.testing.assert_close(match.gain, torch.ones(3), atol=0.02, rtol=0)


def test_it_is_found_in_a_mirror_too():
    shown, distances = pictures(40)
    bank = bank_of(shown, distances, list(range(40)))
    look, share = look_of(shown[8:9].flip(2), distances[8:9].flip(2), half_known("left"))
    match = bank.match(look[0], share[0], 0.0, NOBODY)
    assert (match.picture, match.mirrored) == (8, True)


def test_a_darker_day_finds_the_place_and_says_by_how_much():
    shown, distances = pictures(40)
    bank, known = bank_of(shown, distances, list(range(40))), half_known("left")
    look, share = look_of((shown[5:6] * 0.8).byte(), distances[5:6], known)
    match = bank.match(look[0], share[0], 0.0, NOBODY)
    assert match.picture == 5
    torch.testing.assert_close(match.gain, torch.full((3,), 0.8), atol=0.02, rtol=0)
    look, share = look_of((shown[5:6] * 0.2).byte(), distances[5:6], known)
    assert float(bank.match(look[0], share[0], 0.0, NOBODY).gain.min()) > 0.9 / GAIN  # but never by more than that


def test_places_of_late_are_avoided_as_long_as_there_are_others():
    shown, distances = pictures(4)
    bank, known = bank_of(shown, distances, [0, 0, 1, 1]), half_known("left")
    look, share = look_of(shown[:1], distances[:1], known)
    first = bank.match(look[0], share[0], 0.0, NOBODY)
    other = bank.match(look[0], share[0], 0.0, torch.tensor([0], dtype=torch.int32))
    again = bank.match(look[0], share[0], 0.0, torch.tensor([0, 1], dtype=torch.int32))
    assert (first.picture, bank.places[other.picture].item(), again.picture) == (0, 1, 0)


def test_a_view_from_another_pitch_is_the_worse_one():
    shown, distances = pictures(1)
    bank = bank_of(shown.repeat(2, 1, 1, 1), distances.repeat(2, 1, 1), [0, 1])
    bank.eyes[:, 4] = torch.tensor([0.0, 40.0])
    look, share = look_of(shown, distances, half_known("left"))
    assert [bank.match(look[0], share[0], pitch, NOBODY).picture for pitch in (5.0, 30.0)] == [0, 1]


def test_a_place_comes_together_but_not_from_afar():
    bank = Bank(BankConfig(5, (4, 6)))
    bank.places.copy_(torch.tensor([1, 0, 1, 1, 0]))
    bank.eyes[3, 0] = 100.0
    assert bank.together(2).tolist() == [2, 0]
    assert bank.together(1).tolist() == [1, 4]


def test_cells_count_most_where_the_unknown_begins():
    known = torch.zeros(6, 10)
    known[:, :5] = 1
    weight = closeness(known)
    assert (weight[:, 5:] == 0).all()
    assert (weight[:, 4] > weight[:, 3]).all() and (weight[:, 3] > weight[:, 0]).all() and (weight[:, 0] > 0).all()


def test_a_place_is_carried_along_and_turned_as_a_whole():
    eyes = np.array([[3.0, 70, 5, 30, 10], [4.0, 71, 5, 120, -5]])
    target = np.array([-2.0, 64, 8, 75, 20])
    there = moved(eyes, target)
    np.testing.assert_allclose(there[0], [-2, 64, 8, 75, 10])  # but what is up stays so
    np.testing.assert_allclose(there[1, 3:], [165, -5])
    # From the first, the second is as far ahead, to the right and up as it was.
    before, after = (
        (two[1, :3] - two[0, :3]) @ axes(two[0, 3], 0.0) for two in (eyes, there)
    )  # fmt: skip
    np.testing.assert_allclose(after, before, atol=1e-12)
    mirrored = moved(eyes, target, mirrored=True)
    np.testing.assert_allclose(mirrored[1, 3:], [-15, -5])
    after = (mirrored[1, :3] - mirrored[0, :3]) @ axes(75, 0.0)
    np.testing.assert_allclose(after, before * [-1, 1, 1], atol=1e-12)


def test_in_a_world_of_blocks_places_stay_in_its_grid():
    eyes = np.array([[3.25, 70.62, 5.5, 30, 10], [4.5, 71.62, 5.75, 120, -5]])
    target = np.array([-2.1, 64.62, 8.3, 205, 20])
    there = stepped(eyes, target)
    assert np.abs(there[0, :3] - target[:3]).max() <= 0.5
    np.testing.assert_allclose(there[:, 3:], [[210, 10], [300, -5]])  # two quarters on
    np.testing.assert_allclose(there[:, 1] % 1, eyes[:, 1] % 1)
    # What was ahead of the first is ahead of it, in metres, and corners of blocks are where corners of blocks were.
    before, after = ((two[1, :3] - two[0, :3]) @ axes(two[0, 3], 0.0) for two in (eyes, there))
    np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_allclose((there[:, :3] + eyes[:, :3]) % 1 % 1, 2 * eyes[:, 1:2] % 1 * [0, 1, 0], atol=1e-9)
    mirrored = stepped(eyes, target, mirrored=True)
    assert np.abs(mirrored[0, :3] - target[:3]).max() <= 0.5 and abs(mirrored[0, 3] - 205) <= 45
    after = (mirrored[1, :3] - mirrored[0, :3]) @ axes(mirrored[0, 3], 0.0)
    np.testing.assert_allclose(after, before * [-1, 1, 1], atol=1e-12)


def test_in_a_world_of_blocks_only_pictures_that_look_about_the_same_way_are_found():
    shown, distances = pictures(4)
    bank = bank_of(shown, distances, list(range(4)))
    bank.eyes[:, 3] = torch.tensor([44.0, 50.0, 45.0, 3.0])  # the last is like the view after a quarter
    look, share = look_of(shown[:1], distances[:1], half_known("left"))
    assert bank.match(look[0], share[0], 0.0, NOBODY).picture == 0
    turned = bank.match(look[0], share[0], 0.0, NOBODY, yaw=88.0)
    assert turned.picture == 3
    assert bank.match(look[0], share[0], 0.0, NOBODY, yaw=-136.0).picture == 0


def test_only_what_nobody_looked_at_is_taken():
    other = np.full((1, *SIZE, 3), 200, np.uint8)
    distance = np.full((1, *SIZE), 2.0, np.float32)
    distance[..., 24:] = 40.0
    for back, taken in ((0.0, False), (8.0, True)):
        memory = Memory(SIZE, field_of_view=70.0)
        looker = np.array([0.0, 0, -back, 0, 0])
        memory.remember(np.full((*SIZE, 3), 50, np.uint8), np.full(SIZE, 4.0 + back, np.float32), looker)
        # One half is before what was seen, and so was looked through; the other is behind, which counts from afar.
        put(memory, other, distance, np.zeros((1, 5)))
        assert memory.count == 1 + taken
        shown = memory.view(looker).picture
        assert (shown[4:-4, 4:-4] == 50).all()  # what was seen stays what is seen
        if taken:
            assert not memory.own[1, 4:-4, 4:20].any() and memory.own[1, 4:-4, 28:-4].all()
            np.testing.assert_array_equal(memory.sure[1], 0)
            np.testing.assert_array_equal(memory.clear[1], 1)
        # Where nobody has looked all of it is taken: behind.
        put(memory, other, np.full((1, *SIZE), 9.0, np.float32), np.array([[0.0, 0, 0, 180, 0]]))
        assert memory.own[memory.count - 1, 1:-1, 1:-1].all()
        assert (memory.view(np.array([0.0, 0, 0, 180, 0])).picture[1:-1, 1:-1] == 200).all()


def test_nothing_is_put_at_the_feet():
    memory = Memory(SIZE, field_of_view=70.0)
    distance = np.full((1, *SIZE), 20.0, np.float32)
    distance[:, 16:] = 3.0
    eye = np.array([5.0, 60, 5, 90, 0])
    put(memory, np.full((1, *SIZE, 3), 200, np.uint8), distance, eye[None], eye)
    assert not memory.own[0, 15:].any() and memory.own[0, 2:14, 1:-1].all()
    away = eye - [10, 0, 0, 0, 0]
    put(memory, np.full((1, *SIZE, 3), 200, np.uint8), distance, away[None], eye)
    assert memory.own[1, 18:].any()  # as near, but to nobody


def test_ground_at_the_feet_is_not_looked_for():
    rays = pixel_rays(*SIZE)
    level, down, up = (at_the_feet(rays, pitch) for pitch in (0.0, 60.0, -30.0))
    assert not level[:20].any() and level[-1].any() and down.all() and not up.any()
    row = int(np.flatnonzero(level[:, 24])[0])
    steepness = -rays[1, row, 24]
    assert EYE_HEIGHT / steepness == pytest.approx(FEET, rel=0.15)


def test_a_recalled_sky_is_of_the_colour_of_the_one_that_is_remembered():
    distance, gain = np.full(SIZE, 10.0, np.float32), np.full(3, 1.2, np.float32)
    distance[:16] = SKY
    pixels = torch.full((1, 3, *SIZE), 80 / 127.5 - 1)
    memory = Memory(SIZE, field_of_view=70.0)
    np.testing.assert_array_equal(sky_gain(memory, pixels, distance[None], gain), gain)  # nothing is remembered yet
    seen = np.full((*SIZE, 3), 20, np.uint8)
    seen[:16] = 60, 120, 240
    memory.remember(seen, distance, np.zeros(5))
    sky = sky_gain(memory, pixels, distance[None], gain)
    np.testing.assert_allclose(sky * 80, [60, 120, 1.2 * SKY_GAIN * 80], rtol=0.02)
    awaited = Awaited.nothing()._replace(gain=gain, sky=sky, mirrored=np.array(True))
    shown, distances = coloured(pixels, distance[None], awaited)
    assert shown.dtype == np.uint8 and shown.shape == (1, *SIZE, 3)
    np.testing.assert_allclose(shown[0, :16].mean((0, 1)), [60, 120, 192], atol=2)
    np.testing.assert_allclose(shown[0, 16:], 96, atol=1)  # the land is scaled as it was
    np.testing.assert_array_equal(distances[0], distance)
    nowhere = np.full((1, *SIZE), 10.0, np.float32)
    np.testing.assert_array_equal(sky_gain(memory, pixels, nowhere, gain), gain)


def test_the_rest_of_a_place_is_awaited_until_it_is_needed():
    eyes = np.array([[0.0, 0, 0, 350, 0], [0.0, 0, 0, 90, 0], [3.0, 0, 0, 20, 30], [40.0, 0, 0, 0, 0]])
    awaited = Awaited(np.array([7, 5, 9, 2]), eyes, np.ones(3, np.float32), np.ones(3, np.float32), np.array(False))
    assert awaited.nearest(np.array([0.0, 0, 0, 5, 0])) == 0  # 350 degrees are 15 away
    assert awaited.nearest(np.array([3.0, 0, 0, 25, 25])) == 2
    assert awaited.nearest(np.array([0.0, 0, 0, 200, 0])) is None
    assert awaited.nearest(np.array([0.0, 0, 0, 90, 80])) is None  # straight down
    assert awaited.without(0).nearest(np.array([0.0, 0, 0, 5, 0])) == 1
    assert awaited.without(1).rows.tolist() == [7, 9, 2]
    assert Awaited.nothing().nearest(np.zeros(5)) is None


def test_what_faded_makes_room():
    memory = Memory(SIZE, field_of_view=70.0)
    clear = np.ones((4, 6), np.float32)
    clear[:, :3] = 0.2
    memory.remember(np.full((*SIZE, 3), 50, np.uint8), np.full(SIZE, 4.0, np.float32), np.zeros(5), clear=clear)
    memory.fade(0.35)
    assert not memory.own[0, :, :24].any() and memory.own[0, 1:-1, 24:].all()
    put(memory, np.full((1, *SIZE, 3), 200, np.uint8), np.full((1, *SIZE), 4.0, np.float32), np.zeros((1, 5)))
    shown = memory.view(np.zeros(5)).picture
    assert (shown[1:-1, 1:22] == 200).all() and (shown[1:-1, 26:] == 50).all()


def test_edges_of_things_are_left_out():
    distance = np.full(SIZE, 5.0, np.float32)
    distance[10:20, 10:20] = 3.0
    distance[:4] = SKY
    out = frayed(distance)
    assert out[10, 10:20].all() and out[9, 10:20].all() and out[3].all()
    assert not out[12:18, 12:18].any() and not out[25:].any()
    assert not frayed(np.linspace(3, 4, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)).any()


def test_seams_lie_where_the_recalled_begins():
    known, recalled = np.zeros((1, 32, 48), np.bool_), np.zeros((1, 32, 48), np.bool_)
    known[..., :40], recalled[..., 16:40] = True, True
    view = Views(np.zeros((1, 32, 48, 3), np.uint8), known, *[np.zeros((1, 32, 48), np.float32)] * 2, np.zeros((1, 5)))
    assert view.seams() is None
    sewn = view._replace(recalled=recalled)
    assert sewn.seams()[0].tolist() == [[False, False, True, False, False, False]] * 4
    assert sewn.last().seams().shape == (1, 4, 6)


def test_the_guess_doubts_the_seams_alone():
    mean = torch.full((2, 1, 4, 6, 8), 0.9)
    guess = Guess.of_nothing(mean)._replace(mean=mean, spread=torch.full((2, 1, 4, 6, 1), 0.3), carried=mean)
    known, recalled = np.ones((1, 32, 48), np.bool_), np.zeros((1, 32, 48), np.bool_)
    recalled[..., 16:] = True
    plain = Views(np.zeros(0), known, *[np.zeros(0)] * 3)
    assert doubted(guess, [plain, None]) is guess
    out = doubted(guess, [plain._replace(recalled=recalled), plain])
    changed = out.spread != guess.spread
    assert changed[0, 0, :, 2].all() and changed.sum() == 4
    # Latents have unit variance: what is known less is also said less loudly.
    ratio = ((1 - out.spread[0, 0, 0, 2, 0] ** 2) / (1 - 0.3**2)).sqrt()
    torch.testing.assert_close(out.mean[0, 0, :, 2] / 0.9, ratio.expand(4, 8))
    torch.testing.assert_close(out.mean[1], guess.mean[1])


def test_an_empty_bank_is_refused():
    with pytest.raises(UserError, match="at least 1 picture"):
        BankConfig(0)
