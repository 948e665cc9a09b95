"""Arguments and keys whose name says that their value is a secret; such values are masked before anything else."""

from __future__ import annotations

import functools
import re

MASK = "[masked]"
"""Replaces a secret."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ENDINGS = (
    "apikey",
    "api_key",
    "access_key",
    "private_key",
    "secret_key",
    "signing_key",
    "encryption_key",
    "key_secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secrets",
    "token",
    "authorization",
    "auth",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "dsn",
    "connection_string",
    "account_key",
    "anthropic_key",
    "auth_key",
    "aws_key",
    "azure_key",
    "hmac_key",
    "master_key",
    "openai_key",
    "ssh_key",
)
_SECRET = re.compile(rf"(?:^|.*_)(?:{'|'.join(_ENDINGS)})(?:_(?:value|header|string|\d+))?")


@functools.lru_cache(4096)
def is_secret(name: str) -> bool:
    """True for `api_key`, `X-Api-Key`, `dbPassword`, `access_token` …; not for `max_tokens` or `key`."""
    if len(name) > 100:
        return False
    words = "_".join(_WORD.findall(name)).lower()
    return _SECRET.fullmatch(words) is not None
