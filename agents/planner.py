"""A planner that needs no learning: it tries moves out in branches of the game and plays what paid best.

Cross-entropy method (Rubinstein 1999; as PETS and PlaNet plan in learned models) over sequences of held moves
(:data:`latentcraft.agents.learning.moves.MOVES`), of which one round is random shooting. All candidates of a round are
one batch: branched once, then restored to each next moment, so that in the dream one forward pass serves all of them.

It imagines in the world it plays in. In the reference world that is the truth, a search with a perfect simulator; in
the dream, the dream's own idea of what pays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latentcraft.agents.learning.moves import MOVES, held_moves
from latentcraft.envs.branching import branches
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.model.actions import vectors_to_batch
from latentcraft.simulator.protocol import World

_STREAM = 0x91
"""Keeps the planner's random numbers apart from everyone else's of the same seed."""


@dataclass(frozen=True)
class PlannerConfig:
    """How far and how broadly a planner looks ahead."""

    candidates: int = 64
    """Sequences tried in a round; they are one batch of games."""
    rounds: int = 2
    """Rounds, each drawn closer to what paid in the last; 1 is random shooting."""
    horizon: int = 6
    """Moves in a sequence."""
    hold: int = 2
    """Steps each move is held (four ticks a step): 6 moves of 2 steps look 2.4 seconds ahead."""
    elite: int = 8
    """Best candidates that the next round is drawn after."""
    doubt: float = 0.2
    """Share of the next round's moves that are drawn evenly still, so that nothing is ruled out by a small sample."""
    discount: float = 0.97
    """A step: of two ways to the same reward the shorter one is taken."""

    def __post_init__(self) -> None:
        if min(self.candidates, self.rounds, self.horizon, self.hold) < 1:
            raise UserError("the planner's candidates, rounds, horizon and hold must be 1 or more")
        if not 1 <= self.elite <= self.candidates:
            raise UserError(f"the planner's elite={self.elite} must be from 1 to candidates={self.candidates}")
        if not 0 <= self.doubt <= 1 or not 0 < self.discount <= 1:
            raise UserError("the planner's doubt must be from 0 to 1 and its discount above 0, at most 1")


def search(
    imagine: Callable[[np.ndarray], np.ndarray], config: PlannerConfig, rng: np.random.Generator, rest: np.ndarray
) -> np.ndarray:
    """Return the best sequence of moves that was tried, ``int64 (horizon,)``.

    Args:
        imagine: says what sequences ``int64 (candidates, horizon)`` are worth, ``float (candidates,)``.
        config: how many of them, how often.
        rng: decides which.
        rest: of an earlier plan, ``int64 (k,)`` with k up to the horizon. It is among the candidates and wins where
            nothing is better, so that a player whom nothing pays yet goes on rather than trembles.
    """
    kinds, even = len(MOVES), 1 / len(MOVES)
    chances = np.full((config.horizon, kinds), even)
    best, worth = np.zeros(config.horizon, np.int64), -np.inf
    for turn in range(config.rounds):
        below = chances.cumsum(1)
        drawn = rng.random((config.candidates, config.horizon, 1))
        # The sum of all may round to just below 1.
        moves = np.minimum((below[None] <= drawn).sum(2), kinds - 1)
        if turn == 0:
            moves[0, : len(rest)] = rest
        else:
            moves[0] = best
        worths = imagine(moves)
        order = np.argsort(-worths, kind="stable")
        if worths[order[0]] > worth:
            best, worth = moves[order[0]].copy(), worths[order[0]]
        counts = np.eye(kinds)[moves[order[: config.elite]]].mean(0)
        chances = config.doubt * even + (1 - config.doubt) * counts
    return best


class Planner:
    """Plans for every game of one world.

    Args:
        world: where it plays, and a pattern of where it imagines (``env.world`` of an environment of ours).
        seeds: one for each game; with the same one and the same past it plans the same.
        config: how far it looks.
    """

    def __init__(self, world: World, seeds: Sequence[int], config: PlannerConfig | None = None) -> None:
        if len(seeds) != world.spec.num_worlds:
            raise UserError(f"a planner takes a seed for each of {world.spec.num_worlds} games, got {len(seeds)}")
        self.config = PlannerConfig() if config is None else config
        self._world = world
        self._rngs = [np.random.default_rng([seed, _STREAM]) for seed in seeds]
        self._plans = [np.zeros(0, np.int64) for _ in seeds]
        self._held = [0] * len(seeds)
        self._imagined: WorldVectorEnv | None = None

    def plan(self, index: int = 0) -> np.ndarray:
        """Return the best moves found from game ``index`` as it is now, ``int64 (horizon,)``; it stays as it is."""
        state = self._world.save(index)
        if self._imagined is None:
            self._imagined = branches(self._world, state, self.config.candidates, observation="none")
        games = self._imagined

        def imagine(moves: np.ndarray) -> np.ndarray:
            games.restore_all(state)
            worths, weight = np.zeros(len(moves)), 1.0
            for move in moves.T:
                actions = vectors_to_batch(held_moves(move, games.chunk))
                for _ in range(self.config.hold):
                    worths += weight * games.step(actions)[1]  # an ended game pays 0
                    weight *= self.config.discount
            return worths

        self._plans[index] = search(imagine, self.config, self._rngs[index], self._plans[index])
        return self._plans[index].copy()

    def act(self, index: int = 0) -> int:
        """Return the move to play next in game ``index``, planning anew whenever the last one was held long enough."""
        if not self._held[index]:
            self.plan(index)
            self._held[index] = self.config.hold
        move = int(self._plans[index][0])
        self._held[index] -= 1
        if not self._held[index]:
            self._plans[index] = self._plans[index][1:]
        return move

    def close(self) -> None:
        """Close the games it imagined in; the world stays open."""
        if self._imagined is not None:
            self._imagined.close()
            self._imagined = None
