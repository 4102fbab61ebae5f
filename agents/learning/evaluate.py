"""``latentcraft agent evaluate``: what policies are paid in games whose seeds nobody learned from.

A table of returns with 95 % intervals on the terminal and, with ``out``, all of it as JSON, game by game. In two worlds
it also says how well the order of policies in the dream is their order in the reference world.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latentcraft.agents.learning.games import Task
from latentcraft.agents.planner import PlannerConfig
from latentcraft.agents.seeds import read_seeds
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.fidelity.figures import Figure, bootstrap, share
from latentcraft.simulator.protocol import HELD_OUT_SEED


@dataclass(frozen=True)
class AgentEvaluateConfig:
    """Keys of ``latentcraft agent evaluate``."""

    policies: tuple[str, ...] = ("random", "explorer")
    """Who plays: ``random``, ``explorer`` (the recorder's, which reads the reference world's state), ``planner`` (a
    search that tries moves out in the world it plays in), policies' files, or folders of trainings. The others are held
    against the first, game by game."""
    checkpoints: bool = False
    """Of a training's folder take every kept policy instead of the newest."""
    worlds: tuple[Literal["voxel", "dream"], ...] = ("voxel",)
    """Where: ``voxel`` (the reference world), ``dream``, or both."""
    task: Task = "chop"
    """What pays."""
    seeds: tuple[int | str, ...] | int | str = "900000-900031"
    """Seeds of the games, a list or ranges; 900000 and up were never learned from."""
    length: int = 100
    """Steps until a game is cut off (four ticks each: 100 are 20 seconds)."""
    temperature: float = 1.0
    """1 draws moves as a policy says, 0 takes the likeliest."""
    games: int = 16
    """Games played at the same time."""
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    """How far and how broadly the planner looks ahead."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    denoising: int = 2
    """Steps of the dream: 1, 2, 4 or 8."""
    recall: bool = False
    """Let the dream recall recorded places, see ``agent train``."""
    threads: int | None = 1
    """Threads of the networks; null leaves that to torch."""
    out: Path | None = None
    """JSON file for everything; null for none."""

    def __post_init__(self) -> None:
        if not self.policies or not self.worlds or len(set(self.worlds)) < len(self.worlds):
            raise UserError("policies and worlds must not be empty, and no world named twice")
        if self.length < 1 or self.games < 1 or self.temperature < 0:
            raise UserError("length and games must be 1 or more, temperature 0 or more")


@dataclass(frozen=True)
class Row:
    """One policy in one world."""

    policy: str
    world: str
    returns: list[float]
    """One a seed."""
    mean: Figure
    """Return of a game."""
    over_first: Figure | None
    """How much more than the first policy's on the same seeds; None for the first."""
    ended: Figure
    """Games in which the task ended, percent."""
    steps: float
    """Mean length of a game."""
    story: dict[str, Any]
    """How the policy came about."""


def main(config: AgentEvaluateConfig) -> int:
    """Run ``latentcraft agent evaluate``."""
    begun = time.perf_counter()
    rows = evaluate(config, report=lambda line: print(line, file=sys.stderr))
    orders = rank_orders(rows)
    print(table(config, rows))
    for text, figure in orders.items():
        print(f"{text}: {_show(figure)} over {figure.count} policies")
    if config.out is not None:
        write(config, rows, orders, time.perf_counter() - begun)
        print(f"written to {config.out}")
    return 0


def evaluate(config: AgentEvaluateConfig, *, report: Callable[[str], None] = lambda line: None) -> list[Row]:
    """Play every policy in every world.

    Raises:
        UserError: no such policy or a bad one, seeds that may have been learned from.
    """
    import torch

    from latentcraft.agents.learning.policy import load_policy_file
    from latentcraft.agents.learning.returns import check_player, play_games

    seeds = read_seeds(config.seeds)
    if min(seeds) < HELD_OUT_SEED:
        raise UserError(f"seed {min(seeds)} may have been learned from; held-out seeds begin at {HELD_OUT_SEED}")
    names = players_of(config)
    nets = {name: check_player(name) for name in names}  # a bad file should not wait for the games before it
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    rows: list[Row] = []
    for world in config.worlds:
        first: np.ndarray | None = None
        for name, net in nets.items():
            played = play_games(
                net or name, seeds, world=world, task=config.task, length=config.length, batch=config.games,
                checkpoint=config.checkpoint, denoising=config.denoising, recall=config.recall,
                temperature=config.temperature, planner=config.planner,
            )  # fmt: skip
            rows.append(Row(
                name, world, played.returns.tolist(), bootstrap(played.returns),
                None if first is None else bootstrap(played.returns - first), share(played.ended),
                float(played.lengths.mean()), {} if net is None else load_policy_file(name).provenance,
            ))  # fmt: skip
            first = played.returns if first is None else first
            report(f"{world}, {name}: {_show(rows[-1].mean)}")
    return rows


def players_of(config: AgentEvaluateConfig) -> list[str]:
    """Return every player's name or file, folders of trainings resolved, each once."""
    found: list[str] = []
    for name in config.policies:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            found.append(name)
            continue
        kept = sorted((folder / "checkpoints").glob("*.safetensors")) if config.checkpoints else []
        if config.checkpoints and not kept:
            raise UserError(f"{folder} has no checkpoints/; give a folder that latentcraft agent train wrote")
        found += map(str, kept or [folder / "policy.safetensors"])
    return list(dict.fromkeys(found))


def rank_orders(rows: list[Row]) -> dict[str, Figure]:
    """Return Spearman's rank correlation of the policies' returns in each pair of worlds, and of what training itself
    reported with what came outside, where at least three policies have both. By text, with bootstrap intervals.
    """
    by_world: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_world.setdefault(row.world, {})[row.policy] = row
    pairs: dict[str, list[tuple[float, float]]] = {}
    worlds = list(by_world)
    for index, one in enumerate(worlds):
        for other in worlds[index + 1 :]:
            pairs[f"rank correlation of returns, {one} and {other}"] = [
                (by_world[one][name].mean.value, by_world[other][name].mean.value) for name in by_world[one]
            ]
        reported = [(row.story.get("return"), row.mean.value) for row in by_world[one].values()]
        pairs[f"rank correlation of the return in training with that in {one}"] = [
            (float(inside), outside) for inside, outside in reported if inside is not None
        ]
    return {text: correlation(np.array(each)) for text, each in pairs.items() if len(each) >= 3}


def correlation(pairs: np.ndarray) -> Figure:
    """Return the rank correlation of ``float (n, 2)``, policies resampled; NaN where either never varies."""
    if np.isnan(spearman(*pairs.T)):  # all policies alike: there is no order to speak of
        return Figure(float("nan"), float("nan"), float("nan"), len(pairs))
    return bootstrap(pairs, lambda drawn: spearman(drawn[:, 0], drawn[:, 1]))


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of ranks, equals sharing theirs; NaN where either never varies."""
    first, second = _ranks(one), _ranks(other)
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])


def table(config: AgentEvaluateConfig, rows: list[Row]) -> str:
    """Lay the figures out."""
    widest = max(len(row.policy) for row in rows)
    first = rows[0].policy
    count = rows[0].mean.count
    lines = [f"{config.task}: return of {count} held-out games of up to {config.length} steps [95 %]"]
    for world in config.worlds:
        lines.append(f"{world}:")
        for row in rows:
            if row.world == world:
                more = "" if row.over_first is None else f"   over {first} {_show(row.over_first, sign='+')}"
                ended = f"   ended {row.ended.value:.0f} %" if row.ended.value else ""
                lines.append(f"  {row.policy:<{widest}}  {_show(row.mean)}{more}{ended}")
    return "\n".join(lines)


def write(config: AgentEvaluateConfig, rows: list[Row], orders: dict[str, Figure], seconds: float) -> None:
    """Write everything to ``config.out``, atomically."""
    from dataclasses import asdict

    from latentcraft import __version__
    from latentcraft.agents.bench import machine

    assert config.out is not None
    keys = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    report = {
        "version": __version__, "machine": machine(), "seconds": round(seconds, 1), "config": keys,
        "seeds": read_seeds(config.seeds), "rows": [asdict(row) for row in rows],
        "rank_correlations": {text: asdict(figure) for text, figure in orders.items()},
    }  # fmt: skip
    text = json.dumps(without_nan(report), indent=1, allow_nan=False) + "\n"
    with replacing(config.out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def without_nan(value: Any) -> Any:
    """Return JSON values with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _show(figure: Figure, sign: str = "") -> str:
    return f"{figure.value:{sign}.2f} [{figure.low:{sign}.2f}, {figure.high:{sign}.2f}]"
