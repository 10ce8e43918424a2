"""Symbol files of every age, and what is wrong with damaged ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fixtures.mxnet_files import Net, SymbolStyle

from mli.errors import ModelRefused
from mli.models.mxnet.symbol import Entry, parse_symbol


def batch_norm(style: SymbolStyle) -> bytes:
    net = Net()
    inputs = [net.variable("data"), net.variable("bn_gamma"), net.variable("bn_beta")]
    if style != "param":
        inputs += [net.variable("bn_moving_mean"), net.variable("bn_moving_var")]
    return net.json(net.op("BatchNorm", "bn", *inputs, eps=0.001), style=style)


@pytest.mark.parametrize(("style", "version"), [("param", "0.8 or older"), ("attr", "0.9.5"), ("attrs", "1.9.1")])
def test_every_style_gives_the_same_network(style: SymbolStyle, version: str) -> None:
    symbol = parse_symbol(batch_norm(style), "net-symbol.json")
    operator = next(node for node in symbol.nodes if node.op)
    assert operator.attributes == {"eps": "0.001"}
    names = [symbol.nodes[entry.node].name for entry in operator.inputs]
    assert names == ["data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]
    assert [symbol.nodes[head.node].name for head in symbol.heads] == ["bn"]
    assert symbol.version == version
    assert symbol.old_style == (style == "param")


def test_attributes_of_variables_are_kept() -> None:
    net = Net()
    head = net.op("relu", "r", net.variable("data", __shape__="(1, 3, 8, 8)"))
    symbol = parse_symbol(net.json(head, style="attr"), "x")
    assert symbol.variables()["data"].attributes == {"__shape__": "(1, 3, 8, 8)"}


def test_several_outputs_are_told_apart() -> None:
    net = Net()
    split = net.op("SliceChannel", "s", net.variable("data"), num_outputs=2)
    data = json.loads(net.json(split))
    data["heads"] = [[split, 0, 0], [split, 1, 0]]
    assert parse_symbol(json.dumps(data).encode(), "x").heads == (Entry(split, 0), Entry(split, 1))


def changed(**changes: Any) -> bytes:
    data = json.loads(batch_norm("attrs"))
    data.update(changes)
    return json.dumps(data).encode()


def with_node(**changes: Any) -> bytes:
    data = json.loads(batch_norm("attrs"))
    data["nodes"][-1].update(changes)
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("data", "where", "said"),
    [
        (b"", "", "Expecting value"),
        (b"\xff\xfe{}", "", "decode"),
        (b"[1, 2]", "", "a list"),
        (b'{"nodes": []}', "", "an object"),
        (changed(nodes=[]), "", "0"),
        (changed(heads=[]), "", "a list"),
        (changed(heads=[[99, 0, 0]]), "heads[0]", "[99, 0, 0]"),
        (with_node(inputs=[[5, 0, 0]]), "nodes[5] 'bn', inputs[0]", "[5, 0, 0]"),
        (with_node(inputs=[["data", 0]]), "nodes[5] 'bn', inputs[0]", "data"),
        (with_node(inputs=[[-1, 0]]), "nodes[5] 'bn', inputs[0]", "-1"),
        (with_node(attrs={"eps": 0.1}), "nodes[5] 'bn'", "a number"),
        (with_node(name="a\x1b[2Jb"), "nodes[5]", "\\x1b"),
        (with_node(name=None), "nodes[5]", "BatchNorm"),
        (with_node(op="null"), "nodes[5] 'bn'", "5 inputs"),
        (b'{"nodes": ' + b"[" * 100_000, "", "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: bytes, where: str, said: str) -> None:
    with pytest.raises(ModelRefused) as caught:
        parse_symbol(data, "net-symbol.json")
    assert caught.value.where == ", ".join(filter(None, ["net-symbol.json", where]))
    assert said in (caught.value.got or "")
