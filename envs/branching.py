"""Many futures of one moment, for whoever searches: a batch of games that all go on from a saved state."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from latentcraft.envs.observations import Observation, frames_needed
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import Latent, World, WorldState
from latentcraft.simulator.worlds import world_like


def branches(
    world: World,
    state: WorldState,
    num_envs: int,
    *,
    observation: Observation = "rgb",
    per_frame_observations: bool = False,
    checkpoint: Path | str | None = None,
    **options: Any,
) -> WorldVectorEnv:
    """Return ``num_envs`` games in ``state``, in a new world like ``world`` that shares its nets.

    An ended one stays ended and pays nothing more (``stay_ended``); nothing is reset and no time limit runs.
    :meth:`WorldVectorEnv.restore_all` takes all of them to another moment, so that a planner branches once.

    Args:
        world: the pattern.
        state: a saved state of it.
        num_envs: how many games.
        observation: what is observed of them.
        per_frame_observations: all frames of a step instead of the last.
        checkpoint: whose autoencoder makes the reference world's latents.
        options: further arguments of :class:`WorldVectorEnv`.

    Raises:
        UserError: a bad value, or a world of a kind that cannot be branched.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
        raise UserError(f"a branch takes a whole number of games from 1 up, got {num_envs!r}")
    frames = frames_needed(
        observation, per_frame=per_frame_observations, info_frames=False, render_mode=None,
        has_latents=isinstance(world, Latent),
    )  # fmt: skip
    env = WorldVectorEnv(
        world_like(world, int(num_envs), frames=frames), observation=observation,
        per_frame_observations=per_frame_observations, checkpoint=checkpoint, info_frames=False,
        autoreset_mode=AutoresetMode.DISABLED, stay_ended=True, **options,
    )  # fmt: skip
    env.restore_all(state)
    return env
