"""Metrics: how near pictures are to others, and how near a set of pictures is to another set."""
