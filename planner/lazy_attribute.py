"""Attributes worked out when they are first read, without a lock."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_Value = TypeVar("_Value")


class lazy_attribute(Generic[_Value]):  # noqa: N801 (a decorator, named like functools.cached_property)
    """`functools.cached_property` as it is since Python 3.12.

    In 3.11 one lock stands before each attribute for all instances of its class, so that one slow plan in a thread
    holds up every other. Here two threads may both work the value out; it is the same.
    """

    def __init__(self, work_out: Callable[[Any], _Value]) -> None:
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[object]) -> "lazy_attribute[_Value]": ...

    @overload
    def __get__(self, instance: object, owner: type[object]) -> _Value: ...

    def __get__(self, instance: object, owner: type[object]) -> "_Value | lazy_attribute[_Value]":
        if instance is None:
            return self
        # The instance's own dictionary comes before a descriptor without __set__: this runs once.
        value = instance.__dict__[self._name] = self._work_out(instance)
        return value
