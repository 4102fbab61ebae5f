"""Two processes train as one does: alike among themselves, near the single one, and resumable however they ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentcraft.__main__ import main
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.train import run
from latentcraft.model.train.ranks import ALONE, Ranks

STAGES = ("autoencoder", "depth", "body", "motion", "dynamics")
SHORT = [
    "preset=smoke", "frame_size=[32,48]", "accelerator=cpu", "precision=fp32", "threads=1", "save_seconds=0",
    "autoencoder.steps=4", "depth.steps=3", "body.steps=2", "body.episodes=2", "motion.steps=3", "dynamics.steps=6",
    "dynamics.batch=2", "dynamics.own_start=2", "dynamics.own_share=0.5", "dynamics.bootstrap_share=0.5",
    "dynamics.bootstrap_start=1", "dynamics.bootstrap_stage=2", "dynamics.adversary.start=2",
]  # fmt: skip
"""Every kind of step there is, each a few times."""

WATCHED = """
import os, sys
from pathlib import Path
import torch
from latentcraft.__main__ import main
from latentcraft.model.train import run

out = Path(sys.argv[1])
out.mkdir(exist_ok=True)
(out / f"pid.{os.environ['RANK']}").write_text(str(os.getpid()))
run_stage = run.run_stage

def watched(stage, loop, directory, ranks):
    progress = run_stage(stage, loop, directory, ranks)
    torch.save(stage.optimizer.masters, out / f"{stage.name}.weights.{ranks.rank}")
    return progress

run.run_stage = watched
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short episodes of the reference world, with poses and distances."""
    out = tmp_path_factory.mktemp("recorded") / "data"
    assert main(["record", f"out={out}", "episodes=3", "ticks=48", "workers=0", "frame_size=[32,48]"]) == 0
    return out


class Pair:
    """A training of two processes."""

    def __init__(self, data: Path, out: Path, script: Path):
        script.write_text(WATCHED)
        self.out, self.log = out, script.with_suffix(".log")
        with self.log.open("wb") as log:
            self.torchrun = subprocess.Popen(
                [
                    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script),
                    str(out), *SHORT, f"data={data}", f"out={out}",
                ], stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def end(self) -> int:
        """Wait until all processes have ended; returns torchrun's exit status."""
        return self.torchrun.wait(timeout=240)

    def signal_second(self, kind: signal.Signals, *, once_saved: str) -> str:
        """Wait for the first save of a stage and send a signal to the second process; returns what was said."""
        state, pid = self.out / f"{once_saved}.state.pt", self.out / "pid.1"
        while self.torchrun.poll() is None and not (state.exists() and pid.exists()):
            time.sleep(0.005)
        assert self.torchrun.poll() is None, self.log.read_text()[-2000:]
        os.kill(int(pid.read_text()), kind)
        assert self.end() != 0
        pid.unlink()
        return self.log.read_text()


def masters(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return weights


@pytest.mark.timeout(600)
@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32", reason="needs gloo and POSIX")
def test_two_processes_train_as_one_does(data: Path, tmp_path: Path):
    pair = Pair(data, tmp_path / "unbroken", tmp_path / "unbroken.py")
    assert main(["train", *SHORT, f"data={data}", f"out={tmp_path / 'one'}"]) == 0
    assert pair.end() == 0, pair.log.read_text()[-3000:]
    assert "2 processes, 1 threads" in pair.log.read_text()
    for stage in STAGES:
        first, second = (masters(pair.out / f"{stage}.weights.{rank}") for rank in (0, 1))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), stage
        alone = torch.load(tmp_path / "one" / f"{stage}.state.pt", weights_only=True)["stage"]["masters"]
        # Rounding, grown over a few steps; see the docstring of model/train/ranks.py. A step moves weights by 0.01.
        assert all((first[name] - alone[name]).abs().max() < 2e-3 for name in first), stage
        assert any(not torch.equal(first[name], alone[name]) for name in first)  # it was shared indeed
    assert len((pair.out / "dynamics.log.jsonl").read_text().splitlines()) == 2  # one process writes: loss, validation

    broken = tmp_path / "broken"
    said = Pair(data, broken, tmp_path / "stopped.py").signal_second(signal.SIGTERM, once_saved="autoencoder")
    assert "the same command goes on from there" in said  # the signal to one stopped both, after a save
    assert "lost the others" not in said
    said = Pair(data, broken, tmp_path / "killed.py").signal_second(signal.SIGKILL, once_saved="motion")
    assert "Traceback" not in said.split("torch.distributed.run")[0] or "lost the others" in said
    assert not (broken / "latentcraft.safetensors").exists()
    last = Pair(data, broken, tmp_path / "resumed.py")
    assert last.end() == 0, last.log.read_text()[-3000:]
    unbroken, again = (load_file(out / "latentcraft.safetensors") for out in (pair.out, broken))
    assert unbroken.keys() == again.keys()
    assert all(torch.equal(unbroken[name], again[name]) for name in unbroken)


def test_a_batch_that_cannot_be_shared_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    config = compose_config("train", [*SHORT, f"data={tmp_path}", f"out={tmp_path / 'run'}", "dynamics.batch=3"])
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
