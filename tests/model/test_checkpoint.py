from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import load_checkpoint, save_checkpoint


def test_what_is_saved_is_loaded(tiny_checkpoint: Path, tmp_path: Path):
    world = load_checkpoint(tiny_checkpoint)
    assert world.frame_size == (32, 48)
    assert world.provenance == {"made": "for tests"}
    save_checkpoint(tmp_path / "again.safetensors", world)
    again = load_checkpoint(tmp_path / "again.safetensors")
    for (name, one), two in zip(world.dit.state_dict().items(), again.dit.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert again.autoencoder.config == world.autoencoder.config
    for name, buffer in world.bank.state_dict().items():
        other = again.bank.state_dict()[name]
        assert buffer.dtype == other.dtype and torch.equal(buffer, other), name  # eyes are not rounded


def test_missing_truncated_and_foreign_files_are_named(tiny_checkpoint: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no checkpoint at .*absent\.safetensors"):
        load_checkpoint(tmp_path / "absent.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(tiny_checkpoint.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"torn\.safetensors is not a readable checkpoint"):
        load_checkpoint(torn)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(UserError, match=r"text\.safetensors"):
        load_checkpoint(text)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(UserError, match="not a latentcraft checkpoint"):
        load_checkpoint(foreign)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tiny_checkpoint: Path, tmp_path: Path, monkeypatch):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    world = load_checkpoint(tiny_checkpoint)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(path, world)
    assert path.read_bytes() == tiny_checkpoint.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["kept.safetensors"]
