"""What went wrong, as A2A says it (A2A 1.0, section 5.4). The one place where ELF's errors become A2A errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from elf_sdk.errors import BadInput, Conflict, Denied, ElfError, NotFound, Retryable

__all__ = ["Fault", "FaultKind", "fault_of"]

log = logging.getLogger("elf.a2a")


class FaultKind(Enum):
    """An error of the specification: its JSON-RPC code, its HTTP and gRPC status, and its reason."""

    PARSE_ERROR = (-32700, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")
    INVALID_REQUEST = (-32600, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")
    METHOD_NOT_FOUND = (-32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND")
    INVALID_PARAMS = (-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS")
    INTERNAL = (-32603, 500, "INTERNAL", "INTERNAL_ERROR")
    TASK_NOT_FOUND = (-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND")
    TASK_NOT_CANCELABLE = (-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE")
    PUSH_NOT_SUPPORTED = (-32003, 400, "FAILED_PRECONDITION", "PUSH_NOTIFICATION_NOT_SUPPORTED")
    UNSUPPORTED_OPERATION = (-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION")
    CONTENT_TYPE_NOT_SUPPORTED = (-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED")
    NO_EXTENDED_CARD = (-32007, 400, "FAILED_PRECONDITION", "EXTENDED_AGENT_CARD_NOT_CONFIGURED")
    VERSION_NOT_SUPPORTED = (-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED")

    def __init__(self, code: int, http: int, grpc: str, reason: str) -> None:
        self.code = code
        self.http = http
        self.grpc = grpc
        self.reason = reason


class Fault(Exception):
    """An A2A error on its way to the caller; its text is one sentence for a person.

    Attributes:
        kind: which error of the specification.
        violations: field and what is wrong with it, for parameters that are missing.
        metadata: text by name, beside the reason.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        violations: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.violations = violations
        self.metadata = dict(metadata or {})

    def rpc(self) -> dict[str, Any]:
        """The `error` of a JSON-RPC answer."""
        error: dict[str, Any] = {"code": self.kind.code, "message": str(self)}
        # JSON-RPC's own two are said whole by their code.
        if self.kind not in (FaultKind.PARSE_ERROR, FaultKind.METHOD_NOT_FOUND):
            error["data"] = self._details()
        return error

    def rest(self, status: int | None = None) -> dict[str, Any]:
        """The body of an HTTP+JSON answer, which is a `google.rpc.Status`; `status` where it is not the kind's."""
        return {
            "error": {
                "code": status or self.kind.http,
                "status": self.kind.grpc,
                "message": str(self),
                "details": self._details(),
            }
        }

    def _details(self) -> list[dict[str, Any]]:
        details: list[dict[str, Any]] = [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": self.kind.reason,
                "domain": "a2a-protocol.org",
                "metadata": self.metadata,
            }
        ]
        if self.violations:
            details.append(
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {"field": field, "description": description} for field, description in self.violations
                    ],
                }
            )
        return details


def fault_of(error: Exception) -> Fault:
    """The A2A error for whatever an operation raised. Nothing of an unexpected one reaches the caller."""
    message = str(error)
    match error:
        case Fault():
            return error
        case NotFound():
            return Fault(FaultKind.TASK_NOT_FOUND, message)
        case Conflict() | Denied():
            return Fault(FaultKind.UNSUPPORTED_OPERATION, message)
        case BadInput():
            return Fault(FaultKind.INVALID_PARAMS, message)
        case Retryable():
            return Fault(FaultKind.INTERNAL, message, metadata={"retryable": "true"})
        case ElfError():
            return Fault(FaultKind.INTERNAL, message)
        case _:
            log.error("an A2A request failed unexpectedly", exc_info=error)
            return Fault(FaultKind.INTERNAL, "the team could not handle the request; its log says why")
