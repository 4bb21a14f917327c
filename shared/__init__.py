"""Samla's library: what every service stands on."""
