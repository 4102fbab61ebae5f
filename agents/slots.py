"""Saved games on disk: a moment of a session as one safetensors file, which is never unpickled."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from latentcraft.agents.shot import PLAYED, Facts, Shot
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.protocol import Start, WorldState

if TYPE_CHECKING:
    from latentcraft.agents.session import Session

FORMAT = "latentcraft-game-1"
SLOTS = 9
"""Slots 1 to 9."""
SUFFIX = ".safetensors"


def slot_path(folder: Path, slot: int) -> Path:
    """Return the file of slot ``slot``."""
    return folder / f"slot-{slot}{SUFFIX}"


def write_game(path: Path, state: WorldState, facts: Facts) -> None:
    """Write a session's state; what was at ``path`` stays until the new file is whole.

    Raises:
        UserError: a full disk, a place that cannot be written.
    """
    start: dict[str, Any] = dict(vars(facts.start))
    for key in ("episode", "media"):
        start[key] = None if start[key] is None else str(start[key])
    meta = {"world": state.world, "meta": state.meta, "start": start, "ticks": facts.ticks, "reward": facts.reward,
            "terminated": facts.terminated}  # fmt: skip
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in state.arrays.items()}
    data = save(arrays, {"format": FORMAT, "game": json.dumps(meta)})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_game(path: Path) -> tuple[WorldState, Facts]:
    """Undo :func:`write_game`.

    Raises:
        UserError: no such file, torn, or not a saved game.
    """
    if not path.is_file():
        raise UserError(f"{path.stem} is empty; save a game there first")
    try:
        with safe_open(str(path), "np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is not a saved game; it is of the format {metadata.get('format')!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        game = json.loads(metadata["game"])
        start = dict(game["start"])
        for key in ("episode", "media"):
            start[key] = None if start[key] is None else Path(start[key])
        facts = Facts(Start(**start), int(game["ticks"]), float(game["reward"]), bool(game["terminated"]))
        return WorldState(game["world"], game["meta"], arrays), facts
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}); it is torn, delete it") from error


def check_fits(path: Path, state: WorldState, now: WorldState) -> None:
    """Raise a UserError if ``state``, read from ``path``, is not of the world whose present state is ``now``."""
    saved, mine = (part.meta.get(PLAYED, {}) for part in (state, now))
    if saved.get("world") != mine.get("world"):
        world = saved.get("world")
        raise UserError(f"{path.stem} is a game of the world {world}; play it with world={world}")
    for key, mend in (
        ("checkpoint", "another checkpoint than the one that is played; give checkpoint=FILE with its own"),
        ("task", "another task; give task=NAME with its own"),
        ("frame_size", "another frame size; give frame_size=[H,W] with its own"),
    ):
        if saved["meta"].get(key) != mine["meta"].get(key):
            raise UserError(f"{path.stem} was saved with {mend}")


def go_on(session: "Session", path: Path, state: WorldState, facts: Facts) -> Shot:
    """Go on in ``session``, which plays already, from what :func:`read_game` read from ``path``.

    Raises:
        UserError: it is of another world, or does not fit this one; the game goes on as it was.
    """
    check_fits(path, state, session.state()[0])
    try:
        return session.resume(state, facts)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{path} does not fit this world ({error}); it is torn, delete it") from error
