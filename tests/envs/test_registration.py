import subprocess
import sys

import gymnasium
import pytest

from latentcraft.envs.registration import ENV_IDS, register_envs

CHECK = """
import sys
assert {ids!r} <= set(gymnasium.registry), list(gymnasium.registry)
assert type(gymnasium.__spec__.loader).__module__.startswith("_frozen_importlib")  # our loader left no trace
assert not any(type(finder).__module__.startswith("latentcraft") for finder in sys.meta_path)
assert "torch" not in sys.modules and "numba" not in sys.modules
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import latentcraft, gymnasium",
        "import gymnasium, latentcraft",
        "import latentcraft, importlib.util as u; assert u.find_spec('gymnasium'); import gymnasium",
        "import latentcraft.envs.spaces, gymnasium",
        "import latentcraft; from gymnasium import spaces; import gymnasium",
    ],
)
def test_ids_exist_in_any_order_of_imports(imports: str):
    code = imports + CHECK.format(ids=set(ENV_IDS))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_gymnasium_imports_us_by_the_id():
    code = "import gymnasium; gymnasium.make('latentcraft:latentcraft/Voxel-v0', disable_env_checker=True).close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_registering_twice_does_nothing():
    before = {env_id: gymnasium.registry[env_id] for env_id in ENV_IDS}
    register_envs()  # Gymnasium would warn of an override, and warnings are errors here
    assert all(gymnasium.registry[env_id] is spec for env_id, spec in before.items())
