"""The contracts: layouts, tokens, orders, slots, noise, memory, heads, generators, tokenizers."""
