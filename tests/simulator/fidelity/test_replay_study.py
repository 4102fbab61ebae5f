"""Worlds whose score is known: the reference itself, the codec, a still picture, a player who is not heard."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.simulator.fidelity import replay_study as study_module
from latentcraft.simulator.fidelity.adapters import CopyLastWorld, WrongActionsWorld
from latentcraft.simulator.fidelity.clips import Footage, Sampling, frechet_by_slice
from latentcraft.simulator.fidelity.features import Features
from latentcraft.simulator.fidelity.figures import Figure, Subject
from latentcraft.simulator.fidelity.knobs import TunedDream
from latentcraft.simulator.fidelity.metrics import MAX_PSNR
from latentcraft.simulator.fidelity.replay_study import ReplayPlan, replay, replay_study
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (32, 48)
GAMES = 4


class Coarse:
    """A network that sees the picture at a sixteenth of its size."""

    name = "coarse"

    def __call__(self, frames: np.ndarray) -> Features:
        small = torch.nn.functional.avg_pool2d(torch.from_numpy(frames).float().permute(0, 3, 1, 2), 16) / 255
        return Features((small,), small.flatten(1))


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(study_module, "load_features", lambda name: Coarse())


def reference(games: int, task: str) -> VoxelWorld:
    return VoxelWorld(games, task, SIZE)


@pytest.fixture(scope="module")
def plan() -> ReplayPlan:
    actions = noop(GAMES, 24)
    actions[..., BUTTON_INDEX["forward"]] = 1
    actions[..., YAW] = np.array([4, -4, 7, -7])[:, None]
    return ReplayPlan.quick(tuple(range(HELD_OUT_SEED, HELD_OUT_SEED + GAMES)), actions)


@pytest.fixture(scope="module")
def scores(plan: ReplayPlan) -> dict[str, dict[str, Figure]]:
    subjects = {
        "reference": reference,
        "copy-last": lambda games, task: CopyLastWorld(reference(games, task)),
        "wrong actions": lambda games, task: WrongActionsWorld(reference(games, task)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "load_features", lambda name: Coarse())
        return {name: replay_study(Subject(name, make), plan) for name, make in subjects.items()}


def test_every_column_has_a_figure(plan: ReplayPlan, scores: dict[str, dict[str, Figure]]):
    keys = [column.key for column in plan.columns()]
    assert "psnr@0.2s" in keys and "clips_fd@1s" in keys and not any(key.endswith("@3s") for key in keys)
    for figures in scores.values():
        assert sorted(figures) == sorted(keys)
        assert all(figure.count == GAMES for figure in figures.values())


def test_the_reference_is_perfect(scores: dict[str, dict[str, Figure]]):
    for key, figure in scores["reference"].items():
        expected = {"psnr": MAX_PSNR, "ssim": 1.0}.get(key.split("@")[0], 0.0)
        assert figure.value == pytest.approx(expected, abs=1e-5), key
        assert figure.low == pytest.approx(figure.high, abs=1e-5)


@pytest.mark.parametrize("name", ["copy-last", "wrong actions"])
def test_poor_worlds_score_poorly(name: str, scores: dict[str, dict[str, Figure]]):
    poor = {key: figure.value for key, figure in scores[name].items()}
    assert poor["psnr@1s"] < 22 and poor["ssim@1s"] < 0.8
    assert poor["perceptual@1s"] > 0.001 and poor["frames_fd@1s"] > 0.1


def test_a_still_picture_is_right_at_first(scores: dict[str, dict[str, Figure]]):
    still = {key: figure.value for key, figure in scores["copy-last"].items()}
    assert still["psnr@0.2s"] > still["psnr@1s"] + 1 and still["perceptual@0.2s"] < still["perceptual@1s"]


def test_only_the_still_picture_lacks_motion(scores: dict[str, dict[str, Figure]]):
    """Turning the wrong way moves as much: as clips, its pictures are nearer to the truth than a still one's."""
    assert scores["copy-last"]["clips_fd@1s"].value > 1.2 * scores["wrong actions"]["clips_fd@1s"].value


def test_a_dream_is_measured_and_the_same_twice(tiny_checkpoint: Path, plan: ReplayPlan):
    from latentcraft.model.checkpoint import load_checkpoint

    model = load_checkpoint(tiny_checkpoint)
    subject = Subject("dream", lambda games, task: TunedDream(model, num_worlds=games, task=task))
    first, second = replay(subject, plan), replay(subject, plan)
    assert first.figures == second.figures and first.figures["psnr@1s"].value < 20
    assert first.times == (0.0, 0.2, 1.0) and first.shown.shape == first.true.shape == (GAMES, 3, *SIZE, 3)
    assert not (first.shown == first.true).all()


def test_sampling_ends_at_the_edges_and_stays_within_slices():
    sampling = Sampling((4, 20, 60), clips=3, chunk=4)
    assert sampling.ends(0) == [4]
    assert sampling.ends(1) == [8, 16, 20] or sampling.ends(1) == [8, 12, 20]
    assert len(sampling.ends(2)) == 3 and sampling.ends(2)[-1] == 60 and min(sampling.ends(2)) > 20
    assert sampling.clip(4) == [-2, 0, 2, 4] and sampling.frames(0) == [2, 4]
    assert Sampling((2,), clips=1, chunk=2).clip(2) == [-1, -1, 0, 2], "no further back than the last chunk"


def test_order_of_frames_matters_to_clips_only():
    """The same frames played backwards are the same set of frames but other clips."""
    sampling = Sampling((40,), clips=8, chunk=4)
    ticks = sampling.ticks()
    rng = np.random.default_rng(0)
    speed = rng.uniform(1, 4, (6, 1))
    true = Footage(ticks, np.zeros(0), (speed * np.array(ticks))[..., None] + rng.normal(0, 0.01, (6, len(ticks), 2)))
    backwards = Footage(ticks, np.zeros(0), true.pooled[:, ::-1])
    assert frechet_by_slice(sampling, true, true, clips=True)[0].value == pytest.approx(0, abs=1e-6)
    clips = frechet_by_slice(sampling, backwards, true, clips=True)[0].value
    frames = frechet_by_slice(sampling, backwards, true, clips=False)[0].value
    assert clips > 0.5 and frames < clips / 5
