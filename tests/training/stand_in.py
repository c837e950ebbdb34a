"""A stand-in for a GPU: computes on the processor, and fails wherever a GPU would be waited for."""

from dataclasses import fields

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from limbeck.batch import Links, Tokens

aten = torch.ops.aten
# What answers a question about values, or has a result whose size depends on them.
ASKING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.repeat_interleave,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
READING = ("tolist", "numpy", "cpu", "__array__")


class WaitedError(Exception):
    """The process would have waited for the GPU."""


class StandIn(TorchDispatchMode):
    """Knows which storages are on the GPU: those it was given, and what is computed of them."""

    def __init__(self, monkeypatch):
        super().__init__()
        self._storages, self._fresh = {}, {}
        self._monkeypatch = monkeypatch

    def hold(self, *tensors):
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._storages[storage._cdata] = storage  # kept, so that no other gets its number

    def hold_model(self, model):
        self.hold(*model.parameters(), *model.buffers())

    def holds(self, tensor):
        return tensor.untyped_storage()._cdata in self._storages

    def __enter__(self):
        def to(part, device):
            return self._moved(part)

        self._monkeypatch.setattr(Tokens, "to", to)
        self._monkeypatch.setattr(Links, "to", to)
        self._monkeypatch.setattr("limbeck.objectives.token_pairs.has_triton", lambda: False)
        self._monkeypatch.setattr("limbeck.objectives.token_pairs._on_gpu", lambda tensor: True)
        for name in READING:
            self._monkeypatch.setattr(torch.Tensor, name, self._guarded(name))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._monkeypatch.undo()

    def _moved(self, given):
        if isinstance(given, torch.Tensor):
            copy = given.clone()
            self.hold(copy)
            return copy
        parts = {f.name: getattr(given, f.name) for f in fields(given) if f.init}
        found = type(given)(
            **{name: None if part is None else self._moved(part) for name, part in parts.items()}
        )
        object.__setattr__(found, "origin", given)
        return found

    def _guarded(self, name):
        plain = getattr(torch.Tensor, name)

        def read(tensor, *arguments, **options):
            if self.holds(tensor):
                raise WaitedError(f"Tensor.{name}")
            return plain(tensor, *arguments, **options)

        return read

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        here = any(self.holds(tensor) for tensor in given)
        if here and self._asks(func, args):
            raise WaitedError(str(func))
        if here and any(t.dim() and t.untyped_storage()._cdata in self._fresh for t in given):
            raise WaitedError(f"{func} of numbers that are copied from Python")
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and here:
                self.hold(tensor)
            elif isinstance(tensor, torch.Tensor) and func is aten.lift_fresh.default:
                self._fresh[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return found

    @staticmethod
    def _asks(func, args):
        packet = func.overloadpacket
        if packet in INDEXING:
            masks = (torch.bool, torch.uint8)
            return any(index is not None and index.dtype in masks for index in args[1])
        return packet in ASKING or (packet is aten.multinomial and args[1] == 1)
