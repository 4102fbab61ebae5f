import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcraft.agents.play import PlayConfig, preview
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.protocol import Start


@pytest.mark.parametrize("source", ["seed", "image"])
def test_the_preview_is_what_reset_shows(tiny_checkpoint: Path, source: str, tmp_path: Path):
    picture = tmp_path / "view.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(picture)
    start = Start(seed=7) if source == "seed" else Start(noise_seed=0, media=picture)
    seen = preview(PlayConfig(checkpoint=tiny_checkpoint), start)
    world = DreamWorld(checkpoint=tiny_checkpoint)
    assert seen is not None
    np.testing.assert_array_equal(seen, world.reset([start])[0, -1])


def test_there_is_no_preview_of_nothing(tiny_checkpoint: Path, tmp_path: Path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    for config, start in (
        (PlayConfig(checkpoint=tiny_checkpoint), Start(noise_seed=0)),  # the dream begins from nothing
        (PlayConfig(checkpoint=tiny_checkpoint), Start(noise_seed=0, media=tmp_path / "nowhere.png")),
        (PlayConfig(checkpoint=tiny_checkpoint, slot=1), Start(seed=7)),
        (PlayConfig(checkpoint=broken), Start(seed=7)),
        (PlayConfig(world="voxel"), Start(seed=7)),
    ):
        assert preview(config, start) is None


def test_a_preview_needs_no_torch(tiny_checkpoint: Path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from latentcraft.agents.play import PlayConfig, preview\n"
        "from latentcraft.simulator.protocol import Start\n"
        f"assert preview(PlayConfig(checkpoint=Path({str(tiny_checkpoint)!r})), Start(seed=7)) is not None\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
