"""Send messages over A2A and say how each was answered; on standard input, JSON: [{url, token, text}, …]."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

import httpx


async def call(client: httpx.AsyncClient, url: str, token: str, text: str) -> dict[str, Any]:
    """Status, and the body's result or error."""
    message = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"text": text}]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    headers = {"A2A-Version": "1.0"} | ({"Authorization": f"Bearer {token}"} if token else {})
    answer = await client.post(f"{url}/a2a/v1", json=body, headers=headers)
    try:
        return {"status": answer.status_code, "body": answer.json()}
    except ValueError:
        return {"status": answer.status_code, "body": answer.text}


async def main(calls: list[dict[str, str]]) -> list[dict[str, Any]]:
    """All of them, eight at once."""
    places = asyncio.Semaphore(8)
    async with httpx.AsyncClient(timeout=60) as client:

        async def one(given: dict[str, str]) -> dict[str, Any]:
            async with places:
                return await call(client, given["url"], given["token"], given["text"])

        return await asyncio.gather(*(one(given) for given in calls))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
