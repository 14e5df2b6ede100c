"""Where notifications may go: hosts that were named, addresses that cannot be ours, names that are asked once."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from subscribing import Receiver, receiving

from hub.subscriptions import targets
from hub.subscriptions.targets import NotAllowed, Policy, Target, Unreachable

PUBLIC = "93.184.215.14"


def known(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver that answers so, each time it is asked."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


class TestHosts:
    @pytest.mark.parametrize(
        "url",
        [
            "https://ehr.example.org/hook",
            "https://EHR.Example.org./hook",
            "https://a.wards.example.org/x",
            "https://a.b.wards.example.org/x",
            "https://odd.example.org:8443/",
        ],
    )
    def test_named_ones(self, url: str) -> None:
        Policy.of("ehr.example.org, *.wards.example.org, odd.example.org:8443", False, "").check(url)

    @pytest.mark.parametrize(
        "url",
        [
            "https://elsewhere.example.org/",
            "https://wards.example.org/",
            "https://evilwards.example.org/",
            "https://ehr.example.org.evil.example/",
            "https://ehr.example.org:8443/",
            "https://odd.example.org/",
            "https://ehr.example.org@evil.example/",
            "http://ehr.example.org/hook",
        ],
    )
    def test_threat_others(self, url: str) -> None:
        with pytest.raises(NotAllowed):
            Policy.of("ehr.example.org, *.wards.example.org, odd.example.org:8443", False, "").check(url)

    def test_without_any_nothing_is_sent_anywhere(self) -> None:
        with pytest.raises(NotAllowed):
            Policy().check("https://ehr.example.org/")

    def test_http_where_the_operator_says_so(self) -> None:
        assert Policy.of("x.example", True, "").check("http://x.example/") == ("x.example", 80)


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "::",
            "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fd00:ec2::254",
            "169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0",
            "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::", "2002:a9fe:a9fe::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "192.0.2.1",
        ],
    )  # fmt: skip
    def test_threat_a_notification_reaches_this_machine_or_its_network(self, address: str) -> None:
        assert not Policy.of("x", False, "").reachable(address)

    @pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c", f"::ffff:{PUBLIC}"])
    def test_public_ones(self, address: str) -> None:
        assert Policy.of("x", False, "").reachable(address)

    def test_networks_that_the_operator_named_and_no_others(self) -> None:
        policy = Policy.of("x", False, "10.1.0.0/16, fd12::/16")
        assert policy.reachable("10.1.2.3") and policy.reachable("fd12::1") and policy.reachable("::ffff:10.1.2.3")
        assert not policy.reachable("10.2.0.1") and not policy.reachable("127.0.0.1")

    @pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254"])
    async def test_threat_a_public_name_with_a_private_address(self, address: str) -> None:
        with pytest.raises(NotAllowed):
            await Target(Policy.of("x.example", False, ""), "https://x.example/", 1, known(address)).__aenter__()

    async def test_threat_one_of_several_addresses_is_private(self) -> None:
        with pytest.raises(NotAllowed):
            await Target(Policy.of("x.example", False, ""), "https://x.example/", 1, known(PUBLIC, "::1")).__aenter__()

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost"])
    async def test_threat_an_address_in_the_place_of_a_name(self, host: str) -> None:
        with pytest.raises((NotAllowed, Unreachable)):
            await Target(Policy.of(host, True, ""), f"http://{host}/", 1).__aenter__()


class TestConnecting:
    async def test_threat_dns_rebinding_the_name_is_asked_once(self, receiver: Receiver) -> None:
        asked = []

        async def rebinding(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        policy = Policy.of(f"x.example:{receiver.port}", True, "127.0.0.0/8")
        async with Target(policy, f"http://x.example:{receiver.port}/hook?a=b", 5, rebinding) as target:
            await target.send("POST", "", b"1", {})
            await target.send("PUT", "Patient/1", b"2", {})
        assert asked == ["x.example"]
        assert [request.path for request in receiver.requests] == ["/hook?a=b", "/hook/Patient/1?a=b"]
        assert {request.headers["host"] for request in receiver.requests} == {f"x.example:{receiver.port}"}

    async def test_no_proxy_of_the_environment(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        async with Target(receiver.policy, receiver.url, 5) as target:
            await target.send("POST", "", b"", {})
        assert len(receiver.requests) == 1

    async def test_an_answer_that_does_not_come(self, receiver: Receiver) -> None:
        receiver.delay = 5
        async with Target(receiver.policy, receiver.url, 0.2) as target:
            with pytest.raises(Unreachable, match=r"no answer|no connection"):
                await target.send("POST", "", b"", {})

    async def test_threat_an_answer_without_end_is_not_read(self) -> None:
        written = 0

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            try:
                while written < 50_000_000:
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    written += 65536
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(endless, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            policy = Policy.of(f"127.0.0.1:{port}", True, "127.0.0.0/8")
            async with Target(policy, f"http://127.0.0.1:{port}/", 10) as target:
                await target.send("POST", "", b"", {})
        assert written < 20_000_000

    async def test_nobody_listens(self) -> None:
        policy = Policy.of("127.0.0.1:9", True, "127.0.0.0/8")
        async with Target(policy, "http://127.0.0.1:9/", 2) as target:
            with pytest.raises(Unreachable, match=r"no exchange with 127\.0\.0\.1: ConnectError"):
                await target.send("POST", "", b"secret", {"authorization": "Bearer secret"})

    async def test_a_host_without_an_address(self) -> None:
        with pytest.raises(Unreachable):
            await Target(Policy.of("no-such-host.invalid", False, ""), "https://no-such-host.invalid/", 2).__aenter__()

    @pytest.mark.parametrize(("name", "trusted", "arrives"), [("x", True, 1), ("y", True, 0), ("x", False, 0)])
    async def test_threat_somebody_else_answers_at_the_address(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool, arrives: int
    ) -> None:
        """The certificate must be that of the name, though the connection goes to an address, and be vouched for."""
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        command = (
            f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=x.example"
        )
        made_by = await asyncio.create_subprocess_exec(
            *command.split(), "-addext", "subjectAltName=DNS:x.example", stderr=subprocess.DEVNULL
        )
        assert await made_by.wait() == 0
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(certificate, key)
        ours = ssl.create_default_context(cafile=str(certificate) if trusted else None)
        monkeypatch.setattr(targets, "_trust", lambda: ours)
        made = Receiver()
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        policy = Policy.of(f"{name}.example:{port}", False, "127.0.0.0/8")
        async with server, Target(policy, f"https://{name}.example:{port}/hook", 5, known("127.0.0.1")) as target:
            if arrives:
                await target.send("POST", "", b"x", {})
            else:
                with pytest.raises(Unreachable, match="certificate is not trusted"):
                    await target.send("POST", "", b"x", {})
        assert [request.headers["host"] for request in made.requests] == [f"x.example:{port}"] * arrives

    async def test_threat_no_encryption_where_it_was_asked_for(self, receiver: Receiver) -> None:
        policy = Policy.of(f"x.example:{receiver.port}", False, "127.0.0.0/8")
        async with Target(policy, f"https://x.example:{receiver.port}/", 3, known("127.0.0.1")) as target:
            with pytest.raises(Unreachable):
                await target.send("POST", "", b"secret", {})
        assert receiver.requests == []
