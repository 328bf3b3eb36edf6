"""The checker: gives every expression its type, and reports type errors."""
