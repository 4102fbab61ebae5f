"""How true a world is: the same seeds and actions in it and in the reference world, and what differs."""
