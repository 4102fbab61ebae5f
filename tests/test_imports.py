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
