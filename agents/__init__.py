"""Everything that chooses actions and everyone who runs them."""
