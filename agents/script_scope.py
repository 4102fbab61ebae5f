"""What the names in a script mean and where its nodes stand: parameters, named scripts, line and column."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

import yaml

from latentcraft.agents.script_files import ScriptText
from latentcraft.agents.script_values import Word, suggest
from latentcraft.errors import UserError

Fields = dict[str, yaml.Node]
Running = tuple[tuple[str, str], ...]
"""Scripts that run each other, outermost first, each with the name of its file."""

MAX_TEXT = 1000
"""Longest value; parameters made of parameters could otherwise grow without end."""

_PARAM = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Scope:
    """One script as it is being read. Every method raises a UserError that names file, line and column."""

    text: ScriptText
    """The file."""
    scripts: Mapping[str, yaml.Node] = field(default_factory=dict)
    """The file's named scripts."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Values of the file's own parameters, which its named scripts know as well."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Values of all parameters known here."""
    running: Running = ()
    """What is being read."""

    def fail(self, node: yaml.Node, reason: str) -> NoReturn:
        """Complain about ``node``."""
        self.at(node).fail(reason)

    def at(self, node: yaml.Node) -> Word:
        """Return the place of ``node``."""
        return Word("", self.text.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def word(self, node: yaml.Node, what: str, *, literal: bool = False) -> Word:
        """Return the text of a scalar with its parameters filled in, unless it is to be taken ``literal``-ly."""
        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, f"{what} must be plain text or a number, not a list or a mapping")
        text = self._short(node, what, " ".join(str(node.value).split()))
        if literal:
            return replace(self.at(node), text=text)
        names = list(dict.fromkeys(_PARAM.findall(text)))
        for name in names:
            if name not in self.params:
                known = suggest(name, self.params) if self.params else f"add `params: {{{name}: 2s}}` at the top"
                self.fail(node, f"no parameter ${name} here; {known}")
        note = ", ".join(f"${name} = {self.params[name]!r}" for name in names)
        return replace(
            self.at(node),
            text=self._short(node, what, _PARAM.sub(lambda match: self.params[match[1]], text)),
            note=f" (with {note})" if names else "",
            exact=node.style is None and not names and node.start_mark.line == node.end_mark.line,
        )

    def _short(self, node: yaml.Node, what: str, text: str) -> str:
        if len(text) > MAX_TEXT:
            self.fail(node, f"{what} is {len(text)} letters long; at most {MAX_TEXT}")
        return text

    def fields(self, node: yaml.MappingNode, known: tuple[str, ...], hints: Mapping[str, str] | None = None) -> Fields:
        """Return the values of a mapping whose keys must be ``known``."""
        found: Fields = {}
        for key_node, value in node.value:
            key = self.word(key_node, "a key", literal=True).text
            if key not in known:
                self.fail(key_node, f"unknown key {key!r}; {suggest(key, known, hints)}")
            if key in found:
                mend = "start a new step with `- `" if "hold" in known else "keep one of them"
                self.fail(key_node, f"{key!r} is given twice in one {'step' if 'hold' in known else 'place'}; {mend}")
            found[key] = value
        return found

    def mapping(self, node: yaml.Node | None, what: str) -> Fields:
        """Return the values of a mapping whose keys may be any; nothing if ``node`` is None."""
        found: Fields = {}
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL):
            return found
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{what} must be names with values; write `{what}: {{name: value}}`")
        for key_node, value in node.value:
            key = self.word(key_node, "a name", literal=True).text
            if key in found:
                self.fail(key_node, f"{key!r} is given twice; keep one of them")
            found[key] = value
        return found

    def only(self, fields: Fields, allowed: tuple[str, ...], what: str) -> None:
        """Fail if ``fields`` holds any but the ``allowed`` keys."""
        for key, value in fields.items():
            if key not in allowed:
                self.fail(value, f"{what} cannot also have {key!r}; give it a step of its own")

    def bind(self, node: yaml.Node | None, given: Mapping[str, str], caller: Word | None) -> dict[str, str]:
        """Return the values of the parameters that ``node`` declares: those ``given``, else their defaults.

        Args:
            node: a script's ``params``, None if it has none.
            given: values by name.
            caller: the ``run`` that gives them, None for the command line.
        """
        declared = self.mapping(node, "params")
        script = caller.text if caller else self.text.source
        for name in given:
            if name not in declared:
                mend = suggest(name, declared) if declared else "it takes none"
                _complain(caller, f"{script} has no parameter {name!r}; {mend}")
        values: dict[str, str] = {}
        for name, default in declared.items():
            if not _PARAM.fullmatch(f"${name}"):
                self.fail(default, f"{name!r} cannot name a parameter; use letters, digits and _")
            if name in given:
                values[name] = str(given[name]).strip()
            elif is_null(default):
                mend = f"add `with: {{{name}: VALUE}}`" if caller else f"give params.{name}=VALUE"
                _complain(caller, f"{script} needs the parameter {name!r}; {mend}")
            else:
                values[name] = self.word(default, f"the default of {name}").text
        return values


def is_null(node: yaml.Node) -> bool:
    """Return whether nothing is written where ``node`` stands."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _complain(caller: Word | None, reason: str) -> NoReturn:
    if caller is None:
        raise UserError(reason)
    caller.fail(reason)
