"""Batched rollouts of held-out games, streamed: five minutes of play need no memory for its frames.

Ticks are counted from the start: frame 0 is the last one before the first action, frame ``k`` shows the effect of the
first ``k`` actions, and frames ``1 - f`` to 0 are the end of the warm-up.
"""

import time
from collections.abc import Callable, Collection, Sequence

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start, World, WorldSpec

HORIZONS = (0.2, 1.0, 3.0, 10.0, 30.0, 60.0)
"""Seconds after the start at which fidelity is asked for: one chunk, and about three times longer each time."""

Watch = Callable[[int, np.ndarray], None]
"""Called with the tick of the first frame and the frames ``uint8 (b, f, H, W, 3)`` of each chunk."""


def ticks_of(seconds: float) -> int:
    """Return the tick nearest to a time."""
    return round(seconds * TICKS_PER_SECOND)


def name_of(seconds: float) -> str:
    """Return a time as column keys write it: ``0.2s``, ``60s``."""
    return f"{seconds:g}s"


def play(
    world: World,
    seeds: Sequence[int],
    actions: np.ndarray,
    watch: Watch,
    *,
    wanted: Collection[int] | None = None,
    lead: np.ndarray | None = None,
    label: str = "",
) -> np.ndarray:
    """Play ``actions`` from the starts ``seeds`` and show every chunk to ``watch``, the end of the warm-up first.

    Args:
        world: any world of ``b`` games.
        seeds: one for each game.
        actions: ``float32 (b, T, 20)``; no-ops fill the last chunk.
        watch: gets the frames; they may be buffers of the world and must be copied to be kept.
        wanted: ticks that will be looked at, None for all. A world that has ``skip(actions)`` need not draw a chunk
            without any; ``watch`` does not see that chunk.
        lead: actions ``float32 (b, k * f, 20)`` that belong to the start, see
            :class:`latentcraft.simulator.protocol.Start`.
        label: of the progress bar; none is shown without, or outside a terminal.

    Returns:
        Seconds each chunk took, ``float64 (T / f,)``; NaN where its frames were not drawn.
    """
    b, f = world.spec.num_worlds, world.spec.chunk
    if len(seeds) != b or actions.shape[0] != b:
        raise UserError(f"{len(seeds)} seeds and actions {actions.shape} do not fit a world of {b} games")
    leads = [None] * b if lead is None else list(lead)
    watch(1 - f, world.reset([Start(seed=seed, lead=part) for seed, part in zip(seeds, leads, strict=True)]))
    return play_on(world, actions, watch, wanted=wanted, label=label)


def play_on(
    world: World,
    actions: np.ndarray,
    watch: Watch,
    *,
    first: int = 0,
    wanted: Collection[int] | None = None,
    label: str = "",
) -> np.ndarray:
    """Play ``actions`` from where ``world`` is, at tick ``first``; the rest as :func:`play` has it."""
    f = world.spec.chunk
    actions = np.pad(actions, [(0, 0), (0, -actions.shape[1] % f), (0, 0)])  # a no-op is all zeros
    skips = hasattr(world, "skip")
    seconds = np.full(actions.shape[1] // f, np.nan)
    for number in _progress(range(len(seconds)), label):
        tick = first + number * f
        part = actions[:, number * f : number * f + f]
        if skips and wanted is not None and not any(tick + 1 + i in wanted for i in range(f)):
            skip(world, part)
            continue
        began = time.perf_counter()
        frames = world.step(part).frames
        seconds[number] = time.perf_counter() - began
        watch(tick + 1, frames)
    return seconds


def skip(world: World, actions: np.ndarray) -> None:
    """Advance ``world`` by one chunk that nobody will see; where it has ``skip(actions)`` it need not be drawn."""
    advance = getattr(world, "skip", world.step)
    advance(actions)


class Reel:
    """Keeps the frames at some ticks of what it is shown."""

    def __init__(self, ticks: Sequence[int], spec: WorldSpec) -> None:
        """Make room for frames ``uint8 (b, len(ticks), H, W, 3)`` of worlds with that ``spec``."""
        self.places = {tick: index for index, tick in enumerate(ticks)}
        self.frames = np.empty((spec.num_worlds, len(ticks), *spec.frame_size, 3), np.uint8)

    def watch(self, first: int, frames: np.ndarray) -> None:
        """See a chunk ``uint8 (b, f, H, W, 3)`` that begins at a tick."""
        for offset in range(frames.shape[1]):
            place = self.places.get(first + offset)
            if place is not None:
                self.frames[:, place] = frames[:, offset]


def film(
    world: World,
    seeds: Sequence[int],
    actions: np.ndarray,
    ticks: Sequence[int],
    *,
    lead: np.ndarray | None = None,
    label: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Play as :func:`play` does, only as long as needed, and keep the frames at some ticks.

    Args:
        world: any world of ``b`` games.
        seeds: one for each game.
        actions: ``float32 (b, T, 20)``.
        ticks: which frames, ascending, between ``1 - f`` and T.
        lead: see :func:`play`.
        label: of the progress bar.

    Returns:
        Frames ``uint8 (b, len(ticks), H, W, 3)``, and the seconds each chunk took.
    """
    assert ticks and 1 - world.spec.chunk <= min(ticks) and max(ticks) <= actions.shape[1], "ticks outside the rollout"
    reel = Reel(ticks, world.spec)
    acted = actions[:, : max(max(ticks), 1)]
    seconds = play(world, seeds, acted, reel.watch, wanted=reel.places, lead=lead, label=label)
    return reel.frames, seconds


def make_subject(subject: Subject, games: int, task: str = "free") -> World:
    """Build a subject's world and check that it has that many games."""
    world = subject.make(games, task)
    if world.spec.num_worlds != games:
        raise UserError(f"{subject.name} made a world of {world.spec.num_worlds} games where {games} were asked for")
    return world


def _progress(chunks: range, label: str) -> "Collection[int]":
    if not label:
        return chunks
    from tqdm import tqdm

    bar: Collection[int] = tqdm(chunks, desc=label, unit="chunk", disable=None, leave=False, dynamic_ncols=True)
    return bar
