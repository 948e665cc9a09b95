"""Signing in: keys, a proxy's word, OpenID Connect, and what a session may do."""
