"""A default is written twice, for who reads the yaml and for who reads the code, and must be the same in both."""

import dataclasses
import importlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

TARGET = "_target_"
YAML = [path for path in files("latentcraft.configs").iterdir() if path.name.endswith(".yaml")]
COMMANDS = [path for path in YAML if TARGET in path.read_text()]


def plain(value: Any) -> Any:
    """As yaml would have it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return "???" if field.default is dataclasses.MISSING else plain(field.default)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_yaml_says_what_the_dataclass_says(path):
    values = yaml.safe_load(path.read_text())
    module, name = values.pop(TARGET).rsplit(".", 1)
    values.pop("defaults", None)  # hydra's own
    known = {field.name: default(field) for field in dataclasses.fields(getattr(importlib.import_module(module), name))}
    told = {
        key: {inner: each for inner, each in value.items() if inner != TARGET} if isinstance(value, dict) else value
        for key, value in values.items()
    }
    meant = {
        key: {inner: known[key][inner] for inner in value} if isinstance(value, dict) else known[key]
        for key, value in told.items()
    }
    assert told == meant
