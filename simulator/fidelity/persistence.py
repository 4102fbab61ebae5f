"""Persistence: is what the player changed still there after a look away, and what he did not change still as it was?

The reference world draws both answers, the true one and the false one, from the very view that a frame shows; a frame
is right when it lies nearer the true picture, where the two differ. Frames need not be sharp for that, and a dream that
turns a little too far is forgiven: the direction of its view is found first, from the parts of the picture about which
nothing is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentcraft.simulator.fidelity.figures import Column, Figure, Subject, bootstrap, share
from latentcraft.simulator.fidelity.lanes import side_by_side
from latentcraft.simulator.fidelity.persistence_cases import Case, find_cases, lead_ticks, seen_change
from latentcraft.simulator.fidelity.pictures import halve, place_mask, smooth
from latentcraft.simulator.fidelity.pose import PoseFitter, Reach, distance, view_angle
from latentcraft.simulator.fidelity.reference import FREE_TASK, Cell, Reference
from latentcraft.simulator.fidelity.replay import film, make_subject, name_of, skip, ticks_of
from latentcraft.simulator.protocol import HELD_OUT_SEED, World
from latentcraft.simulator.voxel.game import Pose

PERSISTENCE_NOTE = (
    "Look at the ground, which belongs to the start. Dig or place a block, see it for 0.2 s, look away until the "
    "place has been out of sight for the time named, look back. Change kept: the view shows the place, and lies "
    "nearer the reference with the change than without it. Untouched kept: at two other places in the same view it "
    "lies nearer to what is there than to a block gone, or a block added. A view that does not show the place "
    "(neither fits the reference's details nor comes within 25 grey levels of it) keeps nothing. Each time starts "
    "from the same saved moment; 0 s is that moment, before looking away. Guessing in a view that is else right "
    "scores 50 %, and a world that forgets scores 100 % on untouched places and 0 % on changes: read both. Certainty:"
    " where the frame lies between the false picture (-100 %) and the true one (100 %), 0 where the place is not "
    "shown; mean over times after 0 s. Intervals: Wilson's for shares, else by bootstrap; over games."
)
_BATCH = 16
"""Games in a world at once."""
_ALIKE = 25.0
"""Grey levels (root mean square) within which a view shows the place although no detail fits: a lawn for a lawn."""
_RIM = 4
"""Pixels round a change that tell nothing of the direction of view."""
_NEAR = Reach(yaw=12.0, pitch=8.0, level=0.7, height=0.3)
"""The player only turned: the view is looked for where a dream turned too far or swayed a little."""
_SAMPLES, _KEEP, _SURE = 32, 1, 0.6
"""How thoroughly: the view must only be found well enough to ask about it."""


@dataclass(frozen=True)
class PersistencePlan:
    """What is dug and placed, and how long it is out of sight."""

    games: int
    """Half of them dig, half place."""
    gaps: tuple[float, ...]
    """Seconds out of sight."""
    first_seed: int = HELD_OUT_SEED
    """Seeds are tried from here on until so many games have a case."""

    @classmethod
    def quick(cls, first_seed: int = HELD_OUT_SEED) -> "PersistencePlan":
        """Return the plan of ``mode=quick``."""
        return cls(6, (1.0,), first_seed)

    @classmethod
    def full(cls, first_seed: int = HELD_OUT_SEED) -> "PersistencePlan":
        """Return the plan of ``mode=full``."""
        return cls(16, (0.5, 1.0, 3.0, 10.0), first_seed)

    def cases(self, frame_size: tuple[int, int], chunk: int) -> tuple[Case, ...]:
        """Return the games for worlds of that shape."""
        return find_cases(self.first_seed, self.games, tuple(map(ticks_of, self.gaps)), frame_size, chunk)

    def columns(self) -> list[Column]:
        """Return the table's columns."""
        times = [0.0, *self.gaps]
        groups = [("edit", "Change kept", times), ("untouched", "Untouched kept", times),
                  ("shown", "Place shown", times)]  # fmt: skip
        by_time = [
            Column(f"{key}@{name_of(time)}", f"{title}, {time:g} s", "%", "higher", 0)
            for key, title, shown in groups
            for time in shown
        ]
        return [
            *by_time,
            Column("dug", "Dug blocks kept", "%", "higher", 0),
            Column("placed", "Placed blocks kept", "%", "higher", 0),
            Column("edit_certainty", "Certainty, changes", "%", "higher", 0),
            Column("untouched_certainty", "Certainty, untouched", "%", "higher", 0),
        ]


PERSISTENCE_COLUMNS = PersistencePlan.full().columns()


@dataclass(frozen=True)
class Verdict:
    """What one frame says."""

    edit: float
    """-1 (as if nothing had been changed) to 1 (as it is)."""
    untouched: tuple[float, ...]
    """For each phantom: -1 (as if it were there) to 1 (as it is)."""
    shown: bool
    """Whether the frame shows the place at all; if not, the rest says nothing."""


def persistence_study(subject: Subject, plan: PersistencePlan) -> dict[str, Figure]:
    """Return the subject's persistence figures, keyed as :meth:`PersistencePlan.columns`."""
    times = [0.0, *plan.gaps]
    rows: list[list[Verdict]] = []
    cases: list[Case] = []
    for first in range(0, plan.games, _BATCH):
        world = make_subject(subject, min(_BATCH, plan.games - first), FREE_TASK)
        try:
            part = plan.cases(world.spec.frame_size, world.spec.chunk)[first : first + _BATCH]
            frames = play_cases(world, part, [ticks_of(gap) for gap in plan.gaps], f"{subject.name}: persistence")
        finally:
            world.close()
        fitter = PoseFitter(world.spec.frame_size, reach=_NEAR, samples=_SAMPLES, keep=_KEEP, sure=_SURE)
        cases += part

        def judged(case: Case, views: np.ndarray, fitter: PoseFitter = fitter) -> list[Verdict]:
            return [judge(fitter, case, ticks_of(time), frame) for time, frame in zip(times, views, strict=True)]

        rows += side_by_side(judged, part, frames)
    shown = np.array([[verdict.shown for verdict in row] for row in rows])  # (games, times)
    edit = shown * np.array([[verdict.edit for verdict in row] for row in rows])
    untouched = shown[..., None] * np.array([[verdict.untouched for verdict in row] for row in rows])  # and phantoms
    digs = np.array([case.kind == "dig" for case in cases])
    figures: dict[str, Figure] = {}
    for number, time in enumerate(times):
        figures[f"edit@{name_of(time)}"] = share(edit[:, number] > 0)
        figures[f"untouched@{name_of(time)}"] = share((untouched[:, number] > 0).mean(1))
        figures[f"shown@{name_of(time)}"] = share(shown[:, number])
    # Looked at again: what is seen before looking away is no memory.
    figures["dug"] = share((edit[digs, 1:] > 0).mean(1))
    figures["placed"] = share((edit[~digs, 1:] > 0).mean(1))
    figures["edit_certainty"] = bootstrap(100 * edit[:, 1:].mean(1))
    figures["untouched_certainty"] = bootstrap(100 * untouched[:, 1:].mean((1, 2)))
    return figures


def play_cases(world: World, cases: Sequence[Case], gaps: Sequence[int], label: str = "") -> np.ndarray:
    """Play every case up to the seen change, and from there once for each gap; return the last frames.

    The longest look away is played through; the shorter ones branch off where they turn back.

    Args:
        world: of as many games as there are cases.
        cases: what to play.
        gaps: ticks out of sight.
        label: of the progress bar.

    Returns:
        ``uint8 (b, 1 + len(gaps), H, W, 3)``: the change as seen before looking away, and after each look away.
    """
    chunk = world.spec.chunk
    seeds, leads = [case.seed for case in cases], np.stack([case.lead for case in cases])
    looks = np.stack([case.look for case in cases])
    shown, _ = film(world, seeds, leads, [lead_ticks(chunk)], lead=looks, label=label)
    ways = {gap: np.stack([case.away[gap] for case in cases]) for gap in gaps}
    longest = max(gaps)
    branches = sorted((common_ticks(ways[gap], ways[longest], chunk), gap) for gap in gaps if gap != longest)
    found, played = {0: shown[:, 0]}, 0
    for tick, gap in branches:
        _walk(world, ways[longest][:, played:tick])
        states = [world.save(index) for index in range(len(cases))]
        found[gap] = _look(world, ways[gap][:, tick:])
        for index, state in enumerate(states):
            world.restore(state, index)
        played = tick
    found[longest] = _look(world, ways[longest][:, played:])
    return np.stack([found[gap] for gap in (0, *gaps)], 1)


def common_ticks(one: np.ndarray, other: np.ndarray, chunk: int) -> int:
    """Return for how many ticks, whole chunks, actions ``(b, T, 20)`` are the same; a chunk of each is left over."""
    ticks = min(one.shape[1], other.shape[1]) - chunk
    apart = (one[:, :ticks] != other[:, :ticks]).any((0, 2))
    same = int(apart.argmax()) if apart.any() else ticks
    return same - same % chunk


def _walk(world: World, actions: np.ndarray) -> None:
    """Play whole chunks of actions ``(b, T, 20)`` that nobody sees."""
    for tick in range(0, actions.shape[1], world.spec.chunk):
        skip(world, actions[:, tick : tick + world.spec.chunk])


def _look(world: World, actions: np.ndarray) -> np.ndarray:
    """Play whole chunks and return the last frame, ``uint8 (b, H, W, 3)``."""
    chunk = world.spec.chunk
    _walk(world, actions[:, :-chunk])
    return world.step(actions[:, -chunk:]).frames[:, -1].copy()


def judge(fitter: PoseFitter, case: Case, gap: int, frame: np.ndarray) -> Verdict:
    """Judge one frame.

    Args:
        fitter: finds the view.
        case: what was played.
        gap: ticks out of sight; 0 before looking away.
        frame: ``uint8 (H, W, 3)``, the last of the case.
    """
    game = case.after
    if gap:
        game = game.fork()
        game.play(case.away[gap])
    size: tuple[int, int] = frame.shape[:2]
    questions: list[dict[Cell, int]] = [{case.cell: case.before}, *({cell: block} for cell, block in case.phantoms)]
    asked = np.any([seen_change(game, size, edits) for edits in questions], axis=0)
    asked = smooth(np.repeat(asked[..., None], 3, -1).astype(np.float32), _RIM)[..., 0] > 0
    fit = fitter.fit(game, frame, [game.pose], ignore=asked)
    near = view_angle(fit.pose, game.pose) <= _NEAR.yaw and distance(fit.pose, game.pose) <= 2 * _NEAR.level
    pose = fit.pose if fit.found and near else game.pose
    answers = [nearness(game, frame, pose, edits, ~asked) for edits in questions]
    return Verdict(answers[0], tuple(answers[1:]), fit.found or distance_to(game, frame, pose, ~asked) < _ALIKE)


def distance_to(game: Reference, frame: np.ndarray, pose: Pose, around: np.ndarray) -> float:
    """Return how far a frame is from the reference's picture, grey levels (root mean square), seen smoothly."""
    mask = halve(place_mask(frame.shape[:2]) * around[..., None]) == 1
    true = game.draw(frame.shape[:2], pose)
    one, two = (smooth(halve(picture.astype(np.float32)), 1) for picture in (frame, true))
    return float(np.sqrt((mask * np.square(one - two)).sum() / max(1.0, 3 * mask.sum())))


def nearness(game: Reference, frame: np.ndarray, pose: Pose, edits: dict[Cell, int], around: np.ndarray) -> float:
    """Return where a frame lies between the false picture (-1) and the true one (1), where the two differ.

    Args:
        game: draws the true picture, and with ``edits`` the false one.
        frame: ``uint8 (H, W, 3)``.
        pose: where both are drawn from.
        edits: what differs.
        around: ``bool (H, W)``: pixels that show the same either way; the frame's colours are matched there.
    """
    true, false = game.draw(frame.shape[:2], pose), game.draw(frame.shape[:2], pose, edits)
    mask = (place_mask(frame.shape[:2]) * around[..., None]).astype(bool)[..., 0]
    seen = matched(frame.astype(np.float32), true.astype(np.float32), mask)
    seen, right, wrong = (smooth(halve(picture.astype(np.float32)), 1) for picture in (seen, true, false))
    apart = np.abs(right - wrong)
    # The triangle inequality keeps it between -1 and 1; where the two agree, nothing counts.
    gained = np.abs(seen - wrong) - np.abs(seen - right)
    return float(gained[apart > 0].sum() / max(1.0, apart.sum()))


def matched(frame: np.ndarray, like: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return ``frame (H, W, 3)`` with the mean of each colour as in ``like`` where ``mask (H, W)`` is set."""
    return frame + (like[mask].mean(0) - frame[mask].mean(0)) if mask.any() else frame
