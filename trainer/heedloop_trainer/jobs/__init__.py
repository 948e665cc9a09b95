"""Training jobs: from a command's configuration to a finished run."""
