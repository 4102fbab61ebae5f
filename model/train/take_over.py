"""A stage begins with the weights that a checkpoint has."""

from torch import nn

from latentcraft.model.train.loop import Stage


def take_over(known: nn.Module, stage: Stage) -> bool:
    """Let ``stage`` begin with the weights of ``known``; what ``known`` has not got begins as it would alone, and what
    the stage has ``gathered`` from its own recordings, such as the looks of its blocks, stays.

    Returns:
        Whether the shapes are alike; if not, nothing is taken over.
    """
    values = known.state_dict()
    shared = [name for name in stage.optimizer.parameters if name in values]
    own: frozenset[str] = getattr(stage, "gathered", frozenset())
    for name in shared:
        parameter = stage.optimizer.parameters[name]
        if values[name].numel() != parameter.numel() or len(values[name]) != len(parameter):
            print(f"{stage.name}: {name} has another shape in the checkpoint; this stage begins anew")
            return False
    for name in shared:
        if name in stage.optimizer.masters:  # of the other processes' shards there are none here
            master = stage.optimizer.masters[name]
            master.copy_(values[name].reshape(master.shape))
            stage.optimizer.average[name].copy_(master)
    for network in (stage.network, stage.average):
        stage.optimizer.copy_average_to(network)
        for name, buffer in network.named_buffers():
            if name in values and name not in own and values[name].shape == buffer.shape:
                buffer.copy_(values[name])
    return True
