"""Shared parts of networks: attention, MLPs, norms, rotary positions, convolutions, memory."""
