"""A learned policy in a file, and at play: ``players=[explorer,my.policy.safetensors]`` in the window, or from Python.

One safetensors file holds weights, shape and provenance; loading it never unpickles.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from latentcraft.agents.learning.moves import MOVES, held_moves
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.sight import Sight, SightConfig
from latentcraft.errors import UserError
from latentcraft.files import replacing

FORMAT = "latentcraft-policy-1"


@dataclass(frozen=True)
class SavedPolicy:
    """What a file holds."""

    net: PolicyNet
    """In evaluation mode."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it came about: how it was trained, on what, for how long."""


def save_policy(path: Path | str, net: PolicyNet, provenance: dict[str, Any]) -> None:
    """Write a policy atomically, weights in half precision.

    Raises:
        UserError: it cannot be written; what was at ``path`` stays.
    """
    tensors = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    metadata = {
        "format": FORMAT, "config": json.dumps(asdict(net.config)), "moves": json.dumps([name for name, _ in MOVES]),
        "provenance": json.dumps(provenance),
    }  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_policy_file(path: Path | str) -> SavedPolicy:
    """Read what :func:`save_policy` wrote.

    Raises:
        UserError: missing, torn, something else, or of other moves than this version's.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no policy at {path}; train one (latentcraft agent clone, latentcraft agent train)")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable policy ({error}); if truncated, copy it again") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} is no learned policy (its format is {metadata.get('format')!r}, not {FORMAT!r})")
    try:
        moves, config, provenance = (json.loads(metadata[key]) for key in ("moves", "config", "provenance"))
        sight = SightConfig(tuple(config["sight"]["size"]), config["sight"]["stack"])
        shape = PolicyConfig(sight, tuple(config["channels"]), config["features"], config.get("finds", 0))
        if moves == [name for name, _ in MOVES]:
            net = PolicyNet(shape)
            net.load_state_dict({name: value.float() for name, value in tensors.items()})
            return SavedPolicy(net.eval(), provenance)
    except (UserError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} is damaged or foreign ({reason}); copy or train it again") from error
    raise UserError(f"{path} was trained for other moves than this version has; train it again")


def choose_moves(net: PolicyNet, observations: np.ndarray, chances: np.ndarray, temperature: float) -> np.ndarray:
    """Draw a move for each observation.

    Args:
        net: the policy.
        observations: ``uint8 (n, 3 * stack, h, w)``.
        chances: ``float (n,)`` from 0 to 1, evenly distributed, which decide; so each game can have its own chance.
        temperature: 1 draws as the net says, 0 takes the likeliest.

    Returns:
        ``int64 (n,)``.
    """
    logits = net.logits(torch.from_numpy(observations))
    if temperature == 0:
        return logits.argmax(1).numpy()
    below = (logits.double() / temperature).softmax(1).cumsum(1).numpy()
    # The sum of all may round to just below 1.
    return np.minimum((below <= chances[:, None]).sum(1), below.shape[1] - 1)


class LearnedPolicy:
    """Plays one game by frames alone: a :class:`latentcraft.agents.players.Policy`."""

    def __init__(self, net: PolicyNet, *, temperature: float = 1.0, seed: int = 0) -> None:
        """Take a network.

        Args:
            net: the policy.
            temperature: 1 draws moves as it was trained to, 0 takes the likeliest.
            seed: of the draws.
        """
        self._net, self._temperature = net, temperature
        self._rng = np.random.default_rng([seed, 0xAC])
        self._sight = Sight(net.config.sight, 1)
        self._begun = False

    def reset(self) -> None:
        """Forget what was seen."""
        self._begun = False

    def act(self, frames: np.ndarray) -> np.ndarray:
        """Return the next chunk's actions ``float32 (f, 20)``, having seen the last, ``uint8 (f, H, W, 3)``."""
        seen = (self._sight.see if self._begun else self._sight.begin)(frames[-1:])
        self._begun = True
        held = held_moves(choose_moves(self._net, seen, self._rng.random(1), self._temperature), len(frames))
        return np.repeat(held, len(frames), axis=0)


def load_player(path: Path | str, seed: int = 0) -> LearnedPolicy:
    """Return the policy in a file, ready to play."""
    return LearnedPolicy(load_policy_file(path).net, seed=seed)
