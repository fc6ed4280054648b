"""Issuers of the tests: a key that signs, the set that it is published in, and a server that publishes it."""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

GENERATE: Final[Mapping[str, Callable[[], Any]]] = {
    "EdDSA": lambda: ed25519.Ed25519PrivateKey.generate(),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


class SigningKey:
    """A private key with a name."""

    def __init__(self, algorithm: str = "EdDSA", kid: str | None = "k1") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private: Any = GENERATE[algorithm]()
        self.public: Any = self.private.public_key()

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public half; what is changed to None is left out."""
        jwk: dict[str, Any] = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.public, as_dict=True)
        jwk = {**jwk, "kid": self.kid, "use": "sig", "alg": self.algorithm, **changes}
        return {name: value for name, value in jwk.items() if value is not None}

    def pem(self) -> bytes:
        """The public half, as people pass it around."""
        encoding, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        pem: bytes = self.public.public_bytes(encoding, kind)
        return pem

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """A token."""
        named = {"kid": self.kid} if self.kid is not None else {}
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers={**named, **headers})


def key_set(*keys: SigningKey | dict[str, Any]) -> bytes:
    """The JWK Set of some keys."""
    return json.dumps({"keys": [key.jwk() if isinstance(key, SigningKey) else key for key in keys]}).encode()


def claims(issuer: str, audience: Any, subject: str, **changes: Any) -> dict[str, Any]:
    """What a good token says; what is changed to None is left out."""
    now = int(time.time())
    standard = {"iss": issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
    return {name: value for name, value in {**standard, **changes}.items() if value is not None}


def service_account(issuer: str, audience: Any, namespace: str, name: str, **changes: Any) -> dict[str, Any]:
    """What an API server writes into a projected token."""
    bound = {
        "namespace": namespace,
        "node": {"name": "node-1", "uid": uuid.uuid4().hex},
        "pod": {"name": f"{name}-7d9f", "uid": uuid.uuid4().hex},
        "serviceaccount": {"name": name, "uid": uuid.uuid4().hex},
    }
    subject = f"system:serviceaccount:{namespace}:{name}"
    audiences = audience if isinstance(audience, list) else [audience]
    changes = {"kubernetes.io": bound, "nbf": int(time.time()), **changes}
    return claims(issuer, audiences, subject, **changes)


def certificate(path: Path) -> Path:
    """A file with a certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api server")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return path


@dataclass
class Publisher:
    """A server that gives an answer for each path, and remembers what it was asked."""

    address: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


@contextmanager
def publishing(certificate: Path | None = None) -> Generator[Publisher, None, None]:
    """Serve on a free port of loopback; by TLS where there is a file with certificate and key."""
    publisher = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.asked.append(self.path)
            publisher.tokens.append(self.headers.get("Authorization", ""))
            time.sleep(publisher.delay)
            body = publisher.answers.get(self.path, b"")
            self.send_response(publisher.status if self.path in publisher.answers else 404)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    publisher.address = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
