"""Look-alikes: people that are likely one, though no identifier says so. A job of its own, never in the live path."""
