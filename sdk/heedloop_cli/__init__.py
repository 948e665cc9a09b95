"""The `heedloop` command, its sub-commands that need no extra, and the importers of files."""
