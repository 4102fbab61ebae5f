"""Outcomes: does a world pay and end as the reference does on the same actions, and does it know when it is wrong?

The games are the explorer's at its tasks, and chosen: in each the reference pays within the time. Everything is counted
by chunks, the steps of an environment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.figures import Column, Figure, Subject, bootstrap
from latentcraft.simulator.fidelity.metrics import jackknife
from latentcraft.simulator.fidelity.replay import make_subject
from latentcraft.simulator.protocol import Start, World
from latentcraft.simulator.voxel.world import VoxelWorld

PAID = 0.5
"""Reward of a chunk, either way, from which on it counts as paid: the tasks pay 1 for a deed."""
LATE = 1
"""Chunks by which a payment may come early or late and still be the same one."""
OUTCOME_NOTE = (
    "Held-out games in which the scripted explorer, at its task, is paid by the reference within the time; the same "
    "actions in every world, counted by chunks of 0.2 s. A chunk counts as paid from a reward of 0.5 on, either way; a "
    "payment found one chunk early or late counts. End: area under the ROC curve of the world's probability that the "
    "task ends in a chunk (whether it says so, where it gives none), over the chunks up to the reference's end; 0.5 is "
    "chance. Uncertainty: rank correlation, within a game, of what a step says of itself with the root mean square "
    "error of its last frame. Intervals: jackknife over games, for the uncertainty bootstrap."
)
OUTCOME_COLUMNS = [
    Column("reward_precision", "Payments, precision", "", "higher"),
    Column("reward_recall", "Payments, recall", "", "higher"),
    Column("reward_f1", "Payments, F1", "", "higher"),
    Column("end_auroc", "Ends, area under the ROC curve", "", "higher"),
    Column("uncertainty_rank", "Uncertainty with error, rank correlation", "", "higher"),
]


@dataclass(frozen=True, eq=False)
class Errand:
    """Games of one task."""

    task: str
    seeds: tuple[int, ...]
    actions: np.ndarray
    """``float32 (b, T, 20)``, whole chunks."""


@dataclass(frozen=True, eq=False)
class OutcomePlan:
    """What is played."""

    errands: tuple[Errand, ...]


class Told(NamedTuple):
    """What a world said and showed of ``b`` games in ``k`` chunks."""

    rewards: np.ndarray
    """``float64 (b, k)``, summed over each chunk."""
    ended: np.ndarray
    """``bool (b, k)``: at the end of each chunk."""
    ends: np.ndarray
    """``float64 (b, k)``: how probable the world held an end in each chunk."""
    unsure: np.ndarray
    """``float64 (b, k)``; NaN where the world does not say."""
    last: np.ndarray
    """``uint8 (b, k, H, W, 3)``."""


class Judged(NamedTuple):
    """One game's counts."""

    right: int
    """Payments told that the reference made."""
    told: int
    found: int
    """Payments of the reference that were told."""
    made: int
    ends: np.ndarray
    """Probabilities up to the reference's end."""
    ended: np.ndarray
    """``bool``: whether the reference ended in each of these chunks."""


def outcome_study(subject: Subject, plan: OutcomePlan) -> dict[str, Figure]:
    """Return the subject's figures, keyed as :data:`OUTCOME_COLUMNS`.

    Tasks that the world refuses are left out; what no game can tell is missing.
    """
    games: list[Judged] = []
    ranks: list[float] = []
    for errand in plan.errands:
        try:
            world = make_subject(subject, len(errand.seeds), errand.task)
        except UserError:  # heads that never saw the task
            continue
        told = play_errand(world, errand)
        true = play_errand(VoxelWorld(len(errand.seeds), errand.task, world.spec.frame_size, world.spec.chunk), errand)
        games += [judge_game(told, true, index) for index in range(len(errand.seeds))]
        errors = np.sqrt(np.square(told.last.astype(np.float32) - true.last).mean((2, 3, 4)))
        ranks += [rank_correlation(*pair) for pair in zip(told.unsure, errors, strict=True)]
    figures = {}
    if any(game.made for game in games):
        for key, statistic in (("precision", precision), ("recall", recall), ("f1", f1)):
            figures[f"reward_{key}"] = jackknife(games, statistic)
    endings = [game for game in games if game.ended.any()]
    if endings:
        figures["end_auroc"] = jackknife(endings, auroc_of)
    if np.isfinite(ranks).any():
        figures["uncertainty_rank"] = bootstrap(ranks)
    return figures


def play_errand(world: World, errand: Errand) -> Told:
    """Play and listen; the world is closed after."""
    parts: list[tuple[np.ndarray, ...]] = []
    try:
        world.reset([Start(seed=seed) for seed in errand.seeds])
        for actions in np.split(errand.actions, errand.actions.shape[1] // world.spec.chunk, 1):
            chunk = world.step(actions)
            infos = chunk.infos or [{}] * len(actions)
            ended = chunk.terminated[:, -1]
            said = [info.get("end_probability", float(end)) for info, end in zip(infos, ended, strict=True)]
            unsure = [info.get("uncertainty", np.nan) for info in infos]
            rewards = chunk.rewards.sum(1, dtype=np.float64)
            parts.append((rewards, ended.copy(), np.array(said), np.array(unsure), chunk.frames[:, -1].copy()))
    finally:
        world.close()
    return Told(*(np.stack(part, 1) for part in zip(*parts, strict=True)))


def judge_game(told: Told, true: Told, index: int) -> Judged:
    """Hold one game against the reference; nothing counts after the reference's end."""
    ended = true.ended[index]
    count = int(ended.argmax()) + 1 if ended.any() else len(ended)
    said, made = (np.abs(each.rewards[index, :count]) >= PAID for each in (told, true))
    right, found = said & spread(made), made & spread(said)
    return Judged(
        int(right.sum()), int(said.sum()), int(found.sum()), int(made.sum()), told.ends[index, :count], ended[:count]
    )


def spread(events: np.ndarray) -> np.ndarray:
    """Return ``bool (k,)``: whether there is an event within :data:`LATE` chunks."""
    return np.convolve(events, np.ones(2 * LATE + 1), "full")[LATE : LATE + len(events)] > 0


def precision(games: Sequence[Judged]) -> float:
    """Share of the payments told that were made; 0 where none were told."""
    return sum(game.right for game in games) / max(1, sum(game.told for game in games))


def recall(games: Sequence[Judged]) -> float:
    """Share of the payments made that were told."""
    return sum(game.found for game in games) / max(1, sum(game.made for game in games))


def f1(games: Sequence[Judged]) -> float:
    """Harmonic mean of both."""
    one, two = precision(games), recall(games)
    return 2 * one * two / (one + two) if one + two else 0.0


def auroc_of(games: Sequence[Judged]) -> float:
    """Area under the ROC curve over all chunks of the games."""
    return auroc(np.concatenate([game.ends for game in games]), np.concatenate([game.ended for game in games]))


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the share of pairs of a positive and a negative that ``scores`` put in order; ties count half."""
    high, low = scores[positive], scores[~positive]
    if not len(high) or not len(low):
        return float("nan")
    apart = high[:, None] - low[None]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two series ``(k,)``; NaN where one has none, or does not vary."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()) or not np.ptp(one) or not np.ptp(other):
        return float("nan")
    ranks = [np.searchsorted(np.sort(each), each, "left") + np.searchsorted(np.sort(each), each, "right")
             for each in (one, other)]  # fmt: skip
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
