"""From ``COMMAND.yaml`` and ``key=value`` words to a frozen config dataclass, and the page that lists the keys.

hydra composes the yaml files (defaults lists and preset groups included); the dataclass named by ``_target_`` is the
schema (:mod:`latentcraft.configs.schema`). hydra is imported inside the functions only, because
``latentcraft --help`` must not pay for it, and its process-wide state is put back after each call.
"""

import dataclasses
import difflib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from latentcraft.configs.schema import (
    annotation_at,
    build,
    choices_of,
    describe,
    first_line,
    is_required,
    is_sequence,
    is_text,
    keys_of,
    leaves,
    members_of,
    show,
)
from latentcraft.errors import UserError

CONFIG_MODULE = "latentcraft.configs"
HELP_WIDTH = 100
"""Columns of the help page."""


class _Group(NamedTuple):
    """A hydra config group that a command's defaults list names, such as ``preset``."""

    key: str
    """hydra's own override key, for instance ``train/preset@_global_``."""
    chosen: str | None
    options: list[str]


class _Composed(NamedTuple):
    values: dict[str, Any]
    """Resolved config without hydra's own node; ``???`` where a required value is missing."""
    groups: dict[str, _Group]
    """By short name (``preset``)."""


def compose_config(command: str, overrides: Sequence[str]) -> Any:
    """Build the frozen config of ``command`` from ``configs/COMMAND.yaml`` and ``key=value`` overrides.

    ``--key`` and ``--key=value`` are read as ``key=true`` and ``key=value``. Values of text and path keys are taken
    as they are, without hydra's quoting; ``null`` gives None where a key allows it.

    Args:
        command: name of a yaml file in this folder, without its suffix, and spaces for its underscores.
        overrides: ``key=value`` words as typed.

    Returns:
        An instance of the yaml's ``_target_``.

    Raises:
        UserError: a word that is no ``key=value``, an unknown key or choice, a value of the wrong type, a required
            key that was not given. One line that names the key.
    """
    default = _compose(command, [])
    schema = _schema(default.values)
    words = [_to_hydra(word, command, schema, default.groups) for word in overrides]
    return build(_compose(command, words).values, schema)


def describe_config(command: str, summary: str) -> str:
    """Return the help page of ``command``: every key with its default and its field's docstring.

    Args:
        command: name of a yaml file in this folder, without its suffix, and spaces for its underscores.
        summary: the command in one line.
    """
    composed = _compose(command, [])
    lines = [f"usage: latentcraft {command} [key=value ...]", "", *textwrap.wrap(summary, HELP_WIDTH), "", "keys:"]
    for name, group in composed.groups.items():
        lines += _help_entry(f"{name}={group.chosen}", f"A set of values: one of {', '.join(group.options)}.")
    for key, value, annotation, doc in leaves(_schema(composed.values), composed.values):
        choices = choices_of(annotation)
        doc = f"{doc} One of {', '.join(map(str, choices))}." if choices else doc
        lines += _help_entry(f"{key}={'(required)' if is_required(value) else show(value)}", doc)
    return "\n".join(lines)


@contextmanager
def _hydra_initialized() -> Iterator[None]:
    """Point hydra at our yaml files; whatever hydra app was running before is running again afterwards."""
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def _compose(command: str, words: list[str]) -> _Composed:
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    command = command.replace(" ", "_")
    with _hydra_initialized():
        try:
            config = compose(command, overrides=words, return_hydra_config=True)
            loader = GlobalHydra.instance().config_loader()
            groups = {}
            for key, chosen in config.hydra.runtime.choices.items():
                path = key.split("@")[0]
                if path.split("/")[0] != "hydra":
                    groups[path.split("/")[-1]] = _Group(key, chosen, loader.get_group_options(path))
            with open_dict(config):
                del config["hydra"]  # some of its interpolations resolve only inside a running hydra app
            return _Composed(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)), groups)
        except MissingConfigException as error:
            raise UserError(f"configs/{command}.yaml cannot be read: {first_line(error)}") from error
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(first_line(error)) from error


def _to_hydra(word: str, command: str, schema: type, groups: Mapping[str, _Group]) -> str:
    """Turn one word as typed into a hydra override, refusing everything but ``key=value`` of a known key."""
    key, equals, text = word.partition("=")
    if word.startswith("--"):
        key = key[2:].replace("-", "_")
        equals, text = ("=", text) if equals else ("=", "true")
    known = [*groups, *keys_of(schema)]
    if not equals:
        raise UserError(f"{word!r} is not key=value; keys: {', '.join(known)}")
    if key in groups:
        if text not in groups[key].options:
            raise UserError(f"{key}={text} is not known; {key} is one of {', '.join(groups[key].options)}")
        return f"{groups[key].key}={text}"
    annotation = annotation_at(schema, key)
    if annotation is None:
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or known
        raise UserError(f"unknown key {key!r}; nearest: {', '.join(near)} (latentcraft {command} --help lists all)")
    # '++' because a key that the dataclass has but the yaml leaves to its default is as good as any other.
    return f"++{key}={_in_grammar(key, text, annotation)}"


def _in_grammar(key: str, text: str, annotation: Any) -> str:
    """Write the typed ``text`` in hydra's override grammar, or raise a UserError that names ``key``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    members = members_of(annotation)
    if text == "null" and type(None) in members:
        return text
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not quoted and is_text(annotation):
        # Paths would otherwise need quotes for every comma, brace and colon. In hydra's grammar a backslash is
        # special only in front of a quote, so runs of them are doubled there and at the end.
        escaped = re.sub(r"(\\*)('|\Z)", lambda run: run[1] * 2 + run[2].replace("'", "\\'"), text)
        return f"'{escaped}'"
    sequences = [is_sequence(member) for member in members if member is not type(None)]
    if any(sequences) and not text.startswith("[") and ("," in text or all(sequences)):
        text = f"[{text}]"
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException as error:
        raise UserError(f"{key}={text} cannot be read; {key} takes {describe(annotation)}") from error
    if override.is_sweep_override():
        raise UserError(f"{key}={text} gives several values; {key} takes {describe(annotation)}")
    return text


def _schema(values: Mapping[str, Any]) -> type:
    from hydra.utils import get_class

    schema = get_class(values["_target_"])
    assert dataclasses.is_dataclass(schema), f"{values['_target_']} is not a dataclass"
    return schema


def _help_entry(head: str, doc: str) -> list[str]:
    # From a docstring's markup and Python's None to what is read and typed in a terminal.
    doc = re.sub(r"\bNone\b", "null", re.sub(r":\w+:`~?([^`]+)`", r"\1", doc).replace("``", ""))
    indent = " " * 6
    return [f"  {head}", *textwrap.wrap(doc, HELP_WIDTH, initial_indent=indent, subsequent_indent=indent)]
