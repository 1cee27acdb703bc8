"""Why does a TLS connection fail? Translates what libpq and OpenSSL say into what happened and what to do next."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta

PATIENCE = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Terms:
    """The variable that holds a server's address, and the names of the address's parameters for files."""

    variable: str
    authority: str
    certificate: str
    key: str


POSTGRES = Terms("DATABASE_URL", "sslrootcert", "sslcert", "sslkey")
REDIS = Terms("REDIS_URL", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

_NAME_BOTH = (
    "name a certificate and its key in {variable}, files that this user can read: {certificate}=…&{key}=…; "
    "its authority must be one that the server trusts"
)
_REASONS = {
    # the certificate of this client, as the server's alert says
    "certificate required": ("the server requires a client certificate", _NAME_BOTH),
    "alert certificate expired": (
        "the server says that this client's certificate has expired",
        "renew the file that {certificate} in {variable} names",
    ),
    "alert unknown ca": ("the server doesn't trust the authority of this client's certificate", _NAME_BOTH),
    "alert bad certificate": ("the server rejected this client's certificate", _NAME_BOTH),
    "alert certificate unknown": ("the server rejected this client's certificate", _NAME_BOTH),
    "alert handshake failure": ("the server ended the handshake; it may require a client certificate", _NAME_BOTH),
    # files of this client
    "key values mismatch": (
        "the client's key doesn't belong to its certificate",
        "correct {certificate} and {key} in {variable}",
    ),
    "has group or world access": (
        "other users may read the client's key, so it isn't used",
        "chmod 600 the file that {key} in {variable} names",
    ),
    "not private key file": (
        "the file of the client's key doesn't exist",
        "correct {key} in {variable}: it belongs to {certificate}",
    ),
    "private key file": ("the client's key can't be read", "correct {key} in {variable}, and its permissions"),
    "root certificate file": (
        "the file with the authority's certificate can't be read",
        "correct {authority} in {variable}, or use {authority}=system for the authorities of the operating system",
    ),
    "could not read certificate file": (
        "the client's certificate can't be read",
        "correct {certificate} in {variable}, and its permissions",
    ),
    # the server's certificate
    "certificate has expired": (
        "the server's certificate has expired",
        "renew it on the server; clients connect again by themselves",
    ),
    "certificate is not yet valid": (
        "the server's certificate isn't valid yet",
        "compare the clocks of this machine and of the one that issued it",
    ),
    "mismatch, certificate is not valid for": (
        "the server's certificate is for another name",
        "use a name in {variable} that the certificate contains, or have one issued for this name",
    ),
    "does not match host name": (
        "the server's certificate is for another name",
        "use a name in {variable} that the certificate contains, or have one issued for this name",
    ),
    "issuer certificate": (
        "the server's certificate is of an authority that isn't trusted here",
        "name the authority's file in {variable}: {authority}=/path/to/ca.pem",
    ),
    "self-signed certificate": (
        "the server's certificate is of an authority that isn't trusted here",
        "name the authority's file in {variable}: {authority}=/path/to/ca.pem",
    ),
    "certificate verify failed": (
        "the server's certificate isn't valid here: it has expired, or its authority isn't trusted",
        "run `pgvector-sync doctor`, which shows the reason; {authority} in {variable} names the authority's file",
    ),
    # no TLS
    "server does not support SSL": (
        "the server doesn't offer TLS",
        "turn it on there, or correct host and port in {variable}",
    ),
    "wrong version number": (
        "the server doesn't speak TLS at this port",
        "use its port for TLS in {variable}, or turn TLS on there",
    ),
    "EOF occurred in violation of protocol": (
        "the server ended the TLS handshake; it may not speak TLS at this port",
        "use its port for TLS in {variable}, or turn TLS on there",
    ),
}
"""What a message contains → what happened, and what to do. The first that matches wins."""


def explain(message: str, terms: Terms) -> tuple[str, str] | None:
    """Return (what happened, what to do); None if TLS isn't the reason. Nothing of the message is repeated."""
    for phrase, (what, advice) in _REASONS.items():
        if phrase in message:
            return what, advice.format(
                variable=terms.variable, authority=terms.authority, certificate=terms.certificate, key=terms.key
            )
    return None


def messages_of(error: BaseException) -> str:
    """Return the messages of an error and of what caused it: a client's own error may leave the reason out."""
    messages: list[str] = []
    current: BaseException | None = error
    while current is not None and len(messages) < 5:
        messages.append(str(current))
        current = current.__cause__ or current.__context__
    return "\n".join(messages)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a client, each "" if it has none."""

    authority: str = ""
    """"" for the authorities of the operating system."""
    certificate: str = ""
    key: str = ""


def handshake(host: str, port: int, files: Files, *, greeting: bytes = b"", check_name: bool = True) -> str:
    """Make a TLS connection, and return OpenSSL's message if that fails, otherwise "". Sends no password.

    greeting: what asks for TLS in the server's protocol, which answers with the letter S.
    """
    try:
        context = ssl.create_default_context(cafile=files.authority or None)
        context.check_hostname = check_name
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key or None)
        with socket.create_connection((host, port), PATIENCE.total_seconds()) as plain:
            plain.sendall(greeting)
            if greeting and plain.recv(1) != b"S":
                return "server does not support SSL"
            with context.wrap_socket(plain, server_hostname=host) as secure:
                secure.recv(1)  # what is wrong with the client's certificate follows the handshake
    except TimeoutError:
        return ""  # the server waits for us: nothing is wrong
    except (OSError, ValueError) as error:
        return str(error)
    return ""
