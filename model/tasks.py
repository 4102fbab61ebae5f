"""The tasks a world can pay rewards for; the index is what the model is conditioned on and episodes record by name."""

TASKS: tuple[str, ...] = ("free", "chop", "navigate", "navigate-shaped", "build", "explore")
TASK_INDEX = {name: index for index, name in enumerate(TASKS)}
