"""How answers look on a terminal. Tables and cards for people, JSON for scripts.

What others have sent is shown as text: none of its control characters reaches the terminal, no markup in it is read.
Ids are never wrapped or cut: where a table is wider than the terminal, columns are left out, and it says which.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from shared.errors import SamlaError
from shared.facts import minor_digits

SERVICES: Final = ("collector", "identity", "profile", "segmentation", "activation", "privacy")
PARTS: Final = ("identity", "quantitative", "descriptive", "qualitative")

WIDEST_FIELD: Final = 28
NARROWEST_MESSAGE: Final = 25
"""Characters on a terminal."""

GAP: Final = 2
LONGEST_ID: Final = 64
SHORT: Final = 16
"""Characters of a word that is never folded."""
NARROWEST: Final = 14
"""Characters to which a column of texts may be folded."""
MOST_OTHERS: Final = 8
"""Of the same, in a card."""
DAY: Final = 10
"""Characters of a date."""
IDS: Final = frozenset({"id", "source", "agreement", "segment", "key", "destination", "delivery", "subject", "dialect"})
MOMENTS: Final = frozenset({"received", "last_seen", "since", "last", "from", "until", "ended", "time"})
"""Columns of milliseconds since 1970."""
HIDDEN: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""What a terminal obeys, and what turns or hides text."""
HIDDEN_IN_JSON: Final = re.compile(HIDDEN.pattern.replace("\0-\x1f", ""))
"""JSON's own newlines stay; orjson has written the others as escapes."""

console = Console(markup=False, emoji=False, highlight=False)


def safe(written: str) -> str:
    """A text that a terminal only shows: control characters as escapes."""
    return HIDDEN.sub(_escaped, written)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    written = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    console.file.write(HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", written) + "\n")


class _Drawn(NamedTuple):
    """A column as it is drawn."""

    name: str
    cells: list[str]
    widest: int
    least: int
    """Its width where there is no room; widest, where it may not be folded."""


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    json: bool = False,
    title: str = "",
    least: Sequence[str] = (),
) -> None:
    """Rows of records; as JSON with all of their fields.

    Where there is no room for all columns, those under `least` are left out first, then the last ones.
    """
    if json:
        return as_json(rows)
    shown = [_drawn(name, [_cell(name, row.get(name)) for row in rows]) for name in columns]
    kept = _fitting(shown, least, console.width)
    drawn = Table(title=title or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column, width in zip(kept, _widths(kept, console.width), strict=True):
        drawn.add_column(Text(column.name), width=width, overflow="fold")
    for number in range(len(rows)):
        drawn.add_row(*(Text(column.cells[number]) for column in kept))
    console.print(drawn, width=max(console.width, _width(kept)), crop=False)
    if left_out := [each.name for each in shown if each not in kept]:
        console.print(f"not shown here: {', '.join(left_out)}; --json has all", style="dim")
    return None


def _drawn(name: str, cells: list[str]) -> _Drawn:
    widest = max(map(cell_len, (name, *cells)))
    most = LONGEST_ID if name in IDS else SHORT
    whole = name in MOMENTS or all(len(each) <= most and " " not in each for each in cells)
    return _Drawn(name, cells, widest, widest if whole else min(widest, max(NARROWEST, len(name))))


def _width(columns: Sequence[_Drawn]) -> int:
    return sum(each.least for each in columns) + GAP * (len(columns) - 1)


def _fitting(columns: list[_Drawn], least: Sequence[str], room: int) -> list[_Drawn]:
    """The columns for which there is room; the first is always one of them."""
    by_worth = [each.name for each in columns[1:] if each.name not in least]
    for name in [*least, *reversed(by_worth)]:
        if _width(columns) <= room:
            break
        columns = [each for each in columns if each.name != name]
    return columns


def _widths(columns: Sequence[_Drawn], room: int) -> list[int]:
    """What is left of the room goes to columns that are folded, from the left."""
    left, widths = max(0, room - _width(columns)), []
    for each in columns:
        more = min(left, each.widest - each.least)
        widths.append(each.least + more)
        left -= more
    return widths


def _cell(name: str, value: Any) -> str:
    if name in MOMENTS and isinstance(value, int):
        return moment(value) if value else ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(map(safe, value))
    return text(value)


def record(value: Mapping[str, Any], json: bool = False) -> None:
    """One record, a field a line."""
    if json:
        return as_json(value)
    width = max(map(len, value), default=0)
    for name, each in value.items():
        console.print(f"{safe(name):<{width}}  {text(each)}", soft_wrap=True)
    return None


@contextmanager
def progress(total: int, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; gives what to call with how much further it is."""
    if quiet or not total:
        yield lambda done: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


class Reading(NamedTuple):
    """What to tell how many bytes of a file, and how many rows, are done; and what people should know."""

    at: Callable[[int], None]
    rows: Callable[[int], None]
    say: Callable[[str], None]


@contextmanager
def reading(total: int, quiet: bool = False) -> Iterator[Reading]:
    """A bar for a file of so many bytes, on standard error. What is said is said there too, also where it is quiet."""
    errors = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if quiet:
        yield Reading((lambda at: None), (lambda rows: None), note)
        return
    shown = TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s")
    with Progress(
        BarColumn(), TaskProgressColumn(), shown, TimeRemainingColumn(), console=errors, transient=True
    ) as bar:
        task = bar.add_task("", total=total or None, rows=0, rate=0.0)

        def counted(rows: int) -> None:
            bar.update(task, rows=rows, rate=rows / max(bar.tasks[0].elapsed or 0.0, 0.001))

        def say(written: str) -> None:
            bar.console.print(f"samla: {safe(written)}", soft_wrap=True)

        yield Reading((lambda at: bar.update(task, completed=at)), counted, say)


def note(written: str) -> None:
    """A line for people, on standard error."""
    sys.stderr.write(f"samla: {safe(written)}\n")
    sys.stderr.flush()


def messages(found: Sequence[Mapping[str, Any]]) -> None:
    """Messages side by side, as many as there is room for, a field a line."""
    flat = [dict(_fields(each)) for each in found[: max(1, (console.width - WIDEST_FIELD) // NARROWEST_MESSAGE)]]
    drawn = Table(Column("", max_width=WIDEST_FIELD, overflow="fold"))
    for number in range(1, len(flat) + 1):
        drawn.add_column(str(number), overflow="fold")
    for name in dict.fromkeys(name for each in flat for name in each):
        if name != "messageId":
            drawn.add_row(Text(safe(name)), *(Text(text(each.get(name))) for each in flat))
    console.print(drawn)


def _fields(value: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _fields(each, f"{under}{name}.")
        else:
            yield f"{under}{name}", each


def text(value: Any) -> str:
    """A value in a cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    return safe(orjson.dumps(value).decode() if isinstance(value, (dict, list)) else str(value))


def fields(found: Sequence[Mapping[str, Any]]) -> str:
    """What fields say, in a cell."""
    return ", ".join(f"{each['field']} {each['how']} ({each['weight']:+.1f})" for each in found)


def moment(milliseconds: int | None) -> str:
    """An instant, readable, in UTC."""
    if milliseconds is None:
        return ""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        # Beyond the calendar's years.
        return str(milliseconds)


def instant(written: str) -> int:
    """Milliseconds since 1970 of an ISO date or time (UTC where it does not say)."""
    try:
        parsed = datetime.fromisoformat(written)
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise SamlaError(f"not an instant: {written}; write 2017-06-01 or 2017-06-01T12:00Z") from error


def timeline(page: Mapping[str, Any], json: bool = False) -> None:
    """What a person did, a line an event; and how to go on, on standard error."""
    if json:
        return as_json(page)
    rows = [{**line, "when": moment(line.get("time"))} for line in page["lines"]]
    table(rows, ["when", "what", "details", "source"])
    if page.get("next"):
        note(f"there is more: --before {page['next']}")
    return None


def card(view: Mapping[str, Any] | None, json: bool = False) -> None:
    """A profile: its four parts, each value with where it is from."""
    if view is None:
        raise SamlaError("there is no such profile")
    if json:
        return as_json(view)
    tree = Tree(Text.assemble(("profile", "bold"), f" {text(view['profile'])}"))
    if view.get("people_then"):
        tree.add(Text(f"then also: {text(', '.join(view['people_then']))}"))
    for part in (*PARTS, *(["computed"] if view.get("computed") else [])):
        branch = tree.add(Text(part, "bold"))
        _grow(branch, view.get(part) or {})
    return console.print(Panel(tree, expand=False))


def comparison(found: Mapping[str, Any] | None, json: bool = False) -> None:
    """What is different between two instants, by part."""
    if found is None:
        raise SamlaError("there is no such profile, or nobody was known at either instant")
    if json:
        return as_json(found)
    span = f"  {moment(found['from'])} to {moment(found['to'])}, {_BY[found['by']]}"
    tree = Tree(Text.assemble(("profile", "bold"), f" {text(found['profile'])}", (span, "dim")))
    for part in (*PARTS, "computed"):
        lines = list(_different(found[part]))
        if lines:
            branch = tree.add(Text(part, "bold"))
            for each in lines:
                branch.add(Text(each))
    if not tree.children:
        tree.add(Text("nothing is different"))
    return console.print(Panel(tree, expand=False))


_BY: Final = {"event": "by what had happened", "known": "by what was known"}


def _different(part: Mapping[str, Any]) -> Iterator[str]:
    """+ what is new, - what is gone, ~ what is another, and by how much."""
    for sign, way in (("+", "added"), ("-", "removed"), ("~", "changed")):
        for name, value in part[way].items():
            yield f"{sign} {safe(str(name))}: {_difference(value, way)}"


def _difference(value: Any, way: str) -> str:
    if isinstance(value, Mapping) and "to" in value:
        by = f" ({value['by']:+.10g})" if "by" in value else ""
        return f"{text(value.get('from'))} -> {text(value['to'])}{by}"
    if isinstance(value, Mapping) and "count" in value:
        plus = "+" if way == "changed" else ""
        sums = [f"{plus * (sum_ > 0)}{_money(sum_, currency)}" for currency, sum_ in value["minor_units"].items()]
        return ", ".join([f"{plus * (value['count'] > 0)}{value['count']:,} times", *sums])
    return text(value)


def _grow(branch: Tree, value: Any) -> None:
    if isinstance(value, Mapping):
        for name, each in value.items():
            _leaf(branch, str(name), each)
    else:
        branch.add(Text(text(value)))


def _leaf(branch: Tree, name: str, value: Any) -> None:
    if isinstance(value, Mapping) and "value" in value:
        grown = branch.add(Text.assemble(f"{safe(name)}: {text(value['value'])}  ", (_provenance(value), "dim")))
        for each in value.get("others", ())[:MOST_OTHERS]:
            grown.add(Text(f"not believed: {text(each['value'])}  {_provenance(each)}", "dim"))
    elif isinstance(value, Mapping) and "sources" in value:
        branch.add(Text.assemble(f"{safe(name)}: {_happened(value)}  ", (_sources(value["sources"]), "dim")))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        grown = branch.add(Text(safe(name)))
        for each in value[:8]:
            _leaf(grown, "·", each)
        if len(value) > 8:
            grown.add(Text(f"and {len(value) - 8} more", "dim"))
    elif isinstance(value, Mapping):
        _grow(branch.add(Text(safe(name))), value)
    elif name in ("first", "last") and isinstance(value, int):
        branch.add(Text(f"{name}: {moment(value)}"))
    else:
        branch.add(Text(f"{safe(name)}: {text(value)}"))


def _happened(event: Mapping[str, Any]) -> str:
    """How often an event has happened, for how much, and when."""
    sums = [_money(amount, currency) for currency, amount in event.get("minor_units", {}).items()]
    first, last = moment(event["first"])[:DAY], moment(event["last"])[:DAY]
    return ", ".join([f"{event['count']:,} times", *sums, first if first == last else f"{first} to {last}"])


def _money(minor: int, currency: str) -> str:
    digits = minor_digits(currency)
    return f"{safe(currency)} {Decimal(minor).scaleb(-digits):,.{digits}f}"


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    """Where an event's were from, most of them first."""
    shown = [f"{_provenance(each)} ({each['count']:,})" if len(sources) > 1 else _provenance(each) for each in sources]
    return "; ".join(shown[:MOST_OTHERS])


def _provenance(value: Mapping[str, Any]) -> str:
    when = value.get("time", value.get("first_seen"))
    shown = [text(value[name]) for name in ("party", "source") if value.get(name)]
    shown += [f"under {text(value['agreement'])}"] if value.get("agreement") else []
    return ", ".join([*shown, moment(when)] if isinstance(when, int) else shown)
