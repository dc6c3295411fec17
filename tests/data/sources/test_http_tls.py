"""F-69: the HTTP client of lookups against services whose encryption is not to be trusted."""

import datetime as dt
import socket
import ssl
import threading
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brownfield.data.sources import Ask, Budget, HttpClient, Site
from brownfield.errors import BrownfieldError

ASK = Ask("GET", "/products/1")
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def certificate(folder, host="localhost", days=2):
    """Write ``HOST.pem`` with key and certificate, signed by itself, that ends after so many days; its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(9)).not_valid_after(now + dt.timedelta(days))
    made = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False).sign(
        key, hashes.SHA256()
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{host}.pem"
    path.write_bytes(secret + made.public_bytes(encoding))
    return path


class Service(threading.Thread):
    """A service that says one thing, to whoever trusts it; what is asked of it is kept."""

    def __init__(self, path, only=None):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path)
        if only is not None:
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # that is why
                self.context.minimum_version = self.context.maximum_version = only
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked = []

    def run(self):
        """Answer until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(client, server_side=True) as trusted:
                    self.asked.append(trusted.recv(65536))
                    trusted.sendall(REPLY)
            except OSError:
                client.close()


@pytest.fixture
def ask(tmp_path):
    """Asks a service whose certificate is in a file; its status, and what the service heard."""
    made = []

    def run(path, *, only=None, **options):
        service = Service(path, only)
        service.start()
        site = Site(f"https://localhost:{service.port}", "this_machine", **options)
        client = HttpClient(lambda: site, Budget(tmp_path / "budget", "crm", 4, 10_000), keep_open=False)
        made.append((service, client))
        try:
            return client.ask(ASK).status
        finally:
            client.close()
            service.listener.close()

    yield run, made
    for service, client in made:
        client.close()
        service.listener.close()


def test_f69_a_service_that_is_vouched_for_is_asked(ask, tmp_path):
    """F-69: what the others are held against."""
    run, made = ask
    path = certificate(tmp_path)
    assert run(path, ca_file=str(path)) == 200
    assert len(made[0][0].asked) == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("signed by itself", "self-signed"),
        ("expired", "expired"),
        ("another host", "(?i)hostname|not valid for"),
        ("TLS 1.1", "(?i)protocol|version|alert"),
    ],
)
def test_f69_encryption_that_is_not_to_be_trusted_is_refused(ask, tmp_path, wrong, reason):
    """F-69: nothing is sent, and the message says why."""
    run, made = ask
    path = certificate(
        tmp_path,
        host="crm.example" if wrong == "another host" else "localhost",
        days=-1 if wrong == "expired" else 2,
    )
    options = {} if wrong == "signed by itself" else {"ca_file": str(path)}
    only = ssl.TLSVersion.TLSv1_1 if wrong == "TLS 1.1" else None
    with pytest.raises(BrownfieldError, match=reason) as refused:
        run(path, only=only, **options)
    assert ("encrypts" if only else "tls: {ca_file: ...}") in refused.value.next_step
    assert made[0][0].asked == []


def test_f69_an_unchecked_certificate_must_be_declared(ask, tmp_path):
    """F-69: the way around the check is a word of the declaration, for that one source."""
    run, _ = ask
    assert run(certificate(tmp_path, host="crm.example"), tls="encrypt") == 200
