"""The Gymnasium ids: ``latentcraft/Dream-v0`` and ``latentcraft/Voxel-v0``.

Gymnasium 1.x loads no plugins by itself, so :mod:`latentcraft` calls :func:`register_envs` as soon as both it and
Gymnasium are imported, in either order. Registering imports neither torch nor numba: entry points are strings.
"""

ENV_IDS = {"latentcraft/Dream-v0": "dream", "latentcraft/Voxel-v0": "voxel"}
"""Id -> name of the world."""
MAX_EPISODE_STEPS = 600
"""Steps until an episode is truncated: two minutes of game at 4 ticks a step. ``gymnasium.make(id,
max_episode_steps=...)`` changes it, -1 lifts it."""


def register_envs() -> None:
    """Register both ids with Gymnasium; calling it again does nothing."""
    import gymnasium

    for env_id, world in ENV_IDS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                id=env_id,
                entry_point="latentcraft.envs.env:WorldEnv",
                vector_entry_point="latentcraft.envs.vector:WorldVectorEnv",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs={"world": world},
            )
