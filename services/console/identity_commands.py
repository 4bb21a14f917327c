"""`samla identity`: who is one person, why, and how to take it back."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.console import show
from services.console.asking import ask, identifier_of, profile_of
from shared.errors import SamlaError

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

identity = typer.Typer(help="Who is one person, why, and how to take it back.", no_args_is_help=True)


@identity.command("explain")
def explain(who: str, as_json: AsJson = False) -> None:
    """Every decision that made a profile one person: which identifier, by which event, source, time and rules."""
    told = ask("identity", "explain", profile_of(who))
    if told is None:
        raise SamlaError("there is no such profile")
    if as_json:
        return show.as_json(told)
    show.record({"profile": told["profile"], "parts": ", ".join(told["profiles"][1:]) or None})
    rows = [
        {
            **each,
            "when": show.moment(each["received"] or each["time"]),
            "identifier": f"{each.get('kind', '')}:{each['value'] or '(erased)'}" if "kind" in each else "",
            "why": each.get("reason") or (show.moment(each["since"]) if "since" in each else ""),
        }
        for each in told["chain"]
        if each["decided"] != "given"
    ]
    return show.table(rows, ["decided", "identifier", "why", "when", "source", "rules", "id"])


@identity.command("split")
def split(
    identifier: Annotated[str, typer.Argument(help="kind:value, to be taken out of its person.")] = "",
    merge: Annotated[str, typer.Option(help="A merge's id, as `explain` tells it, to be taken back.")] = "",
    as_json: AsJson = False,
) -> None:
    """Takes one identifier, or one merge, back: past events go to whom they belong. It stays so."""
    pair = identifier_of(identifier)
    if bool(pair) == bool(merge):
        raise typer.BadParameter("say which identifier (kind:value) or which --merge")
    told = ask("identity", "split", pair, merge or None, timeout=120)
    if as_json:
        return show.as_json(told)
    show.record({"decision": told["decision"], "was": told["was"]})
    return show.table(told["profiles"], ["profile", "identifiers"])


@identity.command("rules")
def rules(
    file: Annotated[
        Path | None, typer.Argument(help="Other rules, as JSON; shows those in force where left out.")
    ] = None,
    since: Annotated[str, typer.Option(help="Tried on what was received from then on.")] = "",
    until: Annotated[str, typer.Option(help="Tried on what was received before then.")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="In force, and what was decided is decided again.")] = False,
    from_now: Annotated[bool, typer.Option("--from-now", help="In force for what is decided from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """The rules in force; with FILE, what other rules would change in all that was decided: nothing is touched."""
    if file is None:
        return show.as_json(ask("identity", "rules"))
    if from_now:
        return show.as_json(ask("identity", "change_rules", _rules_in(file)))
    span = [
        *(["--since", str(show.instant(since))] if since else []),
        *(["--until", str(show.instant(until))] if until else []),
    ]
    command = [sys.executable, "-m", "services.identity.trial", str(file), *(["--apply"] if apply else span)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode:
        raise typer.Exit(done.returncode)
    told = orjson.loads(done.stdout)
    return show.as_json(told) if as_json or apply else _tried(told)


def _rules_in(file: Path) -> Any:
    try:
        return orjson.loads(file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from error


def _tried(told: Mapping[str, Any]) -> None:
    people = told["people"]
    show.record(
        {
            "events": told["events"],
            "people": f"{people['before']} before, {people['after']} after",
            "merging": told["merging"],
            "parting": told["parting"],
        }
    )
    for kind, examples in told["examples"].items():
        rows = [{side: _people(each[side]) for side in ("before", "after")} for each in examples]
        if rows:
            show.table(rows, ["before", "after"], title=kind)
    for side, groups in told["biggest"].items():
        show.table(
            [{**each, "some": ", ".join(each["some"])} for each in groups],
            ["identifiers", "some"],
            title=f"biggest, {side}",
        )


def _people(groups: list[dict[str, Any]]) -> str:
    return "\n".join(", ".join(each["some"]) for each in groups)


# Look-alikes


@identity.command("candidates")
def candidates(
    known: Annotated[bool, typer.Option("--known", help="Only lists what was found before.")] = False,
    least: Annotated[float, typer.Option(help="The probability from which a pair is proposed.")] = 0.9,
    status: Annotated[str, typer.Option(help="proposed, accepted or refused")] = "proposed",
    limit: int = 100,
    as_json: AsJson = False,
) -> None:
    """Finds people that look alike (in a process of its own), and lists them with what speaks for it and against."""
    if not known:
        command = [sys.executable, "-m", "services.identity.likeness", "--least", str(least)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if done.returncode:
            raise typer.Exit(done.returncode)
        told = orjson.loads(done.stdout)
        typer.echo(", ".join(f"{number} {name.replace('_', ' ')}" for name, number in told.items()), err=True)
    found = ask("identity", "candidates", status, limit)
    if as_json:
        return show.as_json(found)
    rows = [{**each, **{side: show.fields(each[side]) for side in ("for", "against")}} for each in found]
    return show.table(rows, ["candidate", "profiles", "probability", "for", "against", "obstacle"])


@identity.command("accept")
def accept(candidate: str, as_json: AsJson = False) -> None:
    """The two are one: merged, into the profile that was known first. `split --merge` takes it back."""
    show.record(ask("identity", "accept_candidate", candidate), as_json)


@identity.command("refuse")
def refuse(candidate: str, as_json: AsJson = False) -> None:
    """They are two; the pair is not proposed again."""
    show.record(ask("identity", "refuse_candidate", candidate), as_json)


@identity.command("likeness")
def likeness(
    source: Annotated[str, typer.Argument(help="As profiles show it; lists what is set where left out.")] = "",
    threshold: Annotated[float | None, typer.Option(help="Merges by itself from there; never where left out.")] = None,
    repeats: Annotated[bool, typer.Option("--repeats", help="It holds a person more than once.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="It is compared though others supply it.")] = False,
    as_json: AsJson = False,
) -> None:
    """What holds for a source's look-alikes; sets all of it anew."""
    if source:
        return show.record(ask("identity", "set_likeness", source, threshold, repeats, compare), as_json)
    return show.table(ask("identity", "likeness_sources"), ["source", "threshold", "repeats", "compare"], as_json)
