"""Checkpoints: limner's own format, the hub, and the official weights of published systems."""
