"""The main job from end to end, through the command line a user types: record, train, dream, roll out."""

from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import load_file

from latentcraft.__main__ import main
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.train import goal_search, goals, run
from latentcraft.model.train.config import BANK, STAGES


def count_frames(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.timeout(300)
def test_record_train_dream_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    size = "frame_size=[48,80]"
    assert main(["record", "out=data", "episodes=3", "ticks=80", "workers=0", size]) == 0
    # A dozen games of a task with a goal, of which a few are enough here.
    monkeypatch.setattr(goals, "ENOUGH", 3)
    monkeypatch.setattr(goal_search, "ENOUGH", 3)
    seek = ["task=navigate-shaped", "task_share=1", "episodes=12", "ticks=240", "seed=130000"]
    assert main(["record", "out=data", "workers=0", size, *seek]) == 0
    assert main(["train", "preset=smoke", "data=data", "out=run", size, "threads=2"]) == 0
    checkpoint = tmp_path / "run" / "latentcraft.safetensors"
    world = load_checkpoint(checkpoint)
    assert world.frame_size == (48, 80)
    assert world.provenance["dynamics_steps"] == 30
    assert world.bank is not None and world.provenance["bank_frames"] == len(world.bank.eyes) > 0
    # Training again finds everything done and changes nothing.
    before = load_file(checkpoint)
    assert main(["train", "preset=smoke", "data=data", "out=run", size, "threads=2"]) == 0
    assert load_checkpoint(checkpoint).provenance["dynamics_steps"] == 30
    after = load_file(checkpoint)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    # A bank goes over from one world to another.
    kept = "keep=[autoencoder,depth,body,hand,motion,dynamics,touch,outcomes,bank]"
    train = ["train", "preset=smoke", "data=data", size, "threads=2"]
    assert main([*train, "out=other", f"begin={checkpoint}", kept]) == 0
    other = load_checkpoint(tmp_path / "other" / "latentcraft.safetensors")
    assert torch.equal(other.bank.eyes, world.bank.eyes) and not (tmp_path / "other" / "bank.safetensors").exists()

    # Where nothing learns from latents, few episodes are encoded.
    assert world.scene is not None and world.scene.whereabouts is not None
    shaped = TASK_INDEX["navigate-shaped"]
    assert world.scene.whereabouts.by_place.nonzero()[:, 0].tolist() == [shaped]
    assert float(world.scene.whereabouts.rate[shaped]) == pytest.approx(0.1, abs=0.005)
    assert int(world.scene.whereabouts.shape.sum()) >= 13
    monkeypatch.setattr(run, "FEW", 2)
    scene = {name for name, part in vars(world.scene.config).items() if part is None}
    kept = f"keep=[{','.join(part for part in (*STAGES, BANK) if part not in scene | {'whereabouts'})}]"
    rest = [f"{name}.steps=0" for name in scene]
    assert main([*train, "out=third", f"begin={checkpoint}", kept, "whereabouts.steps=3", *rest]) == 0
    assert len(list((tmp_path / "third" / "latents").glob("*.safetensors"))) <= 4
    third = load_checkpoint(tmp_path / "third" / "latentcraft.safetensors")
    assert third.scene is not None and third.scene.whereabouts is not None
    for name, value in third.scene.state_dict().items():
        same = torch.equal(value, world.scene.state_dict()[name])
        assert same or name.startswith("whereabouts."), name
    assert not torch.equal(third.scene.whereabouts.say.weight, world.scene.whereabouts.say.weight)

    arguments = ["world=both", "seed=900000", f"checkpoint={checkpoint}", "script=full_turn", "steps=2"]
    assert main(["rollout", *arguments, "out=x.mp4", "strip=x.png"]) == 0
    assert count_frames(tmp_path / "x.mp4") > 40
    assert (tmp_path / "x.png").stat().st_size > 1000
    # What the dream shows can be recorded and trained on in turn.
    assert main(["record", "world=dream", f"checkpoint={checkpoint}", "out=dreams", "episodes=1", "ticks=48",
                 "workers=0", "frame_size=null"]) == 0  # fmt: skip
    assert len(list((tmp_path / "dreams").glob("*.jsonl"))) == 1


def test_bad_input_ends_with_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bad = tmp_path / "bad.yaml"
    bad.write_text("steps:\n  - hop: 3s\n")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_text("hello")
    for arguments, named in (
        (["rollout", f"script={bad}", "world=voxel", f"out={tmp_path}/x.mp4"], "bad.yaml:2"),
        (["rollout", f"checkpoint={foreign}", f"out={tmp_path}/x.mp4"], "foreign.safetensors"),
        (["rollout", "checkpoint=absent.safetensors", f"out={tmp_path}/x.mp4"], "absent.safetensors"),
        (["rollout", "world=voxel", "frame_size=[50,80]", f"out={tmp_path}/x.mp4"], "50"),
        (["train", f"data={tmp_path}/none", f"out={tmp_path}/run", "preset=smoke"], "none"),
        (["record", f"out={tmp_path}/e", "episodes=1", "seed=900000"], "900000"),
    ):
        assert main(arguments) != 0, arguments
        error = capsys.readouterr().err.strip()
        assert named in error.splitlines()[-1], error
        assert "Traceback" not in error
    assert not list(tmp_path.glob("*.mp4"))
