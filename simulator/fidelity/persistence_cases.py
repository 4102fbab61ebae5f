"""Cases of persistence, found in the reference world: where to dig or place, how to look away and back.

A case is a function of its seed. Before it begins the player turns to the ground ahead and looks at it: what nobody has
seen no world can know. Then the player changes one block, sees it, turns to the horizon at the side until the place is
out of sight, and returns to the very same view. Beside the changed block the view holds two untouched places, at which
the reference imagines a block gone and a block added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from latentcraft.simulator.fidelity.reference import Cell, Reference, press, turn, wrap_degrees
from latentcraft.simulator.voxel import physics
from latentcraft.simulator.voxel.blocks import DIG_TICKS, HOTBAR, PASSABLE, UNBREAKABLE
from latentcraft.simulator.voxel.game import Pose
from latentcraft.simulator.voxel.tasks import mix

Kind = Literal["dig", "place"]
KINDS: tuple[Kind, ...] = ("dig", "place")

_LOOK = 16
"""Ticks before a case begins: 4 to come to rest, up to 8 to turn, at least 4 to look at the ground."""
_LEAD = 24
"""Ticks that a case needs from the start to the moment after which the player looks away: 14 to dig stone, 4 to look at
it, and some to spare."""
_REST, _SEEN = 4, 4
_SPEED = 10.0
"""Degrees a tick at which the view turns; the recorded players turn at 1 to 8, and flick at up to 25."""
_ASIDE, _LEVEL = 80.0, 6.0
"""Degrees by which the view turns aside, and its pitch there."""
_AWAY = 8
"""Ticks of the turn away, and of the turn back."""
_PAN_SPEED, _PAN, _PAN_BACK = 1.0, 25.0, 10.0
"""While the place is out of sight the view wanders on and back and on again, the same way whenever it will return:
degrees a tick, degrees at most, and degrees a tick of its return."""
_YAWS, _PITCHES = (0, 20, -20, 40, -40, 60, -60), (40.0, 32.0, 50.0)
"""Views of the ground that are tried, degrees from the first view's yaw, and pitch."""
_GLANCES = [(yaw, pitch) for pitch in (0, -9, 9, -16) for yaw in (14, -14, 22, -22, 29, -29)]
"""Where beside the crosshair untouched places are looked for, degrees."""
VISIBLE = 16
"""Grey levels (mean of the colours) from which on a pixel differs to the eye."""
_SHARE = 0.02
"""Share of the picture that a change must alter visibly."""
_OVERLAP = 0.1
"""Share of an untouched place's pixels that may also belong to another change."""
_SEARCH = 400
"""Seeds searched for one case at most; about every second has one."""


@dataclass(frozen=True)
class Case:
    """One game of the study."""

    seed: int
    kind: Kind
    cell: Cell
    """The changed block."""
    before: int
    """What was there."""
    look: np.ndarray
    """Actions ``float32 (look_ticks, 20)`` before the start, until the place has been looked at."""
    lead: np.ndarray
    """Actions ``float32 (lead_ticks, 20)`` from the start until the change has been seen."""
    away: dict[int, np.ndarray] = field(repr=False)
    """Actions that look away and back, by how many ticks the place is out of sight."""
    after: Reference = field(repr=False)
    """The game after ``lead``; forked to be played on."""
    phantoms: tuple[tuple[Cell, int], ...]
    """Untouched cells and what is imagined there: a block gone, a block added."""


@lru_cache(maxsize=8)
def find_cases(
    first_seed: int, count: int, gaps: tuple[int, ...], frame_size: tuple[int, int], chunk: int
) -> tuple[Case, ...]:
    """Return ``count`` cases, dug and placed in turn, of the first seeds that have one.

    Args:
        first_seed: where to begin.
        count: how many.
        gaps: ticks out of sight.
        frame_size: (H, W), decides what is in sight.
        chunk: frames in a chunk.
    """
    cases: list[Case] = []
    for seed in range(first_seed, first_seed + _SEARCH * count):
        case = find_case(seed, KINDS[len(cases) % len(KINDS)], gaps, frame_size, chunk)
        if case is not None:
            cases.append(case)
        if len(cases) == count:
            return tuple(cases)
    raise AssertionError("the reference world has hardly any ground to dig in")


def find_case(seed: int, kind: Kind, gaps: Sequence[int], frame_size: tuple[int, int], chunk: int) -> Case | None:
    """Return the case of a seed, None if no view of its ground serves."""
    start = Reference(seed, chunk=chunk)
    start.play(press(ticks=_REST))
    for pitch in _PITCHES:
        for yaw in _YAWS:
            if len(turn(pitch - start.pose[4], yaw, _SPEED)) > _AWAY:
                continue
            case = _try_view(seed, kind, start.fork(), pitch, yaw, gaps, frame_size, chunk)
            if case is not None:
                return case
    return None


def _try_view(
    seed: int, kind: Kind, game: Reference, pitch: float, yaw: float, gaps: Sequence[int],
    frame_size: tuple[int, int], chunk: int,
) -> Case | None:  # fmt: skip
    """Return the case in one direction of view, if it can be done and seen."""
    turning = turn(pitch - game.pose[4], yaw, _SPEED)
    acts: list[np.ndarray] = []
    game.play(turning)
    aimed = game.aim(game.pose)
    if aimed is None:
        return None
    target, free = aimed
    slot = mix(seed, 40) % len(HOTBAR)
    if kind == "dig":
        block = game.block(target)
        if UNBREAKABLE[block]:
            return None
        cell, acts = target, [press("attack", ticks=int(DIG_TICKS[block]))]
    else:
        if HOTBAR[slot] in (game.block(target), game.block(free)) or not PASSABLE[game.block(free)]:
            return None
        cell, acts = free, [press(f"hotbar.{slot + 1}"), press(ticks=2), press("use", ticks=2)]
    before = game.block(cell)
    for act in acts:
        game.play(act)
    if list(game.game.edits) != [game.flat(cell)]:
        return None
    rest = lead_ticks(chunk) - sum(map(len, acts)) - _SEEN
    assert rest >= 0, "a case's lead is longer than _LEAD"
    look = np.concatenate([press(ticks=_REST), turning])
    look = np.concatenate([look, press(ticks=look_ticks(chunk) - len(look))])
    # Waiting first or last is the same for body and blocks, but not for light and weather: play it as it will be.
    lead = np.concatenate([press(ticks=rest), *acts, press(ticks=_SEEN)])
    game = Reference(seed, chunk=chunk)
    game.play(look)
    game.play(lead)
    change = seen_change(game, frame_size, {cell: before})
    if game.block(cell) == before or change.mean() < _SHARE:
        return None
    phantoms = tuple(_phantoms(game, cell, change, HOTBAR[slot], frame_size))
    if len(phantoms) < 2:
        return None
    side = 1 if mix(seed, 41) & 1 else -1
    away = {gap: _look_away(game, cell, before, side, gap, frame_size, chunk) for gap in gaps}
    if any(actions is None for actions in away.values()):
        return None
    ways = {gap: actions for gap, actions in away.items() if actions is not None}
    return Case(seed, kind, cell, before, look, lead, ways, game, phantoms)


def seen_change(
    game: Reference, frame_size: tuple[int, int], edits: dict[Cell, int], pose: Pose | None = None
) -> np.ndarray:
    """Return which pixels would visibly change if blocks were others, ``bool (H, W)``."""
    true, other = game.draw(frame_size, pose), game.draw(frame_size, pose, edits)
    return np.abs(true.astype(np.int16) - other).mean(-1) >= VISIBLE


def _phantoms(
    game: Reference, edited: Cell, change: np.ndarray, block: int, frame_size: tuple[int, int]
) -> Iterator[tuple[Cell, int]]:
    """Yield a place where a block might vanish and one where a block might appear, apart from the edited cell."""
    taken = change.copy()
    for vanishing in (True, False):
        for yaw, pitch in _GLANCES:
            x, y, z, yaw_now, pitch_now = game.pose
            aimed = game.aim((x, y, z, wrap_degrees(yaw_now + yaw), pitch_now + pitch))
            if aimed is None:
                continue
            cell = aimed[0] if vanishing else aimed[1]
            other = game.without(cell) if vanishing else block
            fits = not UNBREAKABLE[game.block(cell)] if vanishing else PASSABLE[game.block(cell)]
            near_edit = max(abs(a - b) for a, b in zip(cell, edited, strict=True)) < 2
            if near_edit or not fits or other in (game.block(aimed[0]), game.block(cell)) or game.touches(cell):
                continue
            seen = seen_change(game, frame_size, {cell: other})
            if seen.mean() >= _SHARE and (seen & taken).sum() <= _OVERLAP * seen.sum():
                taken |= seen
                yield cell, other
                break


def _look_away(
    game: Reference, cell: Cell, before: int, side: int, gap: int, frame_size: tuple[int, int], chunk: int
) -> np.ndarray | None:
    """Return actions that keep a cell out of sight for ``gap`` ticks and then return to the view, still for a chunk."""
    out = turn(_LEVEL - game.pose[4], side * _ASIDE, _ASIDE / _AWAY)
    poses = game.rehearse(out)
    hidden = [not seen_change(game, frame_size, {cell: before}, tuple(pose)).any() for pose in poses]
    if not hidden[-1]:
        return None
    # The turn back shows the same views in reverse, the farthest one once.
    unseen = len(hidden) - hidden.index(True)
    wait = gap - (2 * unseen - 1)
    if wait < 0:
        return None
    looking = np.concatenate([out, _wander(wait, side), turn(game.pose[4] - _LEVEL, -side * _ASIDE, _ASIDE / _AWAY)])
    return np.concatenate([looking, press(ticks=tail_ticks(gap, chunk) - len(looking))])


def _wander(ticks: int, side: int) -> np.ndarray:
    """Return actions that wander on and come back, ``(ticks, 20)``: longer ones begin as shorter ones do, but for their
    last few ticks.
    """
    there = round(_PAN / _PAN_SPEED)
    way = [_PAN_SPEED if tick // there % 2 == 0 else -_PAN_SPEED for tick in range(ticks)]
    offsets = np.cumsum([0.0, *way])
    # The latest moment from which there is time to return; one tick may be left over, in which the view rests.
    returns = np.ceil(offsets / _PAN_BACK).astype(int)
    left = max(tick for tick in range(ticks + 1) if tick + returns[tick] <= ticks)
    wandering = [press(yaw=side * step) for step in way[:left]]
    back = int(returns[left])
    returning = [press(ticks=back, yaw=-side * offsets[left] / back)] if back else []
    return np.concatenate([press(ticks=0), *wandering, press(ticks=ticks - left - back), *returning])


def look_ticks(chunk: int) -> int:
    """Return how long the place is turned to and looked at before a case begins: the same for all, whole chunks."""
    return -(-_LOOK // chunk) * chunk


def lead_ticks(chunk: int) -> int:
    """Return how long it takes until the change has been seen: the same for all cases, whole chunks."""
    return -(-_LEAD // chunk) * chunk


def tail_ticks(gap: int, chunk: int) -> int:
    """Return how long looking away and back takes: the same for all cases, whole chunks, the last one standing still.

    Some of the turn is itself out of sight, so no case takes longer than both turns and ``gap``.
    """
    longest = 2 * _AWAY + gap + chunk
    return -(-longest // chunk) * chunk


assert physics.REACH < 6, "a block in reach is near: turning aside by _ASIDE hides it"
