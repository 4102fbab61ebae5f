"""Build a world by name: the one place that knows which worlds exist."""

from pathlib import Path

from latentcraft.errors import UserError
from latentcraft.simulator.protocol import Branching, Frames, World

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
    frames: Frames = "all",
    recall: bool = True,
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
        frames: which frames of a chunk are shown: ``all``, the ``last`` or ``none``; fewer are faster.
        recall: whether the dream recalls recorded places and shows near ground from a map of blocks, if its checkpoint
            can; dream only.

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
            frames=frames,
        )
    if name == "dream":
        from latentcraft.simulator.dream.world import DreamWorld

        return DreamWorld(
            num_worlds=num_worlds, task=task, frame_size=frame_size, chunk=chunk, checkpoint=checkpoint, steps=steps,
            frames=frames, recall=recall,
        )  # fmt: skip
    raise UserError(f"unknown world {name!r}; known: {', '.join(WORLDS)}")


def world_like(world: World, num_worlds: int = 1, *, frames: Frames | None = None) -> World:
    """Return another world like ``world`` that shares its nets; its games begin by ``reset`` or ``restore``.

    Args:
        world: the pattern.
        num_worlds: batch of the new one.
        frames: which frames it shows; None takes those that ``world`` shows.

    Raises:
        UserError: a world of a kind that cannot do that.
    """
    if not isinstance(world, Branching):
        raise UserError(f"a world of the kind {world.spec.name!r} cannot be branched; it has no method like()")
    return world.like(num_worlds, frames=frames)
