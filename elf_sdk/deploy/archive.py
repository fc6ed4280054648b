"""A chart as one file: the archive that Helm installs."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping
from typing import Final

__all__ = ["archive"]


def archive(name: str, tree: Mapping[str, bytes]) -> bytes:
    """`tree` as the `.tgz` that Helm installs: the same bytes on every machine.

    Entries have no owner and no time. The gzip stream (RFC 1952) holds stored blocks (RFC 1951, 3.2.4), because
    what a compressor makes of the same input depends on its version; git and registries compress by themselves.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        # Helm wants Chart.yaml first, so that it need not read all of it to know what it is.
        for path in sorted(tree, key=lambda path: (path != "Chart.yaml", path)):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(tree[path])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(tree[path]))
    return _stored_gzip(buffer.getvalue())


_BLOCK: Final = 0xFFFF


def _stored_gzip(data: bytes) -> bytes:
    # Deflate, no flags, no time, unknown operating system.
    parts = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)
