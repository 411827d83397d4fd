"""How well: candidates in, predictions out; pure functions over arrays."""
