"""Counts of answers and ratings, from hourly aggregates and rows."""
