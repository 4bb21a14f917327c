"""What the collector decides, as plain functions."""
