"""Segmentation: who is in, who has just entered or left."""
