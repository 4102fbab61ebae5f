"""Real-time play of any world: which frame to show now, and when to compute the next chunk.

Nothing here knows a window, a keyboard or which world it plays. A worker thread computes chunk k+1 while chunk k is
shown (torch and numba release the interpreter lock meanwhile). The computation starts as late as it safely can, for
the player's input is read at its start: the shorter the wait, the fresher the input.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from latentcraft.agents.shot import Facts, Shot
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Chunk, Start, WorldSpec

TICK = 1 / TICKS_PER_SECOND
RECENT = 16
"""Chunks over which the compute time is judged: three seconds of play, so one hiccup is soon forgotten."""
HEADROOM = 1.25
MARGIN = 0.010
"""A chunk is started (slowest recent time x HEADROOM + MARGIN) seconds before it is needed."""
SLACK = 1.03
"""A world that cannot keep up is shown this much slower than it computes, so that small delays do not add up."""


class Steppable(Protocol):
    """What a loop plays: a world of one game, or a :class:`latentcraft.agents.session.Session`."""

    @property
    def spec(self) -> WorldSpec: ...

    def step(self, actions: np.ndarray) -> Chunk:
        """Advance by ``actions`` ``float32 (1, f, 20)``; ``beside`` and ``facts`` of the info are shown too."""
        ...


Job = Callable[[Any], Shot | np.ndarray | None]
"""Something done to the world between two chunks. A shot it returns (or frames ``uint8 (f, H, W, 3)``) is where play
goes on."""


class PlayLoop:
    """Plays game 0 of a world in real time.

    Call :meth:`update` often (at least a few times a tick); it never waits for the world. When the world is slower
    than 20 frames a second, frames are spaced evenly at the speed it manages.

    Args:
        world: what to play.
        act: called with the number of ticks, returns the next chunk's actions ``float32 (f, 20)``. A person's hands
            or a policy.
        executor: runs the world's steps, one at a time; None makes a thread.
        clock: seconds, for measuring how long a chunk takes.
    """

    def __init__(
        self,
        world: Steppable,
        act: Callable[[int], np.ndarray],
        *,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.world, self._act, self._clock = world, act, clock
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="world")
        self._jobs: deque[Job] = deque()
        self._pending: Future[Any] | None = None
        self._pending_is_job = False
        self._sampled_at = 0.0
        self._queue: deque[tuple[Shot, float | None]] = deque()
        self._allowance = 0
        self._next_due = 0.0
        self._shown_at: deque[float] = deque(maxlen=2 * TICKS_PER_SECOND)
        self._chunk_seconds: deque[float] = deque(maxlen=RECENT)
        self._latencies: deque[float] = deque(maxlen=RECENT)
        self._in_play = False
        self.paused = False
        self.ticks = 0
        """Ticks computed since the last start or job that returned a shot."""
        self.shot: Shot | None = None
        """What is shown."""

    def reset(self, start: Start) -> None:
        """Begin anew from ``start``, as soon as the chunk being computed is done."""
        self.do(lambda world: world.reset([start])[0])

    def single(self) -> None:
        """While paused: show the rest of the chunk that is shown, or if that has ended, compute and show the next."""
        self._allowance = len(self._queue) or self.world.spec.chunk

    def do(self, job: Job) -> None:
        """Run ``job(world)`` between two chunks, in the thread that owns the world."""
        self._jobs.append(job)

    def update(self, now: float) -> np.ndarray | None:
        """Advance to time ``now`` (seconds, any origin).

        Returns:
            The frame ``uint8 (H, W, 3)`` to show from now on, or None while the last one stays.

        Raises:
            Exception: whatever the world raised.
        """
        self._collect(now)
        self._start_work(now)
        self._collect(now)  # an executor that runs things at once is done already
        if self.paused:  # what waits meanwhile says nothing about how fast play is
            self._shown_at.clear()
            self._queue = deque((shot, None) for shot, _ in self._queue)
        if (self.paused and not self._allowance) or not self._queue or now < self._next_due:
            return None
        self._allowance = max(0, self._allowance - 1)
        self.shot, sampled_at = self._queue.popleft()
        if sampled_at is not None:
            self._latencies.append(now - sampled_at)
        if now - self._next_due > TICK / 2:
            self._next_due = now  # no catching up: frames that come in a burst cannot be seen
        self._in_play = True
        self._next_due += self._period()
        self._shown_at.append(now)
        return self.shot.frame

    def wait_seconds(self, now: float) -> float:
        """Return how long nothing needs doing, apart from looking for finished work."""
        still = not self._queue or (self.paused and not self._allowance)
        return TICK if still else max(0.0, self._next_due - now)

    @property
    def busy(self) -> bool:
        """Whether a job (such as a reset) is waiting or running."""
        return bool(self._jobs) or (self._pending is not None and self._pending_is_job)

    @property
    def idle(self) -> bool:
        """Whether nothing is being computed."""
        return self._pending is None

    @property
    def waiting(self) -> int:
        """Ticks that are computed and not yet shown."""
        return len(self._queue)

    @property
    def frames_per_second(self) -> float:
        """Frames shown a second, over the last two seconds."""
        span = self._shown_at[-1] - self._shown_at[0] if self._shown_at else 0.0
        return (len(self._shown_at) - 1) / span if span > 0 else 0.0

    @property
    def chunk_seconds(self) -> float:
        """Median time to compute a chunk, lately (one hiccup should not slow the pictures down)."""
        return float(np.median(self._chunk_seconds)) if self._chunk_seconds else 0.0

    @property
    def latency(self) -> float:
        """Mean seconds from reading the input to showing the first frame that answers it, lately."""
        return float(np.mean(self._latencies)) if self._latencies else 0.0

    def close(self) -> None:
        """Wait for the chunk being computed and end the worker; the world stays the caller's to close."""
        self._jobs.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _start_work(self, now: float) -> None:
        if self._pending is not None:
            return
        if self._jobs:
            self._pending_is_job = True
            self._pending = self._executor.submit(self._jobs.popleft(), self.world)
            return
        until_dry = self._next_due + len(self._queue) * self._period() - now
        wanted = not self.paused or self._allowance > len(self._queue)
        if self._in_play and wanted and until_dry <= self._lead():
            self._pending_is_job, self._sampled_at = False, now
            self._pending = self._executor.submit(self._step, self._act(self.world.spec.chunk))

    def _step(self, actions: np.ndarray) -> tuple[Chunk, float, np.ndarray]:
        began = self._clock()
        return self.world.step(actions[None]), self._clock() - began, actions

    def _collect(self, now: float) -> None:
        if self._pending is None or not self._pending.done():
            return
        result, self._pending = self._pending.result(), None
        if self._pending_is_job:
            self._chunk_seconds.clear()  # it may have changed how long a chunk takes
            if result is not None:
                self._begin(result if isinstance(result, Shot) else Shot(np.asarray(result)[-1].copy()), now)
            return
        chunk, seconds, actions = result
        self._chunk_seconds.append(seconds)
        info, frames = chunk.infos[0], chunk.frames[0]
        actions = info.get("actions", actions)
        for i, frame in enumerate(frames):
            # Copies, since a world may use its buffers again while these frames wait to be shown.
            beside = {name: view[i].copy() for name, view in info.get("beside", {}).items()}
            shot = Shot(frame.copy(), beside, actions[i], info.get("facts", Facts()))
            self._queue.append((shot, self._sampled_at if i == 0 else None))
        self.ticks += len(frames)

    def _begin(self, shot: Shot, now: float) -> None:
        self._queue.clear()
        self._queue.append((shot, None))
        self._next_due, self._in_play, self._allowance = now, False, 1
        self.ticks = 0

    def _period(self) -> float:
        """Seconds between frames: a tick, or what the world manages."""
        return max(TICK, self.chunk_seconds / self.world.spec.chunk * SLACK)

    def _lead(self) -> float:
        """Seconds before the frames run out at which the next chunk must be started; at most one chunk ahead."""
        chunk = self._period() * self.world.spec.chunk
        if not self._chunk_seconds:
            return chunk
        return min(chunk, max(self._chunk_seconds) * HEADROOM + MARGIN)
