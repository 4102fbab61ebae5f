from pathlib import Path

import pytest

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity import subjects
from latentcraft.simulator.fidelity.adapters import CodecWorld, CopyLastWorld, ForgetfulWorld, WrongActionsWorld
from latentcraft.simulator.fidelity.knobs import Knobs, TunedDream
from latentcraft.simulator.fidelity.subjects import Shape, load_model, make_rows
from latentcraft.simulator.protocol import World
from latentcraft.simulator.voxel.world import VoxelWorld


def make_small(games: int, task: str) -> World:
    return VoxelWorld(games, task, (16, 32))


def test_every_known_world_is_a_row_of_the_checkpoints_shape(tiny_checkpoint: Path):
    model, digest = load_model(tiny_checkpoint)
    rows, shape = make_rows(list(subjects.TITLES), model=model, digest=digest, knobs=[Knobs(), Knobs(steps=1)])
    assert shape == Shape((32, 48), 4)
    assert [row.subject.name for row in rows] == [
        "dream", "dream, 1 step", "codec ceiling", "copy-last floor", "reference", "wrong actions", "forgetful",
    ]  # fmt: skip
    kinds = [TunedDream, TunedDream, CodecWorld, CopyLastWorld, VoxelWorld, WrongActionsWorld, ForgetfulWorld]
    for row, kind in zip(rows, kinds, strict=True):
        world = row.subject.make(2, "free")
        assert isinstance(world, kind)
        assert (world.spec.num_worlds, world.spec.frame_size, world.spec.chunk) == (2, (32, 48), 4)
    identities = [str(row.identity) for row in rows]
    assert len(set(identities)) == len(rows)
    assert [digest in identity for identity in identities] == [True] * 3 + [False] * 4, "marks serve all checkpoints"


def test_without_a_checkpoint_foreign_worlds_set_the_shape(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subjects, "make_small", make_small, raising=False)
    name = f"{subjects.__name__}:make_small"
    rows, shape = make_rows(["copy-last", name], model=None, digest="", knobs=[])
    assert shape == Shape((16, 32), 4) and [row.kind for row in rows] == ["copy-last", name]
    assert rows[0].subject.make(1, "free").spec.frame_size == (16, 32)
    assert make_rows(["reference"], model=None, digest="", knobs=[])[1] == Shape()


def test_worlds_of_other_shapes_do_not_go_together(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subjects, "make_small", make_small, raising=False)
    model, digest = load_model(tiny_checkpoint)
    with pytest.raises(UserError, match="make_small has .*16, 32.* the checkpoint .*32, 48"):
        make_rows(["dream", f"{subjects.__name__}:make_small"], model=model, digest=digest, knobs=[Knobs()])


def test_unknown_worlds_are_named():
    with pytest.raises(UserError, match="worlds=moon"):
        make_rows(["moon"], model=None, digest="", knobs=[])
