"""The rows of an evaluation by name: the dream with its knobs, the marks of the scale, foreign worlds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import SHIPPED, WorldModel, load_checkpoint
from latentcraft.model.precision import fast_dtype
from latentcraft.simulator.fidelity.adapters import CodecWorld, CopyLastWorld, ForgetfulWorld, WrongActionsWorld
from latentcraft.simulator.fidelity.features import resolve
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.knobs import Knobs, TunedDream
from latentcraft.simulator.protocol import TICKS_PER_SECOND, World
from latentcraft.simulator.voxel.world import VoxelWorld

TITLES = {
    "dream": "dream",
    "codec": "codec ceiling",
    "copy-last": "copy-last floor",
    "reference": "reference",
    "wrong-actions": "wrong actions",
    "forgetful": "forgetful",
}
"""Names of worlds, and what their rows are called."""
FORGETFUL_TICKS = 1 * TICKS_PER_SECOND
"""The forgetful world forgets after a second."""


@dataclass(frozen=True)
class Row:
    """A subject and what its figures depend on."""

    subject: Subject
    kind: str
    """Its name in :data:`TITLES`, or ``module:function``."""
    identity: dict[str, Any]
    """JSON values: rows of equal identity have equal figures."""
    knobs: Knobs | None = None
    """Of a dream."""


@dataclass(frozen=True)
class Shape:
    """What all rows have in common, so that the same reference serves them all."""

    frame_size: tuple[int, int] = (96, 160)
    """(H, W) in pixels."""
    chunk: int = 4
    """Frames in a chunk."""


def load_model(path: Path | None) -> tuple[WorldModel, str]:
    """Load a checkpoint (None: the shipped one) as play does; returns it and a digest of the file."""
    path = SHIPPED if path is None else path
    model = load_checkpoint(path, dtype=fast_dtype())
    return model, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def make_rows(
    worlds: Sequence[str], *, model: WorldModel | None, digest: str, knobs: Sequence[Knobs]
) -> tuple[list[Row], Shape]:
    """Return the rows in order, and the shape all of them have.

    Args:
        worlds: names in :data:`TITLES`, or ``module:function`` of a function ``(num_worlds, task) -> World``.
        model: the checkpoint; None if no row needs it.
        digest: of its file.
        knobs: one row of the dream for each.

    Raises:
        UserError: an unknown world, or one of another frame size or chunk than the others.
    """
    foreign = {name: resolve(name, "worlds") for name in worlds if name not in TITLES}
    shapes = {name: _shape_of(make) for name, make in foreign.items()}
    if model is not None:
        shapes = {"the checkpoint": Shape(model.frame_size, model.dit.config.chunk)} | shapes
    shape = next(iter(shapes.values()), Shape())
    for name, other in shapes.items():
        if other != shape:
            first = next(iter(shapes))
            raise UserError(f"{name} has {other}, {first} {shape}; worlds of one report must be alike in both")

    def reference(games: int, task: str) -> VoxelWorld:
        return VoxelWorld(games, task, shape.frame_size, shape.chunk)

    size = {"frame_size": list(shape.frame_size), "chunk": shape.chunk}
    rows = []
    for name in worlds:
        if name == "dream":
            assert model is not None
            rows += [_dream_row(model, digest, each) for each in knobs]
        elif name == "codec":
            assert model is not None
            rows.append(_codec_row(model, digest, reference))
        elif name in foreign:
            rows.append(Row(Subject(name, foreign[name]), name, {"world": name}))  # type: ignore[arg-type]
        else:
            rows.append(Row(Subject(TITLES[name], _marked(name, reference)), name, {"world": name} | size))
    return rows, shape


def _dream_row(model: WorldModel, digest: str, knobs: Knobs) -> Row:
    def make(games: int, task: str) -> World:
        return TunedDream(model, num_worlds=games, task=task, knobs=knobs)

    title = ", ".join(part for part in (TITLES["dream"], knobs.name) if part)
    identity = {"world": "dream", "checkpoint": digest, "dtype": str(model.dit.final.weight.dtype)}
    return Row(Subject(title, make), "dream", identity | {"knobs": vars(knobs).copy()}, knobs)


def _codec_row(model: WorldModel, digest: str, reference: Any) -> Row:
    def make(games: int, task: str) -> World:
        return CodecWorld(reference(games, task), model.autoencoder)

    return Row(Subject(TITLES["codec"], make), "codec", {"world": "codec", "checkpoint": digest})


def _marked(name: str, reference: Any) -> Any:
    """Return what makes the world ``name`` around the reference."""
    wrap: dict[str, Any] = {
        "reference": lambda world: world,
        "copy-last": CopyLastWorld,
        "wrong-actions": WrongActionsWorld,
        "forgetful": lambda world: ForgetfulWorld(world, FORGETFUL_TICKS),
    }
    return lambda games, task: wrap[name](reference(games, task))


def _shape_of(make: Any) -> Shape:
    world = make(1, "free")
    try:
        return Shape(tuple(world.spec.frame_size), world.spec.chunk)
    finally:
        world.close()
