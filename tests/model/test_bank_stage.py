"""Choosing the bank: plain places of the recording, spread out, the same every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import frozen

from latentcraft.errors import UserError
from latentcraft.model.bank import Bank
from latentcraft.model.depth import DepthConfig, DepthNet
from latentcraft.model.latents import LatentDataset
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.train import bank as stage
from latentcraft.model.train.bank import BankStageConfig, candidates, fill_bank, kept_bank, shows_a_place, spread_out

CONFIG = BankStageConfig(frames=20, place=6, least=3)


def recording(tasks: list[str], frames: int = 200) -> LatentDataset:
    """Episodes that walk straight on and turn round meanwhile."""
    count = len(tasks) * frames
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 4, 6, 8, generator=generator)
    step = torch.arange(frames, dtype=torch.float64)
    eyes = torch.stack([0.2 * step, 70 + 0 * step, 0 * step, 4 * step, 10 * torch.sin(step)], -1)
    empty = torch.zeros(0, 2, dtype=torch.int64)
    return LatentDataset(
        latents=(latents / latents.square().mean(-1, keepdim=True).sqrt()).half(),
        actions=torch.zeros(count, 20), rewards=torch.zeros(count), terminated=torch.zeros(count, dtype=torch.bool),
        task=torch.tensor([TASK_INDEX[task] for task in tasks]).repeat_interleave(frames),
        eyes=eyes.repeat(len(tasks), 1), changes=torch.zeros(count, 2), spots=torch.zeros(count, 2, 3),
        spans=torch.tensor([(number * frames, frames) for number in range(len(tasks))]), events=empty, deeds=empty,
    )  # fmt: skip


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch):
    """A codec and a depth net that know nothing, to whom every picture shows a place."""
    torch.manual_seed(0)
    monkeypatch.setattr(stage, "shows_a_place", lambda distance: torch.ones(len(distance), dtype=torch.bool))
    codec, _ = frozen()
    return codec, DepthNet(DepthConfig(widths=(8,) * 3, depths=(1,) * 3)).requires_grad_(False)


def same(one: Bank, two: Bank) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def test_a_bank_holds_places_of_plain_episodes(nets):
    data = recording(["free", "build", "chop", "navigate", "explore"])
    bank = fill_bank(CONFIG, data, *nets, seed=1)
    assert 3 * CONFIG.least <= len(bank.eyes) <= CONFIG.frames
    places, counts = bank.places.unique(return_counts=True)
    assert len(places) == 3  # neither marks to build on nor beacons
    assert counts.min() >= CONFIG.least and counts.max() <= CONFIG.place
    for place in places:
        eyes = bank.eyes[bank.places == place]
        assert (eyes[:, :3].amax(0) - eyes[:, :3].amin(0)).max() <= 2 * stage.AROUND
    # What was encoded comes back, to half of a 32nd of its scale.
    rows = [int((data.eyes.float() - eye).abs().sum(1).argmin()) % 200 for eye in bank.eyes]
    decoded = bank.decoded(torch.arange(len(rows)))
    for row, latents in zip(rows, decoded, strict=True):
        nearest = min((data.latents[row + 200 * n].float() - latents).abs().max() for n in (0, 2, 4))
        assert nearest < 0.05


def test_a_bank_is_a_function_of_its_seed(nets):
    data = recording(["free", "chop", "explore"])
    first = fill_bank(CONFIG, data, *nets, seed=1)
    assert same(first, fill_bank(CONFIG, data, *nets, seed=1))
    assert not torch.equal(first.eyes, fill_bank(CONFIG, data, *nets, seed=2).eyes)


def test_there_may_be_nothing_to_keep(nets):
    assert fill_bank(CONFIG, recording(["build"]), *nets, seed=1) is None
    data = recording(["free"])
    unknown = replace(data, eyes=torch.full_like(data.eyes, torch.nan))
    assert fill_bank(CONFIG, unknown, *nets, seed=1) is None


def test_a_bank_is_chosen_once(nets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, path = recording(["free", "chop"]), tmp_path / "bank.safetensors"
    first = kept_bank(CONFIG, data, *nets, path, seed=1)
    with monkeypatch.context() as context:
        context.setattr(stage, "fill_bank", lambda *args, **more: pytest.fail("chosen again"))
        assert same(first, kept_bank(CONFIG, data, *nets, path, seed=1))
    other = kept_bank(replace(CONFIG, frames=6), data, *nets, path, seed=1)
    assert len(other.eyes) == 6
    path.write_bytes(path.read_bytes()[:-10])
    assert same(other, kept_bank(replace(CONFIG, frames=6), data, *nets, path, seed=1))


def test_pictures_are_spread_out():
    eyes = np.zeros((30, 5))
    eyes[10:20, 3], eyes[20:, 0] = 90, 6
    eyes[:, 2] += np.linspace(0, 0.1, 30)  # none is quite like another
    chosen = spread_out(eyes, 8)
    assert len(chosen) == 3  # the others show nothing else
    assert {int(index) // 10 for index in chosen} == {0, 1, 2}
    assert len(spread_out(eyes, 2)) == 2
    assert not len(spread_out(eyes[:0], 8))


def test_candidates_are_close_to_one_another_and_known():
    eyes = recording(["free"]).eyes.numpy()
    eyes[:50] = np.nan
    index = candidates(eyes, CONFIG, np.random.default_rng(0))
    assert index.min() >= 50
    assert np.ptp(eyes[index, 0]) <= 2 * stage.AROUND
    assert not len(candidates(np.full((9, 5), np.nan), CONFIG, np.random.default_rng(0)))


def test_a_face_against_a_wall_is_no_place():
    far, wall, corner = torch.full((32, 48), 20.0), torch.full((32, 48), 0.8), torch.full((32, 48), 20.0)
    corner[:, :24] = 0.9
    at_hand = far.clone()
    at_hand[12:20, 20:28] = 2.0
    assert shows_a_place(torch.stack([far, wall, corner, at_hand])).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"tasks": ("chp",)}, "'chp'"), ({"frames": -1}, "frames"), ({"least": 9}, "least"), ({"least": 0}, "least")],
)
def test_bad_values_are_named(wrong: dict, named: str):
    with pytest.raises(UserError, match=named):
        BankStageConfig(**wrong)
