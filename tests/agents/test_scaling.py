"""Scaling: points from trainings' folders, the frontier, and the law behind made-up ones found again."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from latentcraft.__main__ import main
from latentcraft.agents.scaling import Point, fit, frontier, read_run
from latentcraft.configs.compose import compose_config
from latentcraft.errors import UserError
from latentcraft.model.train.sizes import sizes


def make_run(out: Path, width: int, exponent: float) -> float:
    """Write a folder like a training's whose losses follow a law; returns the FLOPs of a step."""
    words = ["preset=smoke", f"data={out}", f"out={out}", f"dynamics.model.width={width}"]
    config = compose_config("train", words)
    flops = sizes(config).train_flops  # type: ignore[arg-type]
    out.mkdir()
    (out / "config.json").write_text(json.dumps(asdict(config) | {"resolved_precision": "bf16"}, default=str))
    lines: list[dict[str, float]] = [{"step": 10, "loss": 1.0}]
    for step in (100, 200, 400):
        loss = 2.0 * (step * flops / 1e15) ** -exponent
        lines += [{"step": step, "loss": 1.0}, {"step": step, "from_noise": loss, "moved": 0.5}]
    (out / "dynamics.log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return flops


def test_a_law_is_read_from_folders(tmp_path: Path, capsys):
    pytest.importorskip("matplotlib")
    steps = {width: make_run(tmp_path / f"w{width}", width, 0.1) for width in (32, 64)}
    report = {"tables": [{"key": "replay", "rows": {"dream": {"frames_fd@10s": {"value": 0.7}}}}]}
    (tmp_path / "w64" / "evaluation").mkdir()
    (tmp_path / "w64" / "evaluation" / "report.json").write_text(json.dumps(report))
    assert main(["scaling", f"runs=[{tmp_path / 'w32'},{tmp_path / 'w64'}]", f"out={tmp_path / 'scaling'}"]) == 0
    found = json.loads((tmp_path / "scaling" / "scaling.json").read_text())
    assert found["laws"]["loss"]["exponent"] == pytest.approx(0.1)
    assert found["laws"]["loss"]["scale"] == pytest.approx(2.0)
    assert found["laws"]["frechet"] is None
    small, large = found["runs"]
    assert small["parameters"] < large["parameters"] and small["frechet"] is None
    assert small["losses"][0][0] == pytest.approx(100 * steps[32])
    assert large["frechet"] == pytest.approx([400 * steps[64], 0.7])
    assert (tmp_path / "scaling" / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert "^-0.100, R2 1.00" in capsys.readouterr().out


def test_only_what_nothing_cheaper_beats_counts():
    points = [Point(1e15, 1.0), Point(4e15, 0.5), Point(2e15, 0.7), Point(3e15, 0.9)]
    assert frontier(points) == [points[0], points[2], points[1]]
    assert fit(points[:2]) is None


def test_folders_without_a_training_or_a_validation_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="holds no finished training"):
        read_run(tmp_path)
    make_run(tmp_path / "run", 32, 0.1)
    (tmp_path / "run" / "dynamics.log.jsonl").write_text('{"step": 20, "loss": 1.0}\n')
    with pytest.raises(UserError, match="has no validation yet"):
        read_run(tmp_path / "run")
