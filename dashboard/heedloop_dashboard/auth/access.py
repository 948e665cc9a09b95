"""How people may sign in besides with their own key: who vouches for them, and which key each of them works with.

A proxy in front of the dashboard or an OpenID provider says who somebody is; this configuration says which API key that
person works with; the server says what the key may do. Nothing here grants more than the key.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AccessError(ValueError):
    """The configuration of sign-in cannot be used; the message says which part and why."""


@dataclass(frozen=True, slots=True)
class OpenIdProvider:
    """An OpenID Connect provider.

    Attributes:
        issuer: its address; `/.well-known/openid-configuration` under it says the rest.
        claim: the claim that names the person. `email` counts only where the provider says that it is verified.
        public_url: the dashboard's address as browsers see it; empty: as the request says.
    """

    issuer: str
    client_id: str
    client_secret: str = ""
    claim: str = "email"
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Keys by the people who work with them. `*@example.com` is everybody of that domain who is not named."""

    keys: Mapping[str, str] = field(default_factory=dict)

    def key_of(self, person: str) -> str | None:
        """The key that a person works with; None where nobody gave them one. Case does not matter."""
        name = person.strip().casefold()
        if name in self.keys and not name.startswith("*"):
            return self.keys[name]
        _, at, domain = name.rpartition("@")
        return self.keys.get(f"*@{domain}") if at and domain else None

    @classmethod
    def read(cls, path: Path) -> KeyMap:
        """A TOML file with a table `people`: name -> key, `env:NAME` or `file:PATH`.

        Raises:
            AccessError: the file cannot be read, or a key is missing.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("people", {})
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise AccessError(f"{path}: {err}") from err
        if not isinstance(table, dict) or not table:
            raise AccessError(f"{path}: there is no table [people] with a name and a key for each person")
        return cls(
            {str(name).strip().casefold(): _key(str(name), value, path) for name, value in table.items()}
        )


def _key(name: str, value: object, path: Path) -> str:
    text = value if isinstance(value, str) else ""
    try:
        if text.startswith("env:"):
            text = os.environ.get(text[4:], "")
        elif text.startswith("file:"):
            text = (path.parent / text[5:]).read_text(encoding="utf-8")
    except OSError as err:
        raise AccessError(f"{path}: the key of {name!r}: {err}") from err
    if not text.strip().startswith("hl_"):
        raise AccessError(f"{path}: the key of {name!r} is no key: it must start with hl_, env: or file:")
    return text.strip()


@dataclass(frozen=True, slots=True)
class Access:
    """The whole configuration; without any of it everybody signs in with a key.

    Attributes:
        proxy_header: the header in which a trusted proxy says who somebody is; empty: none does.
        proxies: networks of the proxies that are believed; a header from elsewhere counts for nothing.
    """

    people: KeyMap = field(default_factory=KeyMap)
    proxy_header: str = ""
    proxies: Sequence[Network] = ()
    provider: OpenIdProvider | None = None

    def trusts(self, address: str | None) -> bool:
        """True where a request came directly from a trusted proxy."""
        try:
            host = ipaddress.ip_address((address or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped:
            host = host.ipv4_mapped
        return any(host in network for network in self.proxies)

    def check(self) -> None:
        """Refuse a configuration that would let nobody or everybody in.

        Raises:
            AccessError: parts are missing.
        """
        if self.proxy_header and not self.proxies:
            raise AccessError("a proxy header needs --trusted-proxy: from elsewhere anybody could send it")
        if (self.proxy_header or self.provider) and not self.people.keys:
            raise AccessError("--people must say which key each person works with")
        if self.provider and not self.provider.issuer.startswith(
            ("https://", "http://127.0.0.1", "http://localhost")
        ):
            raise AccessError(f"--oidc-issuer {self.provider.issuer!r} must start with https://")


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks such as `10.0.0.5` and `10.0.0.0/8`.

    Raises:
        AccessError: one of them is neither.
    """
    try:
        return tuple(ipaddress.ip_network(t.strip()) for t in texts if t.strip())
    except ValueError as err:
        raise AccessError(f"--trusted-proxy: {err}") from err
