"""`samla segment`: who is in, who would be, and why."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import orjson
import typer

from services.console import show
from services.console.asking import ask, profile_of
from services.console.given import Limit, json_of
from shared.errors import SamlaError

DAY_MS: Final = 86_400_000
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Definition = Annotated[str, typer.Argument(help="JSON, or @FILE; see docs/segments.md.")]

segment = typer.Typer(help="Who is in: segments, their members, and why.", no_args_is_help=True)


@segment.command("create")
def create(
    key: str,
    definition: Definition,
    name: Annotated[str, typer.Option(help="For people; the key where left out.")] = "",
    as_json: AsJson = False,
) -> None:
    """Makes a segment and fills it from history."""
    show.record(ask("segmentation", "create_segment", key, name or key, json_of(definition)), as_json)


@segment.command("change")
def change(
    segment: str,
    definition: Definition,
    name: Annotated[str, typer.Option(help="For people; as it was where left out.")] = "",
    as_json: AsJson = False,
) -> None:
    """Another definition, as a new version; who enters and leaves by it does so in the background."""
    show.record(ask("segmentation", "change_segment", segment, json_of(definition), name or None), as_json)


@segment.command("list")
def list_(as_json: AsJson = False) -> None:
    """All segments and their sizes."""
    columns = ["segment", "key", "name", "version", "size", "filled"]
    show.table(ask("segmentation", "segments"), columns, as_json, least=["name", "version", "filled"])


@segment.command("versions")
def versions(segment: str, as_json: AsJson = False) -> None:
    """A segment's definitions, the latest first."""
    found = ask("segmentation", "versions", segment)
    if as_json:
        return show.as_json(found)
    rows = [{**each, "since": show.moment(each["since"]), "definition": _written(each["definition"])} for each in found]
    return show.table(rows, ["version", "since", "definition"])


@segment.command("preview")
def preview(
    definition: Definition,
    sample: Annotated[int, typer.Option(min=0, max=100, help="How many of them are shown.")] = 10,
    as_json: AsJson = False,
) -> None:
    """How many profiles a definition would hold, some of them, and the overlap with other segments; saves nothing."""
    told = ask("segmentation", "preview", json_of(definition), sample, timeout=300)
    if as_json:
        return show.as_json(told)
    show.record({"count": told["count"], "profiles": told["profiles"], "sample": ", ".join(told["sample"]) or None})
    if told["overlap"]:
        show.table(told["overlap"], ["key", "size", "both"], title="of these, in other segments")
    return None


@segment.command("why")
def why(
    who: Annotated[str, typer.Argument(help="kind:value, or a profile's id.")],
    segment: Annotated[str, typer.Argument(help="A segment's key or id.")] = "",
    definition: Annotated[str, typer.Option(help="Instead of a segment: JSON, or @FILE.")] = "",
    as_json: AsJson = False,
) -> None:
    """Why a person is in a segment or not, condition by condition, with what was found."""
    if bool(segment) == bool(definition):
        raise SamlaError("say either which segment, or a --definition to try")
    tried = json_of(definition) if definition else None
    told = ask("segmentation", "explain", profile_of(who), segment or None, tried, timeout=60)
    if as_json:
        return show.as_json(told)
    show.record(
        {
            "profile": told["profile"],
            "in": told["why"]["holds"],
            "since": show.moment(told["since"]) or None,
            "may change": show.moment(told["why"]["changes_at"]) or None,
        }
    )
    return show.table(list(lines(told["why"])), ["holds", "condition", "found"])


def lines(told: Mapping[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """An explanation's rows, one a part, moved in by how deep it stands."""
    held, indent = "yes" if told["holds"] else "no", "  " * depth
    if "condition" in told:
        yield {
            "holds": held,
            "condition": indent + _written(told["condition"]),
            "found": _found(told["found"], told["condition"]),
        }
        return
    if "segment" in told:
        yield {"holds": held, "condition": f"{indent}segment {told['segment']}", "found": ""}
    else:
        [word] = {"all", "any", "not"} & told.keys()
        yield {"holds": held, "condition": indent + word, "found": ""}
    parts = [told.get("not"), told.get("is"), *told.get("all", ()), *told.get("any", ())]
    for each in parts:
        if each is not None:
            yield from lines(each, depth + 1)


def _written(value: Any) -> str:
    return orjson.dumps(value).decode()


def _found(value: Any, condition: Mapping[str, Any]) -> str:
    """Instants, where it was looked for some, as people read them."""
    if value is not None and {"last", "first"} & condition.keys():
        return show.moment(value)
    if value is not None and "sequence" in condition:
        return f"{show.moment(value['began'])} to {show.moment(value['ended'])}"
    return "nothing" if value is None else value if isinstance(value, str) else _written(value)


@segment.command("history")
def history(
    segment: str,
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How far back.")] = 365,
    points: Annotated[int, typer.Option(min=2, max=400, help="Instants, the last of them now.")] = 13,
    as_json: AsJson = False,
) -> None:
    """How many were in over time, by today's definition and events; traits and consents are those of today."""
    now = time.time_ns() // 1_000_000
    instants = [now - days * DAY_MS * back // (points - 1) for back in range(points - 1, -1, -1)]
    found = ask("segmentation", "history", segment, instants, timeout=300)
    if as_json:
        return show.as_json(found)
    return show.table([{**each, "at": show.moment(each["at"])} for each in found], ["at", "size"])


@segment.command("members")
def members(
    segment: str,
    after: Annotated[str, typer.Option(help="The last profile of the page before.")] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The profiles in a segment, a page at a time."""
    show.record({"members": ask("segmentation", "members", segment, after or None, limit)}, as_json)


@segment.command("delete")
def delete(segment: str) -> None:
    """Deletes a segment; its members leave it."""
    ask("segmentation", "delete_segment", segment)
