import torch
from torch import nn

from latentcraft.model.undrawn import Undrawn


def test_nothing_is_drawn_and_the_generator_stays():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with Undrawn():
        layers = nn.ModuleList([nn.Linear(8, 4), nn.Conv2d(3, 4, 3), nn.Embedding(5, 6), nn.GroupNorm(2, 4)])
        nn.init.trunc_normal_(layers[0].weight, std=3.0)
        nn.init.trunc_normal_(layers[1].weight, a=1.9, b=2.0)
    assert torch.equal(torch.rand(3), expected)
    assert not any(weight.any() for layer in layers[:3] for name, weight in layer.named_parameters() if name == "bias")
    assert not layers[0].weight.any() and not layers[2].weight.any()
    assert (layers[3].weight == 1).all(), "what is no draw is left as it is"
    assert all(weight.requires_grad for weight in layers.parameters())


def test_draws_are_back_afterwards():
    with Undrawn():
        nn.Linear(8, 4)
    assert nn.Linear(8, 4).weight.any()
