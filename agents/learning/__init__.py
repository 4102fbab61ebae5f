"""Agents that learn from frames: what they see and do, cloning, PPO inside either world, and the proof of transfer."""
