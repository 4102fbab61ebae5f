"""A world of a few pixels that obeys the World protocol: the game is a hash of its seed and its actions so far.

Tests of everything above a world use it where pictures do not matter. It pays 1 for each tick that walks forward, and
a game of task ``navigate`` ends at its 10th tick.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, check_vectors
from latentcraft.simulator.protocol import Chunk, Frames, Start, WorldSpec, WorldState

END_TICK = 10


class FakeWorld:
    """See the module's docstring."""

    def __init__(
        self,
        num_worlds: int = 1,
        task: str = "free",
        frame_size: tuple[int, int] = (16, 32),
        chunk: int = 4,
        frames: Frames = "all",
    ) -> None:
        self.spec = WorldSpec("fake", num_worlds, frame_size, chunk, task, frames)
        self.closed = False
        self.steps = 0
        self._digests = [b""] * num_worlds
        self._ticks = [0] * num_worlds
        self._seeds = [0] * num_worlds

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        assert len(starts) == self.spec.num_worlds
        for index, start in enumerate(starts):
            if start is not None:
                if start.episode or start.media:
                    raise UserError("the fake world starts from seeds only")
                self._seeds[index] = start.seed or 0
                self._digests[index] = str(start.seed).encode()
                self._ticks[index] = 0
        return np.stack([self._last_frames(index) for index in range(self.spec.num_worlds)])

    def step(self, actions: np.ndarray) -> Chunk:
        spec = self.spec
        actions = check_vectors(actions, (spec.num_worlds, spec.chunk, ACTION_SIZE))
        frames, ended, infos = [], np.zeros((spec.num_worlds, spec.chunk), bool), []
        self.steps += 1
        for index in range(spec.num_worlds):
            for tick in range(spec.chunk):
                self._digests[index] = hashlib.md5(self._digests[index] + actions[index, tick].tobytes()).digest()
                self._ticks[index] += 1
                ended[index, tick] = spec.task == "navigate" and self._ticks[index] >= END_TICK
                frames.append(self._frame(index))
            pose = np.full(5, self._ticks[index], np.float32)
            infos.append({"pose": pose, "caption": f"game {self._seeds[index]}"})
        shape = (spec.num_worlds, spec.chunk, *spec.frame_size, 3)
        rewards = actions[:, :, BUTTON_INDEX["forward"]].copy()
        shown = np.stack(frames).reshape(shape)[:, spec.chunk - spec.shown :]
        return Chunk(shown, rewards, ended, infos)

    def save(self, index: int = 0) -> WorldState:
        digest = np.frombuffer(self._digests[index], np.uint8)
        return WorldState("fake", {"tick": self._ticks[index], "seed": self._seeds[index]}, {"digest": digest})

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        if state.world != "fake":
            raise UserError(f"state is of world {state.world!r}, this is 'fake'")
        self._digests[index] = state.arrays["digest"].tobytes()
        self._ticks[index], self._seeds[index] = state.meta["tick"], state.meta["seed"]
        return self._last_frames(index)

    def like(self, num_worlds: int = 1, *, frames: Frames | None = None) -> "FakeWorld":
        spec = self.spec
        return FakeWorld(num_worlds, spec.task, spec.frame_size, spec.chunk, frames or spec.frames)

    def close(self) -> None:
        self.closed = True

    def _last_frames(self, index: int) -> np.ndarray:
        return np.repeat(self._frame(index)[None], self.spec.shown, 0)

    def _frame(self, index: int) -> np.ndarray:
        color = np.frombuffer(hashlib.md5(self._digests[index]).digest()[:3], np.uint8)
        return np.broadcast_to(color, (*self.spec.frame_size, 3)).copy()
