"""A config dataclass as the schema of plain values: its annotations check them, its field docstrings explain them.

Annotations understood: bool, int, float, str, Path, Literal, tuples and sequences (kept as tuples), dicts, other
dataclasses, and unions of these.
"""

import ast
import dataclasses
import difflib
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, cast

from latentcraft.errors import UserError

REQUIRED = "???"
"""How yaml (OmegaConf) writes a value that the user has to give."""


def build(values: Mapping[str, Any], schema: type, prefix: str = "") -> Any:
    """Instantiate the dataclass ``schema`` from plain ``values``, checking each against its annotation.

    Args:
        values: as read from yaml; lists become tuples, and the key ``_target_`` is passed over.
        schema: a dataclass.
        prefix: how keys are written in errors, for instance ``dynamics.``.

    Raises:
        UserError: an unknown key, a missing required key, a value of the wrong type. One line that names the key.
    """
    hints = typing.get_type_hints(schema)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(schema):
        key = prefix + field.name
        if field.name in values and not is_required(values[field.name]):
            arguments[field.name] = _convert(key, values[field.name], hints[field.name])
        elif field.name in values or _default(field) is dataclasses.MISSING:
            raise UserError(f"{key} is required; give {key}=VALUE ({describe(hints[field.name])})")
    extra = set(values) - set(hints) - {"_target_"}
    if extra:
        raise UserError(f"{schema.__name__} has no key {', '.join(prefix + name for name in sorted(extra))}")
    try:
        return schema(**arguments)
    except (TypeError, ValueError) as error:  # a check in the dataclass' __post_init__
        raise UserError(first_line(error)) from error


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


# --- values ---------------------------------------------------------------------------------------------------------


class _Mismatch(Exception):
    """The value is not of this type; another member of the union may still take it."""


def _convert(key: str, value: Any, annotation: Any) -> Any:
    """Return ``value`` as one of the types that ``annotation`` allows, trying them in order."""
    for member in members_of(annotation):
        try:
            return _convert_one(key, value, member)
        except _Mismatch:
            continue
    near = difflib.get_close_matches(str(value), map(str, choices_of(annotation)), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"{key}={show(value)} is not valid; {key} takes {describe(annotation)}{hint}")


def _convert_one(key: str, value: Any, member: Any) -> Any:
    origin, arguments = typing.get_origin(member) or member, typing.get_args(member)
    if member is Any:
        return tuple(value) if isinstance(value, list) else value
    if value is None and member is type(None):
        return None
    if origin is Literal:
        for choice in arguments:
            if choice == value and type(choice) is type(value):  # True == 1 holds in Python
                return choice
    elif is_sequence(member) and isinstance(value, (list, tuple)):
        return _convert_items(key, value, arguments)
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        inner = arguments[1] if arguments else Any
        return {name: _convert(f"{key}.{name}", item, inner) for name, item in value.items()}
    elif dataclasses.is_dataclass(member):
        if isinstance(value, Mapping):
            return build(value, cast(type, member), f"{key}.")
    elif member in _SCALARS and isinstance(value, (bool, int, float, str)):
        return _SCALARS[member](value)
    raise _Mismatch


def _convert_items(key: str, items: Sequence[Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) < 2 or arguments[-1] is Ellipsis:
        inner: list[Any] = [arguments[0] if arguments else Any] * len(items)
    elif len(items) == len(arguments):
        inner = list(arguments)
    else:
        raise _Mismatch
    return tuple(
        _convert(f"{key}[{index}]", item, member)
        for index, (item, member) in enumerate(zip(items, inner, strict=True))
    )  # fmt: skip


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Mismatch
    return value


def _to_int(value: Any) -> int:
    # 1e5 is a float in yaml and a number of episodes to a person.
    if isinstance(value, (bool, str)) or not float(value).is_integer():
        raise _Mismatch
    return int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, (bool, str)) or not math.isfinite(value):
        raise _Mismatch
    return float(value)


def _to_str(value: Any) -> str:
    if isinstance(value, bool):
        raise _Mismatch
    return str(value)


def _to_path(value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise _Mismatch
    return Path(value).expanduser()


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    Path: _to_path,
}


def show(value: Any) -> str:
    """Write a value the way it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(show, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{show(item)}" for name, item in value.items()) + "}"
    return str(value)


def is_required(value: Any) -> bool:
    """Return whether ``value`` stands for one that the user has to give."""
    return value is dataclasses.MISSING or (isinstance(value, str) and value == REQUIRED)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# --- annotations ----------------------------------------------------------------------------------------------------


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def choices_of(annotation: Any) -> list[Any]:
    """Return the values that the annotation's ``Literal`` members list."""
    literals = [member for member in members_of(annotation) if typing.get_origin(member) is Literal]
    return [choice for literal in literals for choice in typing.get_args(literal)]


def is_sequence(member: Any) -> bool:
    """Return whether a union member is a tuple, list or sequence."""
    return (typing.get_origin(member) or member) in (tuple, list, Sequence)


def is_text(annotation: Any) -> bool:
    """Return whether every member but None is text, a path or a choice of texts."""
    members = [member for member in members_of(annotation) if member is not type(None)]
    return all(
        member in (str, Path)
        or (typing.get_origin(member) is Literal and all(isinstance(text, str) for text in typing.get_args(member)))
        for member in members
    )


def describe(annotation: Any) -> str:
    """Say in words what a key of this annotation takes, for error lines."""
    return " or ".join(_describe_one(member) for member in members_of(annotation))


def _describe_one(member: Any) -> str:
    origin, arguments = typing.get_origin(member) or member, typing.get_args(member)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if is_sequence(member):
        if len(arguments) < 2 or arguments[-1] is Ellipsis:
            return f"[{describe(arguments[0]) if arguments else 'a value'},...]"
        return "[" + ",".join(map(describe, arguments)) + "]"
    if dataclasses.is_dataclass(member) or origin in (dict, Mapping):
        return "{key: value}"
    words = {
        type(None): "null",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
    }
    return words.get(member, "a value")


def annotation_at(schema: Any, key: str) -> Any:
    """Return the annotation of a dotted ``key`` below ``schema``, None if there is no such key."""
    name, _, rest = key.partition(".")
    for member in members_of(schema):
        arguments = typing.get_args(member)
        if dataclasses.is_dataclass(member) and name in {field.name for field in dataclasses.fields(member)}:
            annotation = typing.get_type_hints(member)[name]
        elif (typing.get_origin(member) or member) in (dict, Mapping) and name:
            annotation = arguments[1] if arguments else Any
        else:
            continue
        return annotation_at(annotation, rest) if rest else annotation
    return None


# --- fields ---------------------------------------------------------------------------------------------------------


def keys_of(schema: type, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key that can be given."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        nested = _nested(hints[field.name])
        if nested is None:
            yield prefix + field.name
        else:
            yield from keys_of(nested, f"{prefix}{field.name}.")


def leaves(schema: type, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any, str]]:
    """Yield (dotted key, value, annotation, docstring) of every field that is not itself a dataclass.

    Args:
        schema: a dataclass.
        values: from yaml; a field that is absent has the dataclass' own default.
        prefix: put before each key.
    """
    hints, docs = typing.get_type_hints(schema), field_docs(schema)
    for field in dataclasses.fields(schema):
        value, nested = values.get(field.name, _default(field)), _nested(hints[field.name])
        if nested is not None and dataclasses.is_dataclass(value):
            value = dataclasses.asdict(cast(Any, value))
        if nested is not None and isinstance(value, Mapping):
            yield from leaves(nested, value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, hints[field.name], docs.get(field.name, "")


def field_docs(schema: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, on one line, base classes included.

    Python keeps no such strings at run time, so they are read from the source.
    """
    docs: dict[str, str] = {}
    for owner in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except OSError:  # no source, for instance in a frozen application: help without explanations
            continue
        body = cast(ast.ClassDef, tree.body[0]).body
        for statement, after in zip(body, body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                docs[statement.target.id] = " ".join(after.value.value.split())
    return docs


def _nested(annotation: Any) -> type | None:
    """Return the dataclass in ``annotation``, if there is one."""
    return next((cast(type, member) for member in members_of(annotation) if dataclasses.is_dataclass(member)), None)
