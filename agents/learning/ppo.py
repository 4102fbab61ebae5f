"""The training itself: SB3's PPO, with a callback that saves, keeps and logs."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from latentcraft.agents.learning.games import Games
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import load_policy_file, save_policy
from latentcraft.agents.learning.progress import Progress, cut_log, load_state, save_state
from latentcraft.agents.learning.sb3 import GamesVecEnv, policy_arguments, put_weights, take_weights
from latentcraft.agents.learning.train import AgentTrainConfig
from latentcraft.model.train.journal import Journal
from latentcraft.simulator.protocol import World

LOG = "agent"
"""Name of the log, ``agent.log.jsonl``."""
POLICY, STATE, KEPT = "policy.safetensors", "state.pt", "checkpoints"
"""Files and folder of a training."""
ENDINGS = ("steps", "minutes", "out", "save_every", "keep_every", "threads", "workers", "ray")
"""Keys that may change when a training goes on."""


def train(
    config: AgentTrainConfig, *, world: World | None = None, report: Callable[[str], None] = lambda line: None
) -> Progress:
    """Train, or go on, until ``config.steps`` or ``config.minutes``.

    Args:
        config: what to train.
        world: played instead of the world ``config`` names, for tests.
        report: gets a line now and then.

    Returns:
        How far the training is.

    Raises:
        UserError: bad keys, a bad policy or checkpoint, a folder of another training.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    identity = identity_of(config)
    found = load_state(config.out / STATE, identity)
    progress, tensors = found or (Progress(), {})
    net = load_policy_file(config.begin).net if config.begin is not None else None
    policy_config = PolicyConfig() if net is None else net.config
    learner = make_learner(config, policy_config, progress, world)
    try:
        if found:
            learner.policy.load_state_dict(tensors["policy"])
            learner.policy.optimizer.load_state_dict(tensors["optimizer"])
            torch.set_rng_state(tensors["random"])
            learner.num_timesteps = progress.steps
            cut_log(config.out / f"{LOG}.log.jsonl", progress.steps)
        elif net is not None:
            put_weights(net, learner.policy)
        config.out.mkdir(parents=True, exist_ok=True)
        learner.set_logger(Logger(str(config.out), [_ToJournal(Journal(config.out, LOG))]))
        keeper = _Keeper(config, policy_config, progress, identity, report)
        if not keeper.spent():
            learner.learn(config.steps - progress.steps, keeper, reset_num_timesteps=False)
    finally:
        learner.get_env().close()  # type: ignore[union-attr]
    return progress


def make_learner(config: AgentTrainConfig, policy: PolicyConfig, progress: Progress, world: World | None) -> PPO:
    """Return SB3's PPO with its games, in this process or at Ray's workers."""
    ppo = config.ppo
    arguments: dict[str, Any] = {
        "policy": ActorCriticPolicy, "learning_rate": ppo.learning_rate, "n_steps": ppo.rollout,
        "batch_size": ppo.batch, "n_epochs": ppo.epochs, "gamma": ppo.gamma, "gae_lambda": ppo.gae_lambda,
        "clip_range": ppo.clip, "ent_coef": ppo.entropy, "vf_coef": ppo.value, "target_kl": ppo.target_kl,
        "policy_kwargs": policy_arguments(policy), "seed": config.seed, "device": "cpu",
    }  # fmt: skip
    # A run that goes on draws other starts than the one before it: the same ones again would teach nothing new.
    seed = int(np.random.SeedSequence([config.seed, progress.steps]).generate_state(1)[0])
    if config.workers:
        from latentcraft.agents.learning.many import RayPPO, Workers

        return RayPPO(workers=Workers(config, policy, seed), **arguments)
    return PPO(env=GamesVecEnv(Games(config, ppo.games, policy.sight, seed, world), policy.sight), **arguments)


def identity_of(config: AgentTrainConfig) -> dict[str, Any]:
    """Return the keys, as JSON values, that make a training this one."""
    keys = {key: value for key, value in asdict(config).items() if key not in ENDINGS}
    return {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}


class _ToJournal(KVWriter):
    """Sends what SB3 logs to our journal: one line an update, and TensorBoard."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        figures = {key: float(value) for key, value in key_values.items() if isinstance(value, (int, float, np.number))}
        self._journal.write({"step": step, **figures})

    def close(self) -> None:
        pass


class _Keeper(BaseCallback):
    """Counts, saves and keeps; an update is over when the next rollout begins."""

    def __init__(
        self, config: AgentTrainConfig, policy: PolicyConfig, progress: Progress, identity: dict[str, Any],
        report: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, self.policy_config, self.progress, self.identity = config, policy, progress, identity
        self.report = report
        self._cpu, self._wall, self._frames = time.process_time(), time.perf_counter(), 0
        self._saved = self._kept = progress.steps

    def spent(self) -> bool:
        """Whether the training has used up its steps or its minutes."""
        minutes = self.config.minutes
        return self.progress.steps >= self.config.steps or (
            minutes is not None and self.progress.cpu_seconds >= 60 * minutes
        )

    def _on_training_start(self) -> None:
        if not self.progress.steps:  # what training began with is a point of every curve
            self._keep()

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > self.progress.steps:
            self._count()
            if self.progress.steps - self._saved >= self.config.save_every:
                self._save()
            if self.progress.steps - self._kept >= self.config.keep_every:
                self._keep()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.progress.returns.append(info["episode"]["r"])
        return not self.spent()

    def _on_rollout_end(self) -> None:
        figures = {"return": self.progress.mean_return(), "cpu_seconds": self._cpu_seconds(), "frames": self._played()}
        for key, value in figures.items():
            if value == value:  # no return before the first episode is over
                self.logger.record(f"agent/{key}", value)
        self.report(f"{self.num_timesteps} steps: return {figures['return']:.3g}, {figures['cpu_seconds']:.0f} s")

    def _on_training_end(self) -> None:
        # A rollout that was cut off has not been learned from: its steps do not count.
        if self.num_timesteps > self.progress.steps and not self.spent():
            self._count()
        self._save()
        if self.progress.steps > self._kept:
            self._keep()

    def _count(self) -> None:
        """Take the steps so far as learned from."""
        self.progress.steps = self.num_timesteps
        self.progress.frames = self._played()
        self._frames = self._games_frames()
        self.progress.cpu_seconds = self._cpu_seconds()
        self._cpu = time.process_time()
        now = time.perf_counter()
        self.progress.wall_seconds += now - self._wall
        self._wall = now

    def _cpu_seconds(self) -> float:
        return self.progress.cpu_seconds + time.process_time() - self._cpu

    def _games_frames(self) -> int:
        return int(self.training_env.get_attr("frames_played")[0])

    def _played(self) -> int:
        return self.progress.frames + self._games_frames() - self._frames

    def _net(self) -> PolicyNet:
        return take_weights(self.model.policy, self.policy_config)

    def _provenance(self) -> dict[str, Any]:
        progress = self.progress
        return {
            "made": "ppo", **self.identity, "steps": progress.steps, "frames": progress.frames,
            "cpu_seconds": round(progress.cpu_seconds, 1), "wall_seconds": round(progress.wall_seconds, 1),
            "return": progress.mean_return() if progress.returns else None,
        }  # fmt: skip

    def _keep(self) -> None:
        self._kept = self.progress.steps
        save_policy(self.config.out / KEPT / f"{self._kept:09}.safetensors", self._net(), self._provenance())

    def _save(self) -> None:
        self._saved = self.progress.steps
        policy = self.model.policy
        tensors = {
            "policy": policy.state_dict(), "optimizer": policy.optimizer.state_dict(), "random": torch.get_rng_state()
        }  # fmt: skip
        save_policy(self.config.out / POLICY, self._net(), self._provenance())
        save_state(self.config.out / STATE, self.progress, self.identity, tensors)
