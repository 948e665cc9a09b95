"""The server's sub-commands of `heedloop`."""
