"""``latentcraft agent clone``: a policy that plays like recorded episodes (behaviour cloning), and knows what it pays.

The value head learns beside it what the recorded player was paid; PPO begins with another, see
:class:`latentcraft.agents.learning.train.AgentTrainConfig`. In the folder ``out``: ``policy.safetensors``, the best so
far by episodes held out, ``clone.log.jsonl`` and ``tensorboard/``.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from latentcraft.agents.learning.augment import augmented
from latentcraft.agents.learning.examples import CHUNK, Examples, read_examples
from latentcraft.agents.learning.moves import MOVES
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import save_policy
from latentcraft.errors import UserError
from latentcraft.model.train.journal import Journal

POLICY = "policy.safetensors"
VALUE_WEIGHT = 0.25
"""Weight of the value's squared error beside the moves' cross-entropy."""
MOST_WEIGHT = 5.0
"""Of one move beside another where ``beta`` weighs them."""
ASKED = 4096
"""Moments held out of which at most so many are asked after each pass."""


@dataclass(frozen=True)
class CloneConfig:
    """Keys of ``latentcraft agent clone``."""

    data: Path
    """Directory of recorded episodes."""
    out: Path
    """Folder for the policy and its log."""
    task: Literal["any", "free", "chop", "navigate", "navigate-shaped", "build", "explore"] = "chop"
    """Whose episodes to learn from; ``any`` takes all."""
    episodes: int | None = None
    """At most so many, evenly spread; null takes all. A hundred of 400 ticks take 0.25 GB of memory."""
    every: int = 4
    """Ticks between two moments learned from: 1, 2 or 4."""
    epochs: int = 8
    """Passes over all moments."""
    shift: int = 2
    """Pixels of what a policy sees by which a picture is moved aside at most, anew in each pass; 0 leaves it. With this
    and mirroring, 893 games cloned cost 1.69 nats on held-out ones; 293 without, 2.02."""
    mirror: bool = True
    """Whether every second moment is learned from as seen in a mirror. Not for players that prefer a side, as the
    explorer does when it looks for a beacon."""
    beta: float = 1.0
    """How much more a move counts that led to more pay than was to be expected of the moment: its weight is
    exp(beta x advantage / root mean square advantage), at most :data:`MOST_WEIGHT`, the advantage being the discounted
    return less what the value head foretells (MARWIL, Wang et al. 2018). 0 clones all moves alike, which cost a clone
    of 893 games of chop a third of its return: 1.4 for 2.0."""
    minutes: float | None = None
    """End earlier, after so many minutes of processor time, reading included; null does not."""
    batch: int = 128
    """Moments a step."""
    learning_rate: float = 1e-3
    """Of Adam at first; falls to nothing over the passes (cosine)."""
    gamma: float = 0.98
    """Discount a chunk of the returns that the value head learns; as in ``agent train``."""
    seed: int = 0
    """Of weights and order."""
    threads: int | None = 1
    """Threads of the network; null leaves that to torch."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """Shape of the policy."""

    def __post_init__(self) -> None:
        if self.every < 1 or CHUNK % self.every:
            raise UserError(f"every must be 1, 2 or 4, got {self.every}")
        if not 0 <= self.beta <= 10:
            raise UserError(f"beta must be 0 to 10, got {self.beta}")
        if not 0 <= self.shift < 8:
            raise UserError(f"shift must be 0 to 7 pixels, got {self.shift}")
        if self.epochs < 1 or self.batch < 1 or (self.episodes is not None and self.episodes < 2):
            raise UserError("epochs and batch must be 1 or more, episodes 2 or more")


@dataclass(frozen=True)
class Cloned:
    """What came of it, on episodes held out."""

    loss: float
    """Cross-entropy of the moves, nats."""
    guessing: float
    """That of saying nothing but how common each move is."""
    accuracy: float
    """Share of moments whose move was the likeliest."""
    examples: int
    """Moments learned from."""


def main(config: CloneConfig) -> int:
    """Run ``latentcraft agent clone``."""
    done = clone(config, report=lambda line: print(line, file=sys.stderr))
    print(
        f"{done.examples} moments; of those held out {100 * done.accuracy:.1f} % of moves foreseen, "
        f"{done.loss:.3f} nats (guessing {done.guessing:.3f}) -> {config.out / POLICY}"
    )
    return 0


def clone(config: CloneConfig, *, report: Callable[[str], None] = lambda line: None) -> Cloned:
    """Read, learn and write the policy.

    Raises:
        UserError: no episodes of the task; the folder cannot be written.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    began = time.process_time()
    examples = read_examples(
        config.data, config.task, config.policy.sight, every=config.every, gamma=config.gamma,
        episodes=config.episodes, report=report,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    net = PolicyNet(config.policy)
    learned, asked = np.flatnonzero(~examples.held_out), np.flatnonzero(examples.held_out)
    asked = asked[np.linspace(0, len(asked) - 1, min(ASKED, len(asked))).astype(int)]
    report(f"{len(learned)} moments to learn from, {time.process_time() - began:.0f} s")
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate)
    steps = config.epochs * -(-len(learned) // config.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    config.out.mkdir(parents=True, exist_ok=True)
    journal = Journal(config.out, "clone")
    best = Cloned(np.inf, guessing_loss(examples.moves[learned], examples.moves[asked]), 0.0, len(learned))
    for epoch in range(1, config.epochs + 1):
        trained = _pass(net.train(), optimizer, schedule, examples, config, rng.permutation(learned), rng)
        loss, accuracy, error = ask(net.eval(), examples, asked)
        seconds = time.process_time() - began
        journal.write({
            "step": epoch, "clone/loss": trained, "clone/held_out_loss": loss, "clone/held_out_accuracy": accuracy,
            "clone/held_out_value_error": error, "clone/cpu_seconds": seconds,
        })  # fmt: skip
        report(f"pass {epoch}: {trained:.3f}, held out {loss:.3f} nats, {100 * accuracy:.1f} %, {seconds:.0f} s")
        if loss < best.loss:
            best = Cloned(loss, best.guessing, accuracy, len(learned))
            save_policy(config.out / POLICY, net, _provenance(config, best, epoch, seconds))
        if config.minutes is not None and seconds > 60 * config.minutes:
            break
    return best


def _pass(
    net: PolicyNet, optimizer: torch.optim.Optimizer, schedule: Any, examples: Examples, config: CloneConfig,
    order: np.ndarray, rng: np.random.Generator,
) -> float:  # fmt: skip
    """Learn from every moment of ``order`` once; returns the mean cross-entropy."""
    total = 0.0
    for first in range(0, len(order), config.batch):
        index = order[first : first + config.batch]
        seen, moves = augmented(
            examples.observations(index), examples.moves[index], rng, shift=config.shift, mirror=config.mirror
        )
        logits, values = net(torch.from_numpy(seen))
        returns = torch.from_numpy(examples.returns[index])
        costs = cross_entropy(logits, torch.from_numpy(moves), reduction="none")
        loss = (advantage_weights(returns - values.detach(), config.beta) * costs).mean()
        error = mse_loss(values, returns)
        optimizer.zero_grad()
        (loss + VALUE_WEIGHT * error).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach()) * len(index)
    return total / len(order)


def advantage_weights(advantages: Tensor, beta: float) -> Tensor:
    """Return what each move of a minibatch counts, ``(n,)`` with mean 1; see :attr:`CloneConfig.beta`."""
    scale = advantages.square().mean().sqrt().clamp_min(1e-6)
    weights = (beta * advantages / scale).exp().clamp_max(MOST_WEIGHT)
    return weights / weights.mean()


@torch.no_grad()
def ask(net: PolicyNet, examples: Examples, index: np.ndarray) -> tuple[float, float, float]:
    """Return cross-entropy, accuracy and the value's mean squared error on moments ``int (n,)``."""
    loss = right = error = 0.0
    for part in np.array_split(index, -(-len(index) // 256)):
        logits, values = net(torch.from_numpy(examples.observations(part)))
        moves = torch.from_numpy(examples.moves[part])
        loss += float(cross_entropy(logits, moves, reduction="sum"))
        right += float((logits.argmax(1) == moves).sum())
        error += float(mse_loss(values, torch.from_numpy(examples.returns[part]), reduction="sum"))
    return loss / len(index), right / len(index), error / len(index)


def guessing_loss(learned: np.ndarray, asked: np.ndarray) -> float:
    """Return the cross-entropy of moves ``asked`` under how common each was among ``learned``."""
    counts = np.bincount(learned, minlength=len(MOVES)) + 1.0
    return float(-np.log(counts / counts.sum())[asked].mean())


def _provenance(config: CloneConfig, done: Cloned, epoch: int, seconds: float) -> dict[str, Any]:
    return {
        "made": "clone", "task": config.task, "data": str(config.data), "every": config.every, "seed": config.seed,
        "shift": config.shift, "mirror": config.mirror, "beta": config.beta,
        "moments": done.examples, "passes": epoch, "loss": done.loss, "guessing": done.guessing,
        "accuracy": done.accuracy, "cpu_seconds": round(seconds, 1),
    }  # fmt: skip
