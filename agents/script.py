"""The action script: a YAML file a person can read, turned into one action vector a tick.

A script is a list of steps, each a short mapping; the same file gives the same actions to the bit everywhere.

.. code-block:: yaml

    about: walk up to something, dig, come back
    steps:
      - wait: 1s
      - hold: forward + jump       # keys held down together
        turn: left 90              # camera, spread evenly over the step, exactly 90 degrees in all
        for: 1.5s
      - look: down 30              # without `for` the camera moves at 90 degrees a second
      - select: 3                  # hotbar slot, one tick
      - press: use                 # a key for one tick
      - repeat: 4
        steps:
          - {hold: attack, for: 2 chunks}
          - {turn: right 45}

Durations are seconds (``2s``, ``1.5``, ``250ms``, ``1 min``), ``8 ticks`` (1/20 s each) or ``2 chunks``, rounded to
the nearest tick. Keys are those of :data:`latentcraft.model.actions.BUTTONS`, with ``dig`` for attack and ``place`` for
use.

**Parameters** have names, defaults (none: they must be given) and can be written wherever a value can; ``latentcraft
rollout params.distance=3s`` and :func:`load_script` change them. **Named scripts** are parts that ``run`` plays: the
file's own, bundled ones, or other files (``run: parts/dig.yaml``, beside this one), each with parameters of its own:

.. code-block:: yaml

    params: {distance: 2s, side: left}
    scripts:
      chop:
        params: {time: 1s}
        steps:
          - {hold: attack, for: $time}
      look_round:
        - turn: right 360
    steps:
      - {hold: forward, for: $distance}
      - {turn: $side 90}
      - run: chop
        with: {time: 3s}
      - run: look_round

**Chance**: a range is drawn from (``wait: 1s to 3s``, ``turn: left 30 to 60``, ``repeat: 2 to 4``, ``select: 1 to 9``),
``either`` leaves the side open, and ``choose`` plays one of its branches, each a step or a list of steps. Every pass of
a ``repeat`` draws anew. ``seed: 7`` in the file, or the ``seed`` given to :func:`load_script`, decides all of it:

.. code-block:: yaml

    seed: 7
    steps:
      - repeat: 3 to 5
        steps:
          - {hold: forward, turn: either 10 to 40, for: 1s to 2s}
          - choose:
              - {hold: jump, for: 0.5s}
              - [{look: down 30}, {hold: dig, for: 2s}, {look: up 30}]

All that can be wrong is found when the script is read, whichever way the draws fall.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from latentcraft.agents.script_files import ScriptText, bundled_scripts, read_script
from latentcraft.agents.script_parser import ScriptParser

__all__ = ["Script", "bundled_scripts", "load_script", "parse_script"]


@dataclass(frozen=True)
class Script:
    """A script that was read."""

    name: str
    """The file's stem."""
    about: str
    """Its ``about`` line, empty if it has none."""
    actions: np.ndarray
    """``float32 (T, 20)``, one action vector a tick."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Every parameter of the script with its value."""
    seed: int = 0
    """What chance began with."""


def load_script(
    name_or_path: str | Path,
    *,
    chunk: int = 4,
    params: Mapping[str, object] | None = None,
    seed: int | None = None,
) -> Script:
    """Read a bundled script by name (``tour``) or any script file by path.

    Args:
        name_or_path: a bundled name, or a path (anything with a suffix or a folder in it, or an existing file).
        chunk: ticks in a chunk, what the unit ``chunks`` means.
        params: values that take the place of the parameters' defaults.
        seed: what chance begins with; None takes the file's ``seed``, or 0.

    Raises:
        UserError: no such script or parameter, or ``file.yaml:LINE:COLUMN: reason; mend``.
    """
    return _play(read_script(name_or_path), chunk, params, seed)


def parse_script(
    text: str,
    *,
    source: str = "script.yaml",
    chunk: int = 4,
    params: Mapping[str, object] | None = None,
    seed: int | None = None,
) -> Script:
    """Read script text; ``source`` is the file name that errors show, the rest is as for :func:`load_script`.

    Raises:
        UserError: ``source:LINE:COLUMN: reason; mend``.
    """
    return _play(ScriptText(source, text), chunk, params, seed)


def _play(text: ScriptText, chunk: int, params: Mapping[str, object] | None, seed: int | None) -> Script:
    given = {name: str(value) for name, value in (params or {}).items()}
    parsed = ScriptParser(chunk).script(text, given)
    seed = parsed.seed if seed is None else seed
    return Script(Path(text.source).stem, parsed.about, parsed.body.play(Random(seed)), parsed.params, seed)
