"""What a proxy tells of the address that was asked: believed of those in the settings, of nobody else."""

import pytest
from rest import Fresh, running
from starlette.requests import Request

from fhir.wire import decode
from hub.forwarding import told
from hub.settings import Settings

PROXIES = "10.1.0.0/16, 127.0.0.1/32, fd12::/16"


def request(client: str | None = "10.1.2.3", **headers: str) -> Request:
    scope = {
        "type": "http",
        "scheme": "http",
        "method": "GET",
        "path": "/fhir/Patient",
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
        "client": (client, 5) if client else None,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    return Request(scope)


TOLD = {"x_forwarded_proto": "https", "x_forwarded_host": "hub.example.org", "host": "inside:8000"}


@pytest.mark.parametrize("client", ["10.2.0.1", "192.168.0.1", "testclient", None, "::1"])
def test_strangers_are_not_believed(client: str | None) -> None:
    assert told(request(client, **TOLD), PROXIES) is None
    assert told(request(**TOLD), None) is None


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        (TOLD, "https://hub.example.org"),
        (TOLD | {"x_forwarded_prefix": "/care/"}, "https://hub.example.org/care"),
        ({"forwarded": 'for=1.2.3.4;proto=https;host="hub.example.org:8443"'}, "https://hub.example.org:8443"),
        ({"forwarded": "host=evil.example;proto=http, host=hub.example.org;proto=https"}, "https://hub.example.org"),
        ({"x_forwarded_host": "evil.example, hub.example.org", "host": "x"}, "http://hub.example.org"),
        ({"x_forwarded_proto": "https", "host": "Hub.example.org"}, "https://hub.example.org"),
        (TOLD | {"x_forwarded_host": "a b"}, None),
        (TOLD | {"x_forwarded_host": "hub.example.org/evil"}, None),
        (TOLD | {"x_forwarded_proto": "javascript"}, None),
        (TOLD | {"x_forwarded_prefix": "//evil.example"}, None),
        ({"host": ""}, None),
    ],
)
def test_the_last_hop_counts_when_it_makes_an_address(headers: dict[str, str], address: str | None) -> None:
    assert told(request(**headers), PROXIES) == address


def test_ipv6_proxies() -> None:
    assert told(request("fd12::7", **TOLD), PROXIES) == "https://hub.example.org"


def test_networks_are_checked_when_the_service_starts() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        Settings(trusted_proxies="everyone")


async def test_next_links_begin_with_the_clients_own_address(fresh_url: Fresh) -> None:
    """An ASGI client comes from 127.0.0.1."""
    told_by_proxy = {"x-forwarded-proto": "https", "x-forwarded-host": "hub.example.org", "x-forwarded-prefix": "/care"}
    for trusted, base in (("127.0.0.1/32", "https://hub.example.org/care/fhir"), (None, "http://127.0.0.1/fhir")):
        async with running(fresh_url(), trusted_proxies=trusted) as rest:
            for _ in range(3):
                await rest.patient()
            bundle = decode((await rest.system("GET", "/Patient?_count=2", None, told_by_proxy)).content)
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            assert links["self"] == f"{base}/Patient?_count=2"
            assert links["next"].startswith(f"{base}/Patient?_cursor=")
            assert bundle["entry"][0]["fullUrl"].startswith(f"{base}/Patient/")
            following = f"/{links['next'].removeprefix(f'{base}/')}"
            assert len(decode((await rest.system("GET", following, None, told_by_proxy)).content)["entry"]) == 1
