"""heedloop SDK."""
