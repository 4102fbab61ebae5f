import os
import subprocess
import sys

import pytest

from latentcraft import __version__
from latentcraft.__main__ import COMMANDS, main

HEAVY = ("torch", "gymnasium", "numpy", "numba", "pygame", "moviepy", "av", "hydra", "omegaconf")


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize("argument", ["--help", "--version", "nonsense"])
def test_what_needs_no_command_imports_nothing_heavy(argument: str):
    done = run("-X", "importtime", "-m", "latentcraft", argument)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "latentcraft" in imported  # the list was read rightly
    assert not imported & set(HEAVY)


def test_help_lists_every_command(capsys: pytest.CaptureFixture):
    assert main(["--help"]) == main([]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_the_console_command_is_installed():
    command = os.path.join(os.path.dirname(sys.executable), "latentcraft")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_unknown_command(capsys: pytest.CaptureFixture):
    assert main(["fly"]) == 2
    error = capsys.readouterr().err
    assert "'fly'" in error and "rollout" in error and error.count("\n") == 1


def test_commands_of_two_words(capsys: pytest.CaptureFixture):
    assert main(["agent"]) == main(["agent", "--help"]) == 0
    assert "agent train" in capsys.readouterr().out
    assert main(["agent", "fly"]) == 2
    assert "unknown command 'agent fly'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_keys(command: str, capsys: pytest.CaptureFixture):
    assert main([*command.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: latentcraft {command}")
    heads = [line for line in page.split("keys:\n")[1].splitlines() if line.startswith("  ") and line[2] != " "]
    assert heads and all("=" in head for head in heads)
    assert page.count("\n      ") >= len(heads), "a key without a docstring"


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_key_is_one_line_that_names_it(command: str, capsys: pytest.CaptureFixture):
    assert main([*command.split(), "colour=blue"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"latentcraft {command}: unknown key 'colour'") and error.count("\n") == 1


@pytest.mark.parametrize(
    "words, named",
    [
        (["record", "out=x", "episodes=abc"], "episodes=abc"),
        (["record", "out=x", "episode=3"], "episodes"),
        (["rollout", "steps=four"], "steps=four"),
        (["rollout", "steps=[1"], "steps=[1"),
        (["rollout", "tour"], "'tour'"),
    ],
)
def test_bad_values_are_one_line_that_names_the_key(words: list[str], named: str, capsys: pytest.CaptureFixture):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "raised, line",
    [
        (PermissionError(13, "Permission denied", "/data/x"), "latentcraft bench: /data/x: Permission denied\n"),
        (OSError(28, "No space left on device"), "latentcraft bench: No space left on device\n"),
        (OSError("two\nlines"), "latentcraft bench: two lines\n"),
    ],
)
def test_files_that_fail_are_one_line(
    raised: OSError, line: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def fail(config: object) -> int:
        raise raised

    monkeypatch.setattr("latentcraft.agents.bench.main", fail)
    assert main(["bench"]) == 2
    assert capsys.readouterr().err == line
