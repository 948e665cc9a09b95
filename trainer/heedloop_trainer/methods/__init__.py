"""Training from rows: SFT, preference methods, reward models."""
