"""Names that `shm_open` takes and ringspan does not, for libraries that took whatever it takes."""

from __future__ import annotations

import hashlib
import re

import ringspan

#: Names that ringspan takes, but for those that stand for others.
_ORDINARY = re.compile(r"(?!sem\.|posix\.)[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_KEPT = re.compile(rb"[A-Za-z0-9_-]")
#: The most bytes of a name that `shm_open` takes.
_LONGEST = 254


def native_name(name: str) -> str:
    """The name in ringspan, and in /dev/shm, of what an older library calls `name`.

    Most are the same. Any other one is `posix.` and its bytes, those that ringspan does not take as
    `.` and two hexadecimal digits; a long one is `posix..` and its SHA-256.

    Raises `InvalidName` for what `shm_open` does not take either, `ValueError` for a null character
    and `UnicodeEncodeError` for what has no bytes.
    """
    bare = name.lstrip("/")
    if _ORDINARY.fullmatch(bare):
        return f"/{bare}"
    encoded = bare.encode()
    if b"\0" in encoded:
        raise ValueError(f"name {name!r}: there is a null character in it")
    if b"/" in encoded or bare in ("", ".", "..") or len(encoded) > _LONGEST:
        raise ringspan.InvalidName(
            f"name {name!r}: a name has 1 to {_LONGEST} bytes, is not . or .., and has no slash "
            "but at its start"
        )
    escaped = "".join(
        chr(byte) if _KEPT.match(bytes([byte])) else f".{byte:02x}" for byte in encoded
    )
    if len(escaped) > 190:
        return f"/posix..{hashlib.sha256(encoded).hexdigest()}"
    return f"/posix.{escaped}"
