"""Gymnasium: spaces, tasks, environments over a World, wrappers, recording of any environment."""
