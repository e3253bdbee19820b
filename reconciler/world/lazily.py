"""What a frozen struct knows of itself, reckoned when first asked for."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class lazily(Generic[T]):  # noqa: N801  it is used as a decorator, as `property` is
    """Like `cached_property`, without the lock that Python 3.11 takes at each first look: two threads may both reckon it.

    The struct needs `dict=True`, for the place where the value stays.
    """

    def __init__(self, reckon: Callable[[Any], T]) -> None:
        self._reckon, self.__doc__ = reckon, reckon.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, one: None, owner: type) -> "lazily[T]": ...

    @overload
    def __get__(self, one: object, owner: type) -> T: ...

    def __get__(self, one: object | None, owner: type) -> "lazily[T] | T":
        """Asked for once: from then on the value itself is found in its place."""
        if one is None:
            return self
        value = one.__dict__[self._name] = self._reckon(one)
        return value
