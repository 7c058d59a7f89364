"""An OpenAI client that keeps what the run asserts: status, headers, text, and how a stream ended."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=60)
MODEL = "recall"


@dataclass(slots=True)
class Answer:
    """`error` None: a 200 that came whole. `seconds`: from sent to the last byte."""

    status: int = 0
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0


def chat(prompt: str, **parameters: Any) -> dict[str, Any]:
    """The body of a streamed, greedy chat completion."""
    messages = [{"role": "user", "content": prompt}]
    return {
        "model": MODEL,
        "stream": True,
        "temperature": 0,
        "max_tokens": 16,
        "messages": messages,
        **parameters,
    }


def completion(prompt: str, **parameters: Any) -> dict[str, Any]:
    """The body of a plain, greedy text completion."""
    return {"model": MODEL, "temperature": 0, "max_tokens": 16, "prompt": prompt, **parameters}


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Answer:
    """Send one request and read its answer to the end; never raises."""
    answer = Answer()
    start = time.monotonic()
    path = "chat/completions" if "messages" in body else "completions"
    try:
        async with session.post(f"{url}/v1/{path}", json=body) as response:
            answer.status, answer.headers = response.status, response.headers
            if response.status != 200:
                answer.error = f"HTTP {response.status}: {(await response.text())[:200]}"
            elif body.get("stream"):
                await _read_stream(response, answer)
            else:
                answer.text = _text((await response.json())["choices"][0])
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    answer.seconds = time.monotonic() - start
    return answer


def ask_all(url: str, bodies: Sequence[dict[str, Any]], at_once: int = 4) -> list[Answer]:
    """The answers to all bodies, in their order, at most `at_once` requests in flight."""

    async def everything() -> list[Answer]:
        limit = asyncio.Semaphore(at_once)
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:

            async def one(body: dict[str, Any]) -> Answer:
                async with limit:
                    return await ask(session, url, body)

            return await asyncio.gather(*map(one, bodies))

    return asyncio.run(everything())


async def _read_stream(response: aiohttp.ClientResponse, answer: Answer) -> None:
    finished = done = False
    async for line in response.content:
        data = line.decode().removeprefix("data:").strip()
        if not line.startswith(b"data:"):
            continue
        if data == "[DONE]":
            done = True
            continue
        event = json.loads(data)
        if "error" in event:
            answer.error = f"the stream ended with an error: {event['error']}"
            return
        for choice in event["choices"]:
            answer.text += _text(choice)
            finished = finished or choice.get("finish_reason") is not None
    if not (finished and done):
        answer.error = "the stream broke off"


def _text(choice: dict[str, Any]) -> str:
    part = choice.get("delta") or choice.get("message")
    return (part.get("content") if part is not None else choice.get("text")) or ""
