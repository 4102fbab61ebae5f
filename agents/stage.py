"""The game that is played and what runs beside it: the reference world, and another future of the same moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latentcraft.agents.shot import BRANCH, BRANCH_TRUTH, PLAYED, TRUTH
from latentcraft.simulator.protocol import Chunk, Start, World, WorldState
from latentcraft.simulator.worlds import make_world, world_like

NAMES = ((PLAYED, TRUTH), (BRANCH, BRANCH_TRUTH))
"""What the views of the first and of the second line are called."""


def truth_of(world: World) -> World | None:
    """Return the reference world that shows what ``world`` only dreams, None where ``world`` is that itself."""
    return _reference_like(world) if world.spec.name == "dream" else None


def _reference_like(world: World) -> World:
    spec = world.spec
    return make_world("voxel", task=spec.task, frame_size=spec.frame_size, chunk=spec.chunk)


@dataclass
class Line:
    """One future: a world and, where its game began from a seed, the reference world under the same actions."""

    world: World
    truth: World | None
    has_truth: bool = False

    def begin(self, start: Start) -> list[np.ndarray]:
        """Reset; returns the last frames ``uint8 (f, H, W, 3)`` of the world and, if there is one, of the truth."""
        frames = [self.world.reset([start])[0]]
        self.has_truth = self.truth is not None and start.seed is not None
        if self.truth is not None and self.has_truth:
            frames.append(self.truth.reset([start])[0])
        return frames

    def step(self, actions: np.ndarray) -> tuple[Chunk, list[np.ndarray]]:
        """Play ``actions`` ``float32 (f, 20)``; returns the world's chunk and frames as :meth:`begin` does."""
        chunk = self.world.step(actions[None])
        frames = [chunk.frames[0]]
        if self.truth is not None and self.has_truth:
            frames.append(self.truth.step(actions[None]).frames[0])
        return chunk, frames

    def save(self) -> list[WorldState]:
        """Return the states of the world and, if there is one, of the truth."""
        states = [self.world.save()]
        return [*states, self.truth.save()] if self.truth is not None and self.has_truth else states

    def restore(self, states: list[WorldState]) -> list[np.ndarray]:
        """Undo :meth:`save`; returns frames as :meth:`begin` does."""
        frames = [self.world.restore(states[0])]
        self.has_truth = self.truth is not None and len(states) > 1
        if self.truth is not None and self.has_truth:
            frames.append(self.truth.restore(states[1]))
        return frames


class Stage:
    """One line, or two after a branch, stepped together.

    Args:
        world: of one game; the caller's to close.
        make_twin: makes a second world like it.
        make_truth: makes the reference world beside it, None where there is none.
    """

    def __init__(
        self,
        world: World,
        *,
        make_twin: Callable[[World], World] = world_like,
        make_truth: Callable[[World], World | None] = truth_of,
    ) -> None:
        """Put up the played line; the second is made when first needed."""
        self._make_twin, self._make_truth = make_twin, make_truth
        self.lines = [Line(world, make_truth(world))]
        """The played line, and after a branch the other."""
        self._spare: Line | None = None

    @property
    def world(self) -> World:
        """The played world."""
        return self.lines[0].world

    @property
    def branched(self) -> bool:
        """Whether there are two futures."""
        return len(self.lines) > 1

    @property
    def steps(self) -> int | None:
        """Denoising steps, None where the world has none."""
        return getattr(self.world, "steps", None)

    @steps.setter
    def steps(self, steps: int | None) -> None:
        if steps is not None:
            for line in self.lines:
                line.world.steps = steps  # type: ignore[attr-defined]

    def begin(self, start: Start) -> dict[str, np.ndarray]:
        """Reset to ``start``, which ends a branch; returns view -> its last frames ``uint8 (f, H, W, 3)``."""
        frames = self.lines[0].begin(start)
        self.end_branch()
        return _named([frames])

    def step(self, actions: np.ndarray, other: np.ndarray | None = None) -> tuple[Chunk, dict[str, np.ndarray]]:
        """Play ``actions``, and in the other line ``other``, both ``float32 (f, 20)``.

        Returns:
            The played world's chunk, and view -> frames ``uint8 (f, H, W, 3)``.
        """
        chunk, frames = self.lines[0].step(actions)
        parts = [frames]
        if self.branched:
            assert other is not None
            parts.append(self.lines[1].step(other)[1])
        return chunk, _named(parts)

    def save(self) -> WorldState:
        """Return the states of everything as one."""
        parts = {
            name: state
            for names, line in zip(NAMES, self.lines, strict=False)
            for name, state in zip(names, line.save(), strict=False)
        }
        meta = {name: {"world": state.world, "meta": state.meta} for name, state in parts.items()}
        arrays = {f"{name}/{key}": array for name, state in parts.items() for key, array in state.arrays.items()}
        return WorldState(self.world.spec.name, meta, arrays)

    def restore(self, state: WorldState) -> dict[str, np.ndarray]:
        """Undo :meth:`save`, branch and all; returns frames as :meth:`begin` does.

        Raises:
            UserError: the state is another world's or checkpoint's.
        """
        parts = [[_part(state, name) for name in names if name in state.meta] for names in NAMES]
        steps = self.steps
        frames = [self.lines[0].restore(parts[0])]
        self.end_branch()
        if parts[1]:
            self.lines.append(self._second_line())
            frames.append(self.lines[1].restore(parts[1]))
        self.steps = steps  # how finely to dream is the player's choice, not the state's
        return _named(frames)

    def branch(self) -> None:
        """Begin a second future at this moment; it differs by what it will be told to do."""
        states = self.lines[0].save()
        line = self._second_line()
        line.restore(states)
        self.lines = [self.lines[0], line]
        self.steps = self.steps

    def dream_otherwise(self) -> bool:
        """Let the other line go on with other noise; returns whether its world has noise at all."""
        states = self.lines[1].save()
        if states[0].world != "dream":
            return False
        states[0] = replace(states[0], meta={**states[0].meta, "seed": int(states[0].meta["seed"]) + 1})
        self.lines[1].restore(states)
        return True

    def swap(self) -> None:
        """Make the other line the played one, and the other way round."""
        self.lines.reverse()

    def end_branch(self) -> None:
        """Let go of the other line, if there is one; the worlds are kept for the next branch."""
        if self.branched:
            self._spare = self.lines.pop()

    def close(self) -> None:
        """Close what was made here."""
        self.end_branch()
        for world in (self.lines[0].truth, *(() if self._spare is None else (self._spare.world, self._spare.truth))):
            if world is not None:
                world.close()

    def _second_line(self) -> Line:
        if self._spare is None:
            self._spare = Line(self._make_twin(self.world), self._make_truth(self.world))
        line, self._spare = self._spare, None
        return line


def _named(lines: list[list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return view -> frames, copied, since a world may use its buffers again."""
    return {
        name: frames.copy()
        for names, parts in zip(NAMES, lines, strict=False)
        for name, frames in zip(names, parts, strict=False)
    }


def _part(state: WorldState, name: str) -> WorldState:
    """Return one world's state out of a stage's."""
    entry: Mapping[str, Any] = state.meta[name]
    prefix = f"{name}/"
    arrays = {key.removeprefix(prefix): array for key, array in state.arrays.items() if key.startswith(prefix)}
    return WorldState(entry["world"], dict(entry["meta"]), arrays)
