"""The learned world: the diffusion transformer rolled out chunk by chunk."""
