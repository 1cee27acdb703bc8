"""The certificate authorities of a provider: the system's, or those of its `ca_file` alone."""

from __future__ import annotations

import shlex
import ssl
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from pgvector_sync.errors import Misconfigured

if TYPE_CHECKING:
    from pgvector_sync.model import Provider
    from pgvector_sync.settings import Settings

CA_FILES = "PGVECTOR_SYNC_CA_FILES"
LONGEST_PATH = 1_000


def is_path(path: str) -> bool:
    """Whether this may be the path of a file on a worker's machine, which may run another system."""
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    return absolute and path.isprintable() and "," not in path and len(path) <= LONGEST_PATH


def trust_of(provider: Provider, settings: Settings) -> ssl.SSLContext | None:
    """Return a TLS context that trusts the authorities of the provider's `ca_file`, None if it has none.

    Raises Misconfigured if the environment doesn't allow the file, or if it contains no certificate.
    """
    path = provider.ca_file
    if path is None:
        return None
    if not is_path(path):
        raise Misconfigured(  # not quoted: any text may have been written into the table
            f"ca_file of {provider.name} isn't an absolute path",
            code="bad_ca_file",
            option="ca_file",
            hint="correct it in pgvector-sync.toml, then: pgvector-sync apply",
        )
    allowed = settings.ca_file_list
    if path not in allowed:
        # An authority can vouch for an impostor, so a row of the database must not be able to add one.
        raise Misconfigured(
            f"this environment does not allow the file in ca_file of {provider.name}",
            code="ca_not_allowed",
            option="ca_file",
            elsewhere=True,
            hint=f"if its authorities may vouch for your providers: export {CA_FILES}="
            + shlex.quote(",".join([*allowed, path])),
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # includes ssl.SSLError
        raise Misconfigured(
            f"ca_file of {provider.name} can't be read as PEM certificates ({type(error).__name__})",
            code="certificates",
            option="ca_file",
            elsewhere=True,
            hint="put the authority's certificate there in PEM format where the workers run, readable by them, "
            "then resume the pipeline",
        ) from None
    return context
