"""The demo's segments: who is in, how many were over the year, and why one person is."""

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from services.console import show
from services.console.segment_commands import lines

DAY_MS: Final = 86_400_000
MONTHS: Final = 12

Definition = dict[str, Any]


def _bought_in(department: str) -> Definition:
    where = [{"property": "products.department", "is": department}]
    return {"event": "Order Completed", "where": where, "count": {"gte": 1}}


SEGMENTS: Final[tuple[tuple[str, str, Definition], ...]] = (
    ("frequent-buyers", "Frequent buyers", {"event": "Order Completed", "count": {"gte": 8}, "within": "30d"}),
    (
        "big-spenders",
        "Big spenders",
        {"event": "Order Completed", "sum": {"gte": 300}, "currency": "USD", "within": "30d"},
    ),
    (
        "lapsed",
        "Bought often, not for 3 weeks",
        {
            "all": [
                {"event": "Order Completed", "count": {"gte": 10}},
                {"event": "Order Completed", "last": {"not_within": "21d"}},
            ]
        },
    ),
    (
        "deli-no-cosmetics",
        "Bought deli, never cosmetics",
        {"all": [_bought_in("DELI"), {"not": _bought_in("COSMETICS")}]},
    ),
    (
        "looked-only",
        "Viewed three times, not bought within 7 days",
        {
            "sequence": [
                {"event": "Product Viewed"},
                {"event": "Product Viewed"},
                {"event": "Product Viewed"},
                {"not": {"event": "Order Completed"}, "within": "7d"},
            ],
            "within": "60d",
        },
    ),
    ("coupon-users", "Used a coupon in 90 days", {"event": "Coupon Redeemed", "count": {"gte": 1}, "within": "90d"}),
    (
        "looks-online",
        "Looks online, can be mailed",
        {
            "all": [
                {"event": "Product Viewed", "count": {"gte": 3}, "within": "30d"},
                {"identifier": "email", "exists": True},
            ]
        },
    ),
    ("families", "Families", {"trait": "kids_count", "in": ["1", "2", "3+"]}),
    (
        "loyal-lapsing",
        "Spent much once, and is lapsing",
        {"all": [{"segment": "lapsed"}, {"event": "Order Completed", "sum": {"gte": 1000}, "currency": "USD"}]},
    ),
)
EXPLAINED: Final = "loyal-lapsing"


def sizes(services: Any, now: int) -> Table:
    """Every segment with its size now, and at the end of each month of the year that ends at `now` (ms)."""
    table = Table("segment", "who", "size", "by month, over the year", title="Segments, live", title_justify="left")
    instants = [now - back * 365 * DAY_MS // MONTHS for back in range(MONTHS - 1, 0, -1)]
    for row in services.segmentation.segments():
        then = [each["size"] for each in services.segmentation.history(row["key"], instants)]
        table.add_row(row["key"], row["name"], f"{row['size']:,}", " ".join(map(str, [*then, row["size"]])))
    return table


def somebody(services: Any) -> Table | None:
    """Why one person is in a segment; None where nobody is."""
    members: Sequence[str] = services.segmentation.members(EXPLAINED, None, 1)
    if not members:
        return None
    told = services.segmentation.explain(members[0], EXPLAINED)
    title = f"Why {members[0]} is in {EXPLAINED}, since {show.moment(told['since'])}"
    table = Table("holds", "condition", "found", title=title, title_justify="left")
    for each in lines(told["why"]):
        table.add_row(each["holds"], each["condition"], each["found"])
    return table
