"""A batch of games as one Gymnasium vector environment: one call of the world for all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from latentcraft.envs.episode import check_seed, choose_start, reset_info, settle, step_info, unsure
from latentcraft.envs.observations import Observation, check_bound, open_world, pick
from latentcraft.envs.spaces import action_space, chunk_actions
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start, World, WorldState


class WorldVectorEnv(gym.vector.VectorEnv[Any, dict[str, Any], np.ndarray]):
    """``n`` games of one world, stepped together: what ``gymnasium.make_vec("latentcraft/Dream-v0", num_envs=n)`` is.

    Spaces, rewards, starts and infos are those of :class:`latentcraft.envs.env.WorldEnv`, batched. Each game has its
    own random generator, seeded as ``SyncVectorEnv`` does (``seed + i``, or one seed of a list each), so what happens
    in a game depends on its seed and its actions, neither on its position in the batch nor on its neighbours.

    Autoreset (``metadata["autoreset_mode"]``) follows Gymnasium's three modes. In ``NEXT_STEP`` the step after an
    episode's end resets that game, ignores its action and pays 0; in ``SAME_STEP`` the reset happens in the ending
    step and ``infos["final_obs"]`` and ``infos["final_info"]`` hold what was there before; in ``DISABLED`` the caller
    resets with ``options={"reset_mask": mask}``, which the other modes take too. An episode that reaches
    ``max_episode_steps``, or whose dream is less sure than ``max_uncertainty`` allows, is truncated.
    """

    def __init__(
        self,
        world: str | World = "dream",
        *,
        num_envs: int = 1,
        task: str = "free",
        frame_size: tuple[int, int] | None = None,
        chunk: int | None = None,
        checkpoint: Path | str | None = None,
        steps: int = 4,
        recall: bool = True,
        observation: Observation = "rgb",
        per_frame_observations: bool = False,
        per_frame_actions: bool = False,
        max_uncertainty: float | None = None,
        info_frames: bool | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        stay_ended: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Build the world.

        Args:
            world: ``dream``, ``voxel`` or a :class:`World`, which makes the next seven moot (but for the checkpoint,
                where latents are asked of a world that has none).
            num_envs: games, ``n``.
            task: one of :data:`latentcraft.model.tasks.TASKS`.
            frame_size: (H, W) in pixels, multiples of 16; None takes the world's own.
            chunk: ticks in a step; None takes the world's own.
            checkpoint: the dream's file, and whose autoencoder makes the reference world's latents; None takes the
                shipped one.
            steps: denoising steps of the dream: 1, 2, 4 or 8.
            recall: whether the dream recalls recorded places and shows near ground from a map of blocks, see
                :class:`latentcraft.simulator.dream.world.DreamWorld`.
            observation: ``rgb``, ``latent``, ``both`` or ``none``.
            per_frame_observations: all frames of a step instead of the last.
            per_frame_actions: one action per tick instead of one held for the step.
            max_uncertainty: truncate where the dream's uncertainty exceeds it, from 0 to 1; None never does.
            info_frames: whether infos hold all frames of a step; None: where frames are observed. Without them fewer
                frames are drawn, which is faster.
            autoreset_mode: see above.
            max_episode_steps: steps until truncation; None or -1 for no limit.
            stay_ended: in ``DISABLED`` mode, let an ended game be stepped on: it pays 0 and stays ended. What a search
                wants, which looks at whole futures.
            render_mode: ``rgb_array`` or None.

        Raises:
            UserError: a bad value; a missing or foreign checkpoint, or one whose heads do not know the task.
        """
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"unknown render_mode {render_mode!r}; a batch of games renders rgb_array only")
        try:
            mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            known = ", ".join(each.value for each in AutoresetMode)
            raise UserError(f"unknown autoreset_mode {autoreset_mode!r}; known: {known}") from error
        if max_episode_steps is not None and max_episode_steps != -1 and max_episode_steps < 1:
            raise UserError(f"max_episode_steps must be at least 1 (-1 or None: no limit), got {max_episode_steps}")
        if stay_ended and mode is not AutoresetMode.DISABLED:
            raise UserError(f"stay_ended needs autoreset_mode {AutoresetMode.DISABLED.value!r}, got {mode.value!r}")
        self._max_uncertainty = check_bound(max_uncertainty)
        self._info_frames = observation in ("rgb", "both") if info_frames is None else info_frames
        self._checkpoint, self._stay_ended = checkpoint, stay_ended
        world, self._observer = open_world(
            world, observation, per_frame=per_frame_observations, info_frames=self._info_frames,
            render_mode=render_mode, checkpoint=checkpoint, num_worlds=num_envs, task=task, frame_size=frame_size,
            chunk=chunk, steps=steps, recall=recall,
        )  # fmt: skip
        self.world = world
        self.num_envs = world.spec.num_worlds
        self.render_mode = render_mode
        self.autoreset_mode = mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": TICKS_PER_SECOND / world.spec.chunk,
            "autoreset_mode": self.autoreset_mode,
        }
        self.per_frame_actions = per_frame_actions
        self.max_episode_steps = None if max_episode_steps == -1 else max_episode_steps
        self.chunk = world.spec.chunk
        self.single_action_space = action_space(self.chunk, per_frame=per_frame_actions)
        self.single_observation_space = self._observer.space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

        self._generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self._frames = np.zeros((self.num_envs, world.spec.shown, *world.spec.frame_size, 3), np.uint8)
        self._elapsed = np.zeros(self.num_envs, np.int64)  # steps of the running episodes
        self._started = np.zeros(self.num_envs, np.bool_)
        self._over = np.zeros(self.num_envs, np.bool_)
        self._terminated = np.zeros(self.num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: of the first game, the others taking the numbers after it; or one for each.
            options: as for :class:`~latentcraft.envs.env.WorldEnv`, the same for every game; ``reset_mask``
                ``bool (n,)`` leaves games where it is False alone.

        Raises:
            UserError: bad seeds, mask or options.
        """
        self._check_open()
        seeds = self._spread_seeds(seed)
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, np.bool_))
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise UserError(f"reset option 'reset_mask' must be a bool array of shape ({self.num_envs},)")
        if not mask.any():
            raise UserError("reset option 'reset_mask' selects no game; set at least one entry")
        infos: dict[str, Any] = {}
        for index, info in self._begin(mask, seeds, options).items():
            infos = self._add_info(infos, info, index)
        return self._observe(), infos

    def step(self, actions: dict[str, Any]) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one chunk of every game.

        Args:
            actions: of :attr:`action_space`.

        Returns:
            observations ``(n, ...)``, rewards ``float64 (n,)``, terminated and truncated ``bool (n,)``, infos.

        Raises:
            ResetNeeded: before the first reset; in ``DISABLED`` mode also after an episode's end.
            UserError: actions that are not of the space.
        """
        self._check_open()
        if not self._started.all():
            raise ResetNeeded("there are no games yet; call reset() first")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._over.any() and not self._stay_ended:
            raise ResetNeeded(f"episodes {np.flatnonzero(self._over).tolist()} have ended; reset them by reset_mask")
        vectors = chunk_actions(actions, self.num_envs, self.chunk, per_frame=self.per_frame_actions)
        stale = self._over.copy()  # games whose reset NEXT_STEP left to this step; SAME_STEP leaves none
        # The world steps all games: a stale one plays a chunk that nobody sees and is reset after it, or stays ended.
        chunk = self.world.step(vectors)
        outcome = settle(chunk)
        self._frames = chunk.frames.copy()
        self._elapsed += 1
        rewards = np.where(stale, 0.0, outcome.reward)
        terminated = outcome.terminated & ~stale
        truncated = np.zeros_like(terminated)
        if self.max_episode_steps is not None:
            truncated = (self._elapsed >= self.max_episode_steps) & ~stale
        truncated |= unsure(chunk, self._max_uncertainty) & ~terminated & ~stale
        if self._stay_ended:
            terminated, truncated = terminated | (stale & self._terminated), truncated | (stale & ~self._terminated)
        self._over, self._terminated = terminated | truncated, terminated

        step_infos = {
            i: step_info(chunk, outcome.ticks[i], i, frames=self._info_frames)
            for i in range(self.num_envs) if not stale[i]
        }  # fmt: skip
        infos: dict[str, Any] = {}
        resets = np.zeros_like(stale) if self._stay_ended else stale
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            resets = self._over.copy()
            finals = self._observe()
            for index in map(int, np.flatnonzero(resets)):
                final = {"final_obs": pick(finals, index), "final_info": step_infos.pop(index)}
                infos = self._add_info(infos, final, index)
        if resets.any():
            step_infos |= self._begin(resets, [None] * self.num_envs, {})
        for index, info in step_infos.items():
            infos = self._add_info(infos, info, index)
        return self._observe(), rewards, terminated, truncated, infos

    def save(self, index: int = 0) -> WorldState:
        """Return the exact state of game ``index``."""
        self._check_open()
        self._check_index(index)
        if not self._started[index]:
            raise ResetNeeded("there are no games yet; call reset() first")
        return self.world.save(index)

    def restore(self, state: WorldState, index: int = 0) -> tuple[Any, dict[str, Any]]:
        """Put game ``index`` into ``state``; returns its observation and info."""
        self._check_open()
        self._check_index(index)
        info = self._enter(index, self.world.restore(state, index), state)
        return pick(self._observe(), index), info

    def restore_all(self, state: WorldState) -> tuple[Any, dict[str, Any]]:
        """Put every game into ``state``, as ``reset(options={"state": state})`` does."""
        return self.reset(options={"state": state})

    def branch(self, num_envs: int, index: int = 0, *, observation: Observation | None = None) -> "WorldVectorEnv":
        """Return a batch of ``num_envs`` games that all go on from game ``index`` as it is now.

        See :func:`latentcraft.envs.branching.branches` and :meth:`latentcraft.envs.env.WorldEnv.branch`.
        """
        from latentcraft.envs.branching import branches  # which makes environments of this class

        return branches(
            self.world, self.save(index), num_envs,
            observation=self._observer.observation if observation is None else observation,
            per_frame_observations=self._observer.per_frame, per_frame_actions=self.per_frame_actions,
            max_uncertainty=self._max_uncertainty, checkpoint=self._checkpoint,
        )  # fmt: skip

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return the last frame of every game, None without a render mode."""
        self._check_open()
        if self.render_mode is None:
            return None
        if not self._started.all():
            raise ResetNeeded("there are no games yet; call reset() first")
        return tuple(self._frames[:, -1].copy())

    def close_extras(self, **kwargs: Any) -> None:
        """Close the world."""
        self.world.close()

    def _spread_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if not isinstance(seed, (Sequence, np.ndarray)) or isinstance(seed, str):
            first = check_seed(seed)
            return [None if first is None else first + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise UserError(f"seed has {len(seed)} entries for {self.num_envs} games; give one each")
        return [check_seed(each) for each in seed]

    def _begin(
        self, mask: np.ndarray, seeds: Sequence[int | None], options: dict[str, Any]
    ) -> dict[int, dict[str, Any]]:
        """Start the games where ``mask`` is True; returns their infos by index."""
        starts: dict[int, Start | WorldState] = {}
        for index in map(int, np.flatnonzero(mask)):
            if seeds[index] is not None:
                self._generators[index] = seeding.np_random(seeds[index])[0]
            starts[index] = choose_start(options, seeds[index], self._generators[index])
        fresh = [start if isinstance(start := starts.get(i), Start) else None for i in range(self.num_envs)]
        frames = self.world.reset(fresh) if any(fresh) else self._frames
        return {
            index: self._enter(
                index, self.world.restore(start, index) if isinstance(start, WorldState) else frames[index], start
            )
            for index, start in starts.items()
        }

    def _enter(self, index: int, frames: np.ndarray, start: Start | WorldState) -> dict[str, Any]:
        """Note that game ``index`` begins with ``frames`` ``(f, H, W, 3)``; returns its info."""
        self._frames[index] = frames
        self._elapsed[index] = 0
        self._started[index] = True
        self._over[index] = False
        return reset_info(frames, start, frames=self._info_frames)

    def _observe(self) -> Any:
        return self._observer(self._frames)

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.num_envs:
            raise UserError(f"there is no game {index}; this batch has 0 to {self.num_envs - 1}")

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment is closed; make a new one")
