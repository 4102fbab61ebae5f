"""latentcraft: a sandbox game whose world is a neural network.

Importing this package is cheap and imports nothing else. The Gymnasium ids ``latentcraft/Dream-v0`` and
``latentcraft/Voxel-v0`` exist as soon as both this package and Gymnasium are imported, in either order.
"""

from latentcraft.on_import import when_imported

__version__ = "0.1.0"

when_imported("gymnasium", "latentcraft.envs.registration", "register_envs")
