"""Say which addresses take a connection within some seconds: reach.py SECONDS HOST:PORT…"""

from __future__ import annotations

import asyncio
import json
import sys


async def reached(address: str, seconds: float) -> bool:
    """Whether `host:port` takes a connection."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, int(port))
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


async def main(seconds: float, addresses: list[str]) -> dict[str, bool]:
    """All addresses at once."""
    found = await asyncio.gather(*(reached(address, seconds) for address in addresses))
    return dict(zip(addresses, found, strict=True))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))))
