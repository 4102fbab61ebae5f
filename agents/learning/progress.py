"""How far a training is, on disk: what resuming needs, whole or not there."""

import io
import json
import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentcraft.errors import UserError
from latentcraft.files import replacing

WINDOW = 100
"""Episodes whose mean return a curve shows."""


@dataclass
class Progress:
    """Counters of one training, over all its runs."""

    steps: int = 0
    """Steps of all games."""
    frames: int = 0
    """Frames of the world, warm-ups of the reference world included."""
    cpu_seconds: float = 0.0
    """Processor time of the process, games included."""
    wall_seconds: float = 0.0
    """Time on the clock."""
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Of the last episodes."""

    def mean_return(self) -> float:
        """Return the mean of the last episodes, NaN before any is over."""
        return sum(self.returns) / len(self.returns) if self.returns else math.nan


def save_state(
    path: Path, progress: Progress, identity: dict[str, Any], tensors: dict[str, Any], games: dict[str, Any]
) -> None:
    """Write everything a training needs to go on as if it had never stopped.

    Args:
        path: the file.
        progress: how far it is.
        identity: what must be the same for a run that goes on from here (JSON values).
        tensors: weights and optimizer, as ``state_dict`` gives them.
        games: :meth:`latentcraft.agents.learning.games.Games.state`, and more arrays or plain values by name.
    """
    counters = {
        "steps": progress.steps, "frames": progress.frames, "cpu_seconds": progress.cpu_seconds,
        "wall_seconds": progress.wall_seconds, "returns": list(progress.returns),
    }  # fmt: skip
    # As tensors, since those can be loaded without trusting the file.
    played = {
        name: torch.from_numpy(each.copy()) if isinstance(each, np.ndarray) else each for name, each in games.items()
    }
    buffer = io.BytesIO()
    torch.save({"progress": counters, "identity": json.dumps(identity), "games": played, **tensors}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_state(
    path: Path, identity: dict[str, Any], defaults: dict[str, Any] | None = None
) -> tuple[Progress, dict[str, Any]] | None:
    """Read what :func:`save_state` wrote: progress, and tensors with ``games`` among them. None if there is nothing.

    Args:
        path: the file.
        identity: keys the training must have been begun with.
        defaults: of keys that the version which began it did not know yet.

    Raises:
        UserError: the file is torn, or of a training with other keys.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True)
        before, counters, played = json.loads(state.pop("identity")), state.pop("progress"), state["games"]
        state["games"] = {n: each.numpy() if isinstance(each, torch.Tensor) else each for n, each in played.items()}
        counters["returns"] = deque(counters["returns"], maxlen=WINDOW)
        progress = Progress(**counters)
    except Exception as error:  # torch raises whatever its unpickler meets
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read ({reason}); delete it to begin anew") from error
    before = _filled(before, defaults or {})
    other = [key for key in identity if before.get(key) != identity[key]]
    if other:
        raise UserError(
            f"{path.parent} holds a training with {other[0]}={before.get(other[0])}, not {identity[other[0]]}; "
            "give the same keys to go on, or another out="
        )
    return progress, state


def _filled(keys: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return ``keys`` with what is missing of ``defaults``, in groups of keys too."""
    parts = {key: _filled(keys[key], part) for key, part in defaults.items() if isinstance(part, dict) and key in keys}
    return defaults | keys | parts


def cut_log(path: Path, steps: int) -> None:
    """Drop what a log says of steps after the state a training goes on from."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= steps:
                kept.append(line)
        except (json.JSONDecodeError, KeyError, TypeError):  # the line a killed run was writing
            continue
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def read_log(path: Path) -> list[dict[str, float]]:
    """Return a training's log, one dict an update, oldest first; empty if there is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
