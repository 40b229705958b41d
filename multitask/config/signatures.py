"""Construction of objects from the class names and arguments in a configuration, checked against the signatures."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from multitask.errors import UserError, reason, shown

T = TypeVar("T")

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def is_dotted(target: object) -> bool:
    """Whether a value is a dotted name with a module, such as ``multitask.tasks.depth.Depth``."""
    return isinstance(target, str) and _DOTTED.fullmatch(target) is not None


def make(key: str, spec: Mapping[str, Any], base: type[T], *args: Any) -> T:
    """Builds the object that a part of the configuration describes by its ``_target_`` and keyword arguments.

    Args:
        key: key of that part, for errors.
        spec: ``_target_`` (the dotted name of a class) and its keyword arguments.
        base: required base class. A checkpoint's configuration is untrusted: it may name only subclasses of it, and no
            functions.
        args: positional arguments to pass before the keyword arguments.
    """
    if not isinstance(spec, Mapping):
        raise UserError(f"{key}: needed _target_ and its arguments, found {shown(spec)}")
    arguments = dict(spec)
    target = arguments.pop("_target_", None)
    if not is_dotted(target):
        raise UserError(f"{key}._target_: needed the dotted name of a class, found {shown(target)}")
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UserError(
            f"{key}._target_: needed the dotted name of a class, found {shown(target)} ({reason(error)})"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base) and not inspect.isabstract(found)):
        raise UserError(f"{key}._target_: needed a {base.__name__}, found {shown(target)}")
    return call(key, found, arguments, *args)


def call(key: str, function: Callable[..., T], arguments: Mapping[str, Any], *args: Any) -> T:
    """Calls ``function``; raises an error that names the key if the arguments do not fit the signature."""
    parameters = dict(list(inspect.signature(function).parameters.items())[len(args) :])
    hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    for name, value in arguments.items():
        if name not in parameters:
            raise UserError(f"{key}.{name[:80]}: unknown key, needed some of {list(parameters)}")
        if not fits(value, hints.get(name, Any)):
            raise UserError(f"{key}.{name}: needed {_words(hints[name])}, found {shown(value)}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise UserError(f"{key}.{name}: needed a value, found none")
    return function(*args, **arguments)


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type hint; supports the types in configurations: numbers, texts and containers."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(fits(item, inner[1]) for item in value.values())
    if hint in (int, float):  # in Python, but not in a configuration, True is an int
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)) if get_origin(hint) is None else str(hint)
