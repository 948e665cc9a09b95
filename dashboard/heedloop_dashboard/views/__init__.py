"""The pages, one module each: `show()` draws it from the URL's state and what the server answers."""
