import json
from pathlib import Path

import pytest

from latentcraft.agents import bench, bench_table
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model import checkpoint


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that keep the benchmark short."""
    monkeypatch.setattr(bench, "MATMUL_SIZE", 64)
    return ["seconds=0.02", "training=false", "chunks=1"]


def test_figures_are_printed_and_written(tmp_path: Path, small: list[str], capsys, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("latentcraft.simulator.voxel.world")
    path = tmp_path / "bench.json"
    monkeypatch.setattr(checkpoint, "SHIPPED", missing := tmp_path / "none.safetensors")
    assert bench.main(compose_config("bench", [*small, f"json={path}"])) == 0
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["reference"]["frames_per_second"] > 0 and report["reference"]["frame_size"] == [96, 160]
    assert report["matmul"]["fp32_gflops"] > 0 and report["machine"]["threads"] >= 1
    assert str(missing) in report["dream"]["not_available"]
    assert "frames/s, 160x96, one core" in printed and str(missing) in printed and str(path) in printed


@pytest.mark.parametrize("word", ["checkpoint=typo.safetensors", "steps=[1,3]", "precisions=[fp8]"])
def test_a_dream_that_cannot_be_is_an_error(word: str, small: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(bench, "matmul_peak", lambda: pytest.fail("measured before looking"))
    with pytest.raises(UserError, match="typo|got 3|must be among auto, fp32, bf16, got fp8"):
        bench.main(compose_config("bench", [*small, word]))
    assert not capsys.readouterr().out


def test_a_torn_checkpoint_is_an_error(tmp_path: Path, small: list[str]):
    path = tmp_path / "torn.safetensors"
    path.write_bytes(b"torn")
    with pytest.raises(UserError, match="torn"):
        bench.dream_speed(compose_config("bench", [*small, f"checkpoint={path}"]))


def test_a_dream_is_measured(tiny_checkpoint: Path, small: list[str]):
    figures = bench.dream_speed(compose_config("bench", [*small, f"checkpoint={tiny_checkpoint}", "steps=[1,2]"]))
    assert figures["frame_size"] == [32, 48]
    assert figures["steps_1"]["frames_per_second"] > 0 and figures["steps_2"]["chunk_ms_p95"] > 0
    assert figures["steps_2"]["frame_gflops"] >= figures["steps_1"]["frame_gflops"] >= 0
    batch = figures["batch_16"]
    assert batch["steps"] == 2 and batch["frames_per_second"] > 0
    ratio = batch["frames_per_second"] / figures["steps_2"]["frames_per_second"]
    assert batch["times_one_world"] == pytest.approx(ratio, abs=0.02)
    assert 0 < batch["peak_share"]


def test_each_number_format_has_its_own_figures(tiny_checkpoint: Path, small: list[str], tmp_path: Path, capsys,
                                                monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    monkeypatch.setattr(bench, "reference_speed", lambda seconds: {"frame_size": [96, 160], "frames_per_second": 1.0})
    path = tmp_path / "bench.json"
    words = [f"checkpoint={tiny_checkpoint}", "steps=[1]", "batch=false", "precisions=[fp32,bf16]", f"json={path}"]
    assert bench.main(compose_config("bench", [*small, *words])) == 0
    report = json.loads(path.read_text())
    assert report["dream_fp32"]["precision"] == "float32" and report["dream_bf16"]["precision"] == "bfloat16"
    assert "batch_16" not in report["dream_fp32"] and "dream" not in report
    printed = capsys.readouterr().out
    assert ", float32; " in printed and ", bfloat16; " in printed and "of the matrix peak" in printed


def test_sizes_of_the_presets_are_printed_and_nothing_is_measured(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "matmul_peak", lambda: pytest.fail("measured"))
    path = tmp_path / "sizes.json"
    assert bench.main(compose_config("bench", ["sizes=true", f"json={path}"])) == 0
    counted = json.loads(path.read_text())
    assert list(counted) == ["smoke", "cpu", "gpu", "gpu-large"]
    for figure in ("parameters", "dream_flops", "train_flops", "train_bytes", "shard_bytes", "play_bytes"):
        values = [size[figure] for size in counted.values()]
        assert values == sorted(values), figure
    assert "1092.1M" in capsys.readouterr().out


def test_training_says_how_it_was_run(monkeypatch: pytest.MonkeyPatch):
    figures = {"step_seconds": 5.12345, "frames_per_second": 41.987654, "noised_frames_per_second": 167.950617}
    figures |= {"parameters": 20_812_345.0, "step_flops": 1e9, "loading_share": 0.00321}
    monkeypatch.setattr("latentcraft.model.train.bench.training_speed", lambda compile: figures)
    row = bench_table.training_row(bench.training_speed())
    assert row.startswith("42 frames/s (168 noised); a step takes 5.123 s, 21M parameters, ")
    assert "float32, eager, without bootstrap steps; " in row or "bfloat16, eager, without" in row
    assert row.endswith("0.32% of a step is loading of clips") and "% of the matrix peak" in row


def test_json_alone_prints_json(small: list[str], capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "reference_speed", lambda seconds: {"frame_size": [96, 160], "frames_per_second": 1.0})
    monkeypatch.setattr(bench, "dream_speed", lambda config, kind: {"not_available": "not asked for"})
    assert bench.main(compose_config("bench", [*small, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["reference"]["frames_per_second"] == 1.0


def test_the_table_lists_each_number_of_steps():
    figures = {"chunk_ms_median": 100.0, "chunk_ms_p95": 120.0, "frames_per_second": 40.0}
    report = {
        "machine": {"cpu": "x", "cores": 2, "threads": 2, "torch": "2", "device": "cpu", "python": "3"},
        "matmul": {"fp32_gflops": 1.0, "bf16_gflops": 2.0, "peak_memory_mb": 10.0},
        "reference": {"frame_size": [96, 160], "frames_per_second": 1500.0},
        "dream": {"chunk": 4, "precision": "bfloat16", "steps_1": figures, "steps_4": figures},
        "training": {"not_available": "too little memory"},
    }
    lines = bench.table(report).splitlines()
    assert sum(line.startswith("dream, ") for line in lines) == 2
    assert "40 frames/s; a chunk of 4 frames takes 100 ms (p95 120 ms), bfloat16" in "\n".join(lines)
    assert any(line.startswith("training") and "too little memory" in line for line in lines)


@pytest.mark.parametrize("word", ["seconds=0", "chunks=0", "steps=[]"])
def test_nothing_to_measure_is_refused(word: str):
    with pytest.raises(UserError, match="above zero"):
        bench.main(compose_config("bench", [word]))
