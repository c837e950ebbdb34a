"""Registers the loader of low-rank layers with transformers, without importing transformers.

transformers takes seconds to import, so limbeck waits until the user's program imports it.
Python has no callback for "after this module was imported", so a finder in `sys.meta_path` wraps
the loader of the one module that must exist first. tests/models/test_low_rank_loading.py fails
when transformers moves that module.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

QUANT_METHOD = "limbeck_low_rank"
_AWAITED = "transformers.quantizers.auto"


def register() -> None:
    """Register the loader of low-rank layers as soon as transformers' quantizers are imported."""
    if _AWAITED in sys.modules:
        _register_now()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register_now() -> None:
    import_module(".low_rank_quantizer", __package__)


class _Waiting(MetaPathFinder):
    """Finds the awaited module as Python would, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual spec of the awaited module, with its loader wrapped; None for other modules."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _AWAITED else None
        if spec and spec.loader:
            spec.loader = _ThenRegister(spec.loader, self)
        return spec


class _ThenRegister(Loader):
    """A loader that registers low-rank layers after the module has run, and then removes itself."""

    def __init__(self, usual: Loader, finder: _Waiting) -> None:
        self.usual = usual
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as the usual loader does."""
        return self.usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, restore its usual loader, and register."""
        self.usual.exec_module(module)
        module.__loader__ = self.usual
        if module.__spec__:
            module.__spec__.loader = self.usual
        sys.meta_path.remove(self.finder)
        _register_now()
