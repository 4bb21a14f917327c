"""Files that come over HTTP: written as they come, never held; then tried at once, or imported in the background."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.requests import Request

from services.console.admin.answers import Refused
from services.console.admin.imports import Importer, Job, described, now_ms
from services.console.importing.mapping import mappings_of
from services.console.importing.opening import open_file
from services.console.importing.proposal import SAMPLE, proposed
from services.console.importing.repeats import notes_of
from services.console.importing.sending import checked_key
from services.console.importing.trying import trial
from shared.config import Settings
from shared.errors import SamlaError, Unavailable
from shared.keyring import new_id

PIECE: Final = 1 << 20
TRIED: Final = 10_000
"""Rows that a dry run looks at."""
UPLOADS: Final = 4
"""At the same time."""
MOST_WAITING: Final = 100
"""Imports that are not over."""


class Uploads:
    """See the module's text."""

    def __init__(self, settings: Settings, importer: Importer) -> None:
        self._most = settings.upload_mb * 1_000_000
        self._importer = importer
        self._free = asyncio.Semaphore(UPLOADS)

    async def take(self, request: Request, query: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, answer). Raises Refused and SamlaError; nothing is left of the file then."""
        only_tried = query["propose"] or query["dry_run"]
        mapping, key = query.get("mapping"), request.headers.get("x-write-key", "")
        wanted = None if query["propose"] else _mapping(mapping)
        if not only_tried:
            _check_key(key)
        if not only_tried and self._importer.unfinished >= MOST_WAITING:
            raise Unavailable("too many imports wait: send it again later")
        if self._free.locked():
            raise Unavailable("too many files are being sent: send it again soon")
        identity = new_id()
        path = self._importer.file_of(identity, query["format"])
        try:
            async with self._free:
                size = await self._kept(request, path)
            if only_tried:
                return 200, await asyncio.to_thread(_tried, path, query, wanted)
            return 202, await asyncio.to_thread(self._begun, identity, query, wanted, size, key)
        finally:
            if self._importer.job(identity) is None:
                path.unlink(missing_ok=True)

    async def _kept(self, request: Request, path: Path) -> int:
        """Writes the body to a file; its size."""
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self._most:
            raise self._too_large()
        size = 0
        try:
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
            with file:
                async for piece in _pieces(request.stream()):
                    size += len(piece)
                    if size > self._most:
                        raise self._too_large()
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(os.fsync, file.fileno())
        except OSError as error:
            raise Unavailable("the file cannot be kept: is there room in SAMLA_HOME?") from error
        if not size:
            raise Refused(400, "empty", "the file is empty: send it as the body")
        return size

    def _too_large(self) -> Refused:
        return Refused(413, "too_large", f"a file may have {self._most} bytes: see SAMLA_UPLOAD_MB")

    def _begun(self, identity: str, query: dict[str, Any], wanted: Any, size: int, key: str) -> dict[str, Any]:
        now = now_ms()
        job = Job(
            id=identity,
            format=query["format"],
            encoding=query["encoding"],
            separator=query["separator"],
            mapping=wanted,
            key="",
            size=size,
            created=now,
            changed=now,
        )
        self._importer.add(job, key)
        return described(job)


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a body, a piece of a good size at a time."""
    piece = bytearray()
    async for chunk in chunks:
        piece += chunk
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _check_key(key: str) -> None:
    try:
        checked_key(key)
    except SamlaError as error:
        why = f"send X-Write-Key: the write key of the source that the file is from; {error}"
        raise Refused(400, "no_write_key", why) from None


def _mapping(text: str | None) -> Any:
    """The JSON of a mapping, or of several, checked. Raises SamlaError."""
    if not text:
        raise Refused(400, "no_mapping", "give mapping=, or propose=true to get one to begin with")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Refused(400, "bad_request", "mapping is no JSON") from None
    mappings_of(value)
    return value


def _tried(path: Path, query: dict[str, Any], wanted: Any) -> dict[str, Any]:
    """What would come of the file. Raises SamlaError."""
    try:
        mappings = mappings_of(wanted) if wanted is not None else ()
        file = open_file(path, query["encoding"], query["separator"], mappings)
        if wanted is None:
            return {"mapping": proposed(file.columns, [row for row, _ in itertools.islice(file.rows, SAMPLE)])}
        found = trial(mappings, itertools.islice(file.rows, TRIED))
        return {**found._asdict(), "notes": [*file.notes, *notes_of(found.repeated), *filter(None, [file.wrong])]}
    except SamlaError:
        raise
    except Exception as error:
        # Only its type: the text may quote the file.
        raise SamlaError(f"the file cannot be read ({type(error).__name__}): are format and encoding right?") from None
