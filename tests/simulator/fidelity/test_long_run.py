from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics")

from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.simulator.fidelity import long_run as module
from latentcraft.simulator.fidelity.adapters import CopyLastWorld
from latentcraft.simulator.fidelity.features import Features
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.knobs import TunedDream
from latentcraft.simulator.fidelity.long_run import LongPlan, long_run, long_study
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (96, 160)


class Coarse:
    """A network that sees the picture at a sixteenth of its size."""

    name = "coarse"

    def __call__(self, frames: np.ndarray) -> Features:
        small = torch.nn.functional.avg_pool2d(torch.from_numpy(frames).float().permute(0, 3, 1, 2), 16) / 255
        return Features((small,), small.flatten(1))


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "load_features", lambda name: Coarse())


@pytest.fixture
def plan() -> LongPlan:
    actions = noop(2, 48)
    actions[..., YAW] = [[3], [-3]]
    actions[:, 24:, BUTTON_INDEX["forward"]] = 1
    return LongPlan((HELD_OUT_SEED + 1, HELD_OUT_SEED + 2), actions, edges=(1.0, 2.0, 4.0), clips=3, poses=1)


def test_the_reference_stays_where_it_is(plan: LongPlan):
    run = long_run(Subject("reference", lambda games, task: VoxelWorld(games, task, SIZE)), plan)
    assert sorted(run.figures) == sorted(column.key for column in plan.columns())
    assert sorted(run.timings) == sorted(column.key for column in plan.timing_columns())
    assert not any(key.endswith("@4s") for key in run.figures), "edges beyond the actions are left out"
    for edge in ("1s", "2s"):
        assert run.figures[f"frames_fd@{edge}"].value == pytest.approx(0, abs=1e-6)
        assert run.figures[f"found@{edge}"].value == 100
        assert run.figures[f"view@{edge}"].value < 0.5 and run.figures[f"place@{edge}"].value < 0.1
        assert run.timings[f"step@{edge}"].value > 0 and run.timings[f"memory@{edge}"].value > 10


def test_a_still_picture_is_left_behind(plan: LongPlan):
    figures = long_study(Subject("copy-last", lambda games, task: CopyLastWorld(VoxelWorld(games, task, SIZE))), plan)
    for edge, turned in (("1s", 60), ("2s", 120)):
        assert figures[f"frames_fd@{edge}"].value > 0.1
        shown = figures[f"found@{edge}"].value
        assert shown < 100 or figures[f"view@{edge}"].value > turned / 2


def test_a_dream_of_nothing_shows_no_place(plan: LongPlan, tiny_checkpoint: Path):
    model = load_checkpoint(tiny_checkpoint)
    run = long_run(Subject("dream", lambda games, task: TunedDream(model, num_worlds=games, task=task)), plan)
    assert run.figures["found@2s"].value == 0 and np.isnan(run.figures["view@2s"].value)
    assert run.figures["view@2s"].count == 0
