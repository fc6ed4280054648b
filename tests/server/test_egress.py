"""Addresses that somebody else gives: what points inside is refused, whatever it looks like and whenever it turns."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from elf_sdk.errors import BadInput
from elf_sdk.server.egress import Address, Egress, is_public
from elf_sdk.server.transport import EgressTransport

PUBLIC = "93.184.216.34"


def names(**hosts: str) -> Callable[[str], Awaitable[Sequence[Address]]]:
    """A name service that knows these hosts, dots written as `_`; each has its addresses with spaces between."""

    async def resolve(host: str) -> Sequence[Address]:
        return [ipaddress.ip_address(address) for address in hosts.get(host.replace(".", "_"), "").split()]

    return resolve


INSIDE = (
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2002:c0a8:101::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
)
OUTSIDE = (
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.167.1.1",
    "223.255.255.254",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2606:4700::1111",
    "2a00:1450:4001:82a::200e",
)


@pytest.mark.parametrize("address", INSIDE)
async def test_an_address_inside_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    egress = Egress(resolve=names(inside_example=address, both_example=f"{PUBLIC} {address}"))
    for host in (literal, "inside.example", "INSIDE.example.", "both.example"):
        with pytest.raises(BadInput, match="has no public address"):
            await egress.check(f"https://{host}:8443/hook")


@pytest.mark.parametrize("address", OUTSIDE)
async def test_an_address_of_the_internet_is_let_through(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    egress = Egress(resolve=names(hooks_example=address))
    await egress.check(f"https://{literal}/hook?key=1")
    await egress.check("https://hooks.example/hook#part")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/hook",
        "hooks.example/hook",
        "http://hooks.example/hook",
        "ftp://hooks.example/hook",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        "javascript:alert(1)",
        "https://",
        "https:///hook",
        "https://:443/hook",
        "https://user@hooks.example/",
        "https://user:password@hooks.example/",
        "https://@hooks.example/",
        "https://hooks.example@127.0.0.1/",
        "https://127.0.0.1\\@hooks.example/",
        "https://hooks.example\\.evil.example/",
        "https://hooks.example /",
        "https://hooks.example/a b",
        "https://hooks.example/\r\nX-Injected: 1",
        "https://hooks.example/\x00",
        "https://hooks.example:0/",
        "https://hooks.example:65536/",
        "https://hooks.example:port/",
        "https://hooks..example/",
        "https://-hooks.example/",
        "https://*.example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "example/",
        "https://hooks.example/" + "a" * 2048,
        # Numbers that some resolvers take for 127.0.0.1 or 169.254.169.254.
        "https://2130706433/",
        "https://0x7f000001/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.1/",
        "https://127.0.0.0x1/",
        "https://0xa9fea9fe/",
        "https://169.254.43518/",
        "https://127.0.0.1.0x/",
        "https://%31%32%37.0.0.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://①②⑦.0.0.1/",
        "https://localhost%00.hooks.example/",
        # An address with a zone is one of this machine's networks.
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1/",
        "https://[v1.a]/",
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        await Egress(resolve=names(hooks_example=PUBLIC, localhost="127.0.0.1")).check(url)
    assert "password" not in str(caught.value).replace("a password", "")


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "localhost.localdomain", "absent.invalid"])
async def test_the_systems_own_names_are_refused(host: str) -> None:
    egress = Egress()
    with pytest.raises(BadInput, match="has no public address"):
        await egress.check(f"https://{host}/")
    egress.close()


async def test_an_international_name_is_looked_up_as_it_is_sent() -> None:
    egress = Egress(resolve=names(**{"xn--bcher-kva_example": PUBLIC}))
    await egress.check("https://bücher.example/")
    await egress.check("https://BÜCHER.example/")


async def test_what_is_named_is_let_through() -> None:
    resolve = names(
        hooks_internal="10.1.2.3", other_internal="10.9.9.9", far_example="192.168.7.7", open_example=PUBLIC
    )
    egress = Egress(
        ["hooks.internal", "10.9.0.0/16", "http://127.0.0.1", "http://[::1]", "HTTP://Far.Example."], resolve=resolve
    )
    for url in (
        "https://hooks.internal/",
        "https://HOOKS.internal.:8443/",
        "https://other.internal/",
        "https://10.9.1.1/",
        "https://[::ffff:10.9.1.1]/",
        "http://127.0.0.1:8080/",
        "https://127.0.0.1/",
        "http://[::1]:8080/",
        "http://far.example/",
    ):
        await egress.check(url)
    for url in (
        "http://hooks.internal/",
        "https://more.hooks.internal/",
        "http://10.9.1.1/",
        "https://10.8.1.1/",
        "http://127.0.0.2/",
        "http://open.example/",
        "http://hooks.internal.evil.example/",
    ):
        with pytest.raises(BadInput):
            await egress.check(url)
    plain = Egress(plain=True, resolve=resolve)
    await plain.check("http://open.example/")
    with pytest.raises(BadInput):
        await plain.check("http://hooks.internal/")


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/33", "*.example", "https://hooks.example", "hooks.example:80", "127.1"]
)
def test_an_entry_that_is_nothing_is_named(entry: str) -> None:
    with pytest.raises(BadInput, match="which cannot be let through; name a host, an address or a network"):
        Egress([entry])


@asynccontextmanager
async def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on 127.0.0.1 that says the same to everybody; its port, and what it was sent."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1], heard


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_name_that_turns_inside_after_the_check_is_refused() -> None:
    answers = [[PUBLIC], ["127.0.0.1"]]

    async def turning(host: str) -> Sequence[Address]:
        return [ipaddress.ip_address(address) for address in answers.pop(0)]

    async with answering(OK) as (port, heard):
        egress = Egress(plain=True, resolve=turning)
        url = f"http://turning.example:{port}/"
        await egress.check(url)
        async with httpx.AsyncClient(transport=EgressTransport(egress)) as client:
            with pytest.raises(BadInput, match=r"'turning\.example' has no public address"):
                await client.get(url)
    assert (answers, heard) == ([], [])


async def test_the_connection_goes_to_the_very_address_that_was_checked() -> None:
    asked: list[str] = []

    async def once(host: str) -> Sequence[Address]:
        asked.append(host)
        return [ipaddress.ip_address("127.0.0.1")]

    # The name exists nowhere else, so whoever asks the system once more finds nothing.
    async with answering(OK) as (port, heard):
        egress = Egress(["http://hooks.invalid"], resolve=once)
        async with httpx.AsyncClient(transport=EgressTransport(egress)) as client:
            response = await client.post(f"http://hooks.invalid:{port}/hook?a=b", content=b"{}")
    assert (response.status_code, response.text) == (200, "ok")
    assert asked == ["hooks.invalid"]
    assert heard[0].startswith(b"POST /hook?a=b HTTP/1.1\r\nHost: hooks.invalid:%d\r\n" % port)


async def test_a_redirect_inside_is_checked_like_the_first_address() -> None:
    async with answering(OK) as (inside, secret):
        moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % inside
        async with answering(moved) as (port, heard):
            egress = Egress(["http://hooks.invalid"], resolve=names(hooks_invalid="127.0.0.1"))
            async with httpx.AsyncClient(transport=EgressTransport(egress), follow_redirects=True) as client:
                with pytest.raises(BadInput):
                    await client.get(f"http://hooks.invalid:{port}/")
    assert (len(heard), secret) == (1, [])


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server with this name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.pem").write_bytes(pem + private)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(directory / "server.pem")
    return serving, ssl.create_default_context(cadata=pem.decode())


async def test_tls_is_with_the_name_and_not_with_the_address(tmp_path: Path) -> None:
    serving, trusting = certificate(tmp_path, "hooks.invalid")
    resolve = names(hooks_invalid="127.0.0.1", other_invalid="127.0.0.1")
    asked: list[str | None] = []
    serving.sni_callback = lambda _, name, __: asked.append(name)
    async with answering(OK, serving) as (port, heard):
        egress = Egress(["hooks.invalid", "other.invalid"], resolve=resolve)
        async with httpx.AsyncClient(transport=EgressTransport(egress, tls=trusting)) as client:
            assert (await client.get(f"https://hooks.invalid:{port}/")).status_code == 200
            with pytest.raises(httpx.ConnectError, match=r"other\.invalid"):
                await client.get(f"https://other.invalid:{port}/")
    assert asked == ["hooks.invalid", "other.invalid"]
    assert b"\r\nHost: hooks.invalid:%d\r\n" % port in heard[0]


async def test_a_host_of_which_one_address_is_deaf_is_reached_by_another(unused_port: int) -> None:
    async with answering(OK) as (port, heard):
        egress = Egress(["http://hooks.invalid"], resolve=names(hooks_invalid="127.0.0.2 127.0.0.1"))
        async with httpx.AsyncClient(transport=EgressTransport(egress)) as client:
            assert (await client.get(f"http://hooks.invalid:{port}/")).status_code == 200
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://hooks.invalid:{unused_port}/")
    assert len(heard) == 1


@pytest.fixture
async def unused_port() -> int:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
    return port
