"""Going back while a key is held: which picture of the timeline to show, ever faster."""

from latentcraft.agents.shot import Shot
from latentcraft.agents.timeline import Timeline
from latentcraft.simulator.protocol import TICKS_PER_SECOND

DOUBLING = 1.5
"""Seconds after which going back is twice as fast; the first are as fast as play."""
FASTEST = 32.0
"""Times as fast as play at most: five minutes are gone through in about 15 seconds."""


class Rewind:
    """A way back through a timeline that does not change meanwhile.

    Args:
        timeline: what was played.
        unseen: pictures at its end that were not shown yet.
        now: seconds, any origin.
    """

    def __init__(self, timeline: Timeline, unseen: int, now: float) -> None:
        """Begin at the last picture that was shown."""
        self._timeline = timeline
        self._number = timeline.end - 1
        self._index = len(timeline[self._number]) - 1
        self._began = self._last = now
        self._due = 0.0
        self.ticks_back = 0
        """Pictures gone back so far."""
        for _ in range(unseen):
            self._step()
        self.ticks_back = 0

    def update(self, now: float) -> Shot | None:
        """Advance to time ``now``; returns what to show from now on, None while that stays."""
        speed = min(FASTEST, 2 ** ((now - self._began) / DOUBLING))
        self._due += (now - self._last) * TICKS_PER_SECOND * speed
        self._last = now
        before = (self._number, self._index)
        while self._due >= 1:
            self._due -= 1
            self._step()
        return self.shot() if (self._number, self._index) != before else None

    def shot(self) -> Shot:
        """Return what is shown."""
        return self._timeline[self._number].shot(self._index)

    @property
    def target(self) -> int:
        """The entry to go on from: the last that ends at or before what is shown."""
        entry = self._timeline[self._number]
        whole = self._index == len(entry) - 1
        return self._number if whole or entry.is_start else max(self._number - 1, self._timeline.first)

    def _step(self) -> None:
        if self._index:
            self._index -= 1
        elif self._number > self._timeline.first:
            self._number -= 1
            self._index = len(self._timeline[self._number]) - 1
        else:
            return
        self.ticks_back += 1
