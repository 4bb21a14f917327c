"""Activation: what goes out, to whom, when; and what must not."""
