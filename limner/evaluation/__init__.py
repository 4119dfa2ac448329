"""Evaluation: how good pictures are, and whether they were learned or copied."""
