import json
from pathlib import Path

import pytest

from latentcraft.agents import bench
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that keep the benchmark short."""
    monkeypatch.setattr(bench, "MATMUL_SIZE", 64)
    return ["seconds=0.02", "training=false", "chunks=1"]


def test_figures_are_printed_and_written(tmp_path: Path, small: list[str], capsys):
    pytest.importorskip("latentcraft.simulator.voxel.world")
    path = tmp_path / "bench.json"
    missing = tmp_path / "none.safetensors"
    assert bench.main(compose_config("bench", [*small, f"json={path}", f"checkpoint={missing}"])) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["reference"]["frames_per_second"] > 0 and report["reference"]["frame_size"] == [96, 160]
    assert report["matmul"]["fp32_gflops"] > 0 and report["machine"]["threads"] >= 1
    assert str(missing) in report["dream"]["not_available"]
    assert "frames/s, 160x96, one core" in printed and str(missing) in printed and str(path) in printed


def test_json_alone_prints_json(small: list[str], capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "reference_speed", lambda seconds: {"frame_size": [96, 160], "frames_per_second": 1.0})
    monkeypatch.setattr(bench, "dream_speed", lambda config: {"not_available": "not asked for"})
    assert bench.main(compose_config("bench", [*small, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["reference"]["frames_per_second"] == 1.0


def test_the_table_lists_each_number_of_steps():
    figures = {"chunk_ms_median": 100.0, "chunk_ms_p95": 120.0, "frames_per_second": 40.0}
    report = {
        "machine": {"cpu": "x", "cores": 2, "threads": 2, "torch": "2", "device": "cpu", "python": "3"},
        "matmul": {"fp32_gflops": 1.0, "bf16_gflops": 2.0, "peak_memory_mb": 10.0},
        "reference": {"frame_size": [96, 160], "frames_per_second": 1500.0},
        "dream": {"chunk": 4, "precision": "bfloat16", "steps_1": figures, "steps_4": figures},
        "training": {"frames_per_second": 300.0},
    }
    lines = bench.table(report).splitlines()
    assert sum(line.startswith("dream, ") for line in lines) == 2
    assert "40 frames/s; a chunk of 4 frames takes 100 ms (p95 120 ms), bfloat16" in "\n".join(lines)
    assert any(line.startswith("training") and "300" in line for line in lines)


@pytest.mark.parametrize("word", ["seconds=0", "chunks=0", "steps=[]"])
def test_nothing_to_measure_is_refused(word: str):
    with pytest.raises(UserError, match="above zero"):
        bench.main(compose_config("bench", [word]))
