"""Snapshots, exports and training runs."""
