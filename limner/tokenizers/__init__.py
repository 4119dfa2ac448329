"""Pictures to tokens and back: what a token is."""
