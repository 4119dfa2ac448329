"""What the command ends with; 0 is well."""

DIFFERS = 1
"""A verification failed, or a picture did not come out the same."""
USAGE = 2
"""Something that was given cannot be used."""
INTERNAL = 70
"""A mistake of limner's own."""
INTERRUPTED = 130
"""Stopped by Ctrl-C."""
BROKEN_PIPE = 141
"""Whoever read the output has gone."""
