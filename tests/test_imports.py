import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_imports_run_one_way(root: Path, tmp_path: Path):
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed (extra 'dev')")
    done = subprocess.run(
        [command, "--config", str(root / "pyproject.toml"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_first_picture_does_without_is_not_imported(root: Path):
    """A window should open at once: codecs, encoders, the explorer and compilers wait until they are needed."""
    late = ["av", "moviepy", "torch._dynamo", "torch._inductor", "latentcraft.agents.record"]
    code = (
        "import sys\n"
        "import latentcraft.agents.play, latentcraft.agents.session, latentcraft.agents.stage\n"
        "import latentcraft.agents.commands, latentcraft.agents.loop, latentcraft.agents.panes\n"
        "from latentcraft.simulator.dream import context, world\n"
        f"print([name for name in {late} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
