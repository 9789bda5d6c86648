"""The one place that knows every strategy: a file in `strategies/` registers itself here.

    @register("random", title="Random", needs=[Need.NOTHING], source="-", summary="Uniform.")
    @dataclass(frozen=True)
    class Random:
        def select(self, query: Query) -> Batch: ...

The dataclass's fields are the strategy's options; `parse("usimc:eta=10,elbow=kneedle")` reads them
from text. A word among them sets several options (`RegisteredStrategy.words`):
`parse("usimc:published,eta=10")`. Every strategy has the option `cap` besides, the most samples of
one case in a batch. A property `needs` overrides what is registered, for a strategy
whose options decide what it asks of the model.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from alunet.errors import EngineError, InputError
from alunet.query.cap import capped
from alunet.query.model_outputs import Need
from alunet.query.problem import Batch, Query


class Options(Protocol):
    """A frozen dataclass of options that can select."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def select(self, query: Query) -> Batch:
        """Choose `query.budget` of the candidates (there are more than that); or `query.total`, the
        first of which are those that it would choose without any ahead."""


T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class RegisteredStrategy:
    """What is known of a strategy without running it.

    Attributes:
        name: what a person types.
        title: what a table shows.
        needs: what it asks of the model, unless its options say otherwise; a subset of `Need`.
        source: paper or origin.
        summary: one sentence.
        options: its frozen dataclass.
        takes_all: it takes the whole pool, whatever the budget.
        words: names of several options' values at once. "published": it does what the published
            experiments' code did, where that is something else than the default; "thrifty": it
            costs less and may choose another batch.
    """

    name: str
    title: str
    needs: frozenset[Need]
    source: str
    summary: str
    options: type[Options]
    takes_all: bool = False
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def published(self) -> Mapping[str, Any]:
        """Options that the word "published" sets; none where they are the default's."""
        return self.words.get(PUBLISHED, {})


@dataclass(frozen=True)
class Strategy:
    """A strategy with its options, ready to select.

    Attributes:
        cap: most samples of one case in a batch; 0: any number.
    """

    info: RegisteredStrategy
    options: Options
    cap: int = 0

    @property
    def name(self) -> str:
        """The name, without options."""
        return self.info.name

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks of the model with these options: their own `needs`, where they have any."""
        needs: frozenset[Need] = getattr(self.options, "needs", self.info.needs)
        return needs

    @property
    def settings(self) -> dict[str, Any]:
        """All options, defaults included, for the manifest."""
        return {**asdict(self.options), **({_CAP: self.cap} if self.cap else {})}

    def select(self, query: Query) -> Batch:
        """Choose the batch: `budget` distinct candidates, or the whole pool where the budget covers
        it.

        Behind it come `ahead` more. A strategy that picks one after the other goes on; any other is
        asked again about the candidates that are left.

        Raises:
            InputError: scores that are not finite; labels missing that only a simulation has.
            EngineError: the strategy breaks its contract.
        """
        if self.info.takes_all or query.budget >= len(query):
            return query.whole_pool(
                "the whole pool" if self.info.takes_all else "the budget covers the whole pool"
            )
        batch = capped(self._picks, query, self.cap) if self.cap else self._picks(query)
        if len(batch.ids) < query.total:
            batch = batch.followed_by(self.select(query.behind(batch)))
        return batch

    def _picks(self, query: Query) -> Batch:
        """The batch, and as much of what is ahead as the strategy gives in one go."""
        batch = self.options.select(query.guarded(self.needs))
        _check(batch, query, max(query.budget, min(len(batch.ids), query.total)), self.name)
        return batch


PUBLISHED = "published"
WORDS = (PUBLISHED, "thrifty")
"""Words that set several options."""
_CAP = "cap"  # the option of every strategy
_REGISTRY: dict[str, RegisteredStrategy] = {}


def register(
    name: str,
    *,
    title: str,
    needs: Iterable[Need],
    source: str,
    summary: str,
    takes_all: bool = False,
    published: Mapping[str, Any] | None = None,
    thrifty: Mapping[str, Any] | None = None,
) -> Callable[[T], T]:
    """Class decorator: make a frozen dataclass with a method `select` known as strategy `name`."""

    def enter(options: T) -> T:
        if name in _REGISTRY and _REGISTRY[name].options.__qualname__ != options.__qualname__:
            raise ValueError(f"two strategies are named {name!r}")
        _REGISTRY[name] = RegisteredStrategy(
            name,
            title,
            frozenset(needs) - {Need.NOTHING},
            source,
            summary,
            options,
            takes_all,
            {
                word: dict(values)
                for word, values in zip(WORDS, (published, thrifty), strict=True)
                if values
            },
        )
        return options

    return enter


def names() -> list[str]:
    """The names of all strategies, sorted."""
    _discover()
    return sorted(_REGISTRY)


def infos() -> list[RegisteredStrategy]:
    """All strategies, sorted by name."""
    return [_REGISTRY[name] for name in names()]


def get(name: str) -> RegisteredStrategy:
    """The strategy of that name.

    Raises:
        InputError: there is none; the hint gives the nearest name.
    """
    _discover()
    if name not in _REGISTRY:
        raise InputError(f"There is no strategy {name!r}.", _nearest(name, names(), "Strategies"))
    return _REGISTRY[name]


def parse(text: str) -> Strategy:
    """Read `name` or `name:option=value,option=value`; a word among the options, like `published`,
    sets its options first.

    Raises:
        InputError: unknown name, option or value; what is near is named.
    """
    name, _, rest = text.strip().partition(":")
    info = get(name.strip())
    types = get_type_hints(info.options)
    allowed = [field.name for field in fields(info.options)]
    parts = [part for part in (piece.strip() for piece in rest.split(",")) if part]
    values: dict[str, Any] = {}
    for word in WORDS:
        values |= info.words.get(word, {}) if word in parts else {}
    cap = 0
    for part in parts:
        if part in WORDS:
            continue
        key, equals, value = (item.strip() for item in part.partition("="))
        key = key.replace("-", "_")
        if not equals:
            raise InputError(
                f"{part!r} in {text!r} is not option=value.",
                f"Example: {info.name}:eta=10. {_nearest(part, list(info.words), 'Words')}",
            )
        if key == _CAP:
            cap = _cap(value, info.name)
            continue
        if key not in allowed:
            raise InputError(
                f"{info.name} has no option {key!r}.",
                _nearest(key, [*allowed, _CAP], "Its options"),
            )
        values[key] = _value(types[key], value, f"{info.name}:{key}")
    return Strategy(info, info.options(**values), cap)


def _cap(text: str, name: str) -> int:
    cap = _value(int, text, f"{name}:{_CAP}")
    if cap < 0:
        raise InputError(
            f"{_CAP} is {cap}.", "Give the most samples of one case; 0 for any number."
        )
    return int(cap)


def as_published(text: str) -> str:
    """The same strategy with the options of the published experiments' code, but for those that
    `text` gives.

    Raises:
        InputError: unknown strategy, option or value.
    """
    name, _, rest = text.strip().partition(":")
    return canonical(f"{name}:{PUBLISHED},{rest}")


def canonical(text: str) -> str:
    """The shortest text that names the same strategy with the same options: no defaults, options
    sorted.

    Raises:
        InputError: unknown strategy, option or value.
    """
    strategy = parse(text)
    forms = []
    for start in ([], *([word] for word in strategy.info.words)):
        base = parse(f"{strategy.name}:{','.join(start)}").settings
        changed = {
            key: value for key, value in sorted(strategy.settings.items()) if value != base.get(key)
        }
        forms.append([*start, *(f"{key}={_plain(value)}" for key, value in changed.items())])
    options = min(forms, key=len)
    return f"{strategy.name}:{','.join(options)}" if options else strategy.name


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@cache
def _discover() -> None:
    from alunet.query import strategies

    for module in pkgutil.iter_modules(strategies.__path__):
        importlib.import_module(f"{strategies.__name__}.{module.name}")


def _nearest(word: str, known: list[str], what: str) -> str:
    close = difflib.get_close_matches(word, known, 1)
    listing = f"{what}: {', '.join(known)}." if known else f"{what}: none."
    return f"Did you mean {close[0]!r}? {listing}" if close else listing


def _value(kind: Any, text: str, where: str) -> Any:
    if get_origin(kind) is Literal:
        if text in get_args(kind):
            return text
        raise InputError(
            f"{where} cannot be {text!r}.", _nearest(text, list(get_args(kind)), "Choices")
        )
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise InputError(f"{where} cannot be {text!r}.", "Choices: true, false.")
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(
            f"{where} cannot be {text!r}.", f"Give a number ({kind.__name__})."
        ) from error


def _check(batch: Batch, query: Query, wanted: int, name: str) -> None:
    if len(batch.ids) != wanted or len(np.unique(batch.ids)) != len(batch.ids):
        raise EngineError(
            f"Strategy {name} chose {len(np.unique(batch.ids))} distinct samples "
            f"instead of {wanted}."
        )
    if not np.isin(batch.ids, query.ids).all():
        raise EngineError(f"Strategy {name} chose samples that are no candidates.")
    if len(batch.reasons) != len(batch.ids) or len(batch.gains) != len(batch.ids):
        raise EngineError(f"Strategy {name} gave no gain or reason for some samples.")
