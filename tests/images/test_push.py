"""From a local image to a registry, and back as a digest: a real registry on loopback."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.deploy.organisations import write_project
from tests.images.conftest import Machine
from tests.images.machines import registry

pytestmark = pytest.mark.xdist_group("images")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PUSH = ("image", "push", "--builder", "buildah")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", {"brand-team": {}, "data-team": {}})


def make(machine: Machine, host: str, path: str, team: str = "brand-team", content: str = "first") -> None:
    """A small image under a team's name; what it holds does not matter to a push."""
    container = machine.says("from", "scratch")
    machine.says("config", "--label", f"content={content}", container)
    machine.says("commit", "--quiet", "--rm", "--timestamp", "0", container, f"{host}/{path}/{team}:0.1.0")


def digest_there(host: str, repository: str) -> str | None:
    answer = httpx.head(f"http://{host}/v2/{repository}/manifests/0.1.0", headers={"Accept": MANIFEST})
    return answer.headers["Docker-Content-Digest"] if answer.status_code == 200 else None


def lock(project: Path, team: str = "brand-team") -> Path:
    return project / "teams" / team / "images.lock.yaml"


def test_what_the_registry_has_is_what_is_written(machine: Machine, registry_host: str, project: Path) -> None:
    make(machine, registry_host, "one")
    arguments = {"cwd": project, "DOCKER_REGISTRY": f"{registry_host}/one"}
    [pushed] = json.loads(machine.elf(*PUSH, "brand-team", "--json", **arguments))["images"]  # type: ignore[arg-type]
    assert pushed["digest"] == digest_there(registry_host, "one/brand-team")
    assert lock(project).read_text() == f"dev: {pushed['digest']}\n"
    # Once more: it is there, and nothing is sent or written.
    before = lock(project).stat().st_mtime_ns
    [again] = json.loads(machine.elf(*PUSH, "brand-team", "--json", **arguments))["images"]  # type: ignore[arg-type]
    assert (again["digest"], again["was_there"]) == (pushed["digest"], True)
    assert lock(project).stat().st_mtime_ns == before


def test_the_first_environment_is_the_organisations(machine: Machine, registry_host: str, tmp_path: Path) -> None:
    environments = [{"name": "test"}, {"name": "live"}]
    project = write_project(
        tmp_path, {"brand-team": {}}, {"environments": environments, "registry": f"{registry_host}/env"}
    )
    make(machine, registry_host, "env")
    machine.elf(*PUSH, "--all", cwd=project)
    assert lock(project).read_text().startswith("test: sha256:")


def test_a_version_means_one_image(machine: Machine, registry_host: str, project: Path) -> None:
    make(machine, registry_host, "two")
    make(machine, registry_host, "two", team="data-team")
    place = f"{registry_host}/two"
    machine.elf(*PUSH, "data-team", cwd=project, DOCKER_REGISTRY=place)
    first, kept = digest_there(registry_host, "two/data-team"), lock(project, "data-team").read_text()
    make(machine, registry_host, "two", team="data-team", content="second")
    done = machine.run(*PUSH, "--all", cwd=project, DOCKER_REGISTRY=place)
    assert done.returncode == 1
    assert f"error: {place}/data-team:0.1.0 is in the registry already, and is another image ({first})" in done.stderr
    # Neither team's image was pushed, and neither file written.
    assert digest_there(registry_host, "two/brand-team") is None
    assert digest_there(registry_host, "two/data-team") == first
    assert lock(project, "data-team").read_text() == kept
    assert not lock(project).exists()
    machine.elf(*PUSH, "data-team", "--force", cwd=project, DOCKER_REGISTRY=place)
    second = digest_there(registry_host, "two/data-team")
    assert second not in (None, first)
    assert lock(project, "data-team").read_text() == f"dev: {second}\n"


def test_a_lock_file_that_is_wrong_stops_it_before_anything_is_pushed(
    machine: Machine, registry_host: str, project: Path
) -> None:
    make(machine, registry_host, "three")
    lock(project).write_text("dev: latest\n")
    done = machine.run(*PUSH, "brand-team", cwd=project, DOCKER_REGISTRY=f"{registry_host}/three")
    assert done.returncode == 2
    assert "images.lock.yaml:1: dev: it is no digest" in done.stderr
    assert digest_there(registry_host, "three/brand-team") is None


def test_without_a_registry_it_says_where_to_name_one(machine: Machine, project: Path) -> None:
    done = machine.run(*PUSH, "brand-team", cwd=project)
    assert done.returncode == 2
    assert "brand-team:0.1.0 is in no registry; name one under registry in elf.yaml" in done.stderr


def test_an_image_that_was_not_built_is_told(machine: Machine, project: Path) -> None:
    done = machine.run(*PUSH, "brand-team", cwd=project, DOCKER_REGISTRY="127.0.0.1:9/none")
    assert done.returncode == 2
    assert "buildah has no image 127.0.0.1:9/none/brand-team:0.1.0; run elf image build brand-team" in done.stderr


def test_a_registry_that_is_not_there_is_told(machine: Machine, project: Path) -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else gets it, and nobody answers.
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        make(machine, host, "gone")
        done = machine.run(*PUSH, "brand-team", cwd=project, DOCKER_REGISTRY=f"{host}/gone")
    assert done.returncode == 1
    assert f"error: the registry {host} is not reached (Connection refused); start it, or name another" in done.stderr
    assert not lock(project).exists()


def test_something_else_than_a_registry_is_told(machine: Machine, project: Path) -> None:
    with page("<h1>Welcome</h1>") as host:
        make(machine, host, "page")
        done = machine.run(*PUSH, "brand-team", cwd=project, DOCKER_REGISTRY=f"{host}/page")
    assert done.returncode == 1
    assert f"the registry {host} names no digest of {host}/page/brand-team:0.1.0; is it one?" in done.stderr


def test_a_registry_that_takes_nothing_is_told(machine: Machine, project: Path, tmp_path: Path) -> None:
    with registry(tmp_path / "registry", "  maintenance: {readonly: {enabled: true}}\n") as host:
        make(machine, host, "closed")
        done = machine.run(*PUSH, "brand-team", cwd=project, DOCKER_REGISTRY=f"{host}/closed")
    assert done.returncode == 1
    assert f"error: {host}/closed/brand-team:0.1.0 could not be pushed: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 3, "with which builder, what is pushed, and one sentence"
    assert not lock(project).exists()


def test_a_private_registry_wants_the_credentials_that_podman_keeps(
    machine: Machine, project: Path, tmp_path: Path
) -> None:
    with tokens("ada:lovelace") as realm:
        more = f"auth: {{silly: {{realm: '{realm}', service: elf}}}}\n"
        with registry(tmp_path / "registry", more) as host:
            make(machine, host, "private")
            place = f"{host}/private"
            files = {user: keep(tmp_path / f"{user}.json", host, f"{user}:lovelace") for user in ("ada", "eve")}
            arguments = (*PUSH, "brand-team")
            denied = machine.run(*arguments, cwd=project, DOCKER_REGISTRY=place, HOME=str(tmp_path))
            assert denied.returncode == 1
            assert f"the registry {host} refuses a request without credentials" in denied.stderr
            wrong = machine.run(*arguments, cwd=project, DOCKER_REGISTRY=place, REGISTRY_AUTH_FILE=files["eve"])
            assert wrong.returncode == 1
            assert f"the registry {host} refuses the credentials that are kept for it" in wrong.stderr
            assert "lovelace" not in wrong.stderr
            assert not lock(project).exists()
            machine.elf(*arguments, cwd=project, DOCKER_REGISTRY=place, REGISTRY_AUTH_FILE=files["ada"])
    assert lock(project).read_text().startswith("dev: sha256:")


def test_a_registry_with_a_certificate_of_its_own_is_trusted_as_builders_trust_it(
    machine: Machine, project: Path, tmp_path: Path
) -> None:
    name = socket.gethostname()
    if name == "localhost" or not resolves_here(name):
        pytest.skip("this machine has no name of its own for loopback, by which it could speak TLS")
    certificate, key = certified(tmp_path, name)
    tls = f", tls: {{certificate: {certificate}, key: {key}}}"
    with registry(tmp_path / "registry", tls=tls) as address:
        host = f"{name}:{address.rpartition(':')[2]}"
        make(machine, host, "tls")
        arguments = {"DOCKER_REGISTRY": f"{host}/tls", "HOME": str(tmp_path), "NO_PROXY": name, "no_proxy": name}
        done = machine.run(*PUSH, "brand-team", cwd=project, **arguments)
        assert done.returncode == 1
        assert f"error: the registry {host} is not reached (" in done.stderr
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
        trusted = tmp_path / ".config" / "containers" / "certs.d" / host
        trusted.mkdir(parents=True)
        certificate.rename(trusted / "ca.crt")
        machine.elf(*PUSH, "brand-team", cwd=project, **arguments)
    assert lock(project).read_text().startswith("dev: sha256:")


def resolves_here(name: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(name)).is_loopback
    except OSError:
        return False


def certified(place: Path, name: str) -> tuple[Path, Path]:
    """A certificate for `name` that nobody else signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (place / "tls.crt").write_bytes(certificate.public_bytes(pem))
    traditional, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    (place / "tls.key").write_bytes(key.private_bytes(pem, traditional, plain))
    return place / "tls.crt", place / "tls.key"


def keep(file: Path, host: str, credentials: str) -> str:
    file.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(credentials.encode()).decode()}}}))
    return str(file)


@contextmanager
def tokens(credentials: str) -> Generator[str, None, None]:
    """A server that gives a token to one user; its address."""
    basic = f"Basic {base64.b64encode(credentials.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = self.headers["Authorization"] == basic
            self.answer(200 if right else 401, json.dumps({"token": "a-token"}) if right else "")

        def do_POST(self) -> None:
            self.do_GET()

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as host:
        yield f"http://{host}/token"


@contextmanager
def page(text: str) -> Generator[str, None, None]:
    """A web server that answers everything with one page; its host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as host:
        yield host


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str, None, None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
