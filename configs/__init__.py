"""hydra configuration: one yaml per command."""
