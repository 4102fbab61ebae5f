"""Where scripts come from: bundled ones by name, files by path, and the YAML in them as nodes that know their place."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml

from latentcraft.agents.script_values import suggest
from latentcraft.errors import UserError

MAX_BYTES = 1 << 20
"""Largest script file."""
MAX_DEPTH = 8
"""Deepest nesting of ``repeat``, ``choose`` and ``run``; also what stops a YAML alias that contains itself."""
TOO_DEEP = f"nested too deeply; at most {MAX_DEPTH} repeats, choices and runs inside each other"


@dataclass(frozen=True)
class ScriptText:
    """A script as it was written."""

    source: str
    """File name that errors show."""
    text: str
    folder: Path | None = None
    """Where files that it runs are looked for; None for the current directory."""


@cache
def bundled_scripts() -> tuple[str, ...]:
    """Return the names of the scripts that ship with the package."""
    folder = resources.files("latentcraft.agents.scripts")
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def is_file_name(name: str) -> bool:
    """Return whether ``name`` can only mean a file: it has a suffix or a folder in it."""
    path = Path(name)
    return bool(path.suffix) or len(path.parts) != 1


def read_script(name_or_path: str | Path) -> ScriptText:
    """Read a bundled script by name (``tour``) or any file by path.

    Raises:
        UserError: no such script, a file that cannot be read, is too long or is not UTF-8.
    """
    path = Path(name_or_path)
    try:
        if is_file_name(str(path)) or path.is_file():
            source, folder, data = str(path), path.parent, path.read_bytes()
        elif str(path) in bundled_scripts():
            source, folder = f"{path}.yaml", None
            data = (resources.files("latentcraft.agents.scripts") / source).read_bytes()
        else:
            near, listed = suggest(str(path), bundled_scripts()), ", ".join(bundled_scripts())
            near = f"{near} " if near.startswith("did") else ""
            raise UserError(f"no script {str(path)!r}; {near}give a .yaml file or one of {listed}")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason, names = getattr(error, "strerror", None) or error, ", ".join(bundled_scripts())
        raise UserError(f"cannot read script {str(path)!r}: {reason}; bundled: {names}") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{source}: {len(data)} bytes is no action script; at most {MAX_BYTES}")
    try:
        return ScriptText(source, data.decode("utf-8"), folder)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error


def compose(script: ScriptText) -> yaml.Node:
    """Return the root node of a script's YAML.

    Raises:
        UserError: ``source:LINE:COLUMN: reason; mend``.
    """
    source = script.source
    try:
        node = yaml.compose(script.text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        reason = error.problem or error.context or "unreadable"
        raise UserError(f"{where}: not valid YAML: {reason}; {_mend(reason)}") from error
    except yaml.YAMLError as error:  # a reader error: characters YAML does not allow
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}; mend the syntax") from error
    except RecursionError as error:
        raise UserError(f"{source}: {TOO_DEEP}") from error
    if node is None:
        raise UserError(f"{source}:1:1: the script is empty; write a list of steps")
    return node


def _mend(reason: str) -> str:
    """Say what to do about the YAML mistakes that are made most."""
    if "mapping values are not allowed" in reason:
        return "write one `key: value` a line, or all of them in one line as `{key: value, key: value}`"
    if "'\\t'" in reason:
        return "indent with spaces, not tabs"
    return "mend the syntax"
