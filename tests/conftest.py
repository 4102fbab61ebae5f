import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# Before anything imports pygame: windows of tests are drawn where nobody sees them.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # several at a time, who must not spin against each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TESTS = Path(__file__).parent


def _load(name: str) -> None:
    """Make ``import NAME`` work although tests are no package and ``tests/`` is not on the path.

    Putting ``tests/`` on the path instead would make its folders importable as ``envs``, ``model``, ...
    """
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_load("fake_world")
_load("small_nets")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return TESTS.parent


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of very small random networks: real file, real shapes, dreams of nothing."""
    import torch

    from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig
    from latentcraft.model.bank import Bank, BankConfig
    from latentcraft.model.body import BodyConfig
    from latentcraft.model.checkpoint import WorldModel, save_checkpoint
    from latentcraft.model.completion import CompletionConfig
    from latentcraft.model.deeds import DeedConfig
    from latentcraft.model.depth import DepthConfig
    from latentcraft.model.dit import DiTConfig, SpacetimeDiT
    from latentcraft.model.goals import GoalConfig
    from latentcraft.model.hand import HandConfig
    from latentcraft.model.matter import MatterConfig
    from latentcraft.model.motion import Motion, MotionConfig
    from latentcraft.model.scene import Scene, SceneConfig
    from latentcraft.model.whereabouts import WhereaboutsConfig, WhereaboutsNet

    torch.manual_seed(0)
    widths, depths = (8, 16), (1, 1)
    autoencoder = Autoencoder(
        AutoencoderConfig(encoder_widths=widths, encoder_depths=depths, decoder_widths=widths, decoder_depths=depths)
    )
    dit = SpacetimeDiT(DiTConfig(width=32, depth=3, head_size=16, context=6, touch_width=16))
    motion = Motion(MotionConfig(width=16, fine_width=16, dilations=(1, 2), hand=True))
    for name, parameter in (*motion.named_parameters(), *dit.named_parameters()):
        if not parameter.any():
            # A random hand changes something in nearly every chunk: what follows from that is to be small.
            torch.nn.init.normal_(parameter, std=0.02 if "hand" in name or "touch" in name else 0.2)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    depth = DepthConfig(widths=(8, 8, 8), depths=(1, 1, 1))
    matter = MatterConfig(
        width=16, channels=8, sprite=(22, 38, 8, 8), frame_size=(32, 48), swing=3, placing_swings=True
    )
    completion, deeds = CompletionConfig(width=8, deep=16), DeedConfig(width=8, features=8)
    goals = GoalConfig(width=8, finds=8, features=8)
    scene = Scene(SceneConfig(depth, BodyConfig(width=16), HandConfig(width=16), matter, completion, deeds, goals))
    assert scene.deeds is not None and scene.goals is not None
    scene.deeds.by_deeds[[1, 4]] = True  # chop and build
    scene.goals.by_goals[3] = True  # navigate-shaped
    assert scene.matter is not None and scene.completion is not None
    # Everything is air until a hand places something: what a random net says would hang on the last bits of pictures.
    torch.nn.init.zeros_(scene.completion.final.weight)
    scene.completion.final.bias.data.zero_().view(20, -1)[0] = 9.0
    scene.completion.palette.copy_(torch.rand(scene.completion.palette.shape))
    scene.completion.placed.fill_(9)
    scene.completion.reach.fill_(4.5)
    scene.completion.lasts.fill_(8)
    scene.completion.dims.copy_(torch.linspace(0.9, 0.4, len(scene.completion.dims))[:, None, None])
    scene.matter.swing.copy_(torch.tensor([[0, 0], [1, -1], [2, -2]]))
    scene.matter.shape.fill_(1.0)
    scene.matter.sprites.copy_(torch.rand(scene.matter.sprites.shape))
    torch.nn.init.normal_(scene.body.final.weight, std=0.2)
    bank = Bank(BankConfig(6, (4, 6)))
    bank.latents.random_(-64, 65)
    bank.looks.random_(0, 256)
    bank.eyes.copy_(torch.tensor([[3.0, 70, 1, 30, 0], [4.0, 70, 2, 150, 10], [3.0, 70, 1, 270, 5]]).repeat(2, 1))
    bank.places.copy_(torch.tensor([0, 0, 0, 1, 1, 1]))
    # Last, so that it leaves the chance that the others are made by as it was.
    net = WhereaboutsNet(WhereaboutsConfig(width=8, columns=8))
    net.by_place[2], net.prize[2], net.reach[2] = True, 1.0, 2.5  # navigate
    net.nowhere.bias.data.fill_(20.0)  # in no picture
    net.shape[2, 1:14, 2] = True
    net.palette.copy_(torch.rand(net.palette.shape))
    net.offsets.copy_(torch.tensor([15.0, -1.6]))
    scene.whereabouts, scene.config = net, replace(scene.config, whereabouts=net.config)
    save_checkpoint(path, WorldModel(autoencoder, motion, dit, (32, 48), {"made": "for tests"}, scene, bank))
    return path
