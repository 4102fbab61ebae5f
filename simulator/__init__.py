"""The two worlds behind one protocol, and the measures that compare them."""
