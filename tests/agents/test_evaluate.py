import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchmetrics")
pytest.importorskip("matplotlib")
pytest.importorskip("efficientnet_lite_pytorch")

from latentcraft.__main__ import main
from latentcraft.agents import evaluate as module
from latentcraft.agents import studies
from latentcraft.agents.evaluate import EvaluateConfig, knobs_of
from latentcraft.agents.heldout import explore
from latentcraft.model.actions import ACTION_SIZE
from latentcraft.simulator.fidelity import inverse_dynamics
from latentcraft.simulator.fidelity.figures import Column
from latentcraft.simulator.fidelity.inverse_dynamics import SHIPPED, InverseDynamics, save_inverse_dynamics
from latentcraft.simulator.fidelity.knobs import Knobs
from latentcraft.simulator.fidelity.parts import fingerprint
from latentcraft.simulator.fidelity.report import read_json
from latentcraft.simulator.fidelity.subjects import Shape
from latentcraft.simulator.protocol import HELD_OUT_SEED

SHORT = ["games=2", "seconds=1", "strips=2"]


@pytest.fixture
def command(tmp_path: Path, tiny_checkpoint: Path) -> list[str]:
    return ["evaluate", f"checkpoint={tiny_checkpoint}", f"out={tmp_path}/e", "studies=replay", *SHORT]


def tables(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())["tables"]


def test_a_report_of_a_checkpoint(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(command) == 0
    printed = capsys.readouterr().out
    report = read_json(tmp_path / "e" / "report.json")
    assert [table.key for table in report.tables] == ["replay"]
    rows = report.tables[0].rows
    assert list(rows) == ["dream", "codec ceiling", "copy-last floor"]
    assert all(row["psnr@1s"].count == 2 and np.isfinite(row["psnr@1s"].low) for row in rows.values())
    assert all(name in printed for name in rows) and "PSNR [dB]" in printed and "report.html" in printed
    page = (tmp_path / "e" / "report.html").read_text()
    assert "<svg" in page and page.count("data:image/png") == 2
    assert sorted(path.name for path in (tmp_path / "e" / "strips").iterdir()) == [
        "seed-900000.png", "seed-900001.png",
    ]  # fmt: skip


def test_the_same_twice_and_resumed(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main([*command, "worlds=dream,wrong-actions"]) == 0
    first = tables(tmp_path / "e")
    assert main([*command, "worlds=dream,wrong-actions", f"out={tmp_path}/again"]) == 0
    assert tables(tmp_path / "again") == first, "evaluated again, the same numbers"
    monkeypatch.setattr(studies, "timed", lambda study, row: pytest.fail("computed again"))
    capsys.readouterr()
    assert main([*command, "worlds=dream,wrong-actions"]) == 0
    assert tables(tmp_path / "e") == first
    assert "replay: dream: was there already" in capsys.readouterr().err


def test_action_following_and_a_long_run(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    network = tmp_path / "inverse.safetensors"
    save_inverse_dynamics(network, InverseDynamics())  # reads nothing, but reads
    monkeypatch.setattr(inverse_dynamics, "SHIPPED", network)
    monkeypatch.setitem(studies.SIZES, "quick", studies.Size(2, 2.0, 2, 10.0))
    words = [word for word in command if not word.startswith(("studies", "seconds"))]
    assert main([*words, "studies=action,long", "worlds=dream,copy-last"]) == 0
    report = read_json(tmp_path / "e" / "report.json")
    assert [table.key for table in report.tables] == ["action", "long"]
    assert all(list(table.rows) == ["dream", "copy-last floor"] for table in report.tables)
    assert report.tables[0].rows["dream"]["mineworld_f1"].count == 2
    assert report.timings is not None and report.timings.rows["dream"]["step@10s"].value > 0
    assert "Time and memory" in capsys.readouterr().out


def test_what_a_study_says_depends_on_no_other_study(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Replay, action following and the long run look at the same rollout, played once; alone they see the same."""
    network = tmp_path / "inverse.safetensors"
    save_inverse_dynamics(network, InverseDynamics())
    monkeypatch.setattr(inverse_dynamics, "SHIPPED", network)
    monkeypatch.setitem(studies.SIZES, "quick", studies.Size(3, 2.0, 2, 5.0))
    words = [word for word in command if not word.startswith(("studies", "seconds", "games"))] + ["worlds=dream,codec"]
    assert main([*words, "studies=replay,action,long"]) == 0
    together = {table["key"]: table for table in tables(tmp_path / "e")}
    for name in ("replay", "action", "long"):
        assert main([*words, f"studies={name}", f"out={tmp_path}/{name}"]) == 0
        assert tables(tmp_path / name) == [together[name]]


def test_a_missing_inverse_network_is_known_before_anything_is_played(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inverse_dynamics, "SHIPPED", tmp_path / "none.safetensors")
    assert main([*command, "studies=replay,action"]) == 2
    assert "none.safetensors" in capsys.readouterr().err and not (tmp_path / "e").exists()


def test_a_foreign_world_needs_one_function(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_world.py").write_text(
        "from latentcraft.simulator.voxel.world import VoxelWorld\n"
        "from latentcraft.simulator.fidelity.adapters import CopyLastWorld\n"
        "def make(num_worlds, task):\n"
        "    return CopyLastWorld(VoxelWorld(num_worlds, task, (32, 48)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [word for word in command if not word.startswith("checkpoint")]
    assert main([*words, "worlds=my_world:make,copy-last"]) == 0
    rows = read_json(tmp_path / "e" / "report.json").tables[0].rows
    assert list(rows) == ["my_world:make", "copy-last floor"] and rows["my_world:make"] == rows["copy-last floor"]
    assert (tmp_path / "e" / "strips" / "seed-900001.png").is_file()
    sys.modules.pop("my_world", None)


@pytest.mark.parametrize("mode", ["quick", "full"])
@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_has_a_plan(name: studies.StudyName, mode: studies.Mode):
    if name == "action" and not SHIPPED.is_file():
        pytest.skip("no inverse dynamics network")
    size = studies.Size(games=2, seconds=4.0, long_games=2, long_seconds=10.0)
    study = studies.make_study(name, studies.Settings(mode, HELD_OUT_SEED, Shape(), size, "efficientnet-lite0"))
    keys = [column.key for column in study.columns]
    assert study.key == name and study.note and len(keys) == len(set(keys)) >= 5
    assert fingerprint(study.plan)


def test_columns_without_a_figure_are_left_out(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    column = Column("never", "Never measured")
    monkeypatch.setattr(studies, "make_study", with_column(studies.make_study, column))
    assert main([*command, "worlds=copy-last"]) == 0
    table = read_json(tmp_path / "e" / "report.json").tables[0]
    assert column not in table.columns and "psnr@1s" in [each.key for each in table.columns]


def with_column(make: Callable[..., studies.Study], column: Column) -> Callable[..., studies.Study]:
    def wrapped(*arguments: object) -> studies.Study:
        study = make(*arguments)
        return replace(study, columns=[column, *study.columns])

    return wrapped


def test_knobs_are_rows_one_at_a_time():
    config = EvaluateConfig(Path("x"), steps=(4, 1), context=(8,), context_noise=(0.3,))
    assert knobs_of(config) == [Knobs(4), Knobs(1), Knobs(4, context=8), Knobs(4, noise=0.3)]
    assert [knobs.name for knobs in knobs_of(config)] == ["", "1 step", "context of 8", "context noise 0.3"]


@pytest.mark.parametrize("words, named", [
    (["seed=5"], "seed=5"), (["steps=3"], "got 3"), (["worlds=moon"], "worlds=moon"), (["games=1"], "games"),
    (["mode=inverse"], "data=DIR"), (["checkpoint=none.safetensors"], "none.safetensors"), (["seconds=0"], "seconds"),
    (["context=4"], "context"), (["context_noise=2"], "context_noise"), (["features=vgg"], "features=vgg"),
])  # fmt: skip
def test_bad_input_is_one_line(words: list[str], named: str, command: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*command, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert named in error and error.startswith("latentcraft evaluate: ")


def test_missing_extras_are_named(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(module, "NEEDED", ("no_such_package",))
    assert main(command) == 2
    assert "no_such_package is not installed; pip install 'latentcraft[eval]'" in capsys.readouterr().err


def test_the_explorer_plays_held_out_games_the_same_every_time():
    actions = explore((900_000, 900_001), 60)
    assert actions.shape == (2, 60, ACTION_SIZE) and actions.dtype == np.float32 and actions.any()
    assert (explore((900_000, 900_001), 60) == actions).all()
    assert (explore((900_001,), 20)[0] == actions[1, :20]).all(), "a shorter recording is the beginning of a longer"
    assert not (actions[0] == actions[1]).all()
