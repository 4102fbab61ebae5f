"""Turns the YAML nodes of an action script into steps; the language is described in :mod:`latentcraft.agents.script`.

Nodes (rather than plain Python values) know their line and column, so every complaint can point at its place. All
complaints are made here: whatever has been read can be played, with any seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from latentcraft.agents.script_acts import read_act
from latentcraft.agents.script_files import (
    MAX_DEPTH,
    TOO_DEEP,
    ScriptText,
    bundled_scripts,
    compose,
    is_file_name,
    read_script,
)
from latentcraft.agents.script_scope import Fields, Running, Scope, is_null
from latentcraft.agents.script_steps import Act, Choose, Repeat, Series, Step
from latentcraft.agents.script_values import MAX_TICKS, Span, Word, check_length, duration, suggest, whole
from latentcraft.errors import UserError

MAX_STEPS = 20_000
"""Most steps that may be written, files and aliases included: more than the longest script has ticks for."""
MAX_SEED = 999_999_999

SCRIPT_KEYS = ("about", "params", "seed", "scripts", "steps")
NAMED_KEYS = ("about", "params", "steps")
STEP_KEYS = ("hold", "press", "turn", "look", "select", "for", "wait", "repeat", "steps", "choose", "run", "with")
STEP_HINTS = {
    **dict.fromkeys(("walk", "move", "key", "keys", "dig", "attack", "jump", "forward"), "hold"),
    **dict.fromkeys(("tap", "click", "use", "place"), "press"), **dict.fromkeys(("rotate", "yaw"), "turn"),
    **dict.fromkeys(("camera", "pitch"), "look"), **dict.fromkeys(("slot", "hotbar"), "select"),
    **dict.fromkeys(("sleep", "pause"), "wait"), **dict.fromkeys(("time", "duration", "seconds"), "for"),
    **dict.fromkeys(("loop", "times"), "repeat"), **dict.fromkeys(("random", "any", "one_of"), "choose"),
    **dict.fromkeys(("call", "script", "include", "import", "do"), "run"),
}  # fmt: skip
"""What people write instead of a step's key, and the key they mean."""


@dataclass(frozen=True)
class ParsedScript:
    """What a script file says."""

    about: str
    seed: int
    params: dict[str, str]
    """The script's own parameters with the values it was read with."""
    body: Series


class ScriptParser:
    """Reads scripts and the scripts that these run; a UserError names file, line and column of what is wrong.

    Args:
        chunk: ticks in a chunk.
    """

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk
        self.count = 0
        self.known: dict[tuple[object, ...], Series] = {}
        """Scripts that were run before, by name, parameters and depth."""
        self.files: dict[str, tuple[ScriptText, yaml.Node]] = {}

    def script(self, text: ScriptText, params: Mapping[str, str] | None = None) -> ParsedScript:
        """Read a whole script with ``params`` in place of its defaults.

        Raises:
            UserError: ``source:LINE:COLUMN: reason; mend``, also from a script that this one runs.
        """
        scope, fields = self.open(text, compose(text), ((text.source, text.source),))
        about = scope.word(fields["about"], "about", literal=True).text if "about" in fields else ""
        values = scope.bind(fields.get("params"), params or {}, None)
        scope = replace(scope, shared=values, params=values)
        seed = Span(0, 0)
        if "seed" in fields:
            word = scope.word(fields["seed"], "seed")
            seed = whole(word, "seed", 0, MAX_SEED)
            if seed.low != seed.high:
                word.fail("seed must be one number; chance begins with it")
        body = self.steps(fields["steps"], scope, MAX_TICKS, 0)
        for name, node in scope.scripts.items():
            # A mistake in a script that nothing runs yet is a mistake all the same.
            if not any(key[:2] == (text.source, name) for key in self.known) and not self.needs_params(node):
                self.named(replace(scope.at(node), text=name), {}, scope, 1)
        return ParsedScript(about, int(seed.low), values, body)

    def open(self, text: ScriptText, node: yaml.Node, running: Running) -> tuple[Scope, Fields]:
        """Return the scope of a file, without its parameters, and its fields; ``steps`` is always among them."""
        scope = Scope(text, running=running)
        if not isinstance(node, yaml.MappingNode):
            return scope, {"steps": node}
        fields = scope.fields(node, SCRIPT_KEYS)
        if "steps" not in fields:
            scope.fail(node, "the script has no steps; add `steps:` with a list below it")
        return replace(scope, scripts=scope.mapping(fields.get("scripts"), "scripts")), fields

    def steps(self, node: yaml.Node, scope: Scope, budget: int, depth: int) -> Series:
        """Read a list of steps that may last ``budget`` ticks."""
        if depth > MAX_DEPTH:
            scope.fail(node, TOO_DEEP)
        if not isinstance(node, yaml.SequenceNode):
            scope.fail(node, "steps must be a list; start each step with `- `")
        if not node.value:
            scope.fail(node, "the list of steps is empty; add a step such as `- wait: 1s`")
        steps: list[Step] = []
        for child in node.value:
            steps.append(self.step(child, scope, budget, depth))
            budget -= steps[-1].most
        return Series(tuple(steps))

    def step(self, node: yaml.Node, scope: Scope, budget: int, depth: int) -> Step:
        """Read one step of any kind."""
        self.count += 1
        if self.count > MAX_STEPS:
            scope.fail(node, f"more than {MAX_STEPS} steps are written here; use `repeat`")
        if not isinstance(node, yaml.MappingNode):
            scope.fail(node, "a step must be `key: value`, such as `hold: forward` with `for: 2s`")
        fields = scope.fields(node, STEP_KEYS, STEP_HINTS)
        if "repeat" in fields or "steps" in fields:
            return self.repeat(node, fields, scope, budget, depth)
        if "choose" in fields:
            scope.only(fields, ("choose",), "a choose")
            return self.choose(fields["choose"], scope, budget, depth)
        if "run" in fields or "with" in fields:
            return self.run(node, fields, scope, budget, depth)
        if "wait" in fields:
            scope.only(fields, ("wait",), "a wait")
            return Act(duration(scope.word(fields["wait"], "wait"), "wait", self.chunk, budget))
        return read_act(node, fields, scope, self.chunk, budget)

    def repeat(self, node: yaml.Node, fields: Fields, scope: Scope, budget: int, depth: int) -> Repeat:
        """Read ``repeat: N`` with its ``steps``."""
        scope.only(fields, ("repeat", "steps"), "a repeat")
        if len(fields) < 2:
            scope.fail(node, "a repeat needs both `repeat: N` and `steps:`")
        word = scope.word(fields["repeat"], "repeat")
        step = Repeat(whole(word, "repeat", 1, MAX_TICKS), self.steps(fields["steps"], scope, budget, depth + 1))
        check_length(word, step.most, budget)
        return step

    def choose(self, node: yaml.Node, scope: Scope, budget: int, depth: int) -> Choose:
        """Read the branches of ``choose``, each a step or a list of steps."""
        if not isinstance(node, yaml.SequenceNode) or len(node.value) < 2:
            scope.fail(node, "choose needs a list of two steps or more; one of them is played")
        if depth >= MAX_DEPTH:
            scope.fail(node, TOO_DEEP)
        return Choose(
            tuple(
                self.steps(branch, scope, budget, depth + 1)
                if isinstance(branch, yaml.SequenceNode)
                else Series((self.step(branch, scope, budget, depth + 1),))
                for branch in node.value
            )
        )

    def run(self, node: yaml.Node, fields: Fields, scope: Scope, budget: int, depth: int) -> Series:
        """Read the script that ``run`` names, with the parameters in ``with``."""
        scope.only(fields, ("run", "with"), "a run")
        if "run" not in fields:
            scope.fail(node, "`with` alone does nothing; add `run: SCRIPT`")
        word = scope.word(fields["run"], "run")
        given = {
            name: scope.word(value, name).text for name, value in scope.mapping(fields.get("with"), "with").items()
        }
        body = self.named(word, given, scope, depth + 1)
        check_length(word, body.most, budget)
        return body

    def named(self, word: Word, given: Mapping[str, str], scope: Scope, depth: int) -> Series:
        """Read the script that ``word`` names: one of the file's own, a bundled one or another file."""
        if word.text in scope.scripts:
            label, node = word.text, scope.scripts[word.text]
            inner, fields = replace(scope, params=scope.shared), {"steps": node}
            if isinstance(node, yaml.MappingNode):
                fields = scope.fields(node, NAMED_KEYS)
                if "steps" not in fields:
                    scope.fail(node, f"the script {label!r} has no steps; add `steps:` with a list below it")
            values = inner.bind(fields.get("params"), given, word)
        else:
            text, node = self.file(word, scope)
            label = text.source
            inner, fields = self.open(text, node, scope.running)
            values = inner.bind(fields.get("params"), given, word)
            inner = replace(inner, shared=values)
        this = (inner.text.source, label)
        if this in scope.running:
            circle = [name for _, name in scope.running[scope.running.index(this) :]] + [label]
            word.fail(f"{label} would run itself ({' runs '.join(circle)}); take one of the runs out")
        inner = replace(inner, params={**inner.params, **values}, running=(*scope.running, this))
        key = (*this, depth, *sorted(inner.params.items()))
        if key not in self.known:
            self.known[key] = self.steps(fields["steps"], inner, MAX_TICKS, depth)
        return self.known[key]

    def file(self, word: Word, scope: Scope) -> tuple[ScriptText, yaml.Node]:
        """Read and compose the bundled script or the file that ``word`` names, once."""
        if is_file_name(word.text):
            path = str(Path(scope.text.folder or ".") / Path(word.text).expanduser())
        elif word.text in bundled_scripts():
            path = word.text
        else:
            names = (*scope.scripts, *bundled_scripts())
            word.fail(f"no script {word.text!r} to run; {suggest(word.text, names)} (a file's name ends in .yaml)")
        if path not in self.files:
            try:
                text = read_script(path)
            except UserError as error:
                word.fail(str(error))
            self.files[path] = text, compose(text)
        return self.files[path]

    def needs_params(self, node: yaml.Node) -> bool:
        """Return whether a named script has parameters that only a run can give."""
        params = [value for key, value in node.value if key.value == "params"] if _is_mapping(node) else []
        return any(is_null(value) for each in params if _is_mapping(each) for _, value in each.value)


def _is_mapping(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode)
