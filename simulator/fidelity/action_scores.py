"""How well actions that were read fit the actions that were played; pure functions over arrays.

Two ways of counting:

- *Ours*: each of nine buttons by itself (held or not: precision, recall, F1 of "held"), their plain mean over the
  buttons that were held at all (macro), and the camera in degrees.
- *MineWorld's* (arXiv 2504.08388 and its published ``metrics/IDM``): opposite buttons form one three-way class
  (forward/back, left/right, sprint/sneak, none; both at once counts as none), the rest two-way classes; precision,
  recall and F1 are averaged over a group's classes, *none* among them, then over groups. Camera angles are put into 11
  bins by VPT's mu-law and the error is counted in bins.

MineWorld has a seventh group, ``drop``. Our worlds have no such button, so six are left; a group in which nothing
ever happens would score 1.0 and flatter us.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from latentcraft.model.actions import BUTTON_INDEX, PITCH
from latentcraft.simulator.fidelity.figures import Figure, bootstrap
from latentcraft.simulator.fidelity.inverse_dynamics import READ_BUTTONS, Reading

MOVING = 0.1
"""Degrees a tick (length of pitch and yaw) from which on the camera counts as moving."""
GROUPS: tuple[tuple[str, ...], ...] = (
    ("back", "forward"), ("left", "right"), ("sneak", "sprint"), ("use",), ("attack",), ("jump",)
)  # fmt: skip
"""MineWorld's groups of actions that our worlds have; a label is 0 for none, else the place in the group plus one."""
VPT_CAMERA_LIMIT, VPT_CAMERA_BIN, VPT_MU = 10.0, 2.0, 10.0
"""VPT's camera bins, as MineWorld counts errors: clipped to 10 degrees, bins 2 wide after the mu-law with mu 10."""
MOST_CLASSES = 3


class Scores(NamedTuple):
    """Precision, recall and F1; NaN where there is nothing to find and nothing was found."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def split_actions(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of action vectors ``(..., 20)`` the buttons that are read, ``bool (..., 9)``, and the camera, degrees."""
    return actions[..., : len(READ_BUTTONS)] > 0.5, actions[..., PITCH:]


def button_counts(read: np.ndarray, played: np.ndarray) -> np.ndarray:
    """Count hits, false alarms and misses of every button in one game.

    Args:
        read: ``bool (t, k)``.
        played: the same of what was really held.

    Returns:
        ``int64 (k, 3)``.
    """
    return np.stack([(read & played).sum(0), (read & ~played).sum(0), (~read & played).sum(0)], -1)


def scores(counts: np.ndarray) -> Scores:
    """Turn hits, false alarms and misses ``(..., 3)`` into scores of shape ``(...)``."""
    hits, false, missed = np.moveaxis(counts.astype(np.float64), -1, 0)
    nothing = hits + false + missed == 0

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(nothing, np.nan, part / np.maximum(whole, 1))

    return Scores(share(hits, hits + false), share(hits, hits + missed), share(2 * hits, 2 * hits + false + missed))


def button_scores(counts: np.ndarray) -> Scores:
    """Return the scores of buttons ``(k, 3)``, NaN for those that were never held.

    Left in, a button nobody held would count as 0 after its first false alarm and not at all before: the mean of one
    world would then be of other buttons than that of the next.
    """
    held = counts[..., 0] + counts[..., 2] > 0
    return Scores(*(np.where(held, values, np.nan) for values in scores(counts)))


def macro(values: np.ndarray) -> float:
    """Return the mean over the last axis without NaN; NaN if there is nothing else."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def camera_errors(read: np.ndarray, played: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the camera's errors in ticks in which it should move, and in ticks in which it should not.

    Args:
        read: pitch and yaw of one game, degrees a tick, ``(t, 2)``.
        played: the same as it was played.

    Returns:
        Two arrays of lengths in degrees.
    """
    moving = np.linalg.norm(played, axis=-1) > MOVING
    error = np.linalg.norm(read - played, axis=-1)
    return error[moving], error[~moving]


def group_labels(held: np.ndarray) -> np.ndarray:
    """Return MineWorld's labels ``int64 (..., 6)`` of buttons ``bool (..., 9)``; opposites held at once are none."""
    labels = np.zeros((*held.shape[:-1], len(GROUPS)), np.int64)
    for place, group in enumerate(GROUPS):
        buttons = held[..., [BUTTON_INDEX[name] for name in group]]
        labels[..., place] = np.where(buttons.sum(-1) == 1, buttons.argmax(-1) + 1, 0)
    return labels


def group_counts(read: np.ndarray, played: np.ndarray) -> np.ndarray:
    """Count hits, false alarms and misses of every class of every group; arguments as for :func:`button_counts`.

    Returns:
        ``int64 (6, 3 classes, 3)``; a two-way group leaves its third class empty.
    """
    found, true = group_labels(read), group_labels(played)
    return np.stack([button_counts(found == label, true == label) for label in range(MOST_CLASSES)], 1)


def group_scores(counts: np.ndarray) -> tuple[float, float, float]:
    """Return MineWorld's precision, recall and F1 of counts ``(6, 3, 3)``.

    Classes that neither occur nor were read are left out, as scikit-learn's macro average does.
    """
    precision, recall, f1 = (macro(np.array([macro(group) for group in values])) for values in scores(counts))
    return precision, recall, f1


def camera_bins(camera: np.ndarray) -> np.ndarray:
    """Return VPT's camera bins, 0 to 10 with 5 for rest, of angles in degrees a tick."""
    clipped = np.clip(camera, -VPT_CAMERA_LIMIT, VPT_CAMERA_LIMIT) / VPT_CAMERA_LIMIT
    bent = np.sign(clipped) * np.log1p(VPT_MU * np.abs(clipped)) / np.log1p(VPT_MU) * VPT_CAMERA_LIMIT
    return np.round((bent + VPT_CAMERA_LIMIT) / VPT_CAMERA_BIN).astype(np.int64)


def over_games(games: int, statistic: Callable[[np.ndarray], float]) -> Figure:
    """Return a figure whose interval comes from drawing whole games, since a game's ticks are not independent.

    Args:
        games: how many there are.
        statistic: maps indices of games, ``int64 (n,)`` with repetitions, to a number; NaN if they say nothing.
    """
    everything = np.arange(games)
    if math.isnan(statistic(everything)):
        return bootstrap([])
    return bootstrap(everything, lambda drawn: statistic(drawn.astype(np.int64)))


def score_figures(games: Sequence[Reading], actions: Sequence[np.ndarray], *, brief: bool = False) -> dict[str, Figure]:
    """Return our way of counting.

    Args:
        games: what was read in each game, ``t`` ticks (games may differ in length).
        actions: what was played in each, ``float32 (t, 20)``.
        brief: only ``f1`` and ``camera_median``.

    Returns:
        ``f1``, ``precision`` and ``recall`` (macro); ``camera_median`` and ``camera_mean`` (error while it should
        turn), ``camera_rest`` (mean error while it should not); ``button_f1@forward`` and so on.
    """
    played = [split_actions(game) for game in actions]
    counts = np.stack([button_counts(read.held, held) for read, (held, _) in zip(games, played, strict=True)])
    errors = [camera_errors(read.camera, turned) for read, (_, turned) in zip(games, played, strict=True)]
    moving, resting = [error[0] for error in errors], [error[1] for error in errors]

    def figure(statistic: Callable[..., float], *arguments: Any) -> Figure:
        return over_games(len(counts), partial(statistic, *arguments))

    figures = {"f1": figure(_macro_score, counts, "f1"), "camera_median": figure(_pooled, moving, np.median)}
    if brief:
        return figures
    figures |= {name: figure(_macro_score, counts, name) for name in ("precision", "recall")}
    figures |= {"camera_mean": figure(_pooled, moving, np.mean), "camera_rest": figure(_pooled, resting, np.mean)}
    for name in Scores._fields:
        for k, button in enumerate(READ_BUTTONS):
            figures[f"button_{name}@{button}"] = figure(_macro_score, counts[:, k : k + 1], name)
    return figures


def mineworld_figures(games: Sequence[Reading], actions: Sequence[np.ndarray]) -> dict[str, Figure]:
    """Return MineWorld's way of counting; arguments as for :func:`score_figures`.

    Returns:
        ``mineworld_precision``, ``mineworld_recall``, ``mineworld_f1`` and ``mineworld_camera`` (error in bins).
    """
    played = [split_actions(game) for game in actions]
    counts = np.stack([group_counts(read.held, held) for read, (held, _) in zip(games, played, strict=True)])
    wrong = [
        np.abs(camera_bins(read.camera) - camera_bins(turned)).ravel()
        for read, (_, turned) in zip(games, played, strict=True)
    ]
    figures = {
        f"mineworld_{name}": over_games(len(counts), partial(_group_score, counts, place))
        for place, name in enumerate(Scores._fields)
    }
    return figures | {"mineworld_camera": over_games(len(counts), partial(_pooled, wrong, np.mean))}


def _macro_score(counts: np.ndarray, name: str, drawn: np.ndarray) -> float:
    return macro(getattr(button_scores(counts[drawn].sum(0)), name))


def _group_score(counts: np.ndarray, place: int, drawn: np.ndarray) -> float:
    return group_scores(counts[drawn].sum(0))[place]


def _pooled(values: list[np.ndarray], statistic: Callable[[np.ndarray], np.floating], drawn: np.ndarray) -> float:
    """Return ``statistic`` of the drawn games' values put together, NaN if there are none."""
    pooled = np.concatenate([values[game] for game in drawn])
    return float(statistic(pooled)) if pooled.size else float("nan")
