"""One rollout of held-out games at which several studies look: played once for each world, not once for each study.

Replay, action following and the long run begin with the same games and the same actions. Each says beforehand which
frames it will look at, and the long run also where it goes on from by itself. What a study sees does not depend on
which others there are: the same games are played together either way.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.replay import Reel, make_subject, play, play_on
from latentcraft.simulator.protocol import World, WorldSpec, WorldState
from latentcraft.simulator.voxel.world import VoxelWorld

Looks = Callable[[int], Iterable[int]]
"""Says which ticks' frames are wanted of a world with so many frames in a chunk."""


@dataclass(frozen=True, eq=False)
class Played:
    """What one world showed."""

    spec: WorldSpec
    reel: Reel
    seconds: np.ndarray
    """How long each chunk took, ``float64 (T / f,)``; NaN where nobody looked."""
    memory: dict[int, float] = field(default_factory=dict)
    """What the process held after the chunks that were looked at, MB by the chunk's last tick."""
    states: tuple[WorldState, ...] = ()
    """The first games at the tick at which they were to be kept."""

    def at(self, ticks: Sequence[int]) -> np.ndarray:
        """Return frames ``uint8 (b, len(ticks), H, W, 3)``."""
        return self.reel.frames[:, [self.reel.places[tick] for tick in ticks]]


class Rollout:
    """The games, and who wants to see what of them; ticks are counted as in :mod:`replay`."""

    def __init__(self, seeds: Sequence[int], actions: np.ndarray) -> None:
        """Play ``actions`` ``float32 (b, T, 20)`` from ``seeds``, one for each game."""
        self.seeds, self.actions = tuple(seeds), actions
        self._looks: list[Looks] = []
        self._kept, self._kept_at = 0, 0
        self._last: tuple[Subject, Played] | None = None
        self._true: Played | None = None

    def want(self, looks: Looks) -> None:
        """Ask for frames; what was played before without them is played again."""
        if looks not in self._looks:
            self._looks.append(looks)
            self._last = self._true = None

    def keep(self, games: int, tick: int) -> None:
        """Ask for the states of the first ``games`` after ``tick`` actions, whole chunks."""
        if (self._kept, self._kept_at) != (games, tick):
            self._kept, self._kept_at = games, tick
            self._last = None

    def of(self, subject: Subject) -> Played:
        """Play in a subject's world; only the last one is remembered, so all studies of a subject should follow."""
        if self._last is None or self._last[0] != subject:
            self._last = None  # two at once would take twice the memory
            self._last = subject, self._play(make_subject(subject, len(self.seeds)), subject.name, self._kept)
        return self._last[1]

    def true(self, frame_size: tuple[int, int], chunk: int) -> Played:
        """Play in the reference world of that shape."""
        shape = (frame_size, chunk)
        if self._true is None or (self._true.spec.frame_size, self._true.spec.chunk) != shape:
            self._true = self._play(VoxelWorld(len(self.seeds), "free", frame_size, chunk), "reference", 0)
        return self._true

    def _play(self, world: World, name: str, kept: int) -> Played:
        ticks = sorted({0}.union(*(looks(world.spec.chunk) for looks in self._looks)))
        reel, memory = Reel(ticks, world.spec), {}

        def watch(first: int, frames: np.ndarray) -> None:
            reel.watch(first, frames)
            memory[first + frames.shape[1] - 1] = resident_memory()

        label, end, cut = f"{name}: rollout", max(ticks[-1], 1), self._kept_at if kept else 0
        try:
            first = self.actions[:, : cut or end]
            seconds = [play(world, self.seeds, first, watch, wanted=reel.places, label=label)]
            states = tuple(world.save(index) for index in range(kept))
            if cut and end > cut:
                rest = self.actions[:, cut:end]
                seconds.append(play_on(world, rest, watch, first=cut, wanted=reel.places, label=label))
        finally:
            world.close()
        return Played(world.spec, reel, np.concatenate(seconds), memory, states)


def resident_memory() -> float:
    """Return the memory this process holds now, MB; NaN where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
