# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Packages that only a part of the repository needs: pip installs them with an extra of `pyproject.toml`."""

from importlib.util import find_spec


def require_extra(extra: str, *modules: str):
    """
    Check that the packages of an extra are installed.

    Args:
        extra (`str`): The name of the extra.
        modules (`str`): The modules that are imported from its packages.

    Raises:
        `ModuleNotFoundError`: if one is missing; the message says how all of them are installed.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise ModuleNotFoundError(f'{", ".join(missing)} not installed: pip install -e ".[{extra}]"')
