"""PPO: it learns, stops, goes on as if it had not, and says what is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_world import FakeWorld

from latentcraft.agents.learning.moves import MOVES
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import load_policy_file, save_policy
from latentcraft.agents.learning.sight import SightConfig
from latentcraft.agents.learning.train import AgentTrainConfig, PPOConfig
from latentcraft.errors import UserError

pytest.importorskip("stable_baselines3")
from latentcraft.agents.learning.ppo import train  # noqa: E402

TINY = PolicyConfig(SightConfig((16, 24), 2), (4, 4, 4), 16)
ROLLOUT = PPOConfig(games=4, rollout=16, batch=32, epochs=2, learning_rate=3e-3)


@pytest.fixture
def begin(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_policy(tmp_path / "begin.safetensors", PolicyNet(TINY), {})
    return tmp_path / "begin.safetensors"


def config_of(out: Path, begin: Path, **changes) -> AgentTrainConfig:
    keys = dict(out=out, begin=begin, task="navigate-shaped", length=7, steps=256, save_every=64, keep_every=128)
    return AgentTrainConfig(**(keys | {"ppo": ROLLOUT} | changes))


def world(task: str = "navigate-shaped") -> FakeWorld:
    return FakeWorld(4, task, (16, 24))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_policy_file(path).net.state_dict()


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "agent.log.jsonl").read_text().splitlines()]


def test_resuming_equals_an_unbroken_run(tmp_path: Path, begin: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config_of(whole, begin), world=world())
    half = train(config_of(broken, begin, steps=128), world=world())
    assert (half.steps, len(lines(broken))) == (128, 2)
    torch.manual_seed(99), np.random.seed(99)
    with (broken / "agent.log.jsonl").open("a") as file:  # what a killed run had begun to write
        file.write('{"step": 192, "agent/return": 1}\n{"step"')
    done = train(config_of(broken, begin), world=world())
    assert done.steps == 256 and done.frames == 4 * 256 + 16 * (4 + 4 * (256 // 4 // 7))
    first, second = weights(whole / "policy.safetensors"), weights(broken / "policy.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    one, other = ([(each["step"], each["agent/return"]) for each in lines(out)] for out in (whole, broken))
    assert one == other and [step for step, _ in one] == [64, 128, 192, 256]


def test_it_leaves_policies_curves_and_their_story(tmp_path: Path, begin: Path):
    out = tmp_path / "out"
    train(config_of(out, begin), world=world())
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["000000000.safetensors", "000000128.safetensors", "000000256.safetensors"]
    begun, first = weights(begin), weights(out / "checkpoints" / kept[0])
    assert all(torch.equal(begun[name], first[name]) for name in begun if not name.startswith("value."))
    assert begun["value.weight"].any() and not first["value.weight"].any()  # a clone's judgement is not PPO's
    story = load_policy_file(out / "policy.safetensors").provenance
    assert (story["made"], story["steps"], story["task"]) == ("ppo", 256, "navigate-shaped")
    assert not [path for path in out.rglob("*tmp*")]
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(out / "tensorboard" / "agent")).Reload()
    assert [event.step for event in curves.Scalars("agent/return")] == [64, 128, 192, 256]


def test_a_value_head_is_kept_on_demand(tmp_path: Path, begin: Path):
    train(config_of(tmp_path / "out", begin, steps=64, keep_value=True), world=world())
    begun, first = weights(begin), weights(tmp_path / "out" / "checkpoints" / "000000000.safetensors")
    assert all(torch.equal(begun[name], first[name]) for name in begun)


def test_what_is_finished_needs_no_world(tmp_path: Path, begin: Path):
    done = train(config_of(tmp_path / "out", begin, steps=64), world=world())
    assert train(config_of(tmp_path / "out", begin, steps=64), world=None).steps == done.steps == 64
    gone = config_of(tmp_path / "out", begin, steps=64, world="dream", checkpoint=tmp_path / "none")
    with pytest.raises(UserError, match="another"):  # but a training of other keys is not taken for it
        train(gone)


def test_it_learns_to_walk_where_walking_pays(tmp_path: Path, begin: Path):
    out = tmp_path / "out"
    train(config_of(out, begin, steps=64 * 24), world=world())
    curve = [line["agent/return"] for line in lines(out)]
    assert curve[-1] > 1.5 * curve[0]


def divergence(begin: Path, path: Path) -> float:
    """How far a policy has moved from the one it began with, nats."""
    seen = torch.randint(256, (64, 6, 16, 24), generator=torch.Generator().manual_seed(0))
    before, after = (load_policy_file(each).net.logits(seen).log_softmax(1) for each in (begin, path))
    return float((after.exp() * (after - before)).sum(1).mean())


def test_it_stays_near_what_it_began_with_as_it_is_told(tmp_path: Path, begin: Path):
    for name, near in (("free", 0.0), ("near", 5.0)):
        ppo = replace(ROLLOUT, near=near, target_kl=None)
        train(config_of(tmp_path / name, begin, steps=64 * 8, ppo=ppo), world=world())
    free, near = (divergence(begin, tmp_path / name / "policy.safetensors") for name in ("free", "near"))
    assert 0 < near < 0.1 * free
    said = [-line["train/entropy_loss"] for line in lines(tmp_path / "near")[1:]]
    assert all(-0.1 < each <= 0 for each in said)  # minus a divergence is never positive, as an entropy would be


def test_keys_that_came_later_count_as_what_was_done_before(tmp_path: Path, begin: Path):
    out = tmp_path / "out"
    train(config_of(out, begin, steps=64, keep_value=True), world=world())
    state = torch.load(out / "state.pt", weights_only=True)
    identity = json.loads(state["identity"])
    del identity["ppo"]["near"], identity["keep_value"]
    torch.save(state | {"identity": json.dumps(identity)}, out / "state.pt")
    with pytest.raises(UserError, match="keep_value=True, not False"):
        train(config_of(out, begin, steps=128), world=world())
    assert train(config_of(out, begin, steps=128, keep_value=True), world=world()).steps == 128
    with pytest.raises(UserError, match="holds a training with ppo"):
        train(config_of(out, begin, steps=192, keep_value=True, ppo=replace(ROLLOUT, near=0.5)), world=world())


def test_minutes_end_it_at_an_update(tmp_path: Path, begin: Path):
    out = tmp_path / "out"
    done = train(config_of(out, begin, minutes=1e-9), world=world())
    assert done.steps == 64 and load_policy_file(out / "policy.safetensors").provenance["steps"] == 64
    assert train(config_of(out, begin, minutes=1e-9), world=world()).steps == 64


def test_another_training_in_the_folder_is_refused(tmp_path: Path, begin: Path):
    out, config = tmp_path / "out", config_of(tmp_path / "out", begin, steps=64)
    train(config, world=world())
    with pytest.raises(UserError, match="seed=0, not 1"):
        train(replace(config, seed=1), world=world())
    (out / "state.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match="state.pt cannot be read"):
        train(config, world=world())


def test_bad_keys(tmp_path: Path):
    with pytest.raises(UserError, match="ppo.batch=100"):
        PPOConfig(batch=100)
    with pytest.raises(UserError, match="ppo.near must be 0 or more, got -1"):
        PPOConfig(near=-1)
    with pytest.raises(UserError, match="ppo.near stays near the policy of begin="):
        AgentTrainConfig(out=tmp_path, ppo=PPOConfig(near=0.2))
    with pytest.raises(UserError, match="starts=DIR begins dreams only"):
        AgentTrainConfig(out=tmp_path, starts=tmp_path)
    with pytest.raises(UserError, match="no policy at"):
        train(AgentTrainConfig(out=tmp_path, begin=tmp_path / "none"), world=world("chop"))


def test_the_reference_world_is_trained_in(tmp_path: Path, begin: Path):
    config = config_of(tmp_path / "out", begin, task="chop", steps=64)
    done = train(config)
    assert done.steps == 64 and len(done.returns) == 4 * (16 // 7) and 0 <= done.mean_return() < 7
    assert len(MOVES) == weights(tmp_path / "out" / "policy.safetensors")["moves.bias"].numel()
