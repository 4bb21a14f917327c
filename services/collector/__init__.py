"""The collector: takes data in."""
