"""The proof: trainings in both worlds from one clone, paid outside, kept and not done again."""

import json
from pathlib import Path

import pytest
import torch

from latentcraft.__main__ import main
from latentcraft.agents.learning import proof
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import save_policy
from latentcraft.agents.learning.sight import SightConfig

TINY = PolicyConfig(SightConfig((16, 24), 2), (4, 4, 4), 16)


def test_a_whole_proof_and_the_same_again(tmp_path: Path, tiny_checkpoint: Path, capsys, monkeypatch):
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("matplotlib")
    data, out = tmp_path / "data", tmp_path / "proof"
    assert main(["record", f"out={data}", "episodes=1", "ticks=40", "task=chop", "workers=0"]) == 0
    torch.manual_seed(0)
    for seed in (0, 1):
        save_policy(out / f"clone-chop-{seed}" / "policy.safetensors", PolicyNet(TINY), {})
    words = [
        "agent", "proof", f"data={data}", f"out={out}", f"checkpoint={tiny_checkpoint}", "tasks=[chop]", "seeds=2",
        "dream_steps=16", "voxel_steps=32", "keep_every=8", "games=900000-900002", "length=3", "dream_length=3",
        "ppo.games=2", "ppo.rollout=4", "ppo.batch=8", "ppo.epochs=1",
    ]  # fmt: skip
    capsys.readouterr()
    assert main(words) == 0
    first = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in first.splitlines()[2:8]] == list(proof.PLAYERS.values())
    found = json.loads((out / "proof.json").read_text())["chop"]
    rows = found["rows"]
    assert rows["random"]["count"] == 3 and rows["dream"]["count"] == 6 and len(rows["dream"]["seeds"]) == 2
    assert [Path(path).parts[-3:] for path in rows["long"]["policies"]] == [
        (f"voxel-chop-{seed}", "checkpoints", "000000032.safetensors") for seed in (0, 1)
    ]
    assert all("clone" in path for path in rows["clone"]["policies"])
    assert (out / "proof.png").read_bytes()[:4] == b"\x89PNG"

    monkeypatch.setattr("latentcraft.agents.learning.returns.play_games", lambda *_, **__: pytest.fail("played again"))
    assert main(words) == 0
    assert capsys.readouterr().out == first


def test_reaching_the_beacon_is_learned_from_coming_nearer_and_dreams_are_short():
    config = proof.ProofConfig(data=Path("data"), out=Path("out"), seeds=1, length=90, dream_length=20)
    for task, taught in (("chop", "chop"), ("navigate", "navigate-shaped")):
        [pair] = proof.runs_of(config, task)
        assert (pair.dream.world, pair.dream.task, pair.dream.length) == ("dream", taught, 20)
        assert (pair.voxel.world, pair.voxel.task, pair.voxel.length) == ("voxel", taught, 90)
        assert pair.dream.max_uncertainty == 0.6 and pair.voxel.max_uncertainty is None
        assert pair.dream.recall and not pair.voxel.recall
        assert pair.dream.ppo.near == 0.2 and pair.voxel.ppo.near == 0
        assert pair.dream.starts == Path("data") and pair.voxel.starts is None
        assert pair.clone == Path("out") / f"clone-{task}-0" / "policy.safetensors" == pair.voxel.begin


def test_dreams_may_begin_elsewhere_than_where_clones_learned():
    config = proof.ProofConfig(data=Path("data"), out=Path("out"), seeds=1, starts=Path("played"))
    assert proof.runs_of(config, "chop")[0].dream.starts == Path("played")


def test_of_kept_policies_the_last_within_bounds_counts():
    story = [(Path(str(steps)), {"frames": steps}) for steps in (10, 20, 30)]
    assert [proof.latest(story, "frames", most) for most in (5, 25, 99)] == [Path("10"), Path("20"), Path("30")]


def test_clones_are_made_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr("latentcraft.agents.learning.clone.clone", made.append)
    monkeypatch.setattr("latentcraft.agents.learning.ppo.train", lambda *_, **__: None)
    config = proof.ProofConfig(
        data=Path("data"), out=tmp_path, tasks=("navigate",), seeds=2, clone_mirror=False, policy=TINY
    )
    proof.trained(config, report=lambda _: None)
    assert [(clone.seed, clone.mirror, clone.policy, clone.task) for clone in made] == [
        (seed, False, TINY, "navigate-shaped") for seed in (0, 1)
    ]
    assert [clone.out for clone in made] == [tmp_path / f"clone-navigate-{seed}" for seed in (0, 1)]
