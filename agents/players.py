"""Who may play instead of a person: the explorer, an action script, a policy of one's own."""

from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from latentcraft.agents.explorer import Explorer
from latentcraft.agents.script import bundled_scripts, load_script
from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, check_vectors
from latentcraft.model.shipped import AUTOPILOT as SHIPPED_AUTOPILOT
from latentcraft.simulator.protocol import World

EXPLORER = "explorer"
AUTOPILOT = "autopilot"
"""The policy that comes with the package, see :data:`latentcraft.model.shipped.AUTOPILOT`. It sees the frames, so that
in a dream actions and frames come about together: the game plays itself."""
SCRIPT_SUFFIXES = (".yaml", ".yml")
LEARNED_SUFFIX = ".safetensors"
"""Of a learned policy's file."""


@runtime_checkable
class Policy(Protocol):
    """Anything that plays by what it sees; a trained agent, for instance.

    If it has a method ``reset()``, that is called whenever it takes over, since it has not seen what came before.
    """

    def act(self, frames: np.ndarray) -> np.ndarray:
        """Return the next chunk's actions ``float32 (f, 20)``, having seen the last chunk ``uint8 (f, H, W, 3)``."""
        ...


class Player(Protocol):
    """Who chooses one game's actions while no person does."""

    def act(self, world: World, frames: np.ndarray, index: int = 0) -> np.ndarray | None:
        """Return ``float32 (f, 20)``, or None when there is nothing more to do.

        Args:
            world: what is played.
            frames: the game's last chunk, ``uint8 (f, H, W, 3)``.
            index: which game of ``world`` it is.
        """
        ...


class ExplorerPlayer:
    """The scripted explorer that also records training data; in the dream it plays blindly."""

    def __init__(self, seed: int, task: str) -> None:
        self._explorer = Explorer(seed, task=task)

    def act(self, world: World, frames: np.ndarray, index: int = 0) -> np.ndarray:
        """See :class:`Player`."""
        return self._explorer.act(world, index)


class ScriptPlayer:
    """Plays given actions once and is done."""

    def __init__(self, actions: np.ndarray) -> None:
        """Take actions ``float32 (T, 20)``; the last chunk is filled up with doing nothing."""
        self._actions, self._at = actions, 0

    def act(self, world: World, frames: np.ndarray, index: int = 0) -> np.ndarray | None:
        """See :class:`Player`."""
        f = world.spec.chunk
        part = self._actions[self._at : self._at + f]
        self._at += f
        return np.pad(part, [(0, f - len(part)), (0, 0)]) if len(part) else None


class PolicyPlayer:
    """Plays as a :class:`Policy` says."""

    def __init__(self, name: str, policy: Policy) -> None:
        self._name, self._policy = name, policy
        reset = getattr(policy, "reset", None)
        if callable(reset):
            reset()

    def act(self, world: World, frames: np.ndarray, index: int = 0) -> np.ndarray:
        """See :class:`Player`.

        Raises:
            UserError: the policy raised, or its actions are none.
        """
        try:
            actions = self._policy.act(frames.copy())
        except Exception as error:  # whatever a stranger's code raises must not take the game with it
            reason = str(error).splitlines()[:1]
            raise UserError(f"player {self._name} failed: {type(error).__name__}: {''.join(reason)}") from error
        try:
            return check_vectors(actions, (world.spec.chunk, ACTION_SIZE))
        except (UserError, TypeError, ValueError) as error:
            raise UserError(f"player {self._name}: {error}") from error


def check_player(name: str) -> bool:
    """Return whether ``name`` is ever done: scripts are. Worth asking before a world is built.

    Raises:
        UserError: nothing is called that, a bad script or policy file; a policy of one's own is not looked at yet.
    """
    if name.endswith(LEARNED_SUFFIX):
        from latentcraft.agents.learning.policy import load_policy_file  # imports torch

        load_policy_file(name)
        return False
    if name in (EXPLORER, AUTOPILOT) or _is_policy(name):
        return False
    _load_script(name, chunk=4)
    return True


def make_player(name: str, world: World, seed: int) -> Player:
    """Return a player by name, ready to take over.

    Args:
        name: ``explorer``, ``autopilot``, a bundled script, a script's file (``.yaml``), a learned policy's
            (``.safetensors``), or ``package.module:name`` of a policy: an object with ``act``, or a class or function
            that returns one when called without arguments.
        world: what will be played.
        seed: of the explorer's and a learned policy's choices.

    Raises:
        UserError: nothing is called that; it has no ``act``; a bad script or policy.
    """
    if name == EXPLORER:
        return ExplorerPlayer(seed, world.spec.task)
    if name == AUTOPILOT or name.endswith(LEARNED_SUFFIX):
        from latentcraft.agents.learning.policy import load_player  # imports torch

        return PolicyPlayer(name, load_player(SHIPPED_AUTOPILOT if name == AUTOPILOT else name, seed))
    if _is_policy(name):
        return PolicyPlayer(name, load_policy(name))
    return ScriptPlayer(_load_script(name, world.spec.chunk))


def _is_policy(name: str) -> bool:
    return ":" in name and not name.endswith(SCRIPT_SUFFIXES)


def _load_script(name: str, chunk: int) -> np.ndarray:
    """Return the actions ``float32 (T, 20)`` of a bundled script or a script's file."""
    if name in bundled_scripts() or name.endswith(SCRIPT_SUFFIXES):
        return load_script(name, chunk=chunk).actions
    raise UserError(
        f"no player {name!r}; give {EXPLORER}, {AUTOPILOT}, {', '.join(bundled_scripts())}, a script.yaml, "
        "a policy.safetensors or package.module:name"
    )


def load_policy(name: str) -> Policy:
    """Import ``package.module:name``; see :func:`make_player`.

    Raises:
        UserError: it cannot be imported, or cannot act.
    """
    module_name, _, path = name.partition(":")
    try:
        thing: Any = import_module(module_name)
        for part in path.split("."):
            thing = getattr(thing, part)
        if isinstance(thing, type) or not isinstance(thing, Policy):
            thing = thing()
    except Exception as error:  # an import may raise anything
        reason = " ".join(str(error).split())
        raise UserError(f"cannot load the player {name!r} ({reason}); give package.module:name of a policy") from error
    if not isinstance(thing, Policy):
        raise UserError(f"player {name!r} has no method act(frames); give a policy")
    return thing
