"""The keyring: random subjects for identifiers, and one key a subject and class of data.

Everything personal in Samla is sealed with AES-256-GCM under such a key, bound to its subject and to
the id of what it belongs to (associated data), so that no ciphertext can be moved to another place.
The keys are wrapped by keys derived (HKDF-SHA256) from the master key. Destroying a subject's keys and
tokens is how an append-only log forgets (DESIGN law 8).

Other processes may go on using a key that they hold for as long as their caches live: at most
`LONGEST_CACHE_SECONDS`, unless they are told to evict it.
"""

import hmac
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import MissingKey, Poison, SamlaError, SubjectsFenced
from shared.keystore import KeyStore, MemoryKeyStore, Slot
from shared.transaction import Transaction

ORDINARY: Final = "ordinary"
SENSITIVE: Final = "sensitive"
LONGEST_CACHE_SECONDS: Final = 60.0
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
CACHE_SUBJECTS: Final = 50_000
"""Subjects whose keys a process holds at most, in each of the cache's two generations."""

USES: Final = ("token", "suppression", "event", "check")
"""What keyed hashes are made for: each has a key of its own."""

Identifier = tuple[str, str]
"""(kind, normalized value)."""

V = TypeVar("V")


class Sealing(NamedTuple):
    """What is to be sealed."""

    subject: str
    cls: str
    event_id: str
    plaintext: bytes


class Sealed(NamedTuple):
    """What was sealed, and where it stood."""

    subject: str
    cls: str
    event_id: str
    ciphertext: bytes


class GenerationCache(Generic[V]):
    """A bounded cache whose entries live at most `seconds`.

    Two dicts: entries are added to the young one; after half the time, or when it is full, it becomes
    the old one, and what the old one held is gone. No entry is looked at to find out its age.
    """

    def __init__(self, seconds: float, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._size = size
        self._now = now
        self._young: dict[object, V] = {}
        self._old: dict[object, V] = {}
        self._young_since = self._old_since = now()

    def turn(self) -> None:
        """Lets go of what is too old; call it before a batch of look-ups."""
        now = self._now()
        if now - self._young_since >= self._seconds / 2 or len(self._young) >= self._size:
            self._old, self._old_since = self._young, self._young_since
            self._young, self._young_since = {}, now
        if self._old and now - self._old_since >= self._seconds:
            self._old = {}

    def get(self, key: object) -> V | None:
        """The entry, if it is still held. It does not live longer for being used."""
        found = self._young.get(key)
        return found if found is not None else self._old.get(key)

    def put(self, key: object, value: V) -> None:
        """Adds an entry."""
        self._young[key] = value

    def drop(self, key: object) -> None:
        """Lets go of an entry."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def drop_values(self, values: Collection[object]) -> None:
        """Lets go of the entries with one of these values."""
        for generation in (self._young, self._old):
            for key in [key for key, value in generation.items() if value in values]:
                del generation[key]

    def clear(self) -> None:
        """Lets go of everything."""
        self._young, self._old = {}, {}


class Keyring:
    """Subjects, keys, fences and suppressions; see the module's text.

    `master` is 32 bytes. `seconds` is how long keys and tokens are held in memory.
    """

    def __init__(
        self,
        store: KeyStore,
        master: bytes,
        seconds: float = LONGEST_CACHE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(master) != KEY_BYTES:
            raise SamlaError(f"the master key must be {KEY_BYTES} bytes, not {len(master)}")
        if not 0 < seconds <= LONGEST_CACHE_SECONDS:
            raise SamlaError(f"keys may be held for up to {LONGEST_CACHE_SECONDS:g} s, not {seconds:g}")
        self.seconds = seconds
        self._store = store
        self._wrapping = AESGCM(derived(master, "wrap subject keys"))
        # Begun once and copied for each value: what a key costs is paid here.
        self._blinding = {use: HMAC(derived(master, use), SHA256()) for use in USES}
        self._ciphers: GenerationCache[dict[str, AESGCM]] = GenerationCache(seconds, CACHE_SUBJECTS, now)
        self._subjects: GenerationCache[str] = GenerationCache(seconds, 4 * CACHE_SUBJECTS, now)
        self._now = now
        self._unsuppressed_until = 0.0

    def setup(self) -> None:
        """Makes the tables; refuses a master key that is not the one they were made with."""
        check = self._blind("check", "samla")
        if not hmac.compare_digest(self._store.setup(check), check):
            raise SamlaError(
                "SAMLA_MASTER_KEY is not the key that this deployment's keyring was made with: "
                "give the right one, or use another SAMLA_PREFIX"
            )

    # Subjects

    def subjects_of(self, identifiers: Sequence[Identifier], create: bool) -> dict[Identifier, str | None]:
        """Identifier -> subject. Unknown ones get a fresh random subject with `create`, else None."""
        self._subjects.turn()
        tokens = {each: self._blind("token", *each) for each in identifiers}
        known: dict[bytes, str] = {}
        missing: set[bytes] = set()
        for token in tokens.values():
            if subject := self._subjects.get(token):
                known[token] = subject
            else:
                missing.add(token)
        if missing:
            known.update(self._stored_subjects(missing, create))
        return {each: known.get(token) for each, token in tokens.items()}

    def _stored_subjects(self, tokens: Collection[bytes], create: bool) -> dict[bytes, str]:
        found = self._store.tokens(tokens)
        new = {token: new_id() for token in tokens if token not in found} if create else {}
        if new:
            # Another process may have been first: then what the table holds is what counts.
            found.update(new if self._store.add_tokens(new) else self._store.tokens(list(new)))
        for token, subject in found.items():
            self._subjects.put(token, subject)
        return found

    def event_id(self, source: str, message_id: str, subject: str) -> str:
        """The event's id: the same for the same message of the same source about the same subject."""
        return self._blind("event", source, message_id, subject).hex()

    # Sealing and opening

    def seal(self, items: Sequence[Sealing]) -> list[bytes]:
        """The ciphertexts, in order; makes keys that are missing, durably, first.

        Raises SubjectsFenced where a subject is erased.
        """
        ciphers = self._held({(item.subject, item.cls) for item in items}, create=True)
        # Asking for randomness lets go of the interpreter: once a batch, not once an item.
        random = os.urandom(NONCE_BYTES * len(items))
        nonces = (random[at : at + NONCE_BYTES] for at in range(0, len(random), NONCE_BYTES))
        return [
            nonce + ciphers[item.subject, item.cls].encrypt(nonce, item.plaintext, _bound(item.subject, item.event_id))
            for item, nonce in zip(items, nonces, strict=True)
        ]

    def open(self, items: Sequence[Sealed]) -> list[bytes | None]:
        """The plaintexts, in order; None where the key was destroyed.

        Raises MissingKey where there is neither a key nor a fence, Poison where a ciphertext is not
        what was sealed in this place.
        """
        slots = {(item.subject, item.cls) for item in items}
        ciphers = self._held(slots, create=False)
        self._explain_missing([slot for slot in slots if slot not in ciphers])
        return [_opened(ciphers.get((item.subject, item.cls)), item) for item in items]

    def _explain_missing(self, slots: Collection[Slot]) -> None:
        if not slots:
            return
        subjects = {subject for subject, _ in slots}
        if unexplained := subjects - self._store.fenced(subjects):
            raise MissingKey(
                f"{len(unexplained)} subject(s) have no key and are not erased, such as {min(unexplained)}: "
                "restore the keyring's database before going on"
            )

    def _held(self, slots: Collection[Slot], create: bool) -> dict[Slot, AESGCM]:
        self._ciphers.turn()
        held: dict[Slot, AESGCM] = {}
        missing: list[Slot] = []
        for slot in slots:
            classes = self._ciphers.get(slot[0])
            if classes is not None and (cipher := classes.get(slot[1])):
                held[slot] = cipher
            else:
                missing.append(slot)
        if missing:
            for slot, wrapped in self._stored_keys(missing, create).items():
                held[slot] = self._hold(slot, wrapped)
        return held

    def _stored_keys(self, slots: Collection[Slot], create: bool) -> dict[Slot, bytes]:
        found = self._store.keys(slots)
        lacking = [slot for slot in slots if slot not in found]
        if not lacking or not create:
            return found
        if fenced := self._store.fenced({subject for subject, _ in lacking}):
            raise SubjectsFenced(fenced)
        fresh = {slot: self._wrapped(slot) for slot in lacking}
        found.update(fresh if self._store.add_keys(fresh) else self._store.keys(lacking))
        return found

    def _wrapped(self, slot: Slot) -> bytes:
        """A new key, wrapped."""
        random = os.urandom(NONCE_BYTES + KEY_BYTES)
        nonce, key = random[:NONCE_BYTES], random[NONCE_BYTES:]
        return nonce + self._wrapping.encrypt(nonce, key, _bound(*slot))

    def _hold(self, slot: Slot, wrapped: bytes) -> AESGCM:
        try:
            key = self._wrapping.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _bound(*slot))
        except InvalidTag as error:
            raise MissingKey(f"the key of subject {slot[0]} cannot be unwrapped by this master key") from error
        cipher = AESGCM(key)
        classes = self._ciphers.get(slot[0])
        if classes is None:
            self._ciphers.put(slot[0], {slot[1]: cipher})
        else:
            classes[slot[1]] = cipher
        return cipher

    # Forgetting

    def fence(self, subjects: Collection[str]) -> None:
        """From now on these subjects get no key and no event, ever."""
        self._store.add_fences(subjects)

    def fenced(self, subjects: Collection[str], within: Transaction | None = None) -> set[str]:
        """Those of the subjects that are erased; within a transaction, as its snapshot has it."""
        if within is None:
            return self._store.fenced(subjects)
        asked = set(subjects) - within.unfenced
        gone = self._store.fenced(asked, within)
        within.unfenced |= asked - gone
        return gone

    def destroy(self, subjects: Collection[str], classes: Collection[str] | None = None) -> None:
        """Destroys keys (of some classes only, if given) and, with all classes, the tokens."""
        self._store.delete(subjects, classes)
        self.evict(subjects)

    def holders(self, prefix: str) -> list[str]:
        """Who has a key and a name that begins so: what is sealed before it has a subject."""
        return self._store.holders(prefix)

    def evict(self, subjects: Collection[str]) -> None:
        """Lets go of what this process holds of the subjects."""
        for subject in subjects:
            self._ciphers.drop(subject)
        self._subjects.drop_values(set(subjects))
        self._unsuppressed_until = 0.0

    def suppress(self, identifiers: Iterable[Identifier]) -> None:
        """From now on these identifiers are not taken in again."""
        self._store.add_suppressions([self._blind("suppression", *each) for each in identifiers])
        self._unsuppressed_until = 0.0

    def suppressed(self, identifiers: Sequence[Identifier]) -> set[Identifier]:
        """Those of the identifiers that are suppressed."""
        if self._now() < self._unsuppressed_until:
            return set()
        if not self._store.any_suppressed():
            # The usual case: nobody is. An eviction ends it at once, the caches' time in any case.
            self._unsuppressed_until = self._now() + self.seconds
            return set()
        tokens = {self._blind("suppression", *each): each for each in identifiers}
        return {tokens[token] for token in self._store.suppressed(list(tokens))}

    def _blind(self, use: str, *parts: str) -> bytes:
        """A keyed hash (HMAC-SHA256, 16 bytes). Lengths are part of it: ("ab", "c") is not ("a", "bc")."""
        keyed = self._blinding[use].copy()
        keyed.update("".join([f"{len(part)}:{part}" for part in parts]).encode())
        return keyed.finalize()[:16]


def MemoryKeyring(master: bytes = b"m" * KEY_BYTES, **options: Any) -> Keyring:
    """A keyring on in-memory tables: the twin."""
    return Keyring(MemoryKeyStore(), master, **options)


class _Ids:
    """Random ids, from randomness fetched for many at once (see Keyring.seal)."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def next(self) -> str:
        """One that was never given out. Safe over threads: `pop` is atomic."""
        try:
            return self._left.pop()
        except IndexError:
            text = os.urandom(16 * 256).hex()
            ids = [text[at : at + 32] for at in range(0, len(text), 32)]
            self._left.extend(ids[1:])
            return ids[0]


new_id = _Ids().next
"""A random id: 128 bits as 32 hex characters."""
os.register_at_fork(after_in_child=new_id.__self__._left.clear)  # type: ignore[attr-defined]


def _bound(subject: str, identity: str) -> bytes:
    return f"{subject}\x1f{identity}".encode()


def _opened(cipher: AESGCM | None, item: Sealed) -> bytes | None:
    if cipher is None:
        return None
    text = item.ciphertext
    try:
        return cipher.decrypt(text[:NONCE_BYTES], text[NONCE_BYTES:], _bound(item.subject, item.event_id))
    except InvalidTag as error:
        raise Poison(f"{item.cls} data of {item.event_id} is not what was sealed there") from error


def derived(master: bytes, use: str) -> bytes:
    """A key of its own for a use (HKDF-SHA256), of the master key."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"samla {use}".encode()).derive(master)
