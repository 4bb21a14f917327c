"""What crosses a boundary between services, and nothing else."""
