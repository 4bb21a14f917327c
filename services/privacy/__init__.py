"""Privacy: what may be done with which data, and what must be forgotten."""
