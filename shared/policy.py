"""The data policy: which data belongs to a special category (GDPR Art. 9), told by names.

The categories are data (contracts/data_policy.json), matched on trait names, event names and product
categories; nothing here knows one of them by name. Looking at a medicine's page is health data too, so an
event about one special product is special as a whole; of an order, only the special lines are.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

import orjson

from shared.errors import SamlaError

CATEGORY_FIELDS: Final = ("category", "product_category", "department", "product_type")
"""Where a product says what it is."""


REMEMBERED: Final = 8_192
"""Names that are known to be harmless; senders use few, unless they make them up."""


class Special(NamedTuple):
    """What of an event is special."""

    event: bool
    """The event as a whole: its name, or the one thing that it is about."""
    traits: tuple[str, ...]
    products: tuple[int, ...]
    """Which of `properties.products`."""
    categories: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.event or self.traits or self.products)


NOTHING: Final = Special(False, (), (), ())


class Policy:
    """The special categories, ready to look names up in."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.version: int = document["version"]
        self.law: str = document["law"]
        self.document = document
        self._traits = _by_name(document, "traits")
        self._events = _by_name(document, "events")
        self._products = _by_name(document, "products")
        self._harmless: set[str] = set()

    def trait(self, name: str) -> str | None:
        """The special category of a trait, or None."""
        return self._traits.get(plain(name))

    def path(self, path: str) -> str | None:
        """The special category that any part of a dotted path (`address.religion`) names, or None."""
        return next((category for name in path.split(".") if (category := self.trait(name))), None)

    def check_path(self, path: str, place: str, use: str) -> None:
        """Raises SamlaError, saying where and by which law, for a path that names a special category. `use`: what it is
        not used for, such as `searches`."""
        if category := self.path(path):
            raise SamlaError(
                f"{place}: {path} tells of {category.replace('_', ' ')}. What is of a special category of data "
                f"({self.law}) is not used for {use}: see contracts/data_policy.json"
            )

    def event(self, name: str) -> str | None:
        """The special category of an event's name, or None."""
        return self._events.get(plain(name))

    def product(self, category: object) -> str | None:
        """The special category of a product category, or None."""
        return _looked_up(self, category) if isinstance(category, str) else None

    def classify(self, event: str | None, properties: Mapping[str, Any], traits: Mapping[str, Any]) -> Special:
        """What of an event is special. Never raises, whatever the values are."""
        found = self._special(traits)
        fields = self._special(properties)
        whole = [category for category in (self.event(event) if event else None, self._about(properties)) if category]
        whole += fields.values()
        lines = self._lines(properties.get("products"))
        if not (found or whole or lines):
            return NOTHING
        categories = sorted({*found.values(), *whole, *lines.values()})
        return Special(bool(whole), tuple(found), tuple(lines), tuple(categories))

    def _special(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Name -> category of those that are special. Most names have been seen before, and are not."""
        if values.keys() <= self._harmless:
            return {}
        found = {name: category for name in values if (category := self.trait(name))}
        if len(self._harmless) > REMEMBERED:
            self._harmless.clear()
        self._harmless.update(values.keys() - found.keys())
        return found

    def _about(self, product: Mapping[str, Any]) -> str | None:
        for name in CATEGORY_FIELDS:
            value = product.get(name)
            if value is not None and (category := self.product(value)):
                return category
        return None

    def _lines(self, products: object) -> dict[int, str]:
        if not isinstance(products, list):
            return {}
        return {
            index: category
            for index, line in enumerate(products)
            if isinstance(line, dict) and (category := self._about(line))
        }


@lru_cache(maxsize=8_192)
def _looked_up(policy: Policy, category: str) -> str | None:
    """An order has many lines, and a shop few categories."""
    return policy._products.get(plain(category))


@lru_cache(maxsize=8_192)
def plain(name: str) -> str:
    """A name as it is compared: `Political-Opinion`, `politicalOpinion` and `political opinion` are one."""
    spaced = "".join(f" {c}" if c.isupper() and i and name[i - 1].islower() else c for i, c in enumerate(name[:200]))
    return " ".join(spaced.lower().replace("_", " ").replace("-", " ").replace("/", " ").split())


def _by_name(document: Mapping[str, Any], what: str) -> dict[str, str]:
    categories: Mapping[str, Mapping[str, list[str]]] = document["categories"]
    return {plain(name): category for category, names in categories.items() for name in names[what]}


def _shipped() -> Mapping[str, Any]:
    document: Mapping[str, Any] = orjson.loads(files("contracts").joinpath("data_policy.json").read_bytes())
    return document


POLICY: Final = Policy(_shipped())
"""The policy that is shipped."""
