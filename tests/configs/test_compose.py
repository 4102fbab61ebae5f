import sys
from pathlib import Path

import pytest

from latentcraft.configs import compose
from latentcraft.configs.compose import compose_config, describe_config
from latentcraft.errors import UserError

DEMO = '''
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class InnerConfig:
    width: int = 256
    """Width of the
    network."""
    lr: float = 0.02


@dataclass(frozen=True)
class DemoConfig:
    out: Path
    """Where to write."""
    episodes: int = 10
    """How many episodes."""
    task: Literal["free", "chop", "navigate"] = "free"
    frame_size: tuple[int, int] | None = None
    worlds: tuple[str, ...] = ("voxel",)
    seed: int | tuple[int, ...] = 0
    json: bool = False
    checkpoint: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    inner: InnerConfig = InnerConfig()

    def __post_init__(self) -> None:
        if self.episodes < 0:
            raise ValueError("episodes must not be negative")
'''


@pytest.fixture(autouse=True)
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A command ``demo`` with a preset group, outside the project."""
    package = tmp_path / "democonfigs"
    (package / "demo" / "preset").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "schema.py").write_text(DEMO)
    (package / "demo.yaml").write_text(
        "defaults: [_self_, demo/preset@_global_: small]\n_target_: democonfigs.schema.DemoConfig\nout: ???\n"
        "episodes: 20\n"
    )
    (package / "demo" / "preset" / "small.yaml").write_text("inner: {width: 8}\n")
    (package / "demo" / "preset" / "large.yaml").write_text("inner: {width: 512}\nepisodes: 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compose, "CONFIG_MODULE", "democonfigs")
    yield
    for name in [name for name in sys.modules if name.startswith("democonfigs")]:
        del sys.modules[name]


def test_defaults_come_from_yaml_then_from_the_dataclass():
    config = compose_config("demo", ["out=x"])
    assert (config.out, config.episodes, config.task, config.inner.width) == (Path("x"), 20, "free", 8)
    with pytest.raises(AttributeError):
        config.episodes = 3


@pytest.mark.parametrize(
    "word, path, value",
    [
        ("episodes=3", "episodes", 3),
        ("episodes=1e3", "episodes", 1000),
        ("task=chop", "task", "chop"),
        ("frame_size=[96,160]", "frame_size", (96, 160)),
        ("frame_size=96,160", "frame_size", (96, 160)),
        ("frame_size=null", "frame_size", None),
        ("worlds=voxel,dream", "worlds", ("voxel", "dream")),
        ("worlds=voxel", "worlds", ("voxel",)),
        ("seed=3", "seed", 3),
        ("seed=3,4", "seed", (3, 4)),
        ("--json", "json", True),
        ("--episodes=4", "episodes", 4),
        ("inner.lr=1e-4", "inner.lr", 1e-4),
        ("preset=large", "inner.width", 512),
        ("options.mode=3", "options", {"mode": 3}),
        ("checkpoint=null", "checkpoint", None),
        ("checkpoint=a,b {c}=[d]: it's \\ here", "checkpoint", Path("a,b {c}=[d]: it's \\ here")),
        ("checkpoint=ends\\", "checkpoint", Path("ends\\")),
        ("checkpoint='quoted, so'", "checkpoint", Path("quoted, so")),
        ("checkpoint=007", "checkpoint", Path("007")),
    ],
)
def test_overrides(word: str, path: str, value: object):
    config = compose_config("demo", ["out=x", word])
    for name in path.split("."):
        config = getattr(config, name)
    assert config == value and type(config) is type(value)


def test_an_override_beats_the_preset_whatever_their_order():
    assert compose_config("demo", ["out=x", "inner.width=3", "preset=large"]).inner.width == 3


@pytest.mark.parametrize(
    "words, parts",
    [
        ([], ["out is required", "a path"]),
        (["out="], ["out=", "a path"]),
        (["out=x", "episodes=abc"], ["episodes=abc", "a whole number"]),
        (["out=x", "episodes=1.5"], ["episodes=1.5"]),
        (["out=x", "episodes=1,2"], ["episodes=1,2", "several"]),
        (["out=x", "episodes=[1"], ["episodes=[1"]),
        (["out=x", "episodes=null"], ["episodes=null"]),
        (["out=x", "json=1"], ["json=1", "true or false"]),
        (["out=x", "episode=3"], ["'episode'", "episodes"]),
        (["out=x", "inner.widht=3"], ["'inner.widht'", "inner.width"]),
        (["out=x", "inner=3"], ["inner"]),
        (["out=x", "task=chopp"], ["task=chopp", "did you mean chop?"]),
        (["out=x", "frame_size=[96]"], ["frame_size=[96]", "[a whole number,a whole number]"]),
        (["out=x", "frame_size=[a,b]"], ["frame_size"]),
        (["out=x", "preset=huge"], ["preset=huge", "large, small"]),
        (["out=x", "+episodes=3"], ["'+episodes'", "episodes"]),
        (["out=x", "~episodes"], ["~episodes"]),
        (["out=x", "_target_=os.system"], ["'_target_'"]),
        (["out=x", "hydra.run.dir=/"], ["'hydra.run.dir'"]),
        (["out=x", "voxel"], ["'voxel'", "key=value"]),
        (["out=x", "episodes=-1"], ["episodes must not be negative"]),
        (["out=${nowhere}"], ["nowhere"]),
    ],
)
def test_bad_input_is_one_line_that_names_the_key(words: list[str], parts: list[str]):
    with pytest.raises(UserError) as caught:
        compose_config("demo", words)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_describe_lists_keys_defaults_and_docs():
    page = describe_config("demo", "shows how it is done")
    for part in [
        "preset=small",
        "large, small",
        "out=(required)",
        "Where to write.",
        "episodes=20",
        "json=false",
        "One of free, chop, navigate.",
        "inner.width=8",
        "Width of the network.",
        "frame_size=null",
    ]:
        assert part in page


def test_hydra_is_left_as_it_was():
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    compose_config("demo", ["out=x"])
    assert not GlobalHydra.instance().is_initialized()
    with initialize_config_module("democonfigs", version_base="1.3"):
        mine = GlobalHydra.instance().hydra
        compose_config("demo", ["out=x"])
        assert GlobalHydra.instance().hydra is mine
