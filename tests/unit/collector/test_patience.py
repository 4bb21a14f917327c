"""Connections that say too much or end nothing, on a server in this process."""

import asyncio
import contextlib
import time

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.collector import answers, patience
from services.collector.domain.decode import Refused
from services.collector.patience import MOST_HEAD_BYTES, PatientProtocol

END = b"\r\n\r\n"
HOST = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def app(scope, receive, send):
    """Answers 200 with the length of the query and the body, and refuses /slow without reading on."""
    if scope["path"] == "/slow":
        return await answers.refuse(send, Refused(408, "too_slow", "too slow"))
    if scope["path"] == "/early":
        return await answers.refuse(send, Refused(400, "too_large", "too large"))
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await answers.plain(send, 200, b"%d %d" % (len(scope["query_string"]), len(body)))


def talk(conversation):
    """Runs a conversation with a server: a coroutine of (reader, writer)."""

    async def run():
        config = uvicorn.Config(app, http=PatientProtocol, ws="none", access_log=False, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: PatientProtocol(config, state, {}, loop), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                return await asyncio.wait_for(conversation(reader, writer), 20)
            finally:
                writer.close()

    return asyncio.run(run())


async def sent(writer, *pieces):
    """Sends, until the other side will have no more of it."""
    for piece in pieces:
        writer.write(piece)
        try:
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0)


PIECE = b"x" * 16_384
TOO_MUCH = {
    "in the address": [b"GET /?x=", *[PIECE] * 200],
    "in a header": [HOST, b"X-A: ", *[PIECE] * 200],
    "in very many headers": [HOST, *[b"X-A: " + b"b" * 1_000 + b"\r\n"] * 3_000],
    "in an address that is whole": [b"GET /?x=" + b"x" * (MOST_HEAD_BYTES + 1) + b" HTTP/1.1\r\nHost: x" + END],
    "behind a body in chunks": [POST, b"Transfer-Encoding: chunked" + END, b"0\r\n", b"X-A: ", *[PIECE] * 200],
    "between chunks": [POST, b"Transfer-Encoding: chunked" + END, b"1;x=", *[PIECE] * 200],
}


@pytest.mark.parametrize("pieces", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_head_that_is_too_large_is_refused_and_the_connection_closed(pieces):
    """And so is what stands where a head might: nothing of it has to end for that."""

    async def conversation(reader, writer):
        sending = asyncio.create_task(sent(writer, *pieces))
        try:
            answer = await reader.read()
        except ConnectionError:
            # What we were still sending may have made it not arrive; it is closed all the same.
            answer = b"HTTP/1.1 431 "
        await sending
        return answer

    assert talk(conversation).startswith(b"HTTP/1.1 431 ")


def test_heads_and_bodies_of_all_usual_sizes_are_taken_one_after_another():
    """A large head, and a large body in small chunks, on one connection."""

    async def conversation(reader, writer):
        await sent(writer, b"GET /?" + b"x" * 30_000 + b" HTTP/1.1\r\nHost: x\r\nX-A: " + b"y" * 30_000 + END)
        first = await reader.readuntil(b"30000 0")
        chunks = [b"1\r\nx\r\n" * 1_000] * 200
        await sent(writer, POST, b"Transfer-Encoding: chunked" + END, *chunks, b"0" + END)
        second = await reader.readuntil(b"0 200000")
        await sent(writer, POST, b"Content-Length: 400000" + END, *[b"x" * 4_000] * 100)
        return first, second, await reader.readuntil(b"0 400000")

    assert all(each.startswith(b"HTTP/1.1 200 ") for each in talk(conversation))


def test_who_was_too_slow_is_told_and_the_connection_closed():
    async def conversation(reader, writer):
        await sent(writer, POST.replace(b"/", b"/slow", 1), b"Content-Length: 1000" + END, b"x")
        answer = await reader.readuntil(b"}")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        return answer

    answer = talk(conversation)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer


def test_a_body_that_goes_on_after_its_answer_is_not_waited_for_for_ever(monkeypatch):
    """It may end, since who still sends might miss the answer; and then the connection is good for the next."""
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.3)
    early = POST.replace(b"/", b"/early", 1) + b"Content-Length: 1000" + END

    async def dripping(reader, writer):
        await sent(writer, early)
        await reader.readuntil(b"}")
        began = time.monotonic()
        while not reader.at_eof() and time.monotonic() - began < 10:
            await sent(writer, b"x")
            try:
                await asyncio.wait_for(reader.read(1), 0.05)
            except (TimeoutError, ConnectionError):
                continue
        return reader.at_eof()

    async def ending(reader, writer):
        await sent(writer, early)
        await reader.readuntil(b"}")
        await sent(writer, b"x" * 1_000, HOST + b"\r\n")
        await reader.readuntil(b"0 0")
        # Longer than a body that does not end is waited for.
        closed = asyncio.create_task(reader.read(1))
        done, _ = await asyncio.wait([closed], timeout=0.6)
        closed.cancel()
        return not done

    assert talk(dripping) and talk(ending)
