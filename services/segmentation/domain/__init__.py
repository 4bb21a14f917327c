"""Pure: what definitions mean, and what follows from an evaluation."""
