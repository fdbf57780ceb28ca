"""Reads its input from a URL and writes its output to another, as vLLM's `run-batch -i URL -o URL` does: a plain GET and
a plain PUT with aiohttp, without a key. Arguments: INPUT OUTPUT FILE, where FILE receives what was read."""

import asyncio
import sys

import aiohttp


async def main(source: str, target: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(source) as response:
        response.raise_for_status()
        text = await response.text()
    with open(path, "w") as file:
        file.write(text)
    async with aiohttp.ClientSession() as session:
        with open(path, "rb") as file:
            async with session.put(target, data=file) as response:
                if response.status != 200:
                    raise SystemExit(f"PUT failed: {response.status} {await response.text()}")


asyncio.run(main(*sys.argv[1:]))
