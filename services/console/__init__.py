"""The way in for people and other systems."""
