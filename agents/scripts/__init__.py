"""Bundled action scripts (YAML)."""
