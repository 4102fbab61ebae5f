"""``torch.compile`` with a fallback, since a machine may have no C++ compiler."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def compiled(module: nn.Module) -> Callable[..., Any]:
    """Return ``module`` compiled for fixed shapes; the first call that fails to compile goes on eagerly for good."""
    fast = torch.compile(module, dynamic=False)
    state = {"run": fast}

    def run(*args: Any, **kwargs: Any) -> Any:
        if state["run"] is module:
            return module(*args, **kwargs)
        try:
            return fast(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            warnings.warn(f"torch.compile is not usable here ({type(error).__name__}); training eagerly", stacklevel=2)
            state["run"] = module
            return module(*args, **kwargs)

    return run
