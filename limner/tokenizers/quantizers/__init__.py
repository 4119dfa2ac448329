"""Quantisers: from the vectors of an encoder to ids, and back."""
