"""The helm programs that tests run beside the embedded Helm."""

import os
import shutil

__all__ = ["helm_programs"]


def helm_programs() -> list[str]:
    """Those that ELF_TEST_HELM names, with colons between, then the one on the PATH."""
    named = os.environ.get("ELF_TEST_HELM", "").split(os.pathsep)
    return list(dict.fromkeys(filter(None, [*named, shutil.which("helm")])))
