"""SQL expressions that SQLAlchemy builds once for each shape; a later query of that shape only brings its values.

Building and compiling a usual C-FIND with SQLAlchemy takes ten times as long as the database needs for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import sqlalchemy as sa


class Expression:
    """An SQL expression before its values are known.

    Attributes
    ----------
    shape
        Equal for expressions that differ in their values only; None when the values are part of the expression.
    values
        Its values, in the order in which ``build`` takes them.
    """

    __slots__ = ("_make", "_parts", "shape", "values")

    def __init__(
        self,
        shape: Hashable,
        make: Callable[..., Any],
        parts: tuple[Expression, ...] = (),
        values: tuple[object, ...] = (),
    ) -> None:
        self.shape = shape
        self.values = values
        self._make = make
        self._parts = parts

    def build(self, values: Iterator[Any]) -> Any:
        """Return the SQLAlchemy expression with these values, or with bind parameters in their place."""
        return self._make(*[next(values) if part is _VALUE else part.build(values) for part in self._parts])

    def with_values(self) -> Any:
        """Return the SQLAlchemy expression with its own values."""
        return self.build(iter(self.values))

    def unserved(self) -> Expression:
        """Return the same value, for which SQLite uses no database index: that is what a unary plus says there."""
        return defer(_plus, self)


def _plus(made: Any) -> Any:
    return sa.UnaryExpression(made, operator=_PLUS, type_=made.type)


_PLUS: Any = sa.sql.operators.custom_op("+")
_VALUE = Expression("?", iter)


def value_of(make: Callable[..., Any], left: Expression, value: object) -> Expression:
    """Return ``make(left, value)``, whose value is no part of the shape."""
    if left.shape is None:
        return given(make(left.with_values(), value))
    return Expression((make, left.shape), make, (left, _VALUE), (*left.values, value))


def defer(make: Callable[..., Any], *parts: Expression) -> Expression:
    """Return ``make(*parts)``; the same function must do the same for the same shapes."""
    if any(part.shape is None for part in parts):
        return given(make(*[part.with_values() for part in parts]))
    values = [value for part in parts for value in part.values]
    return Expression((make, *[part.shape for part in parts]), make, parts, tuple(values))


def column(shape: Hashable, made: Any) -> Expression:
    """Return a column, or another expression without values."""
    return Expression(shape, lambda: made)


def given(made: Any) -> Expression:
    """Return an expression that was built with its values."""
    return Expression(None, lambda: made)
