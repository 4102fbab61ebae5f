"""``latentcraft agent proof``: is what an agent learns in the dream worth anything in the reference world?

For each task and seed three trainings: a clone of recorded play; PPO from it in the dream, which begins its games with
recorded episodes and so needs no frame that the dream was not trained on; PPO from it in the reference world, long. All
are then paid for held-out games in the reference world: the table. Each part is kept in ``out``; the same command goes
on where it stopped.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentcraft.agents.learning.games import Task
from latentcraft.agents.learning.network import PolicyConfig
from latentcraft.agents.learning.train import AgentTrainConfig, PPOConfig, check_installed
from latentcraft.agents.seeds import read_seeds
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.fidelity.figures import bootstrap
from latentcraft.simulator.fidelity.plots import blank

RANDOM = "random"
TAUGHT: dict[Task, Task] = {"navigate": "navigate-shaped"}
"""What trainings of a task are paid by, in both worlds, where its own pay comes too rarely to learn from; the table
counts the task's own."""
PLAYERS = {
    RANDOM: "moves at random",
    "clone": "cloned from recorded play",
    "dream": "PPO in the dream",
    "same time": "PPO in the reference, as much processor time",
    "same frames": "PPO in the reference, as many frames as the dream learned from",
    "long": "PPO in the reference, to the end",
}
"""Rows of the table."""


class Pair(NamedTuple):
    """The two trainings of one seed; they begin with the same clone."""

    dream: AgentTrainConfig
    voxel: AgentTrainConfig

    @property
    def clone(self) -> Path:
        """The policy they begin with."""
        assert self.dream.begin is not None
        return self.dream.begin


@dataclass(frozen=True)
class ProofConfig:
    """Keys of ``latentcraft agent proof``."""

    data: Path
    """Recorded episodes: what clones learn from."""
    out: Path
    """Folder of all trainings, ``proof.json`` and ``proof.png``."""
    tasks: tuple[Task, ...] = ("chop", "navigate")
    """What pays."""
    seeds: int = 3
    """Trainings of each kind."""
    episodes: int | None = None
    """A clone learns from; null takes all."""
    clone_mirror: bool = True
    """See :attr:`latentcraft.agents.learning.clone.CloneConfig.mirror`."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """Shape of all policies."""
    dream_steps: int = 20480
    """PPO's in the dream; a step is four frames. What it learns is paid 3.3 outside after 6,144 (one seed), 3.7 after
    16,384 and 3.85 after 20,480 (three; chop, 192 games)."""
    voxel_steps: int = 102400
    """PPO's in the reference world."""
    keep_every: int = 20480
    """Steps between policies that are kept in the reference world; a fourth of ``dream_steps`` in the dream."""
    games: tuple[int | str, ...] | int | str = "900000-900047"
    """Seeds of the held-out games."""
    length: int = 100
    """Steps until a game is cut off."""
    dream_length: int = 12
    """Steps until a dreamed game is: begun anew from a recorded moment it is still in a place that there is (short
    rollouts from real states, MBPO, arXiv 1906.08253). Along recorded moves the dream pays two thirds of what they were
    paid in truth for 0.8 seconds, half until 2.4 and a third after. In the reference world itself, where PPO can have
    games of any length, those of 12 steps teach nearly as much as those of 24."""
    dream_uncertainty: float | None = 0.6
    """Uncertainty from which a dreamed game is cut off too: where the dream shows soup it pays for soup (as MOReL keeps
    a policy from where its model knows nothing, arXiv 2005.05951). null never cuts."""
    dream_recall: bool = True
    """Whether the dream recalls places and maps the blocks close by: twice as slow, and what is dug is gone in it."""
    dream_frame_size: tuple[int, int] | None = None
    """[height, width] of the dream's pictures; null takes its own, which cost twice as much as those of 48 x 80 that
    players see."""
    dream_near: float = 0.2
    """``ppo.near`` in the dream: how strongly PPO is held near the clone there. Games that short teach how to fell the
    tree at hand; how to find the next one it only unlearns. Without it the moves' entropy fell from 1.8 to 0.5 nats
    within 8,192 steps (in the reference world it stays above 1.2) and one seed of two from 1.8 to 1.4 outside."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """How PPO learns."""
    starts: Path | None = None
    """Recorded episodes at whose moments the dream's games begin; null takes ``data``. Where a clone played them
    (``record player=clone.safetensors``), the dream shows the places that *it* gets into and has to get out of."""
    checkpoint: Path | None = None
    """The dream's; null takes the shipped one."""
    denoising: int = 1
    """Steps of the dream: 1, 2, 4 or 8."""
    threads: int | None = None
    """Of the dream's networks; null leaves that to torch."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.dream_steps < 4:
            raise UserError("seeds must be 1 or more, dream_steps 4 or more")


def main(config: ProofConfig) -> int:
    """Run ``latentcraft agent proof``."""
    check_installed("stable_baselines3")
    from latentcraft.agents.learning.evaluate import without_nan

    config.out.mkdir(parents=True, exist_ok=True)
    runs = trained(config, report=lambda line: print(line, file=sys.stderr))
    found: dict[str, Any] = {
        task: paid(config, task, runs, report=lambda line: print(line, file=sys.stderr)) for task in config.tasks
    }
    with replacing(config.out / "proof.json") as temporary:
        temporary.write_text(json.dumps(without_nan(found), indent=1) + "\n", encoding="utf-8")
    print(table(found))
    draw(config, runs, found)
    print(f"written to {config.out / 'proof.json'} and proof.png")
    return 0


def runs_of(config: ProofConfig, task: Task) -> list[Pair]:
    """Return for each seed the trainings in the dream and in the reference world, not begun."""
    pairs = []
    for seed in range(config.seeds):
        voxel = AgentTrainConfig(
            out=config.out / f"voxel-{task}-{seed}", world="voxel", task=TAUGHT.get(task, task), seed=seed,
            steps=config.voxel_steps, begin=config.out / f"clone-{task}-{seed}" / "policy.safetensors",
            keep_every=config.keep_every, length=config.length, ppo=config.ppo,
        )  # fmt: skip
        dream = replace(
            voxel, out=config.out / f"dream-{task}-{seed}", world="dream", steps=config.dream_steps,
            frame_size=config.dream_frame_size, length=config.dream_length, max_uncertainty=config.dream_uncertainty,
            keep_every=config.dream_steps // 4, save_every=config.dream_steps // 4, starts=config.starts or config.data,
            checkpoint=config.checkpoint, denoising=config.denoising, recall=config.dream_recall,
            threads=config.threads,
            ppo=replace(config.ppo, near=config.dream_near),
        )  # fmt: skip
        pairs.append(Pair(dream, voxel))
    return pairs


def trained(config: ProofConfig, *, report: Callable[[str], None]) -> dict[Task, list[Pair]]:
    """Do every training that is not done yet; returns them by task, one pair a seed."""
    from latentcraft.agents.learning.clone import CloneConfig, clone
    from latentcraft.agents.learning.ppo import train

    runs = {task: runs_of(config, task) for task in config.tasks}
    for pairs in runs.values():
        for seed, pair in enumerate(pairs):
            if not pair.clone.exists():
                clone(CloneConfig(
                    config.data, pair.clone.parent, task=pair.voxel.task, episodes=config.episodes, seed=seed,
                    mirror=config.clone_mirror, policy=config.policy,
                ))  # fmt: skip
            for run in pair:
                report(f"{run.out.name}: {run.steps} steps")
                train(run, report=lambda line, name=run.out.name: report(f"{name}: {line}"))  # type: ignore[misc]
    return runs


def kept(run: AgentTrainConfig) -> list[tuple[Path, dict[str, Any]]]:
    """Return the policies a training kept, oldest first, with how each came about."""
    from latentcraft.agents.learning.policy import load_policy_file

    files = sorted((run.out / "checkpoints").glob("*.safetensors"))
    return [(path, load_policy_file(path).provenance) for path in files]


def latest(policies: list[tuple[Path, dict[str, Any]]], key: str, most: float) -> Path:
    """Return the last of ``policies`` that had used no more than ``most`` of ``key``; the first where all had."""
    within = [path for path, story in policies if story[key] <= most]
    return (within or [policies[0][0]])[-1]


def players(config: ProofConfig, pairs: list[Pair]) -> dict[str, list[Path]]:
    """Return the policies behind the rows of :data:`PLAYERS`, one a seed, and of the dream all that were kept."""
    from latentcraft.model.checkpoint import load_checkpoint

    frames = load_checkpoint(config.checkpoint).provenance.get("frames", 0)
    found: dict[str, list[Path]] = {name: [] for name in (*PLAYERS, "kept") if name != RANDOM}
    for pair in pairs:
        inside, outside = kept(pair.dream), kept(pair.voxel)
        found["clone"].append(pair.clone)
        found["dream"].append(inside[-1][0])
        found["same time"].append(latest(outside, "cpu_seconds", inside[-1][1]["cpu_seconds"]))
        found["same frames"].append(latest(outside, "frames", frames))
        found["long"].append(outside[-1][0])
        found["kept"] += [path for path, _ in inside]
    return found


def paid(
    config: ProofConfig, task: Task, runs: dict[Task, list[Pair]], *,
    report: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Return what each row of the table is paid in the reference world's held-out games, as JSON values."""
    from latentcraft.agents.learning.evaluate import correlation
    from latentcraft.agents.learning.policy import load_policy_file

    who = players(config, runs[task])
    rows: dict[str, Any] = {}
    for name in PLAYERS:
        each = [returns(config, task, str(player)) for player in (who[name] if name != RANDOM else [RANDOM])]
        rows[name] = asdict(bootstrap(np.concatenate(each))) | {"seeds": [float(np.mean(one)) for one in each]}
        rows[name]["policies"] = [str(player) for player in who.get(name, [])]
        report(f"{task}, {name}: {rows[name]['value']:.2f}")
    inside = [load_policy_file(path).provenance["return"] for path in who["kept"]]
    pairs = np.array([
        (told, returns(config, task, str(path)).mean())
        for told, path in zip(inside, who["kept"], strict=True) if told is not None
    ])  # fmt: skip
    order = correlation(pairs) if len(pairs) > 2 else None
    return {"rows": rows, "inside_and_outside": pairs.tolist(), "rank_correlation": order and asdict(order)}


def returns(config: ProofConfig, task: Task, player: str) -> np.ndarray:
    """Return what ``player`` is paid in each held-out game; what was played before is read from ``out/played``."""
    from latentcraft.agents.learning.returns import play_games

    seeds = read_seeds(config.games)
    said = player if player == RANDOM else hashlib.sha256(Path(player).read_bytes()).hexdigest()
    key = hashlib.sha256(json.dumps([said, task, list(seeds), config.length]).encode()).hexdigest()[:20]
    path = config.out / "played" / f"{key}.json"
    if not path.exists():
        played = play_games(player, seeds, task=task, length=config.length)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(played.returns.tolist()), encoding="utf-8")
    return np.array(json.loads(path.read_text(encoding="utf-8")))


def table(found: dict[str, Any]) -> str:
    """Lay the figures out, as Markdown."""
    lines = ["| return of a game in the reference world | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for name, words in PLAYERS.items():
        cells = [_show(each["rows"][name]) for each in found.values()]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    orders = [each["rank_correlation"] for each in found.values()]
    cells = ["–" if order is None or order["value"] != order["value"] else _show(order) for order in orders]
    lines.append("| rank correlation of the return in the dream with that outside | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _show(figure: dict[str, Any]) -> str:
    seeds = figure.get("seeds", [])
    each = f" ({', '.join(f'{value:.2f}' for value in seeds)})" if len(seeds) > 1 else ""
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]{each}"


def draw(config: ProofConfig, runs: dict[Task, list[Pair]], found: dict[str, Any]) -> None:
    """Draw ``proof.png``: what trainings were paid where they trained, and what came of them outside."""
    from latentcraft.agents.learning.ppo import LOG
    from latentcraft.agents.learning.progress import read_log

    drawing = blank(4.6 * len(runs), 3.2)
    for axes, (task, pairs) in zip(drawing.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        for seed, pair in enumerate(pairs):
            for run, colour, where in zip(pair, ("#2266cc", "#cc3311"), ("dream", "reference"), strict=True):
                log = [line for line in read_log(run.out / f"{LOG}.log.jsonl") if "agent/return" in line]
                axes.plot(
                    [line["step"] for line in log], [line["agent/return"] for line in log], color=colour, lw=0.8,
                    label=f"PPO in the {where} ({run.length} steps a game), paid there" if not seed else None,
                )  # fmt: skip
            outside = [(story["steps"], returns(config, task, str(path)).mean()) for path, story in kept(pair.dream)]
            axes.plot(
                *zip(*outside, strict=True), "o-", color="#2266cc", lw=1.2, ms=3,
                label=f"PPO in the dream, paid outside ({config.length})" if not seed else None,
            )  # fmt: skip
        for name, style in ((RANDOM, ":"), ("clone", "-."), ("dream", "--"), ("long", "-")):
            level = found[task]["rows"][name]["value"]
            axes.axhline(level, color="#444444", ls=style, lw=0.9, label=f"outside: {name}")
        axes.set(title=task, xlabel="steps of four frames", ylabel="return of a game", xlim=(0, None))
        axes.set_xscale("symlog", linthresh=1000)  # a clone is at step 0
        axes.set_xticks([0, *(10**power for power in range(3, 7) if 10**power < 1.1 * axes.get_xlim()[1])])
        axes.legend(fontsize=5)
    with replacing(config.out / "proof.png") as temporary:
        drawing.savefig(temporary, format="png", dpi=110)
