"""Build a world by name: the one place that knows which worlds exist."""

from pathlib import Path

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import World

WORLDS = ("dream", "voxel")


def make_world(
    name: str,
    *,
    num_worlds: int = 1,
    task: str = "free",
    frame_size: tuple[int, int] | None = None,
    chunk: int | None = None,
    checkpoint: Path | str | None = None,
    steps: int = 4,
) -> World:
    """Build ``voxel`` or ``dream``.

    Args:
        name: one of :data:`WORLDS`.
        num_worlds: batch ``b``.
        task: one of :data:`latentcraft.model.tasks.TASKS`.
        frame_size: (H, W) in pixels, multiples of 16; None takes the world's own (the checkpoint's for the dream).
        chunk: frames a step; None takes the world's own (4, or the checkpoint's).
        checkpoint: dream only; None takes the shipped one.
        steps: denoising steps, 1, 2, 4 or 8; dream only.

    Raises:
        UserError: an unknown name or a bad value of the others.
    """
    if name == "voxel":
        from latentcraft.simulator.voxel.world import VoxelWorld

        return VoxelWorld(
            num_worlds=num_worlds,
            task=task,
            frame_size=(96, 160) if frame_size is None else frame_size,
            chunk=4 if chunk is None else chunk,
        )
    if name == "dream":
        from latentcraft.simulator.dream.world import DreamWorld

        return DreamWorld(
            num_worlds=num_worlds, task=task, frame_size=frame_size, chunk=chunk, checkpoint=checkpoint, steps=steps
        )
    raise UserError(f"unknown world {name!r}; known: {', '.join(WORLDS)}")
