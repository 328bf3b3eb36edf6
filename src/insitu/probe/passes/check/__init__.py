"""The checker: gives every expression its type, and rejects what has none."""
