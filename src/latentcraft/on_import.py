"""Calling a function as soon as some module has been imported, without importing it.

Gymnasium 1.x loads no plugins, so a package has to register its environments itself; importing Gymnasium for that in
``latentcraft/__init__.py`` would make ``latentcraft --help`` and ``import latentcraft.model`` pay for it.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def when_imported(trigger: str, module: str, function: str) -> None:
    """Call ``module.function()`` once the module ``trigger`` is imported: now, if it is already.

    Args:
        trigger: a top-level module's name.
        module: where the function is; imported only then.
        function: its name.
    """
    if trigger in sys.modules:
        getattr(import_module(module), function)()
    else:
        sys.meta_path.insert(0, _Finder(trigger, module, function))


class _Finder(MetaPathFinder):
    """Finds ``trigger`` the usual way and gives it a loader that calls the function afterwards."""

    def __init__(self, trigger: str, module: str, function: str) -> None:
        self.trigger, self.module, self.function = trigger, module, function
        self._finding = False

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != self.trigger or self._finding:
            return None
        self._finding = True  # find_spec below asks every finder, this one among them
        try:
            spec = find_spec(fullname)
        finally:
            self._finding = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(Loader):
    """Loads with the module's own loader, then calls the function and takes the finder away."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader  # leave no trace: importlib.resources and inspect ask the loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        getattr(import_module(self._finder.module), self._finder.function)()
