"""The `samla` command. Each command asks the service that owns the matter, over RPC."""

import itertools
import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import orjson
import typer
from pymongo.errors import PyMongoError

from contracts.activation import FORMS
from contracts.admin import PLAN_MODES
from contracts.streams import STREAMS
from services.console import show
from services.console.asking import ask, asked, open_log, profile_of
from services.console.given import LARGEST, Limit, json_of, text_of
from services.console.identity_commands import identity
from services.console.importing.mapping import Mapping_, mapped, mappings_of
from services.console.importing.opening import Opening, open_file
from services.console.importing.proposal import SAMPLE, proposed
from services.console.importing.repeats import notes_of
from services.console.importing.sending import (
    MOST_PATIENCE,
    NO_MESSAGE,
    PATIENCE,
    Door,
    Mark,
    checked_key,
    checked_url,
    digest_of,
    send,
)
from services.console.importing.trying import trial
from services.console.profile_commands import profile
from services.console.progress import behind
from services.console.rebuild_command import rebuild
from services.console.segment_commands import segment
from services.console.trait_commands import policy, trait
from shared.config import Settings
from shared.errors import NotFound, SamlaError

Mode = StrEnum("Mode", PLAN_MODES)  # type: ignore[misc]
WARN: Final = Mode("warn")
Form = StrEnum("Form", FORMS)  # type: ignore[misc]
SAMLA: Final = Form("samla")
Whole = Annotated[int, typer.Option(min=0, max=LARGEST - 1)]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

app = typer.Typer(
    help="Samla: gathers what customers do, and acts on it with their consent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Errors are lines, not boxes that wrap what they name.
    rich_markup_mode=None,
)


def group(name: str, text: str) -> typer.Typer:
    """A group of commands."""
    made = typer.Typer(help=text, no_args_is_help=True)
    app.add_typer(made, name=name)
    return made


source = group("source", "Where data comes from: sources and their write keys.")
agreement = group("agreement", "What partners and suppliers may pass on to us.")
app.add_typer(segment, name="segment")
destination = group("destination", "Where activations go: webhooks and what they are sent.")
delivery = group("delivery", "What went out, what was held back, and the dead letters.")
quarantine = group("quarantine", "What could not be taken in, and why.")
parked = group("parked", "Events that a service could not handle.")
app.add_typer(identity, name="identity")
app.add_typer(profile, name="profile")
profile.add_typer(trait, name="trait")
profile.add_typer(policy, name="policy")
privacy = group("privacy", "Consents, erasure, export.")
log = group("log", "The event log.")


# Sources


@source.command("create")
def source_create(
    name: str,
    party: Annotated[str, typer.Option(help="first, second or third")] = "first",
    as_json: AsJson = False,
) -> None:
    """Makes a source; its write key is shown this once."""
    show.record(ask("collector", "create_source", name, party), as_json)


@source.command("list")
def source_list(as_json: AsJson = False) -> None:
    """All sources."""
    show.table(
        ask("collector", "sources"),
        ["source", "name", "party", "enabled", "events", "errors", "last_seen", "refused", "rate", "ip", "bots"],
        as_json,
        least=["bots", "ip", "rate", "refused", "party"],
    )


@source.command("disable")
def source_disable(source: str) -> None:
    """From now on the source's events are refused with 404."""
    ask("collector", "disable_source", source)


@source.command("enable")
def source_enable(source: str) -> None:
    """The source's events are taken again."""
    ask("collector", "change_source", source, {"enabled": True})


@source.command("set")
def source_set(  # noqa: PLR0913, PLR0917 - an option a setting
    source: str,
    ip: Annotated[str, typer.Option(help="IP addresses: keep, truncate or drop")] = "",
    bots: Annotated[str, typer.Option(help="messages of bots: set_aside or keep")] = "",
    rate: Annotated[int | None, typer.Option(help="events a second; 0: no limit")] = None,
    quarantine_days: Annotated[int | None, typer.Option(help="how long what could not be taken in is kept")] = None,
    alarm: Annotated[
        int | None, typer.Option(help="quarantined messages in an hour that are too many; 0: never")
    ] = None,
    raw_days: Annotated[int | None, typer.Option(help="how long messages are kept as received; 0: not at all")] = None,
    size: Annotated[int | None, typer.Option(help="bytes that one message may hold")] = None,
    region: Annotated[str, typer.Option(help="of telephone numbers without a country code, such as SE")] = "",
    cookie_days: Annotated[
        int | None, typer.Option(help="how long browsers keep a visitor's id; 0: none is given")
    ] = None,
    origins: Annotated[str | None, typer.Option(help="that may use the visitor's cookie, with commas between")] = None,
    cookie_gpc: Annotated[str, typer.Option(help="Sec-GPC and the visitor's id: ignore or refuse")] = "",
    example: Annotated[bool | None, typer.Option(help="whether the example page is shown")] = None,
    as_json: AsJson = False,
) -> None:
    """Changes what is done with what the source sends."""
    given: dict[str, Any] = {"ip": ip, "bots": bots, "rate": rate, "quarantine_days": quarantine_days, "alarm": alarm}
    given |= {"raw_days": raw_days, "size": size, "region": region}
    given |= {"cookie_days": cookie_days, "cookie_gpc": cookie_gpc, "example": example}
    given |= {"origins": None if origins is None else [each.strip() for each in origins.split(",") if each.strip()]}
    changes = {name: value for name, value in given.items() if value not in ("", None)}
    if not changes:
        raise typer.BadParameter("say what is to be different: samla source set --help")
    show.record(ask("collector", "change_source", source, changes), as_json)


@source.command("rotate")
def source_rotate(
    source: str,
    overlap_hours: Annotated[float, typer.Option(help="how long the old keys are good for")] = 24,
    as_json: AsJson = False,
) -> None:
    """Makes a new write key, shown this once."""
    show.record(ask("collector", "rotate_key", source, overlap_hours), as_json)


@source.command("connect")
def source_connect(
    source: str,
    dialect: Annotated[str, typer.Argument(help="shopify, stripe, mailchimp, typeform, or the name of --own")],
    secret: Annotated[str, typer.Option(help="That the tool signs with, or @FILE; one is made where left out.")] = "",
    own: Annotated[str, typer.Option(help="A dialect of your own: JSON, or @FILE; see docs/inbound.md")] = "",
    overlap_hours: Annotated[float, typer.Option(help="how long a secret that was there before is good")] = 24,
    as_json: AsJson = False,
) -> None:
    """Takes a tool's webhooks for the source; prints the address to give to the tool."""
    given = text_of(secret)
    document = json_of(own) if own else None
    made = ask("collector", "connect_source", source, dialect, given, document, overlap_hours)
    shown = {"source": source, "dialect": dialect, "url": Settings.from_env().collector_url.rstrip("/") + made["path"]}
    show.record(shown if given else {**shown, "secret": made["secret"]}, as_json)


@source.command("disconnect")
def source_disconnect(source: str, dialect: str) -> None:
    """From now on the tool's webhooks are refused."""
    ask("collector", "disconnect_source", source, dialect)


@source.command("connections")
def source_connections(as_json: AsJson = False) -> None:
    """Which tools send for which sources."""
    show.table(ask("collector", "connections"), ["source", "dialect", "own", "since"], as_json)


@source.command("rules")
def source_rules(source: str) -> None:
    """Its cleaning rules, tracking plan and agreement, as they are in force."""
    show.as_json(ask("collector", "rules", source))


@source.command("clean")
def source_clean(
    source: str,
    rules: Annotated[str, typer.Argument(help="Cleaning rules: JSON, or @FILE; null for none")],
    messages: Annotated[
        int, typer.Option(min=1, max=20_000, help="of the last ones, on which they are tried before")
    ] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tries them.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where more would be set aside than now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Puts cleaning rules in force, once they have been tried on what the source has sent last."""
    _change_rules(source, "cleaning", rules, messages, dry_run, force, as_json)


@source.command("plan")
def source_plan(
    source: str,
    plan: Annotated[str, typer.Argument(help="A tracking plan: JSON, or @FILE; null for none")],
    messages: Annotated[
        int, typer.Option(min=1, max=20_000, help="of the last ones, on which it is tried before")
    ] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tries it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where more would be set aside than now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Puts a tracking plan in force, once it has been tried on what the source has sent last."""
    _change_rules(source, "plan", plan, messages, dry_run, force, as_json)


def _change_rules(source: str, kind: str, rule: str, messages: int, dry_run: bool, force: bool, as_json: bool) -> None:
    method, more = ("test_rules", {}) if dry_run else ("change_rules", {"meant": force})
    report = ask("collector", method, source, kind, json_of(rule), messages, timeout=120, **more)
    show.record(report, as_json)
    if not report.get("saved", True):
        typer.echo(
            f"not in force: {report['newly_set_aside']} would be set aside that are taken in now; --force", err=True
        )
        raise typer.Exit(1)


@source.command("learn")
def source_learn(
    source: str,
    messages: Annotated[
        int, typer.Option(min=1, max=20_000, help="of the last ones, from which it is learned")
    ] = 1_000,
    mode: Annotated[Mode, typer.Option(help="What is done with what does not fit.")] = WARN,
) -> None:
    """Writes a tracking plan that the source's last messages fit; `samla source plan` puts it in force."""
    show.as_json(ask("collector", "learn_plan", source, messages, mode.value, timeout=120))


@source.command("violations")
def source_violations(source: str, as_json: AsJson = False) -> None:
    """What was not as its tracking plan says, by event and property; `samla source received` shows examples."""
    found = ask("collector", "violations", source)
    show.table(found, ["event", "path", "rule", "count", "last", "examples"], as_json, least=["last"])


@source.command("received")
def source_received(request: Annotated[str, typer.Argument(help="A correlation id")]) -> None:
    """A request as it was received."""
    found = ask("collector", "received", request)
    if found is None:
        raise NotFound(f"nothing is kept of a request {request}: see X-Correlation-Id, and raw_days of its source")
    show.as_json(found)


@source.command("trace")
def source_trace(event: Annotated[str, typer.Argument(help="An event's id")]) -> None:
    """From a clean event to what was received, value by value."""
    show.as_json(ask("collector", "trace", event))


@source.command("reclean")
def source_reclean(
    source: str,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only says what would be corrected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Uses the cleaning rules of now on what was received before: appends corrections, changes nothing."""
    outcomes = ("corrected", "unchanged", "set_aside", "other_agreement", "moved", "suppressed")
    whole: dict[str, Any] = dict.fromkeys(("requests", *outcomes), 0)
    examples: list[Any] = []
    after: list[Any] | None = [0, ""]
    with show.progress(ask("collector", "received_size", source), as_json) as advance:
        while after is not None:
            page = ask("collector", "reclean", source, after, dry=dry_run, timeout=120)
            after = page["after"]
            whole = {name: number + page[name] for name, number in whole.items()}
            examples = (examples + page["examples"])[:5]
            advance(page["requests"])
    show.record({**whole, "examples": examples}, as_json)


@source.command("sign")
def source_sign(source: str, agreement: str, as_json: AsJson = False) -> None:
    """The source sends under this agreement or licence from now on."""
    show.record(ask("collector", "sign_agreement", source, agreement), as_json)


# Agreements and licences


@agreement.command("create")
def agreement_create(
    partner: Annotated[str, typer.Argument(help="Who gives: a partner's or a supplier's name")],
    party: Annotated[str, typer.Option(help="second (an agreement) or third (a licence)")],
    purpose: Annotated[list[str], typer.Option(help="What for; may be given more than once.")],
    field: Annotated[list[str], typer.Option(help="What, such as traits.email or properties.*; more than once.")],
    until: Annotated[str, typer.Option(help="The instant at which it ends, such as 2027-01-01")],
    since: Annotated[str, typer.Option(help="The instant from which it holds; now where left out.")] = "",
    merges: Annotated[bool, typer.Option("--merges", help="A partner's ids may show that two are one.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a second- or third-party source may send, for what, and for how long."""
    begins = show.instant(since) if since else time.time_ns() // 1_000_000
    made = ask("collector", "create_agreement", party, partner, purpose, field, begins, show.instant(until), merges)
    show.record(made, as_json)


@agreement.command("list")
def agreement_list(as_json: AsJson = False) -> None:
    """All agreements and licences."""
    columns = ["agreement", "kind", "partner", "purposes", "fields", "from", "until", "ended"]
    show.table(ask("collector", "agreements"), columns, as_json, least=["kind", "from", "ended"])


@agreement.command("end")
def agreement_end(agreement: str, as_json: AsJson = False) -> None:
    """It holds no longer: its sources are refused from now on."""
    show.record(ask("collector", "end_agreement", agreement), as_json)


# Destinations and deliveries


@destination.command("create")
def destination_create(
    name: str,
    url: str,
    form: Annotated[Form, typer.Option(help="samla, or as Segment's audiences: track or identify.")] = SAMLA,
    as_json: AsJson = False,
) -> None:
    """Makes a webhook destination; its signing secret is shown this once."""
    show.record(ask("activation", "create_destination", name=name, url=url, form=form.value), as_json)


@destination.command("subscribe")
def destination_subscribe(
    destination: str,
    segment: str,
    purpose: Annotated[str, typer.Option(help="What the person must have agreed to.")],
    on: Annotated[list[str] | None, typer.Option(help="entered, left; both where left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sends a destination what happens in a segment, for one purpose."""
    events = on or ["entered", "left"]
    show.record(ask("activation", "subscribe", destination, segment, events, purpose), as_json)


@destination.command("list")
def destination_list(as_json: AsJson = False) -> None:
    """All destinations."""
    show.table(
        ask("activation", "destinations"), ["destination", "name", "kind", "url", "enabled"], as_json, least=["kind"]
    )


@delivery.command("list")
def delivery_list(
    status: Annotated[str, typer.Option(help="pending, delivered, held, dead ...")] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The latest deliveries."""
    found = ask("activation", "deliveries", status or None, limit)
    show.table(found, ["delivery", "destination", "status", "attempts", "reason"], as_json, least=["destination"])


@delivery.command("redrive")
def delivery_redrive(
    delivery: Annotated[str, typer.Argument(help="A dead delivery's id.")] = "",
    destination: Annotated[str, typer.Option(help="All dead ones of this destination.")] = "",
) -> None:
    """Sends dead deliveries again."""
    if bool(delivery) == bool(destination):
        raise typer.BadParameter("give a delivery, or --destination")
    answer = ask("activation", "redrive", delivery) if delivery else ask("activation", "redrive_all", destination)
    typer.echo(f"sent again: {answer}")


# Files


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, NDJSON, JSON, .parquet or .xlsx")],
    mapping: Annotated[str, typer.Option(help="How rows become messages: JSON, or @FILE")] = "",
    write_key: Annotated[str, typer.Option(help="The source's; or @FILE")] = "",
    propose: Annotated[bool, typer.Option("--propose", help="Only proposes a mapping.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only shows and counts what would be sent.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="Only the first so many; 0: all, but 10,000 in a dry run.")] = 0,
    encoding: Annotated[str, typer.Option(help="Told by looking, where left out.")] = "",
    separator: Annotated[str, typer.Option(help="One character, or tab. Likewise.")] = "",
    url: Annotated[str, typer.Option(help="The collector's; COLLECTOR_URL where left out.")] = "",
    patience: Annotated[
        float, typer.Option(min=0, max=MOST_PATIENCE, help="Seconds for which a collector that takes nothing is asked.")
    ] = PATIENCE,
    as_json: AsJson = False,
) -> None:
    """Sends a file's rows through the collector's door. Cut off, it goes on; done twice, it changes nothing."""
    if not mapping and not propose:
        raise typer.BadParameter("give --mapping; `samla import FILE --propose` writes one to begin with")
    if not write_key and not propose and not dry_run:
        raise typer.BadParameter("give --write-key, the source's that the file is from")
    wanted = () if propose else mappings_of(json_of(mapping))
    known = open_file(file, encoding, separator, wanted)
    if not as_json:
        _tell(known.first_notes)
    if propose:
        show.as_json(proposed(known.columns, [row for row, _ in itertools.islice(known.rows, SAMPLE)]))
    elif dry_run:
        _try(known, wanted, rows or TRIED, as_json)
    else:
        address = checked_url(url or Settings.from_env().collector_url)
        _send(known, file, wanted, rows or None, (address, checked_key(text_of(write_key)), patience), as_json)


def _send(
    known: Opening,
    file: Path,
    wanted: Sequence[Mapping_],
    rows: int | None,
    door: tuple[str, str, float],
    as_json: bool,
) -> None:
    chosen = mapped(wanted, itertools.islice(known.checked().rows, rows))
    _, key, _ = door
    mark = Mark(Settings.from_env().home / "imports", digest_of(file), msgspec.json.encode(wanted), key.encode())
    try:
        with show.reading(file.stat().st_size, as_json) as bar:
            report = send(chosen, Door(*door, bar.say), mark, bar.at, bar.rows)
    except SamlaError:
        if mark.rows:
            show.note(f"{mark.rows:,} rows before that are in; sent again, they count once")
        raise
    _show_counts(report._asdict(), known, as_json)
    if not (report.messages or report.skipped):
        raise SamlaError(NO_MESSAGE)
    if report.messages and report.set_aside == report.messages:
        raise SamlaError("all of it was set aside: see `samla quarantine list`")


def _try(known: Opening, wanted: Sequence[Mapping_], rows: int, as_json: bool) -> None:
    found = trial(wanted, itertools.islice(known.rows, rows))
    if not as_json:
        show.messages(found.sample)
    _show_counts(found._asdict(), known, as_json)
    known.checked()
    if not found.messages:
        raise SamlaError(NO_MESSAGE)


def _show_counts(found: dict[str, Any], known: Opening, as_json: bool) -> None:
    """As JSON with what was noticed of the file; for people without the sample, and without what there is none of."""
    notes = notes_of(found["repeated"])
    if as_json:
        return show.as_json({**found, "notes": [*known.notes, *notes]})
    _tell([*known.last_notes, *notes])
    return show.record({name: each for name, each in found.items() if name != "sample" and each not in ({}, [])})


def _tell(notes: Sequence[str]) -> None:
    for each in notes:
        show.note(each)


TRIED: Final = 10_000
"""Rows that a dry run looks at."""


# Quarantine and parked events


@quarantine.command("list")
def quarantine_list(
    source: str = "",
    reason: str = "",
    limit: Limit = 50,
    count: Annotated[bool, typer.Option("--count", help="Only how many there are by reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """What could not be taken in, latest first."""
    if count:
        found = ask("collector", "quarantine_counts")
        return show.table(found, ["source", "reason", "count"], as_json)
    found = ask("collector", "quarantine_list", source or None, reason or None, limit)
    return show.table(found, ["id", "source", "reason", "place", "received"], as_json)


@quarantine.command("show")
def quarantine_show(identity: str, as_json: AsJson = False) -> None:
    """One of them, with what was sent."""
    show.record(ask("collector", "quarantine_show", identity), as_json)


@quarantine.command("mend")
def quarantine_mend(
    identity: str,
    message: Annotated[str, typer.Option(help="The message to take in its place: JSON, or @FILE")] = "",
    rule: Annotated[str, typer.Option(help='Or a rule such as {"set": {"type": "track"}}: JSON, or @FILE')] = "",
    as_json: AsJson = False,
) -> None:
    """Mends one; it is taken in by `samla quarantine replay`."""
    given = [json_of(text) if text else None for text in (message, rule)]
    show.record(ask("collector", "quarantine_mend", identity, *given), as_json)


@quarantine.command("replay")
def quarantine_replay(
    identities: Annotated[list[str] | None, typer.Argument(help="Their ids; all where left out.")] = None,
    source: str = "",
    reason: str = "",
    rule: Annotated[str, typer.Option(help="Mends each of them before: JSON, or @FILE")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only says what would come of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Takes quarantined messages in again; 1 where some still fail."""
    chosen = {"source": source or None, "reason": reason or None, "ids": identities or None}
    mending = json_of(rule) if rule else None
    whole: dict[str, Any] = {"looked_at": 0, "replayed": 0, "still": {}, "examples": []}
    after: str | None = ""
    with show.progress(ask("collector", "quarantine_size", **chosen), as_json) as advance:
        while after is not None:
            page = ask("collector", "quarantine_replay", **chosen, rule=mending, after=after, dry=dry_run)
            after = page["after"]
            whole["looked_at"] += page["looked_at"]
            whole["replayed"] += page["replayed"]
            whole["examples"] = (whole["examples"] + page["examples"])[:5]
            for code, number in page["still"].items():
                whole["still"][code] = whole["still"].get(code, 0) + number
            advance(page["looked_at"])
    show.record(whole, as_json)
    raise typer.Exit(1 if whole["still"] else 0)


@parked.command("list")
def parked_list(as_json: AsJson = False) -> None:
    """Parked events of every service."""
    found = [{"service": name, **each} for name in show.SERVICES for each in ask(name, "parked_list")]
    show.table(found, ["service", "id", "type", "error", "where"], as_json, least=["where", "type"])


@parked.command("retry")
def parked_retry(
    service: str,
    identity: Annotated[str, typer.Argument(help="The parked event's id; all of the service's where left out.")] = "",
) -> None:
    """Handles parked events again."""
    ids = [identity] if identity else [each["id"] for each in ask(service, "parked_list")]
    failed = 0
    for each in ids:
        answer = ask(service, "parked_retry", each)
        failed += not answer["done"]
        typer.echo(f"{each}: {'handled' if answer['done'] else show.safe(answer['why'])}")
    raise typer.Exit(1 if failed else 0)


# Privacy


@privacy.command("erase")
def privacy_erase(
    who: str,
    suppress: Annotated[bool, typer.Option("--suppress", help="And never take these identifiers in again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forgets a person: keys, tokens and projections are destroyed, and stay so after a rebuild."""
    mode = "suppress" if suppress else "forget"
    show.record({"request": ask("privacy", "erase", profile_of(who), mode), "mode": mode}, as_json)


@privacy.command("request")
def privacy_request(request: str, as_json: AsJson = False) -> None:
    """How far an erasure has come."""
    show.record(ask("privacy", "request", request), as_json)


@privacy.command("export")
def privacy_export(
    who: str, to: Annotated[Path | None, typer.Option(help="A file; else standard output.")] = None
) -> None:
    """Everything that is held of a person, as JSON."""
    found = ask("privacy", "export", profile_of(who), timeout=120)
    if to is None:
        show.as_json(found)
    else:
        with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        to.chmod(0o600)


@privacy.command("consents")
def privacy_consents(who: str, as_json: AsJson = False) -> None:
    """What a person has agreed to and refused, with history."""
    show.record(ask("privacy", "consents", profile_of(who)), as_json)


# The log


@log.command("heads")
def log_heads(as_json: AsJson = False) -> None:
    """How far each stream has come."""
    heads = {stream: open_log().heads(stream) for stream in STREAMS}
    rows = [
        {"stream": stream, "partition": partition, "position": position}
        for stream, partitions in heads.items()
        for partition, position in sorted(partitions.items())
    ]
    show.table(rows, ["stream", "partition", "position"], as_json)


@log.command("lag")
def log_lag(as_json: AsJson = False) -> None:
    """How many events each subscription is behind."""
    with asked("a service") as services:
        lags = behind(services, open_log())
    show.table(
        [{"subscription": name, "behind": lag} for name, lag in lags.items()], ["subscription", "behind"], as_json
    )


@log.command("read")
def log_read(stream: str, partition: Whole = 0, after: Whole = 0, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Events as they stand in the log: what is in clear, and which classes of data are sealed in them."""
    if stream not in STREAMS:
        raise typer.BadParameter(f"there is no stream {stream}: {', '.join(STREAMS)}")
    found = [
        {
            "position": each.position,
            "id": each.id,
            "type": each.type,
            "subject": each.subject,
            "time": each.time,
            "sealed": sorted(each.sealed),
            "data": each.data,
            "causes": each.causes,
        }
        for each in open_log().read(stream, partition, after, limit)
    ]
    show.table(found, ["position", "type", "subject", "time", "sealed", "data"], as_json, least=["sealed", "time"])


app.command("rebuild")(rebuild)


def main() -> None:
    """Runs the command; an error of ours is one line, and the exit code is 1."""
    try:
        Settings.from_env()
        app()
    except SamlaError as error:
        show.note(str(error))
    except PyMongoError as error:
        show.note(f"MongoDB does not answer ({type(error).__name__}): is the suite up? See `make status`")
    except OSError as error:
        show.note(f"cannot read or write {error.filename or 'a file'}: {error.strerror}")
    else:
        return
    raise SystemExit(1)


if __name__ == "__main__":
    main()
