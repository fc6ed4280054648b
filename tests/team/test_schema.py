from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from elf_sdk.team import schema as schemas
from elf_sdk.team.document import parse
from elf_sdk.team.project import survey

from .conftest import Write

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "team-yaml.md"

WHOLE = """\
# yaml-language-server: $schema=../../team.schema.json
format: elf/v1
name: a-team
display_name: The A team
purpose: |
  Many
  lines.
version: 1.2.3-rc.1
placement: marketing.brand
framework: langgraph
llm: {provider: compatible, model: m, base_url: "http://127.0.0.1:8000/v1", fallbacks: [{model: n}]}
members:
  - {role: Lead, title: CMO, is_manager: true, responsibilities: [a], skills: [b], traits: [c]}
skills: [{id: s, name: S, tags: [t], examples: [e]}]
chat: {enabled: true, top_level: true, idle_timeout_minutes: 5}
delegation: {max_depth: 2, approvals: [{role: cfo, above: 10.5}, {role: cto, above: 100 tokens}]}
budget: {per_run: 1, per_day: 5000 tokens, subtree: true}
runs: {deadline: 5m, isolation: inline}
mcp: [{name: files, command: [files, --read-only]}, {name: web, url: "https://mcp.example.com"}]
env: [{name: A, value: "1"}]
secrets: [{name: KEY, from: {secret: llm-api-keys, key: openai-api-key}, as: file}]
egress: {mode: proxy, proxy: {host: proxy.example.com, cidr: 10.0.0.0/8}}
image: {base: "python:3.11-slim"}
resources: {cpu_limit: 2, memory_limit: 512Mi}
replicas: 1
ingress: {enabled: true, host: a.example.com}
environments:
  prod: {cluster: in-cluster, sync: auto, replicas: 3, llm: {temperature: 0}}
"""

ORGANISATION = """\
name: acme
environments: [{name: dev}, {name: prod, cluster: far, namespace: agents, sync: manual}]
clusters: [{name: in-cluster, server: "https://kubernetes.default.svc"}, {name: far, server: "https://far.example.com"}]
registry: registry.example.com/agents
gitops: {url: "https://git.example.com/gitops.git"}
agent_gateway: {namespace: gateway, labels: {app: gateway}}
issuer: {url: "https://sign-in.example.com"}
currency: EUR
database: {secret: db, key: url}
"""


@pytest.mark.parametrize("schema", [schemas.team_schema(), schemas.organisation_schema()])
def test_the_schema_is_a_right_one_that_editors_can_use(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].startswith("urn:elf:v1:")
    for where, part in parts(schema):
        if part.get("type") == "object":
            # What Kubernetes names is Kubernetes's to check.
            assert part["additionalProperties"] is (part.get("title") == "object of Kubernetes"), where
            assert part.get("description") or "patternProperties" in part, where


def test_every_field_is_described() -> None:
    missing = [
        f"{where}.{name}"
        for schema in (schemas.team_schema(), schemas.organisation_schema())
        for where, part in parts(schema)
        for name, value in part.get("properties", {}).items()
        if not value.get("description") and "$ref" not in value and "anyOf" not in value
    ]
    assert missing == []


def test_the_schema_is_the_same_each_time() -> None:
    assert json.dumps(schemas.team_schema()) == json.dumps(schemas.team_schema())


def test_what_is_right_is_right_in_the_editor_too(write: Write) -> None:
    jsonschema_rs.validate(schemas.team_schema(), parse(WHOLE, "").data)
    jsonschema_rs.validate(schemas.organisation_schema(), parse(ORGANISATION, "").data)
    write("elf.yaml", ORGANISATION)
    write("a-team", WHOLE, manager=False)
    assert survey(Path()).problems == ()


@pytest.mark.parametrize(
    "change",
    [
        "verson: 1.0.0",
        "version: 1.0",
        'version: "1.0"',
        "name: A team",
        "chat: {enabled: yes}",
        "replicas: '3'",
        "replicas: -1",
        "runs: {deadline: 30}",
        "runs: {deadline: ٣s}",
        "runs: {deadline: 0s}",
        "budget: {per_day: lots}",
        "budget: {per_day: -1}",
        "llm: {provider: x}",
        "llm: {base_url: ftp://x}",
        "llm: {base_url: 'http://u:p@x'}",
        "members: []",
        "members: [{}]",
        "evals: ../x",
        "evals: /x",
        "evals: a/../b",
        'display_name: "a\\tb"',
        'display_name: "a\\nb"',
        'purpose: "a\\rb"',
        "environments: {Prod: {}}",
        "secrets: [{name: A, from: {secret: s}}]",
        "secrets: [{name: A-B, from: {secret: s, key: k}}]",
        "egress: {cidrs: [x]}",
        "resources: {cpu_limit: 1 core}",
        "ingress: {host: 'https://x'}",
        "placement: Marketing",
        "placement: a..b",
        "reports_to: -a",
        "image: {base: 'a b'}",
        'env: [{name: A, value: "\\0"}]',
    ],
)
def test_what_elf_refuses_the_editor_refuses_too(write: Write, change: str) -> None:
    field = change.partition(":")[0]
    others = [
        line for line in ("name: a-team", "members: [{role: Lead, is_manager: true}]") if not line.startswith(field)
    ]
    text = "\n".join([*others, change])
    assert not jsonschema_rs.is_valid(schemas.team_schema(), parse(text, "").data)
    write("a-team", text, manager=False)
    assert survey(Path()).errors


def test_the_reference_page_is_up_to_date() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == schemas.reference_markdown(), (
        "write what elf_sdk.team.schema.reference_markdown() returns to docs/reference/team-yaml.md"
    )


def parts(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield where, schema
        for key, part in schema.items():
            if key != "default":
                yield from parts(part, f"{where}/{key}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from parts(part, f"{where}/{index}")
