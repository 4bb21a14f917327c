"""Profile: what is known of a person."""
