"""Graphs that are rewritten for ExecuTorch compute the same; no ExecuTorch is needed for that."""

import operator
import os

import pytest
import torch
from torch import nn

from limbeck.deploy.executorch_files.native_log import native_log
from limbeck.deploy.executorch_files.rewriting import products_of_matrices, tables_in_8_bits

aten = torch.ops.aten


class Attention(nn.Module):
    """Scores of four axes, a product of a whole tensor by one matrix, and one of three axes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.turn = nn.Embedding(30, 8), nn.Parameter(torch.randn(8, 8))
        self.table.weight.data[3] *= 100
        self.table.weight.data[4] = 0

    def forward(self, ids):
        values = self.table(ids)
        heads = values.unflatten(2, (2, 4)).transpose(1, 2)
        scores = torch.matmul(heads, heads.transpose(2, 3)).softmax(-1)
        joined = torch.matmul(scores, heads).transpose(1, 2).flatten(2)
        return torch.matmul(torch.matmul(joined, self.turn), joined.transpose(1, 2))


@pytest.fixture
def traced():
    """A model, and its graph of any batch and length."""
    dim = torch.export.Dim
    size = {0: dim("batch", min=1, max=8), 1: dim("tokens", min=1, max=20)}
    model, ids = Attention().eval(), torch.arange(14).view(2, 7)
    exported = torch.export.export(model, (ids,), dynamic_shapes=({0: size[0], 1: size[1]},))
    return model, exported.module()


def targets(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (5, 20)])
def test_products_of_four_axes_become_those_of_three(traced, shape):
    model, graph = traced
    products_of_matrices(graph)
    graph.recompile()
    assert targets(graph).count(aten.bmm.default) == 2
    assert targets(graph).count(aten.matmul.default) == 2  # of other axes, which copy nothing
    ids = torch.randint(0, 30, shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(graph(ids), model(ids), atol=1e-4, rtol=1e-5)


def test_tables_are_rounded_by_rows(traced):
    model, graph = traced
    tables_in_8_bits(graph)
    graph.recompile()
    stored = [node for node in graph.graph.nodes if node.target is aten.embedding.default]
    names = [node.args[0].target for node in stored]
    types = [operator.attrgetter(name)(graph).dtype for name in names]
    assert types == [torch.int8, torch.float32]
    table = model.table.weight.detach()
    steps = table.abs().amax(1) / 127
    ids = torch.arange(20)[None]
    rounded = nn.functional.embedding(ids, operator.attrgetter(names[0])(graph)).float()
    rounded *= nn.functional.embedding(ids, operator.attrgetter(names[1])(graph))
    assert ((rounded[0] - table[:20]).abs() <= 0.5001 * steps[:20, None]).all()
    model.table.weight.data[:20] = rounded[0]
    assert torch.allclose(graph(ids), model(ids), atol=1e-3, rtol=1e-4)


def test_what_native_code_prints_is_kept(capfd):
    with native_log() as last:
        assert last() == ""
        os.write(2, b"[file.cpp:12] first\n[other.cpp:3] Missing operator: x\n\n")
        assert last() == "Missing operator: x"
    with pytest.raises(ValueError), native_log():
        raise ValueError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
