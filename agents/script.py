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

Durations are seconds (``2s``, ``1.5``, ``250ms``), ``8 ticks`` (1/20 s each) or ``2 chunks``, rounded to the nearest
tick. Keys are those of :data:`latentcraft.model.actions.BUTTONS`, with ``dig`` for attack and ``place`` for use.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

from latentcraft.agents.script_parser import MAX_DEPTH, ScriptParser
from latentcraft.errors import UserError

MAX_BYTES = 1 << 20
"""Largest script file."""


@dataclass(frozen=True)
class Script:
    """A parsed script."""

    name: str
    """The file's stem."""
    about: str
    """Its ``about`` line, empty if it has none."""
    actions: np.ndarray
    """``float32 (T, 20)``, one action vector a tick."""


def bundled_scripts() -> tuple[str, ...]:
    """Return the names of the scripts that ship with the package."""
    folder = resources.files("latentcraft.agents.scripts")
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_script(name_or_path: str | Path, *, chunk: int = 4) -> Script:
    """Read a bundled script by name (``tour``) or any script file by path.

    Args:
        name_or_path: a bundled name, or a path (anything with a suffix or a folder in it, or an existing file).
        chunk: ticks in a chunk, what the unit ``chunks`` means.

    Raises:
        UserError: no such script, or ``file.yaml:LINE:COLUMN: reason; mend``.
    """
    path = Path(name_or_path)
    try:
        if path.is_file() or path.suffix or len(path.parts) != 1:
            source, data = str(path), path.read_bytes()
        elif str(path) in bundled_scripts():
            source = f"{path}.yaml"
            data = (resources.files("latentcraft.agents.scripts") / source).read_bytes()
        else:
            raise UserError(f"no script {str(path)!r}; give a .yaml file or one of {', '.join(bundled_scripts())}")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason, names = getattr(error, "strerror", None) or error, ", ".join(bundled_scripts())
        raise UserError(f"cannot read script {str(path)!r}: {reason}; bundled: {names}") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{source}: {len(data)} bytes is no action script; at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    return parse_script(text, source=source, chunk=chunk)


def parse_script(text: str, *, source: str = "script.yaml", chunk: int = 4) -> Script:
    """Parse script text; ``source`` is the file name that errors show.

    Raises:
        UserError: ``source:LINE:COLUMN: reason; mend``.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise UserError(f"{where}: not valid YAML: {error.problem or error.context}; mend the syntax") from error
    except yaml.YAMLError as error:  # a reader error: characters YAML does not allow
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}; mend the syntax") from error
    except RecursionError as error:
        raise UserError(f"{source}: nested too deeply; at most {MAX_DEPTH} repeats inside each other") from error
    if node is None:
        raise UserError(f"{source}:1:1: the script is empty; write a list of steps")
    about, actions = ScriptParser(source, chunk).script(node)
    return Script(Path(source).stem, about, actions)
