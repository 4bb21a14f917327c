"""Identity: which identifiers are one person."""
