"""The elf-sdk that runs here as a wheel (PEP 427), so that an image holds the same one, and no index has to have it.

Made of the installed package's own files, in a checkout as well as from an index: the same bytes for the same files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import elf_sdk
from elf_sdk.deploy.chart import templates_directory
from elf_sdk.deploy.image.requirements import LOCK, read_lock
from elf_sdk.errors import Missing

__all__ = ["elf_sdk_wheel"]

_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: elf image\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LEFT_OUT: Final = frozenset({"__pycache__", "chart-templates", "requirements"})


def elf_sdk_wheel() -> tuple[str, bytes]:
    """Name and content of the wheel.

    Raises:
        Missing: the package is not installed here, or another version than the files say.
    """
    version = elf_sdk.__version__
    try:
        installed = distribution("elf-sdk")
    except PackageNotFoundError:
        raise Missing("elf-sdk is not installed, only on the path; pip install it, and try again") from None
    if installed.version != version:
        raise Missing(
            f"elf-sdk is installed as {installed.version}, and its files say {version}; install it again (in a "
            "checkout: scripts/install dev)"
        )
    package = Path(elf_sdk.__file__).parent
    files = {f"elf_sdk/{path}": content for path, content in _tree(package).items()}
    files |= {f"elf_sdk/chart-templates/{path}": content for path, content in _tree(templates_directory()).items()}
    files[f"elf_sdk/requirements/{LOCK}"] = read_lock().encode()
    info = f"elf_sdk-{version}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{path},{_hash(content)},{len(content)}\n" for path, content in sorted(files.items()))
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return f"elf_sdk-{version}-py3-none-any.whl", _zipped(files)


def _tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(root).parts)
    }


def _hash(content: bytes) -> str:
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()}"


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # Metadata last, as PEP 427 recommends.
        for path in sorted(files, key=lambda path: (".dist-info/" in path, path)):
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[path])
    return buffer.getvalue()
