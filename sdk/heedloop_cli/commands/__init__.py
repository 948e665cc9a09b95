"""The commands that come with `pip install heedloop` alone. Each module has HELP, add_arguments and run."""
