"""``latentcraft agent train``: PPO by Stable-Baselines3 in either world, from scratch or from a cloned policy.

In the folder ``out``: ``policy.safetensors`` (the newest), ``checkpoints/`` (kept every ``keep_every`` steps),
``agent.log.jsonl`` and ``tensorboard/`` (curves), ``state.pt`` (to resume from). All are written atomically; the same
command again goes on where it stopped.
"""

import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from latentcraft.agents.learning.games import GamesConfig
from latentcraft.errors import UserError


@dataclass(frozen=True)
class PPOConfig:
    """How PPO learns (Schulman et al. 2017); SB3's names are in brackets."""

    games: int = 16
    """Games played at the same time."""
    rollout: int = 64
    """Steps of each game between updates [n_steps]."""
    batch: int = 256
    """Steps in a minibatch [batch_size]."""
    epochs: int = 3
    """Passes over a rollout [n_epochs]."""
    learning_rate: float = 2.5e-4
    """Of Adam; constant, so that a longer training begins as a shorter one."""
    gamma: float = 0.98
    """Discount a step: half of what counts lies within the next 7 seconds."""
    gae_lambda: float = 0.95
    """Bias against variance of the advantages."""
    clip: float = 0.2
    """How far a probability may move in an update [clip_range]."""
    entropy: float = 0.01
    """Weight of staying undecided [ent_coef]."""
    near: float = 0.0
    """Weight of staying near the policy that training begins with (the KL divergence from it, in place of ``entropy``),
    as VPT was fine-tuned (arXiv 2206.11795); 0 does not. For games too short to need all that a policy can do."""
    value: float = 0.5
    """Weight of the value's error [vf_coef]."""
    target_kl: float | None = 0.03
    """An update ends early where the policy has moved this far; null never does."""

    def __post_init__(self) -> None:
        if self.games < 1 or self.rollout < 2 or self.batch < 2 or self.epochs < 1:
            raise UserError("ppo.games and ppo.epochs must be 1 or more, ppo.rollout and ppo.batch 2 or more")
        if self.near < 0:
            raise UserError(f"ppo.near must be 0 or more, got {self.near}")
        if self.games * self.rollout % self.batch:
            raise UserError(f"ppo.batch={self.batch} must divide ppo.games x ppo.rollout = {self.games * self.rollout}")


@dataclass(frozen=True, kw_only=True)
class AgentTrainConfig(GamesConfig):
    """Keys of ``latentcraft agent train``."""

    out: Path
    """Folder of the training."""
    algo: Literal["ppo"] = "ppo"
    """The algorithm."""
    begin: Path | None = None
    """A policy to begin with, such as a cloned one (VPT's recipe); null begins from scratch."""
    keep_value: bool = False
    """Whether ``begin``'s value head is kept. A clone's says what the player it was cloned from was paid, which is far
    more than the clone will be: everything looks like a loss then, and what was cloned is unlearned. In the reference
    world, chop, 10,240 steps from the same clones led to 2.7 and 3.4 with a new value head, 2.2 and 2.7 with theirs."""
    steps: int = 200_000
    """Steps of all games together after which training ends; a step is a chunk of four frames."""
    minutes: float | None = None
    """End earlier, after so many minutes of processor time; null does not."""
    seed: int = 0
    """Of weights, moves and starts."""
    save_every: int = 10_240
    """Steps between states to resume from."""
    keep_every: int = 20_480
    """Steps between policies that are kept."""
    threads: int | None = 1
    """Threads of the networks; null leaves that to torch. A dream likes more, the reference world and the policy do
    not need them."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """How PPO learns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.save_every < 1 or self.keep_every < 1:
            raise UserError("steps, save_every and keep_every must be 1 or more")
        if self.ppo.near and self.begin is None:
            raise UserError("ppo.near stays near the policy of begin=; give one, or ppo.near=0")


def check_installed(*names: str) -> None:
    """Raise a UserError unless every module can be imported."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"{name} is not installed; pip install 'latentcraft[rl]'")


def main(config: AgentTrainConfig) -> int:
    """Run ``latentcraft agent train``."""
    check_installed("stable_baselines3")
    from latentcraft.agents.learning.ppo import train

    progress = train(config, report=lambda line: print(line, file=sys.stderr))
    print(
        f"{progress.steps} steps, {progress.frames} frames, {progress.cpu_seconds:.0f} s of processor time, return of "
        f"the last {len(progress.returns)} episodes {progress.mean_return():.3g} -> {config.out / 'policy.safetensors'}"
    )
    return 0
