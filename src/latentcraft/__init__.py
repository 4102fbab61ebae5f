"""latentcraft: a sandbox game whose world is a neural network.

Importing this package is cheap. The Gymnasium ids ``latentcraft/Dream-v0`` and ``latentcraft/Voxel-v0`` are
registered through the ``gymnasium.envs`` entry point when Gymnasium itself is imported; if Gymnasium was imported
before latentcraft was installed into the running interpreter, the import below registers them.
"""

import sys

__version__ = "0.1.0"

if "gymnasium" in sys.modules:
    from latentcraft.envs.registration import register_envs

    register_envs()
