"""``system check``: whether everything in a store is what it was when it was stored, and putting
right what can be."""
