"""How a connection to a legacy system is encrypted, alike for every driver that takes a context."""

import ssl

__all__ = ["client_context"]


def client_context(tls: str, ca_file: str | None) -> ssl.SSLContext | None:
    """Make what encrypts the way: TLS 1.2 at least, which not every Python insists on (Debian's leaves it to OpenSSL).

    Parameters
    ----------
    tls
        As declared: ``verify``, ``off``, or ``encrypt``, which trusts whoever answers.
    ca_file
        Authorities to trust; None for the machine's own.

    Returns
    -------
    ssl.SSLContext or None
        None where the way is in clear.

    Examples
    --------
    >>> context = client_context("verify", None)
    >>> context.minimum_version.name, context.check_hostname
    ('TLSv1_2', True)
    >>> client_context("off", None) is None
    True
    """
    if tls == "off":
        return None
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls == "encrypt":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
