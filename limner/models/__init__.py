"""Published generators, one file each: configuration, variants, composition of shared parts."""
