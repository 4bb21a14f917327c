"""`samla import`: files become messages, and go through the collector's door like everything else."""
