"""What is played, as episodes to train on."""

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from latentcraft.agents.record import DEPTH_EVERY, remove_leftovers
from latentcraft.agents.shot import Facts
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.simulator.protocol import Chunk, World
from latentcraft.simulator.voxel.seam import unwrapped

PIECE_TICKS = 400
"""Ticks of an episode that is recorded from play, as of the recorder's. Play longer than that becomes several, each
beginning with the picture the one before ended with: should the machine stop, the last 20 seconds are lost at most."""


class Recorder:
    """Writes what is played, whoever plays, as episodes of at most :data:`PIECE_TICKS` ticks.

    An episode also ends where play does not go on from its last picture: a new game, going back, a loaded slot.

    Args:
        folder: where episodes go; made if missing.
        world: what is played. The reference world tells poses and distances, which are recorded too.
    """

    def __init__(self, folder: Path, world: World) -> None:
        """Record from the next chunk on."""
        remove_leftovers(folder)
        self._name = f"{folder}/play-{world.spec.name}-{world.spec.task}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._open = ExitStack()
        self._writer: EpisodeWriter | None = None
        self._pose: np.ndarray | None = None
        self._number = 0
        self.ticks = 0
        """Recorded so far."""
        self.episodes = 0
        """Begun so far."""

    def add(self, world: World, before: np.ndarray, chunk: Chunk, actions: np.ndarray, facts: Facts) -> None:
        """Write one chunk.

        Args:
            world: what is played.
            before: ``uint8 (H, W, 3)``, what was seen before it.
            chunk: what the world returned.
            actions: ``float32 (f, 20)``.
            facts: after it.

        Raises:
            UserError: a full disk; the episode that was being written is gone, those before are whole.
        """
        info = chunk.infos[0]
        caption, poses = info.get("caption", ""), info.get("poses")
        if poses is not None:  # a path has no seam where the map has one
            known = self._pose is not None
            poses = unwrapped(np.concatenate([[self._pose], poses]))[1:] if known else np.array(poses, np.float64)
        try:
            if self._writer is None:
                self._writer = self._begin(before, caption, world, facts)
            measure = getattr(world, "distances", None)
            for i, action in enumerate(actions):
                last = i == len(actions) - 1
                due = measure is not None and last and self._writer.length % DEPTH_EVERY < len(actions)
                self._writer.add(
                    action, chunk.frames[0, i], reward=float(chunk.rewards[0, i]),
                    terminated=bool(chunk.terminated[0, i]), pose=None if poses is None else poses[i], caption=caption,
                    distance=measure() if measure is not None and due else None,
                )  # fmt: skip
        except BaseException as error:
            self._open.__exit__(type(error), error, error.__traceback__)
            self._writer = None
            raise
        self._pose = None if poses is None else poses[-1]
        self.ticks += len(actions)
        if self._writer.length > PIECE_TICKS:
            self._finish()

    def look(self, world: World) -> None:
        """Note where the player is before a chunk, where the world tells."""
        if self._pose is None and hasattr(world, "game"):
            self._pose = np.array(world.game(0).pose, np.float64)

    def cut(self) -> None:
        """Finish the episode: play goes on from somewhere else."""
        self._finish()
        self._pose = None

    def close(self) -> None:
        """Finish the episode."""
        self._finish()

    def _begin(self, frame: np.ndarray, caption: str, world: World, facts: Facts) -> EpisodeWriter:
        self.episodes += 1
        self._number += 1
        while Path(f"{self._name}-{self._number:03}.jsonl").exists():  # recorded within this very second
            self._number += 1
        writer = EpisodeWriter(
            f"{self._name}-{self._number:03}", world=world.spec.name, seed=facts.start.seed, task=world.spec.task
        )
        self._open.enter_context(writer)
        writer.first(frame, pose=None if self._pose is None else self._pose.tolist(), caption=caption)
        return writer

    def _finish(self) -> None:
        self._writer = None
        self._open.close()
