"""What every adapter has to keep, as tests that anyone runs on their own.

    from elf_sdk.testing.adapter_suite import AdapterSuite
    from my_programs import Asking, Helpful

    class TestMyAdapter(AdapterSuite):
        agent = Helpful
        asking = Asking

Each test runs the programs for real: through the adapter alone, and through a whole server, a process of its own with
engine, log and A2A, against a model that is a real HTTP server. What the adapter claims in its capabilities is held
to it; what it does not claim is skipped by name. Needs pytest, and no plugin of it.
"""

import pytest

# Before they are imported: their assertions then say what they compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("contract", "errors", "faults", "service", "setting"))
)

from elf_sdk.testing.adapter_suite.contract import Contract  # noqa: E402
from elf_sdk.testing.adapter_suite.errors import Errors  # noqa: E402
from elf_sdk.testing.adapter_suite.faults import Faults  # noqa: E402
from elf_sdk.testing.adapter_suite.service import Service  # noqa: E402
from elf_sdk.testing.adapter_suite.setting import Setting  # noqa: E402

__all__ = ["AdapterSuite", "Contract", "Errors", "Faults", "Service", "Setting"]


class AdapterSuite(Contract, Errors, Service, Faults):
    """All of the suite. A subclass whose name begins with `Test` names its programs; `Setting` lists them.

    Its four parts may also be used by themselves.
    """
