"""Decisions of activation, over plain data."""
