"""The command `limner`: one file a verb. Nothing slow is imported before a verb runs."""

from limner.cli.command import main

__all__ = ["main"]
