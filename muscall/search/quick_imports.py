# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Imports of LanceDB without what a query never uses: three quarters of the time that it takes to import."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType


TESTED = "0.40."  # versions of LanceDB that are known to import so; others are imported whole
# The client of LanceDB's servers, with 148 models of requests that pydantic compiles, and what is made of them. Tables
# in folders and object stores need none.
UNUSED = (
    "lance_namespace_urllib3_client",
    "lancedb.remote.db",
    "lancedb.remote.table",
    "lancedb.namespace",
    "lancedb.embeddings",  # models of its own, none of which makes the vectors here
    "overrides",  # a decorator that checks each method of LanceDB; Python has one that does not, from 3.12 on
)


class _StandIn(ModuleType):
    """
    A module in which every name can be imported and named in annotations: in capitals an empty class, else a function
    that returns what it gets, which is a decorator that changes nothing.
    """

    def __getattr__(self, name: str) -> type | Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}) if name[0].isupper() else lambda decorated: decorated)
        return getattr(self, name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas":  # pyarrow imports it wherever it is installed, and works without it
            raise ModuleNotFoundError("pandas is not imported for a query")
        is_unused = f"{name}.".startswith(tuple(f"{unused}." for unused in UNUSED))
        return ModuleSpec(name, self, is_package=True) if is_unused else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType):
        pass


@contextmanager
def quick_imports() -> Iterator[None]:
    """
    Import LanceDB in the block without the client of its servers, and pyarrow without pandas; everything that comes
    later is imported as ever. For programs that answer a query and end: pyarrow makes no data frames in them any more.
    """
    if "lancedb" in sys.modules or not version("lancedb").startswith(TESTED):
        yield
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        for name in UNUSED:  # also those that LanceDB would import later
            import_module(name)
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.modules.pop("overrides", None)  # others may use it
