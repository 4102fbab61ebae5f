"""The shipped checkpoint."""
