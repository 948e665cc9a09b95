"""PPO and RLOO: rollouts, advantages, losses, the training loop."""
