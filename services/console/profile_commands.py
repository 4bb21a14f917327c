"""`samla profile`: what is known of a person, now and at any instant."""

from typing import Annotated, Any

import typer

from services.console import show
from services.console.asking import ask, identifier_of
from services.console.given import Limit, json_of

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Who = Annotated[str, typer.Argument(help="A profile id, or kind:value such as email:a@example.org")]

profile = typer.Typer(help="What is known of a person.", no_args_is_help=True)


@profile.command("show")
def profile_show(
    who: Who,
    as_of: Annotated[str, typer.Option("--as-of", help="Of what had happened by an instant, such as 2017-06-01")] = "",
    known_at: Annotated[
        str, typer.Option("--known-at", help="Of what was known at an instant: received, and of whom it was then")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """One profile: four parts and what is computed, each value with where it is from."""
    instants = {"as_of": _instant(as_of), "known_at": _instant(known_at)}
    show.card(ask("profile", "show", _asked(who), timeout=60, **instants), as_json)


@profile.command("timeline")
def profile_timeline(
    who: Who,
    limit: Limit = 20,
    before: Annotated[str, typer.Option(help="Goes on: what the page before said.")] = "",
    event: Annotated[list[str] | None, typer.Option(help="Only these events; may be given more than once.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a person did, latest first, a page at a time."""
    found = ask("profile", "timeline", _asked(who), limit, before or None, event or None, timeout=60)
    show.timeline(found, as_json)


@profile.command("compare")
def profile_compare(
    who: Who,
    start: Annotated[str, typer.Argument(metavar="FROM", help="An instant: 2026-01-01 or 2026-01-01T12:00Z")],
    end: Annotated[str, typer.Argument(metavar="TO", help="Another one.")],
    known: Annotated[
        bool, typer.Option("--known", help="Of what was known then, in place of what had happened by then.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What is different between two instants."""
    instants = show.instant(start), show.instant(end)
    found = ask("profile", "compare", _asked(who), *instants, "known" if known else "event", timeout=60)
    show.comparison(found, as_json)


@profile.command("search")
def profile_search(
    where: Annotated[
        str, typer.Argument(help='JSON, or @FILE: {"trait": "plan", "is": "pro"}, or a list of such; all must hold')
    ],
    limit: Limit = 100,
    after: Annotated[str, typer.Option(help="Goes on: what the page before said.")] = "",
    as_json: AsJson = False,
) -> None:
    """The profiles of whom conditions hold, by trait, identifier or computed trait."""
    conditions: Any = json_of(where)
    rows: list[Any] = []
    at: str | None = after or ""
    # A page may find nobody and not be the last one.
    while at is not None and len(rows) < limit:
        page = ask("profile", "search", conditions, at or None, limit - len(rows), timeout=60)
        rows += page["profiles"]
        at = page["after"]
    if as_json:
        return show.as_json({"profiles": rows, "after": at})
    show.table([{"profile": each["profile"], **each["found"]} for each in rows], ["profile", *_columns(rows)])
    if at:
        show.note(f"there is more: --after {at}")
    return None


def _columns(rows: list[Any]) -> list[str]:
    return list(rows[0]["found"]) if rows else []


def _asked(who: str) -> str | list[str]:
    """A profile's id, or [kind, value]."""
    return identifier_of(who) or who


def _instant(written: str) -> int | None:
    return show.instant(written) if written else None
