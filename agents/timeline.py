"""Everything that was played lately: the pictures, the actions between them, and now and then the exact state.

Any chunk can be gone back to: the nearest state before it is restored and the actions since are played again, which
the worlds do to the bit. Pictures are kept as JPEGs in memory (160x96: 5 to 8 kB each, about 40 MB for five minutes of
one view), states on disk (:mod:`latentcraft.agents.store`), everything for a limited time only.
"""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image

from latentcraft.agents.shot import PLAYED, Facts, Shot
from latentcraft.agents.store import Kept, StateStore
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import WorldState

STATE_EVERY = 8
"""Chunks between two states: at most 7 are played again, less than a second of computing for a dream at 4 steps."""
THIN_AFTER = 300
"""Chunks (a minute) after which every second state goes: a dream's take some 5 MB of disk, and who goes back further
than that may wait for up to 15 chunks to be played again."""
QUALITY = 95
"""JPEG's, without halving the colours' resolution: no difference is seen."""


@dataclass(frozen=True)
class Entry:
    """One chunk, or the start of a game."""

    pictures: Mapping[str, tuple[bytes, ...]]
    """View -> JPEGs; a start has one picture, a chunk one a tick."""
    actions: Mapping[str, np.ndarray]
    """View (:data:`PLAYED`, :data:`BRANCH`) -> ``float32 (f, 20)``; empty at a start."""
    facts: Facts
    """After the chunk."""
    steps: int | None
    """Denoising steps it was made with; None where the world has none."""
    kept: "Future[Kept] | None"
    """The state after it, where that was saved."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures[PLAYED])

    @property
    def is_start(self) -> bool:
        """Whether a game begins here, or goes on from somewhere else than the entry before."""
        return not self.actions

    def shot(self, index: int) -> Shot:
        """Return picture ``index`` (negative from the end) as it was shown."""
        views = {name: from_jpeg(pictures[index]) for name, pictures in self.pictures.items()}
        action = None if self.is_start else self.actions[PLAYED][index]
        return Shot(views.pop(PLAYED), views, action, self.facts)


class Timeline:
    """Entries of the last ``chunks`` chunks at least, numbered on through all games; one thread appends.

    Args:
        chunks: how many to keep; a few more are.
    """

    def __init__(self, chunks: int) -> None:
        """Begin empty."""
        self.first = 0
        """Number of the oldest entry there is."""
        self._limit = chunks
        self._entries: deque[Entry] = deque()
        self._since_state = 0
        self._store = StateStore()
        # Hashing and writing some megabytes takes longer than a game likes to wait.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="states")

    @property
    def end(self) -> int:
        """Number of the entry to come."""
        return self.first + len(self._entries)

    @property
    def bytes_on_disk(self) -> int:
        """Size of the states' file."""
        return self._store.size

    def __getitem__(self, number: int) -> Entry:
        """Return entry ``number``."""
        return self._entries[number - self.first]

    @property
    def wants_state(self) -> bool:
        """Whether the next chunk should be appended with its state."""
        return self._since_state + 1 >= STATE_EVERY

    def append(
        self,
        views: Mapping[str, np.ndarray],
        actions: Mapping[str, np.ndarray],
        facts: Facts,
        steps: int | None,
        state: WorldState | None,
    ) -> None:
        """Add a chunk, or with its state and without actions a start.

        Args:
            views: view -> ``uint8 (k, H, W, 3)``.
            actions: view -> ``float32 (k, 20)``.
            facts: after the chunk.
            steps: denoising steps.
            state: after the chunk; must be given for a start, and when :attr:`wants_state`.
        """
        assert state is not None or (actions and not self.wants_state), "no way back to this entry"
        pictures = {name: tuple(map(to_jpeg, frames)) for name, frames in views.items()}
        kept = None if state is None else self._disk.submit(self._store.put, state)
        self._since_state = 0 if kept else self._since_state + 1
        self._entries.append(Entry(pictures, actions, facts, steps, kept))
        if kept is not None:
            self._thin()
        if len(self._entries) > self._limit + 2 * STATE_EVERY:
            self._drop_oldest()

    def way_to(self, number: int) -> tuple[WorldState, list[Entry]]:
        """Return a state before or at entry ``number``, and the chunks to play again from there.

        Raises:
            UserError: the state could not be written when it was due.
        """
        again: list[Entry] = []
        while (kept := self[number].kept) is None:
            again.insert(0, self[number])
            number -= 1
        try:
            return self._disk.submit(lambda: self._store.get(kept.result())).result(), again
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot go back there: {reason}; free space in the folder TMPDIR names") from error

    def truncate(self, number: int) -> list[Entry]:
        """Make ``number`` the last entry; returns those that came after it, oldest first."""
        cut: list[Entry] = []
        while self.end > number + 1:
            cut.insert(0, self._entries.pop())
            self._release(cut[0])
        self._since_state = 0
        while self[number - self._since_state].kept is None:
            self._since_state += 1
        return cut

    def close(self) -> None:
        """Forget everything."""
        self._disk.shutdown(wait=True, cancel_futures=True)
        self._store.close()

    def _thin(self) -> None:
        """Let go of a state that is a minute old, if the one before it is near."""
        due = range(self.end - THIN_AFTER - 1, max(self.first, self.end - THIN_AFTER - 1 - STATE_EVERY), -1)
        number = next((i for i in due if self[i].kept is not None and not self[i].is_start), None)
        if number is None or all(self[i].kept is None for i in range(max(self.first, number - STATE_EVERY), number)):
            return
        self._release(self[number])
        self._entries[number - self.first] = replace(self[number], kept=None)

    def _drop_oldest(self) -> None:
        """Drop entries up to the next that can be gone back to without them."""
        while True:
            self._release(self._entries.popleft())
            self.first += 1
            if self._entries[0].kept is not None:
                return

    def _release(self, entry: Entry) -> None:
        kept = entry.kept
        if kept is not None:
            self._disk.submit(lambda: None if kept.exception() else self._store.drop(kept.result()))


def to_jpeg(frame: np.ndarray) -> bytes:
    """Compress ``uint8 (H, W, 3)``."""
    file = BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def from_jpeg(data: bytes) -> np.ndarray:
    """Undo :func:`to_jpeg`, ``uint8 (H, W, 3)``."""
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
