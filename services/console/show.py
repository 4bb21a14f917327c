"""How answers look on a terminal. Tables and cards for people, JSON for scripts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.tree import Tree

from shared.errors import SamlaError

SERVICES: Final = ("collector", "identity", "profile", "segmentation", "activation", "privacy")
PARTS: Final = ("identity", "quantitative", "descriptive", "qualitative")

WIDEST_FIELD: Final = 28
NARROWEST_MESSAGE: Final = 25
"""Characters on a terminal."""

console = Console()


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    console.file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], json: bool = False, title: str = "") -> None:
    """Rows of records; as JSON with all of their fields."""
    if json:
        return as_json(rows)
    drawn = Table(*columns, title=title or None)
    for row in rows:
        drawn.add_row(*(text(row.get(column)) for column in columns))
    return console.print(drawn)


def record(value: Mapping[str, Any], json: bool = False) -> None:
    """One record, a field a line."""
    if json:
        return as_json(value)
    width = max(map(len, value), default=0)
    for name, each in value.items():
        console.print(f"{name:<{width}}  {text(each)}", soft_wrap=True, highlight=False, markup=False)
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


@contextmanager
def reading(total: int, quiet: bool = False) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar for a file of so many bytes; gives what to tell how many of them, and how many rows, are done."""
    if quiet:
        yield (lambda at: None), (lambda rows: None)
        return
    shown = TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s")
    with Progress(
        BarColumn(), TaskProgressColumn(), shown, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=total or None, rows=0, rate=0.0)

        def counted(rows: int) -> None:
            bar.update(task, rows=rows, rate=rows / max(bar.tasks[0].elapsed or 0.0, 0.001))

        yield (lambda at: bar.update(task, completed=at)), counted


def messages(found: Sequence[Mapping[str, Any]]) -> None:
    """Messages side by side, as many as there is room for, a field a line."""
    flat = [dict(_fields(each)) for each in found[: max(1, (console.width - WIDEST_FIELD) // NARROWEST_MESSAGE)]]
    drawn = Table(Column("", max_width=WIDEST_FIELD, overflow="fold"))
    for number in range(1, len(flat) + 1):
        drawn.add_column(str(number), overflow="fold")
    for name in dict.fromkeys(name for each in flat for name in each):
        if name != "messageId":
            drawn.add_row(escape(name), *(escape(text(each.get(name))) for each in flat))
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
    if isinstance(value, (dict, list)):
        return orjson.dumps(value).decode()
    return str(value)


def fields(found: Sequence[Mapping[str, Any]]) -> str:
    """What fields say, in a cell."""
    return ", ".join(f"{each['field']} {each['how']} ({each['weight']:+.1f})" for each in found)


def moment(milliseconds: int | None) -> str:
    """An instant, readable, in UTC."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def instant(written: str) -> int:
    """Milliseconds since 1970 of an ISO date or time (UTC where it does not say)."""
    try:
        parsed = datetime.fromisoformat(written)
    except ValueError as error:
        raise SamlaError(f"not an instant: {written}; write 2017-06-01 or 2017-06-01T12:00Z") from error
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def timeline(lines: Sequence[Mapping[str, Any]], json: bool = False) -> None:
    """What a person did, a line an event."""
    if json:
        return as_json(lines)
    drawn = Table("when", "what", "details", "source")
    for line in lines:
        drawn.add_row(moment(line.get("time")), *(text(line.get(name)) for name in ("what", "details", "source")))
    return console.print(drawn)


def card(view: Mapping[str, Any] | None, json: bool = False) -> None:
    """A profile: its four parts, each value with where it is from."""
    if view is None:
        raise SamlaError("there is no such profile")
    if json:
        return as_json(view)
    tree = Tree(f"[bold]profile[/bold] {view['profile']}")
    for part in PARTS:
        branch = tree.add(f"[bold]{part}[/bold]")
        _grow(branch, view.get(part) or {})
    return console.print(Panel(tree, expand=False))


def _grow(branch: Tree, value: Any) -> None:
    if isinstance(value, Mapping):
        for name, each in value.items():
            _leaf(branch, str(name), each)
    else:
        branch.add(text(value))


def _leaf(branch: Tree, name: str, value: Any) -> None:
    if isinstance(value, Mapping) and "value" in value:
        branch.add(f"{name}: {text(value['value'])}  [dim]{_provenance(value)}[/dim]")
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        grown = branch.add(name)
        for each in value[:8]:
            _leaf(grown, "·", each)
        if len(value) > 8:
            grown.add(f"[dim]and {len(value) - 8} more[/dim]")
    elif isinstance(value, Mapping):
        _grow(branch.add(name), value)
    elif name in ("first", "last") and isinstance(value, int):
        branch.add(f"{name}: {moment(value)}")
    else:
        branch.add(f"{name}: {text(value)}")


def _provenance(value: Mapping[str, Any]) -> str:
    when = value.get("time", value.get("first_seen"))
    shown = [str(value[name]) for name in ("party", "source") if value.get(name)]
    return ", ".join([*shown, moment(when)] if isinstance(when, int) else shown)
