"""The rule for declared URLs: the table of B-72."""

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import check_address, check_url

REFUSED = {
    "file": "file:///etc/passwd",
    "gopher": "gopher://db.example:70/1",
    "unix": "unix:///var/run/docker.sock",
    "http-unix": "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "ftp": "ftp://db.example/x",
    "data": "data:text/plain,x",
    "javascript": "javascript:alert(1)",
    "no-scheme": "db.example/x",
    "relative-scheme": "//db.example/x",
    "one-slash": "http:/db.example/x",
    "userinfo": "http://user@db.example/",
    "password": "http://user:hunter2@db.example/",
    "empty-userinfo": "http://@db.example/",
    "userinfo-trick": "http://good.example#@evil.example/",
    "backslash": "http://good.example\\@evil.example/",
    "fragment": "http://db.example/#x",
    "space": "http://db.example /x",
    "tab": "http://db\t.example/x",
    "line-feed": "http://db.example/\r\nHost: x",
    "nul": "http://db.example/\x00",
    "link-local": "http://169.254.169.254/latest/meta-data/",
    "link-local-other": "http://169.254.10.1/",
    "link-local-6": "http://[fe80::1]/",
    "zone": "http://[fe80::1%25eth0]/",
    "loopback": "http://127.0.0.1/",
    "loopback-other": "http://127.8.8.8/",
    "loopback-6": "http://[::1]/",
    "unspecified": "http://0.0.0.0/",
    "unspecified-6": "http://[::]/",
    "multicast": "http://224.0.0.1/",
    "reserved": "http://240.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    "decimal": "http://2130706433/",
    "octal": "http://0177.0.0.1/",
    "hexadecimal": "http://0x7f000001/",
    "hexadecimal-part": "http://0x7f.0.0.1/",
    "short": "http://127.1/",
    "five-parts": "http://1.2.3.4.5/",
    "trailing-dot": "http://127.0.0.1./",
    "mapped": "http://[::ffff:127.0.0.1]/",
    "mapped-private": "http://[::ffff:10.0.0.1]/",
    "compatible": "http://[::127.0.0.1]/",
    "nat64": "http://[64:ff9b::7f00:1]/",
    "6to4": "http://[2002:7f00:1::]/",
    "teredo": "http://[2001:0:7f00:1::1]/",
    "metadata-6": "http://[fd00:ec2::254]/",
    "metadata-alibaba": "http://100.100.100.200/",
    "metadata-azure": "http://168.63.129.16/",
    "localhost": "http://localhost/",
    "localhost-upper": "http://LOCALHOST/",
    "localhost-below": "http://x.localhost/",
    "metadata-name": "http://metadata.google.internal/",
    "full-width-digits": "http://\uff11\uff12\uff17.0.0.1/",
    "ideographic-stop": "http://127\u30020\u30020\u30021/",
    "not-ascii": "http://d\u00e4tenbank.example/",
    "percent-host": "http://%6c%6fcalhost/",
    "no-host": "http:///x",
    "only-port": "http://:80/",
    "port-0": "http://db.example:0/",
    "port-high": "http://db.example:65536/",
    "port-text": "http://db.example:x/",
    "port-empty": "http://db.example:/",
    "bracket": "http://[db.example]/",
    "open-bracket": "http://[::1/",
    "long-host": "http://" + "a" * 254 + "/",
    "dash": "http://-db.example/",
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=[f"B-72-{name}" for name in REFUSED])
def test_refused_urls(url: str) -> None:
    """B-72: what leads to this machine, to cloud metadata or to nobody is refused, in each of its spellings."""
    with pytest.raises(DeclarationError) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://claims.example.internal/score",
        "http://db.example:8080/a/b?c=d%20e",
        "HTTPS://db.example",
        "http://till-7/",
        "http://10.20.30.40:5000/",
        "http://192.168.1.1/",
        "http://8.8.8.8/",
        "http://[fd12:3456::1]:8080/",
        "http://[2606:4700::1111]/",
        "http://a_b.example/",
        "http://db1.example/?redirect=http://127.0.0.1/",
    ],
)
def test_admitted_urls(url: str) -> None:
    """Names and addresses of other machines are admitted, private networks among them."""
    check_url(url)


def test_schemes_are_the_keys_own() -> None:
    """Each key says which schemes it takes."""
    check_url("amqps://broker.example/", schemes=("amqps",))
    with pytest.raises(DeclarationError, match="begins with amqps://"):
        check_url("http://broker.example/", schemes=("amqps",))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "0:0:0:0:0:0:0:0", "::ffff:10.0.0.1", "x", "fe80::1%eth0"]
)
def test_addresses_that_a_name_resolves_to(address: str) -> None:
    """B-72 rebinding: the address that a name has in the end is checked by the same rule."""
    with pytest.raises(DeclarationError):
        check_address(address)
