"""``latentcraft env bench`` and ``env soak`` at tiny durations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentcraft.__main__ import main
from latentcraft.agents import bench_envs, soak
from latentcraft.agents.soak import SoakConfig, Watch, sticky_actions
from latentcraft.envs.promises import Broken
from latentcraft.envs.spaces import action_space


def test_steps_a_second_of_both_worlds(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "bench.json"
    words = ["batches=[1,2]", "seconds=0.01", "denoising=1", f"checkpoint={tiny_checkpoint}", f"json={out}"]
    assert main(["env", "bench", *words]) == 0
    page = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert [(row["world"], row["observation"], row["batch"]) for row in report["rows"]] == [
        (world, seen, batch) for world in ("voxel", "dream") for seen in ("rgb", "latent") for batch in (1, 2)
    ]
    for row in report["rows"]:
        assert row["calls"] >= 2 and row["steps_per_second"] > 0 and row["chunk"] == 4
        assert row["frames_per_second"] == pytest.approx(4 * row["steps_per_second"], rel=0.02)
    assert report["machine"]["precision"] and report["settings"]["denoising"] == 1
    assert "dream, latent" in page and str(out) in page and report["machine"]["cpu"] in page


def test_a_batch_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    import gymnasium

    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("can't allocate memory\nand more")

    monkeypatch.setattr(gymnasium, "make_vec", refuse)
    config = bench_envs.EnvBenchConfig(worlds=("dream",), observations=("rgb",), batches=(64,))
    assert bench_envs.main(config) == 0
    assert "dream, rgb, 64 games: can't allocate memory\n" in capsys.readouterr().out


def test_a_soak_checks_every_step(capsys: pytest.CaptureFixture):
    words = ["steps=240", "games=3", "length=4", "rounds=2", "tasks=[free,build]", "observation=none"]
    assert main(["env", "soak", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "0%, 0 steps" in lines[0] and "100%, 240 steps" in lines[-2] and "open files" in lines[0]
    assert lines[-1].startswith("voxel: 240 steps in 48 episodes, every promise kept")


def test_a_soak_of_a_dream(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr("latentcraft.model.checkpoint.SHIPPED", tiny_checkpoint)
    words = ["world=dream", "steps=12", "games=2", "tasks=[chop]", "rounds=1", "observation=latent"]
    assert main(["env", "soak", *words]) == 0
    assert "dream: 12 steps" in capsys.readouterr().out


def test_a_broken_promise_ends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def broken(self: Any, result: Any) -> int:
        raise Broken("game 3: rewards that are not finite")

    monkeypatch.setattr(soak.Promises, "check_step", broken)
    assert main(["env", "soak", "steps=8", "games=4", "observation=none"]) == 1
    error = capsys.readouterr().err
    assert "voxel, task free: game 3: rewards that are not finite" in error


def test_growth_after_the_first_half_is_a_leak(monkeypatch: pytest.MonkeyPatch):
    def leaks(memory: list[int], handles: list[int]) -> list[str]:
        watch = Watch(SoakConfig(steps=100))
        held = iter(zip(memory, handles, strict=True))
        monkeypatch.setattr(soak, "resident_bytes", lambda: now[0])
        monkeypatch.setattr(soak, "open_handles", lambda: now[1])
        for steps in range(0, 101, 100 // (len(memory) - 1)):
            now = next(held)
            watch.look(steps)
        return watch.leaks()

    assert leaks([10**8, 3 * 10**8, 3 * 10**8], [5, 9, 9]) == []
    assert leaks([10**8, 2 * 10**8, 3 * 10**8], [5, 5, 5]) == ["memory grew by 100 MB over the second half"]
    # An environment that has just been closed holds less for a moment.
    assert leaks([10**8, 2 * 10**8, 10**8, 2 * 10**8, 2 * 10**8, 2 * 10**8], [5] * 6) == []
    assert leaks([10**8, 10**8, 10**8], [5, 5, 9]) == ["open files grew from 5 to 9 over the second half"]


def test_sticky_actions():
    from gymnasium.vector.utils import batch_space

    space: Any = batch_space(action_space(4), 6)
    rng = np.random.default_rng(0)
    first = sticky_actions(space, None, rng, 1.0)
    same, other = sticky_actions(space, first, rng, 1.0), sticky_actions(space, first, rng, 0.0)
    assert same in space and other in space
    assert all(np.array_equal(same[name], first[name]) for name in first)
    assert not np.array_equal(other["camera"], first["camera"])


@pytest.mark.parametrize(
    "words, named",
    [
        (["bench", "batches=[0]"], "batches"),
        (["bench", "seconds=0"], "seconds"),
        (["bench", "worlds=[]"], "worlds"),
        (["bench", "worlds=[nether]"], "nether"),
        (["bench", "worlds=[dream]", "denoising=3"], "3"),
        (["bench", "worlds=[dream]", "checkpoint=typo.safetensors"], "typo.safetensors"),
        (["soak", "tasks=[swim]"], "swim"),
        (["soak", "steps=0"], "steps"),
        (["soak", "sticky=2"], "sticky"),
    ],
)
def test_bad_keys_are_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture):
    assert main(["env", *words]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
