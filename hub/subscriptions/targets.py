"""Where notifications may go: hosts the operator named, on addresses that cannot be this machine or its network.

A host is resolved once, every address it has must be allowed, and the connection goes to one of these very addresses,
so that a name that changes its mind between the check and the connection gains nothing. Redirects are not followed, no
proxy of the environment is used, and of the answer only the status is read.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from urllib.parse import urlsplit

import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

CONNECTING = 5.0  # seconds
# What is let pass of an answer, whose status alone counts: seconds and bytes.
DRAINING = 1.0
LONGEST_ANSWER = 64 * 1024
# IPv6 addresses that carry an IPv4 one: NAT64, and 6to4 and Teredo, which `ipaddress` unpacks itself.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotAllowed(Exception):
    """This target may not be reached from here, now or later; the message says why and what to change."""


class Unreachable(Exception):
    """The target did not take it this time; the message says how, and holds nothing that was sent or answered."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings allow. *hosts*: `ehr.example.org`, `*.example.org` (any name below), each with `:port` when it
    is not the usual one. *http*: unencrypted targets too. *networks*: private ones that may be reached."""

    hosts: tuple[str, ...] = ()
    http: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, hosts: str, http: bool, networks: str) -> "Policy":
        """From comma-separated texts. ValueError for a network that is none."""
        return cls(
            tuple(one.strip().lower() for one in hosts.split(",") if one.strip()),
            http,
            tuple(ipaddress.ip_network(one.strip()) for one in networks.split(",") if one.strip()),
        )

    def check(self, url: str) -> tuple[str, int]:
        """Host and port of *url*. Raises NotAllowed."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        if parts.scheme != "https" and not self.http:
            raise NotAllowed("only https:// targets are allowed here (CAREHUB_SUBSCRIPTION_HTTP)")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        usual = parts.port is None or port == (443 if parts.scheme == "https" else 80)
        if not any(_names(allowed, host, port, usual) for allowed in self.hosts):
            raise NotAllowed(f"{host}:{port} is not among the targets that are allowed (CAREHUB_SUBSCRIPTION_TARGETS)")
        return host, port

    def reachable(self, address: str) -> bool:
        """Whether connections may go to *address*: a public one, or one of the networks that the operator named."""
        one = _plain(ipaddress.ip_address(address.partition("%")[0]))
        if any(one.version == network.version and one in network for network in self.networks):
            return True
        return one.is_global and not (one.is_multicast or one.is_reserved or one.is_unspecified)


def _names(allowed: str, host: str, port: int, usual: bool) -> bool:
    name, colon, number = allowed.rpartition(":") if allowed.rpartition(":")[2].isdigit() else (allowed, "", "")
    if (colon and number != str(port)) or (not colon and not usual):
        return False
    return host.endswith(name[1:]) and len(host) > len(name) - 1 if name.startswith("*.") else host == name.strip("[]")


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does: it is there that the connection ends."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner if inner is not None else address


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of *host*. Raises Unreachable when it has none just now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host} has no address: {error.strerror}") from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


class Target:
    """One endpoint, checked and resolved when it is entered: `async with Target(policy, url) as target`."""

    def __init__(self, policy: Policy, url: str, timeout: float, resolve: Resolve = resolve) -> None:
        self._policy = policy
        self._url = url
        self._timeout = timeout
        self._resolve = resolve
        self._address = ""
        self._host = ""
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> "Target":
        self._host, port = self._policy.check(self._url)
        try:
            async with asyncio.timeout(CONNECTING):
                addresses = await self._resolve(self._host, port)
        except TimeoutError:
            raise Unreachable(f"{self._host} was not resolved within {CONNECTING:.0f} seconds") from None
        refused = [one for one in addresses if not self._policy.reachable(one)]
        if refused or not addresses:
            raise NotAllowed(
                f"{self._host} has an address inside a private, local or reserved network,"
                " which notifications do not go to (CAREHUB_SUBSCRIPTION_NETWORKS)"
            )
        self._address = addresses[0]  # the resolver puts first what this machine can reach
        # Of its own for each target: connections are kept by address, and two names may share one.
        self._client = httpx.AsyncClient(
            verify=_trust(), trust_env=False, follow_redirects=False, timeout=httpx.Timeout(self._timeout)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def send(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> None:
        """One request to the endpoint and *path* below it. Raises Unreachable for anything but a 2xx in time."""
        assert self._client is not None
        url = httpx.URL(self._url)
        host = url.netloc.decode("ascii")
        pinned = url.copy_with(host=self._address, raw_path=_below(url.raw_path, path))
        request = self._client.build_request(
            method, pinned, content=content, headers={**headers, "host": host, "accept-encoding": "identity"},
            extensions={"sni_hostname": self._host} if url.scheme == "https" else {},
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._timeout:.0f} seconds") from None
        except httpx.TimeoutException:
            raise Unreachable("no connection in time, or none that went on") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise Unreachable(f"no exchange with {self._host}: {_kind(error)}") from None
        await _drain(response)
        if response.is_redirect or 300 <= response.status_code < 400:
            raise Unreachable(f"answered {response.status_code}: redirects are not followed")
        if not response.is_success:
            raise Unreachable(f"answered {response.status_code}", _retry_after(response))


async def _drain(response: httpx.Response) -> None:
    """Let a short answer pass by, so that the connection serves the next request; a long one is cut off with it."""
    size = 0
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(DRAINING):
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > LONGEST_ANSWER:
                    break
    await response.aclose()


def _below(raw: bytes, path: str) -> bytes:
    if not path:
        return raw
    before, mark, query = raw.partition(b"?")
    return before.rstrip(b"/") + b"/" + path.encode("ascii") + mark + query


def _kind(error: Exception) -> str:
    """What went wrong, in words that cannot quote what was sent."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is not trusted"
    return type(error).__name__


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if response.status_code in (429, 503) and given.isdecimal() and len(given) < 6 else None
