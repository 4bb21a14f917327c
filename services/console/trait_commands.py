"""`samla profile trait` and `samla profile policy`: what is computed of people, and whom to believe about them."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from services.console import show
from services.console.asking import ask
from services.console.given import json_of
from shared.errors import SamlaError

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
LOOK_SECONDS: Final = 0.3

trait = typer.Typer(help="What is computed of people's events: counts, sums, favourites ...", no_args_is_help=True)
policy = typer.Typer(help="Whom to believe, where sources say different things.", no_args_is_help=True)


@trait.command("add")
def trait_add(
    key: Annotated[str, typer.Argument(help="What to call it: a-z, 0-9, - and _.")],
    definition: Annotated[
        str, typer.Argument(help='JSON, or @FILE: {"event": "Order Completed", "measure": "count", "within": "30d"}')
    ],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="It is filled in the background.")] = False,
    as_json: AsJson = False,
) -> None:
    """Defines a computed trait, and waits until it is filled from all that has happened. Ctrl-C ends the waiting."""
    row = ask("profile", "add_trait", key, json_of(definition), timeout=60)
    if not no_wait:
        row = _filled(row, quiet=as_json)
    if as_json:
        return show.as_json(row)
    return show.record({**_shown(row), "definition": row["definition"]})


def _filled(row: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """The row once it is; with a bar until then."""
    with show.progress(row["of"], quiet) as advance:
        done = 0
        while not row["filled"]:
            advance(row["of"] - row["left"] - done)
            done = row["of"] - row["left"]
            time.sleep(LOOK_SECONDS)
            row = _row(row["key"])
    return row


def _row(key: str) -> dict[str, Any]:
    found = next((each for each in ask("profile", "traits", timeout=60) if each["key"] == key), None)
    if found is None:
        raise SamlaError(f"the computed trait {key} was removed meanwhile")
    return dict(found)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    part = 100 if row["filled"] else 100 * (row["of"] - row["left"]) // max(row["of"], 1)
    return {"key": row["key"], "filled": f"{part}%", "created": show.moment(row["created"])}


@trait.command("list")
def trait_list(as_json: AsJson = False) -> None:
    """All computed traits, and how far each is filled. Profiles show it once it is."""
    rows = ask("profile", "traits", timeout=60)
    shown = rows if as_json else [{**row, **_shown(row)} for row in rows]
    show.table(shown, ["key", "filled", "definition", "created"], as_json, least=["created"])


@trait.command("remove")
def trait_remove(key: str) -> None:
    """It is computed no longer. Refused while a segment uses it: change or delete that first."""
    ask("profile", "remove_trait", key)


@policy.command("show")
def policy_show(as_json: AsJson = False) -> None:
    """The policy in force, and how far each version is told."""
    _policy(ask("profile", "policy"), as_json)


@policy.command("set")
def policy_set(
    policy: Annotated[str, typer.Argument(help='JSON, or @FILE: {"rank": ["source:crm", "first", "second", "third"]}')],
    as_json: AsJson = False,
) -> None:
    """Puts a policy in force. Segments hear, in the background, of whom something else is believed by it."""
    _policy(ask("profile", "set_policy", json_of(policy)), as_json)


def _policy(told: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        return show.as_json(told)
    show.record({"version": told["version"], "policy": told["policy"]})
    return show.table(told["versions"], ["version", "since", "told", "looked", "changed"])
