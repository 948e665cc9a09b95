"""heedloop trainer: snapshots into SFT, reward-model and PPO runs, and their evaluation."""
