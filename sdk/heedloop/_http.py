"""The one HTTP set-up of SDK, REST client and commands: key, proxies, certificates, and errors without secrets.

* The key is the session's `auth`, so that `requests` never looks for another one in `.netrc`.
* Proxies come from the environment, but a server on this machine is never behind one.
* Certificates: `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, else `SSL_CERT_FILE`, else certifi's.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

DEFAULT_URL = "http://127.0.0.1:8321"

_KEY = re.compile(r"hl_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_IN_TEXT = re.compile(r"\bhl_([0-9a-f]{12})_[A-Za-z0-9_-]{2,}")
_USER_INFO = re.compile(r"://[^/@\s]+@")
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def clean_key(text: str | None) -> str:
    """A key as it comes out of files and environments: without the white space and quotes around it."""
    return (text or "").strip().strip("\"'").strip()


def check_key(key: str) -> None:
    """Raise `ValueError` where `key` cannot be a heedloop key. The message does not repeat it."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(
            f"api_key: is not a heedloop key, which is hl_<12 hex digits>_<43 characters>; this one has {len(key)} characters"
        )


def key_id(key: str) -> str:
    """The public part of a key, by which lists and logs name it; empty where it has none."""
    match = _KEY.fullmatch(key)
    return match[1] if match else ""


def clean_url(url: str | None) -> str:
    """The server's address without white space and slashes at its end: `HEEDLOOP_URL` or this machine's where not given.

    Raises `ValueError` where it is no address; it may be a key in the wrong place, which the message does not repeat.
    """
    cleaned = (url or os.environ.get("HEEDLOOP_URL") or DEFAULT_URL).strip().rstrip("/")
    if not cleaned.startswith(("http://", "https://")):
        raise ValueError(f"url: {without_secrets(cleaned, '')!r:.80} does not begin with http:// or https://")
    return cleaned


def without_secrets(text: str, key: str) -> str:
    """`text` without the key beyond its id, and without the password of an address."""
    if key:
        text = text.replace(key, f"hl_{key_id(key)}_…")
    return _USER_INFO.sub("://…@", _IN_TEXT.sub(r"hl_\1_…", text))


def new_session(url: str, key: str) -> requests.Session:
    """A session for one thread. `requests` is imported here, because it is not free."""
    import requests

    session = requests.Session()
    session.auth = _Bearer(key) if key else _no_key
    bundle = next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), None)
    if bundle is not None:
        session.verify = bundle
    if _is_this_machine(url):
        session.trust_env = False
    return session


class _Bearer:
    """Puts the key on a request; a class, because its repr must not show the key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _no_key(request: Any) -> Any:
    return request


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
