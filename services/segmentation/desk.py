"""What people do with segments: make, change, delete and try them, and ask why; and what follows before they count.

A definition is in force once all is there that it looks at: what is to be watched of people's events is filled from the
log by the profile service. Until then a new segment is empty, and a changed one is what it was.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from contracts.profile import signal_id
from services.segmentation.asking import Others, facts_of, with_consents
from services.segmentation.domain.definition import KEY, Definition, check, depends_on, lasting, named, signals
from services.segmentation.domain.evaluate import evaluate, explain
from services.segmentation.domain.index import Index, needs_of
from services.segmentation.domain.membership import Segment
from services.segmentation.domain.nesting import check_nesting, check_unused, using
from services.segmentation.domain.special import refusal, special
from services.segmentation.store import SegmentationStore
from shared.clock import Clock
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError
from shared.keyring import new_id
from shared.policy import POLICY
from shared.transaction import Transaction, Transactor, tried

SCAN_PAGE: Final = 500
COUNTED_PAGE: Final = 50
"""Where signals are counted from the log."""
MOST_SEGMENTS: Final = 2_000
MOST_SIGNALS: Final = 2_000
"""That the profile service keeps."""
MOST_SHOWN: Final = 100
TRIES: Final = 20
MOST_INSTANTS: Final = 400
LATEST_MS: Final = 1 << 47


T = TypeVar("T")


class Desk:
    """See the module's text."""

    def __init__(self, store: SegmentationStore, transactor: Transactor, clock: Clock) -> None:
        self._store = store
        self._transactor = transactor
        self._clock = clock
        self._settled = 0
        """The revision of which all is watched and in force."""

    def _index(self) -> Index:
        revision = self._store.revision()
        return Index(self._store.all(), revision)

    def _graph(self, index: Index) -> dict[str, list[Definition]]:
        return {
            each.key: [each.definition, *([each.coming] if each.coming else [])] for each in index.segments.values()
        }

    def _check(self, key: str, definition: Any, index: Index, others: Others) -> None:
        """Raises SamlaError, saying which part, for what cannot be a segment's definition."""
        check(definition)
        wanted = named(definition, "computed")
        computed = {each["key"]: each["definition"] for each in others.traits()} if wanted else {}
        if missing := sorted(wanted - computed.keys()):
            raise SamlaError(f"there is no computed trait {missing[0]}")
        if parts := special(definition, POLICY, computed):
            raise SamlaError(refusal(parts, POLICY))
        check_nesting(key, definition, self._graph(index))
        rest = [each for each in index.segments.values() if each.key != key]
        if len(_watched_for(rest) | signals(definition)) > MOST_SIGNALS:
            raise SamlaError(f"all segments together may look at {MOST_SIGNALS} different things of events at most")

    def _change(self, index: Index, work: Any) -> None:
        """In one transaction, as long as segments are what they were checked against."""

        def guarded(within: Transaction) -> None:
            if self._store.revision(within) != index.revision:
                raise CheckpointMoved("segments have changed meanwhile")
            work(within)

        self._transactor.run(guarded)

    def _tried(self, change: Callable[[], T]) -> T:
        """Done again, checks and all, where segments have changed meanwhile. Raises Conflict where they always have."""
        return tried(change, TRIES, "segments are being changed by others all the time: try again")

    # Making, changing, deleting

    def create(self, key: str, name: str, definition: dict[str, Any], others: Others) -> Segment:
        """A new segment; it is filled from history in the background."""
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise SamlaError("a segment's key is made of a-z, 0-9, - and _, 64 at most")
        return self._tried(lambda: self._create(key, name, definition, others))

    def _create(self, key: str, name: str, definition: dict[str, Any], others: Others) -> Segment:
        index = self._index()
        if len(index.segments) >= MOST_SEGMENTS:
            raise SamlaError(f"there are {MOST_SEGMENTS} segments already, which is the most")
        self._check(key, definition, index, others)
        now = self._clock.now_ms()
        made = Segment(
            id=new_id(),
            key=key,
            name=name or key,
            definition=definition,
            version=1,
            created=now,
            since=now,
            ready=False,
        )
        self._change(index, lambda within: self._store.add(made, within))
        return made

    def change(self, segment: str, definition: dict[str, Any], name: str | None, others: Others) -> Segment:
        """Another definition: a new version, in force once all is there that it looks at. The same changes nothing."""
        return self._tried(lambda: self._changed(segment, definition, name, others))

    def _changed(self, segment: str, definition: dict[str, Any], name: str | None, others: Others) -> Segment:
        index, found = self._index(), self._store.find(segment)
        self._check(found.key, definition, index, others)
        named_ = replace(found, name=name or found.name)
        if definition == (found.coming or found.definition):
            changed = named_
        else:
            changed = replace(named_, coming=None if definition == found.definition else definition)
        if changed != found:
            self._change(index, lambda within: self._store.put(changed, found, within))
            self._prepared(changed, set())
        return self._store.find(found.id)

    def delete(self, segment: str) -> int:
        """Deletes a segment that no other uses; how many are leaving it."""
        return self._tried(lambda: self._delete(segment))

    def _delete(self, segment: str) -> int:
        index, found = self._index(), self._store.find(segment)
        graph = self._graph(index)
        del graph[found.key]
        check_unused(found.key, graph)
        size = self._store.sizes().get(found.id, 0)
        self._change(index, lambda within: self._store.delete(found, within))
        return size

    def uses(self, name: str) -> list[str]:
        """The keys of the segments that depend on a name (`computed.spent`), now or by a definition to come, through
        others too."""
        index = self._index()
        graph = self._graph(index)
        found = {key for key, definitions in graph.items() if any(name in depends_on(each) for each in definitions)}
        return sorted(found | using(found, graph))

    # What follows from that

    def prepare(self, others: Others) -> bool:
        """Says what is to be watched, and puts definitions in force of which all is there; whether any are."""
        revision = self._store.revision()
        if revision == self._settled:
            return False
        segments = self._store.all()
        wanted = _watched_for(segments)
        waiting = [each for each in segments if not each.ready or each.coming]
        watched = others.watched()
        if watched.keys() != wanted.keys():
            watched = others.watch(list(wanted.values()))
        if not waiting:
            self._settled = revision
        computed = {each["key"]: each["filled"] for each in others.traits()} if waiting else {}
        there = {f"signals {key}" for key, filled in watched.items() if filled}
        there |= {f"computed {key}" for key, filled in computed.items() if filled}
        return sum(self._prepared(each, there) for each in waiting) > 0

    def _prepared(self, segment: Segment, there: set[str]) -> bool:
        definition = segment.coming or segment.definition
        if (segment.ready and not segment.coming) or not _looks_at(definition) <= there:
            return False
        index = self._index()
        changed = replace(segment, ready=True, coming=None)
        if segment.coming:
            now = self._clock.now_ms()
            changed = replace(changed, definition=segment.coming, version=segment.version + 1, since=now)

        def work(within: Transaction) -> None:
            self._store.put(changed, segment, within)
            if changed.version != segment.version:
                # What refers to it means something else from now on.
                self._store.refill([each.id for each in index.using(segment.key)], within)

        try:
            self._change(index, work)
        except (Conflict, CheckpointMoved):
            return False
        return True

    # Trying and explaining

    def preview(self, definition: dict[str, Any], sample: int, others: Others) -> dict[str, Any]:
        """How many of all profiles would be in, some of them, and how many of those in each segment would be."""
        index = self._index()
        self._check("", definition, index, others)
        wanted, needs = needs_of(definition, index.definitions)
        watched = others.watched() if wanted else {}
        kept = all(watched.get(each) for each in wanted)
        now = self._clock.now_ms()
        count = profiles = 0
        shown: list[str] = []
        both: dict[str, int] = {}
        after: str | None = ""
        while after is not None:
            page = others.scan(after, SCAN_PAGE if kept else COUNTED_PAGE, [] if kept else list(wanted.values()))
            causes: dict[str, dict[str, int]] = {name: {} for name in page["profiles"]}
            if kept and wanted:
                facts = facts_of(others, causes, needs).facts
            else:
                facts = with_consents(others, page["profiles"], causes, needs)
            inside = [name for name, each in facts.items() if evaluate(definition, each, now, index.definitions).inside]
            profiles += len(facts)
            count += len(inside)
            shown += inside[: sample - len(shown)]
            for membership in self._store.load(inside).values():
                for segment in membership.since:
                    both[segment] = both.get(segment, 0) + 1
            after = page["after"]
        sizes = self._store.sizes()
        overlap = [
            {"segment": each.id, "key": each.key, "size": sizes.get(each.id, 0), "both": both[each.id]}
            for each in index.segments.values()
            if each.id in both
        ]
        overlap.sort(key=lambda each: (-int(str(each["both"])), str(each["key"])))
        return {"count": count, "profiles": profiles, "sample": shown, "overlap": overlap}

    def history(self, segment: str, instants: list[int], others: Others) -> list[dict[str, int]]:
        """How many were in at instants (ms) by today's definition and events; traits, identifiers and consents are
        those of today."""
        index, found = self._index(), self._store.find(segment)
        if not isinstance(instants, list) or not 0 < len(instants) <= MOST_INSTANTS:
            raise SamlaError(f"{MOST_INSTANTS} instants at most, in ms since 1970")
        if not all(isinstance(each, int) and 0 <= each <= LATEST_MS for each in instants):
            raise SamlaError("instants are ms since 1970 UTC")
        wanted, needs = needs_of(found.definition, index.definitions)
        unbounded = {key: lasting(each) for key, each in wanted.items()}
        counts = dict.fromkeys(instants, 0)
        after: str | None = ""
        while after is not None:
            page = others.scan(after, COUNTED_PAGE if wanted else SCAN_PAGE, list(unbounded.values()))
            people = with_consents(others, page["profiles"], {name: {} for name in page["profiles"]}, needs)
            for facts in people.values():
                kept = {key: facts["signals"][signal_id(each)] for key, each in unbounded.items()}
                for at in counts:
                    counts[at] += evaluate(found.definition, {**facts, "signals": kept}, at, index.definitions).inside
            after = page["after"]
        return [{"at": at, "size": size} for at, size in counts.items()]

    def explain(
        self, profile: str, segment: str | None, definition: dict[str, Any] | None, others: Others
    ) -> dict[str, Any]:
        """Why a person is in a segment, or would be by a definition: condition by condition."""
        index = self._index()
        found = self._store.find(segment) if segment else None
        if (found is None) == (definition is None):
            raise SamlaError("say either which segment, or a definition to try")
        meant: Any = definition if found is None else found.definition
        if found is None:
            self._check("", meant, index, others)
        wanted, needs = needs_of(meant, index.definitions)
        watched = others.watched() if wanted else {}
        if all(watched.get(each) for each in wanted):
            known = facts_of(others, {profile: {}}, needs).facts
        else:
            page = others.scan(_just_before(profile), 1, list(wanted.values()))
            alone = {name: each for name, each in page["profiles"].items() if name == profile}
            known = with_consents(others, alone, {profile: {}}, needs)
        if profile not in known:
            raise NotFound(f"there is no profile {profile}")
        now = self._clock.now_ms()
        since = self._store.load([profile])[profile].since.get(found.id) if found else None
        told = explain(meant, known[profile], now, index.definitions)
        return {"profile": profile, "at": now, "since": since, "version": found.version if found else None, "why": told}


def _watched_for(segments: Iterable[Segment]) -> dict[str, dict[str, Any]]:
    """What is to be watched, by id."""
    parts = [one for each in segments for one in (each.definition, each.coming) if one]
    return {key: each for part in parts for key, each in signals(part).items()}


def _looks_at(definition: Definition) -> set[str]:
    """What must be there before it can be evaluated."""
    return {f"signals {key}" for key in signals(definition)} | {
        f"computed {key}" for key in named(definition, "computed")
    }


def _just_before(profile: str) -> str:
    """An id that only those before this one are not behind."""
    return f"{profile[:-1]}{chr(ord(profile[-1]) - 1)}~" if profile else ""


def row_of(segment: Segment, size: int) -> dict[str, Any]:
    """contracts.segmentation.SegmentRow."""
    coming: Mapping[str, Any] = {} if segment.coming is None else {"coming": segment.coming}
    return {
        "segment": segment.id,
        "key": segment.key,
        "name": segment.name,
        "version": segment.version,
        "definition": segment.definition,
        "sensitive": bool(special(segment.definition, POLICY)),
        "size": size,
        "filled": segment.filled and segment.ready and segment.coming is None,
        "created": segment.created,
        "since": segment.since or segment.created,
        **coming,
    }
