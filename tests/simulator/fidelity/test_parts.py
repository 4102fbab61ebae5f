from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from latentcraft.simulator.fidelity import parts as module
from latentcraft.simulator.fidelity.figures import Figure
from latentcraft.simulator.fidelity.parts import Part, Parts, fingerprint


@dataclass(frozen=True, eq=False)
class Plan:
    actions: np.ndarray
    seeds: tuple[int, ...] = (1, 2)


def test_fingerprints_depend_on_values_alone():
    plan = Plan(np.arange(3.0))
    assert fingerprint({"a": plan, "b": 1}) == fingerprint({"b": 1, "a": Plan(np.arange(3.0))})
    others = [Plan(np.arange(4.0)), Plan(np.arange(3, dtype=np.int64)), Plan(np.arange(3.0), (1, 3))]
    assert len({fingerprint({"a": each, "b": 1}) for each in [plan, *others]}) == 4


@pytest.fixture
def part() -> Part:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3)).astype(np.uint8)
    return Part({"psnr@1s": Figure(20.1, 19.0, float("nan"), 8)}, {"step": Figure(80.0, 80.0, 80.0, 9)},
                {"shown": pictures}, 3.5)  # fmt: skip


def test_a_part_is_computed_once(tmp_path: Path, part: Part):
    parts = Parts(tmp_path / "parts")
    first, there = parts.get("replay-dream", {"plan": Plan(np.zeros(2))}, lambda: part)
    assert not there and first is part
    again, there = parts.get("replay-dream", {"plan": Plan(np.zeros(2))}, lambda: pytest.fail("computed again"))
    assert there and str(again.figures) == str(part.figures) and again.timings == part.timings
    assert (again.pictures["shown"] == part.pictures["shown"]).all() and again.seconds == 3.5
    assert [path.name.startswith("replay-dream-") for path in (tmp_path / "parts").iterdir()] == [True]


def test_other_settings_and_other_code_are_other_parts(tmp_path: Path, part: Part, monkeypatch: pytest.MonkeyPatch):
    parts = Parts(tmp_path)
    parts.get("x", {"seed": 1}, lambda: part)
    assert not parts.get("x", {"seed": 2}, lambda: part)[1]
    monkeypatch.setattr(module, "_code", lambda: "changed")
    assert not parts.get("x", {"seed": 1}, lambda: part)[1]


def test_a_torn_part_is_made_again(tmp_path: Path, part: Part):
    parts = Parts(tmp_path)
    parts.get("x", {}, lambda: part)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:50])
    assert not parts.get("x", {}, lambda: part)[1]
    assert parts.get("x", {}, lambda: part)[1]


def test_what_fails_leaves_nothing(tmp_path: Path):
    def fail() -> Part:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path).get("x", {}, fail)
    assert not list(tmp_path.iterdir())
