import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import latentcraft

TOP = ("model", "simulator", "envs", "agents", "configs")
"""Top-level folders that install as ``latentcraft.NAME``."""


@pytest.fixture(scope="module")
def setuptools_table(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]


def folders_with_code(root: Path) -> set[Path]:
    return {path.parent.relative_to(root) for top in TOP for path in (root / top).rglob("*.py")}


def test_package_list_is_the_folders_that_hold_code(root: Path, setuptools_table: dict):
    expected = {"latentcraft"} | {"latentcraft." + ".".join(folder.parts) for folder in folders_with_code(root)}
    assert set(setuptools_table["packages"]) == expected
    assert len(setuptools_table["packages"]) == len(expected)


def test_every_folder_has_an_init(root: Path):
    missing = [str(folder) for folder in folders_with_code(root) if not (root / folder / "__init__.py").is_file()]
    assert not missing


def test_symlinks_let_type_checkers_follow(root: Path, setuptools_table: dict):
    for name in TOP:
        link = root / "src" / "latentcraft" / name
        assert link.is_symlink() and link.resolve() == root / name
        assert setuptools_table["package-dir"][f"latentcraft.{name}"] == name


def test_data_files_are_of_kinds_that_are_packaged(root: Path, setuptools_table: dict):
    packaged = setuptools_table["package-data"]
    for top in TOP:
        for path in (root / top).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts:
                owners = [f"latentcraft.{'.'.join(path.relative_to(root).parts[:depth])}" for depth in (3, 2, 1)]
                patterns = [(owner, pattern) for owner in owners for pattern in packaged.get(owner, [])]
                assert any(
                    path in (root / owner.removeprefix("latentcraft.").replace(".", "/")).glob(pattern)
                    for owner, pattern in patterns
                ), f"{path.relative_to(root)} would be missing from the wheel"


def test_version_is_one(root: Path):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert latentcraft.__version__ == project["version"] == version("latentcraft")


def test_everything_imports(setuptools_table: dict):
    for package in setuptools_table["packages"]:
        import_module(package)
