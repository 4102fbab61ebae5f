"""Two processes train as one does: alike among themselves, near the single one, and resumable however they ended."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentcraft.__main__ import main
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train import run
from latentcraft.model.train.loop import Interrupted, LoopConfig, run_stage, saved_step
from latentcraft.model.train.ranks import ALONE, Ranks

STAGES = ("autoencoder", "depth", "body", "motion", "dynamics", "outcomes")
SHORT = [
    "preset=smoke", "frame_size=[32,48]", "accelerator=cpu", "precision=fp32", "threads=1", "save_seconds=0",
    "autoencoder.steps=4", "depth.steps=3", "body.steps=2", "body.episodes=2", "motion.steps=3", "dynamics.steps=6",
    "dynamics.batch=2", "dynamics.own_start=2", "dynamics.own_share=0.5", "dynamics.bootstrap_share=0.5",
    "dynamics.bootstrap_start=1", "dynamics.bootstrap_stage=2", "dynamics.adversary.start=2",
]  # fmt: skip
"""Every kind of step there is, each a few times."""

WATCHED = """
import os, signal, sys
from pathlib import Path
import torch
from latentcraft.__main__ import main
from latentcraft.model.train import course

out, blow = Path(sys.argv[1]), sys.argv[2].split(":")  # stage, step, signal
run_stage = course.run_stage

def watched(stage, loop, directory, ranks):
    train_step = stage.train_step

    def struck(step, steps):
        if ranks.rank == 1 and [stage.name, str(step)] == blow[:2]:
            os.kill(os.getpid(), getattr(signal, blow[2]))
        return train_step(step, steps)

    stage.train_step = struck
    progress = run_stage(stage, loop, directory, ranks)
    torch.save(stage.optimizer.masters, out / f"{stage.name}.weights.{ranks.rank}")
    return progress

course.run_stage = watched
sys.exit(main(["train", *sys.argv[3:]]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short episodes of the reference world, with poses and distances."""
    out = tmp_path_factory.mktemp("recorded") / "data"
    assert main(["record", f"out={out}", "episodes=3", "ticks=48", "workers=0", "frame_size=[32,48]"]) == 0
    return out


def train_two(data: Path, out: Path, blow: str = "never", *more: str) -> str:
    """Train with two processes, of which the second is struck at some step; returns what they said."""
    out.mkdir(exist_ok=True)
    script = out.with_suffix(".py")
    script.write_text(WATCHED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [*command, str(out), blow, *SHORT, f"data={data}", f"out={out}", *more], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=280, text=True,
    )  # fmt: skip
    assert (done.returncode == 0) == (blow == "never"), done.stdout[-6000:]
    return done.stdout


def masters(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return weights


@pytest.mark.timeout(600)
@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32", reason="needs gloo and POSIX")
def test_two_processes_train_as_one_does(data: Path, tmp_path: Path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert "2 processes, 1 threads" in train_two(data, unbroken)
    assert main(["train", *SHORT, f"data={data}", f"out={tmp_path / 'one'}"]) == 0
    for stage in STAGES:
        first, second = (masters(unbroken / f"{stage}.weights.{rank}") for rank in (0, 1))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), stage
        alone = torch.load(tmp_path / "one" / f"{stage}.state.pt", weights_only=True)["stage"]["masters"]
        # Rounding, grown over a few steps; see the docstring of model/train/ranks.py. A step moves weights by 0.01.
        assert all((first[name] - alone[name]).abs().max() < 2e-3 for name in first), stage
        assert any(not torch.equal(first[name], alone[name]) for name in first)  # it was shared indeed
    assert len((unbroken / "dynamics.log.jsonl").read_text().splitlines()) == 2  # one process writes: loss, validation

    train_two(data, broken, "dynamics:3:SIGKILL")
    assert saved_step("dynamics", broken) == 3
    train_two(data, broken)
    whole, again = (load_file(out / "latentcraft.safetensors") for out in (unbroken, broken))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)

    # In shards: the same weights from half of the states each, whole on disk, so that others can go on from there.
    sharded = tmp_path / "sharded"
    train_two(data, sharded, "dynamics:3:SIGKILL", "shard=true")
    for stage in STAGES[:-2]:
        first, second = (masters(sharded / f"{stage}.weights.{rank}") for rank in (0, 1))
        assert not first.keys() & second.keys()
        assert first.keys() | second.keys() == masters(unbroken / f"{stage}.weights.0").keys()
        sizes = [sum(weight.numel() for weight in part.values()) for part in (first, second)]
        assert min(sizes) > 0.2 * sum(sizes)  # a matrix is never cut
    shutil.copytree(sharded, tmp_path / "other")
    train_two(data, sharded, "never", "shard=true")
    train_two(data, tmp_path / "other")
    for out in (sharded, tmp_path / "other"):
        again = load_file(out / "latentcraft.safetensors")
        assert all(torch.equal(whole[name], again[name]) for name in whole)


class Counting:
    """A stage of one weight."""

    name = "counting"

    def __init__(self) -> None:
        self.net = torch.nn.Linear(1, 1)
        self.average = torch.nn.Linear(1, 1)
        self.optimizer = MasterOptimizer(self.net, OptimizerConfig(warmup=1))

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        self.net(torch.ones(1, 1)).sum().backward()
        self.optimizer.step(step, steps)
        return {"loss": 1.0}

    def validate(self, step: int, directory: Path) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, object]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.optimizer.load_state_dict(state)


def test_a_signal_or_a_bad_loss_elsewhere_stops_this_process_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    config = LoopConfig(steps=30)
    monkeypatch.setattr(Ranks, "anywhere", lambda self, *facts: [True, *facts[1:]])
    with pytest.raises(Interrupted, match="counting stopped at step 1 of 30"):
        run_stage(Counting(), config, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(Ranks, "means", lambda self, figures: {name: float("nan") for name in figures})
    with pytest.warns(UserWarning, match="counting diverged at step 11: .*back to step 1"), pytest.raises(UserError):
        run_stage(Counting(), config, tmp_path)


def test_only_the_first_process_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(Ranks, "rank", 1)
    assert run_stage(Counting(), LoopConfig(steps=3, save_seconds=0.0), tmp_path).step == 3
    assert not list(tmp_path.iterdir())


def test_a_batch_that_cannot_be_shared_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    config = compose_config("train", [*SHORT, f"data={tmp_path}", f"out={tmp_path}", "dynamics.batch=3"])
    assert isinstance(config, run.TrainConfig)
    monkeypatch.setattr(Ranks, "count", 2)
    with pytest.raises(UserError, match=r"dynamics\.batch=3 cannot be shared evenly by 2 processes; set .*batch=4"):
        run.train(config, ALONE, "cpu")


def test_shares_are_disjoint_and_make_up_the_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Ranks, "count", 3)
    batch, parts = torch.arange(12).view(2, 6), []
    for rank in range(3):
        monkeypatch.setattr(Ranks, "rank", rank)
        parts.append(ALONE.share(batch, axis=1))
    assert [part.shape for part in parts] == [(2, 2)] * 3
    assert sorted(torch.cat(parts).flatten().tolist()) == list(range(12))
