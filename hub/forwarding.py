"""The address that a client asked, as a proxy tells it: believed only of proxies that the settings name."""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.requests import Request

_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.\-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~\-]{1,100}){0,8}")
_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"([^"\\]*)"|([^\s;,"]+))\s*')


def told(request: Request, trusted: str | None) -> str | None:
    """`https://hub.example.nhs.uk/care`, from `Forwarded` (RFC 7239) or `X-Forwarded-Proto`, `-Host` and `-Prefix`.

    None when the request does not come from one of the networks *trusted*, or says nothing that can be an address. Of
    several hops the last one counts: it was written by the proxy that is trusted, those before by whoever liked.
    """
    if not trusted or request.client is None or not _within(request.client.host, _networks(trusted)):
        return None
    headers = request.headers
    pairs = _last(headers.get("forwarded", ""))
    scheme = (pairs.get("proto") or _end(headers.get("x-forwarded-proto")) or request.url.scheme).lower()
    host = pairs.get("host") or _end(headers.get("x-forwarded-host")) or headers.get("host", "")
    prefix = _end(headers.get("x-forwarded-prefix")).rstrip("/")
    if scheme not in ("http", "https") or not _HOST.fullmatch(host) or not _PREFIX.fullmatch(prefix):
        return None
    return f"{scheme}://{host.lower()}{prefix}"


def _last(header: str) -> dict[str, str]:
    """The pairs of the last hop; none when any of it is malformed."""
    found: dict[str, str] = {}
    for part in header.rpartition(",")[2].split(";") if header else ():
        match = _PAIR.fullmatch(part)
        if match is None:
            return {}
        found[match[1].lower()] = match[2] if match[2] is not None else match[3]
    return found


def _end(header: str | None) -> str:
    return (header or "").rpartition(",")[2].strip()


@lru_cache(8)
def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())


def _within(host: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)
