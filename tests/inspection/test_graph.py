"""The drawn graph: where everything goes, what is written there, and that nothing breaks it."""

import re
import time
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, GraphError
from tinygrad_stab.inspection import layout, svg, to_dot, to_mermaid, trace
from tinygrad_stab.inspection.drawing import paint
from tinygrad_stab.inspection.folding import collapsed, homes, shrunk
from tinygrad_stab.inspection.graph import MERMAID_CHARACTERS, MERMAID_EDGES
from tinygrad_stab.inspection.layout import arrange

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<img src=x onerror=alert(1)>", "</svg><script>alert(1)</script>", 'a"b\'c', "]] --> n0", "a\\",
    "a\nb", "end", "%%{init: {}}%%", "`code`", "a & b;", "#quot;", "1. list", "- list",
    "\x00\x1b\ud800", "graph", "é 权重 σ", "\u202egnirts", "{{x}}|y|", "a" * 10_000, "",
]  # fmt: skip


def stack(depth, width=4, residual=False, activation=tg.nn.Tanh):
    """A deep net and its loss."""
    rng = np.random.default_rng(0)
    layers = [tg.nn.Linear(3, width, rng=rng), activation()]
    for _ in range(depth - 2):
        inner = [tg.nn.Linear(width, width, rng=rng), activation()]
        layers += [tg.nn.Residual(tg.nn.Sequential(*inner))] if residual else inner
    net = tg.nn.Sequential(*layers, tg.nn.Linear(width, 3, rng=rng))
    loss = tg.nn.functional.cross_entropy(net(rng.normal(size=(5, 3))), np.array([0, 1, 2, 0, 1]))
    return loss, net


def grown(choices):
    """A loss over a graph of scalars: each choice says what the next operation works on."""
    values = [tg.tensor(0.5, requires_grad=True, name=f"x{i}") for i in range(3)]
    for a, b in choices:
        values.append(tg.tanh(values[a % len(values)] * values[b % len(values)]))
    return sum(values, tg.tensor(0.0))


GRAPHS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12).map(grown)

PATHS = [(), ("a",), ("a", "a.b"), ("a", "a.c"), ("d",), ("d", "d.e"), ("d", "d.e", "d.e.f")]


@st.composite
def drawings(draw):
    """What `arrange` takes: boxes, wires between them, groups around them, in no sensible way."""
    n = draw(st.integers(1, 16))
    sizes = [draw(st.sampled_from([(60.0, 30.0), (150.0, 58.0)])) for _ in range(n)]
    wires = [
        (draw(st.integers(0, v - 1)), v, place)
        for v in range(1, n)
        for place in range(draw(st.integers(0, 3)))
    ]
    return sizes, wires, [draw(st.sampled_from(PATHS)) for _ in range(n)]


def apart(a, b):
    """Whether two rectangles (left, top, width, height) do not overlap."""
    return (
        a[0] + a[2] <= b[0] + 1e-6 or b[0] + b[2] <= a[0] + 1e-6
        or a[1] + a[3] <= b[1] + 1e-6 or b[1] + b[3] <= a[1] + 1e-6
    )  # fmt: skip


def around(box):
    return box.x - box.width / 2, box.y - box.height / 2, box.width, box.height


@settings(max_examples=150, deadline=None)
@given(drawings())
def test_nothing_overlaps_and_everything_flows_down(drawing):
    sizes, wires, around_each = drawing
    places = arrange(*drawing)
    assert places == arrange(*drawing), "the same graph, the same picture"
    frames = [around(box) for box in places.boxes]
    for i, frame in enumerate(frames):
        assert frame[2:] == sizes[i]
        assert frame[0] >= 0 and frame[1] >= 0
        assert frame[0] + frame[2] <= places.width and frame[1] + frame[3] <= places.height
    assert all(apart(a, b) for a, b in combinations(frames, 2))
    assert [wire[:3] for wire in places.wires] == wires
    for wire in places.wires:
        start, end = places.boxes[wire.start], places.boxes[wire.end]
        ys = [y for _, y in wire.points]
        assert ys == sorted(ys), "a wire never goes up"
        assert ys[0] == start.y + start.height / 2 and ys[-1] == end.y - end.height / 2
        assert abs(wire.points[0][0] - start.x) < start.width / 2
        assert abs(wire.points[-1][0] - end.x) < end.width / 2
    for group in places.groups:
        frame = group[2:]
        assert set(group.members) == {i for i, h in enumerate(around_each) if group.path in h}
        for i in range(len(sizes)):
            inside = not apart(frame, frames[i])
            if i in group.members or len(group.members) > 1:
                assert inside == (i in group.members), "members inside, nobody else"
    wide = [group for group in places.groups if len(group.members) > 1]
    for a, b in combinations(wide, 2):
        assert apart(a[2:], b[2:]) or b.path.startswith(f"{a.path}.")


@settings(max_examples=40, deadline=None)
@given(GRAPHS)
def test_every_argument_that_is_a_node_has_a_wire(loss):
    whole = trace(loss)
    places = layout(whole)
    assert len(places.boxes) == len(whole.nodes)
    expected = {
        (argument.node, node.id, place)
        for node in whole.nodes
        for place, argument in enumerate(node.arguments)
        if argument.node is not None
    }
    assert {wire[:3] for wire in places.wires} == expected
    assert max(places.boxes, key=lambda box: box.y) == places.boxes[whole.loss]


@settings(max_examples=25, deadline=None)
@given(GRAPHS, st.integers(1, 12))
def test_folding_loses_no_node_and_makes_no_cycle(loss, most):
    whole = trace(loss)
    view = shrunk(whole, lambda view: len(view.items) <= most)
    assert len(view.items) <= most
    assert sorted(i for item in view.items for i in item.nodes) == list(range(len(whole.nodes)))
    assert all(link.start < link.end for link in view.links)
    assert whole.loss in view.items[view.loss].nodes


def test_wires_go_around_boxes():
    places = layout(trace(*stack(6, residual=True)))
    for wire in places.wires:
        for box in places.boxes:
            left, top, width, height = around(box)
            for (x0, y0), (x1, y1) in zip(wire.points, wire.points[1:], strict=False):
                if x0 == x1 and min(y1, top + height) - max(y0, top) > 1e-6:
                    assert not left < x0 < left + width


def test_a_chain_is_straight():
    whole = trace(*stack(8))
    places = layout(whole)
    chain = [places.boxes[n.id].x for n in whole.nodes if n.op is not None]
    assert len(set(chain)) == 1


def test_a_module_holds_its_parameters_even_those_that_are_shared():
    shared = tg.nn.Linear(3, 3, rng=0)
    net = tg.nn.Sequential(shared, tg.nn.Residual(tg.nn.Sequential(shared, tg.nn.Tanh())))
    whole = trace((net(np.ones((2, 3))) + shared.bias).sum(), net)
    at = {node.name: home for node, home in zip(whole.nodes, homes(whole), strict=True)}
    assert at["1.inner.1.tanh"] == ("1", "1.inner", "1.inner.1")
    assert at["0.weight"] == (), "used in two places, so around both"
    alone, net = stack(3)
    whole = trace(alone)  # no model: parameters have no paths, but owners still
    at = [home for node, home in zip(whole.nodes, homes(whole), strict=True) if node.op is None]
    assert at == [("0",), ("0",), ("2",), ("2",), ("4",), ("4",)]


def test_a_tensor_used_twice_has_two_wires():
    x = tg.tensor(3.0, requires_grad=True, name="x")
    first, second = layout(trace(x * x)).wires
    assert first[:2] == second[:2] == (0, 1)
    assert {first.place, second.place} == {0, 1}
    assert first.points != second.points


def test_a_single_tensor():
    places = layout(trace(tg.tensor(1.0, requires_grad=True)))
    assert len(places.boxes) == 1 and not places.wires and not places.groups


@pytest.mark.parametrize("kind", ["chain", "residual", "shared weight", "tangle", "fan"])
def test_a_large_graph_is_placed_quickly(kind):
    rng = np.random.default_rng(0)
    if kind in ("chain", "residual"):
        whole = trace(stack(400, residual=kind == "residual")[0])
    elif kind == "shared weight":
        w = tg.tensor(0.9, requires_grad=True, name="w")
        h = w * 1.0
        for _ in range(1000):
            h = tg.tanh(h * w)
        whole = trace(h)
    elif kind == "tangle":
        whole = trace(grown(rng.integers(0, 10**6, size=(600, 2)).tolist()))
    else:
        leaves = [tg.tensor(1.0, requires_grad=True) for _ in range(2000)]
        whole = trace(np.stack(leaves).sum())
    start = time.perf_counter()
    layout(whole)
    seconds = time.perf_counter() - start
    print(f"{kind}: {len(whole.nodes)} nodes in {seconds:.2f} s")
    assert seconds < 5


def parsed(picture):
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img" and root.get("aria-label")
    assert not [e for e in root.iter() if e.tag in (f"{SVG}script", f"{SVG}image", f"{SVG}a")]
    for element in root.iter():
        assert not any(key.startswith("on") or "href" in key for key in element.attrib)
    return root


def of_class(root, name):
    return [g for g in root.iter(f"{SVG}g") if name in g.get("class", "").split()]


def test_svg_says_what_the_trace_says():
    loss, net = stack(3)
    root = parsed(svg(loss, net))
    whole = trace(loss, net)
    texts = {box.find(f"{SVG}text").text: box for box in of_class(root, "box")}
    for node in whole.nodes:
        box = texts[node.name]
        words = " ".join(text.text for text in box.iter(f"{SVG}text"))
        assert " × ".join(map(str, node.value.shape)) in words
        assert f"grad {tg.diagnostics.rms(node.grad):.3g}" in words
        assert (node.op or "leaf") in words
    assert {"x", "target"} <= texts.keys(), "data are drawn too"
    assert "none" in texts["x"].get("class")
    assert all(g.find(f"{SVG}title").text for g in of_class(root, "wire") + of_class(root, "box"))
    sizes = {f"{tg.diagnostics.rms(t.contribution):.3g}" for s in whole.steps for t in s.terms}
    shown = {
        re.search(r"RMS (\S+)", wire.find(f"{SVG}title").text)[1]
        for wire in of_class(root, "wire")
        if "none" not in wire.get("class")
    }
    assert {float(x) for x in shown} == {float(x) for x in sizes}
    assert len(of_class(root, "group")) == 3
    assert "loss" in texts["mean"].get("class")


def test_svg_of_a_trace_is_that_of_its_loss():
    loss, net = stack(3)
    assert svg(trace(loss, net)) == svg(loss, net) == svg(loss, net)
    assert to_dot(trace(loss, net)) == to_dot(loss, net)
    assert to_mermaid(trace(loss, net)) == to_mermaid(loss, net)


def test_colour_is_the_logarithm_of_the_gradient():
    xs = [tg.tensor(1.0, requires_grad=True, name=f"x{i}") for i in range(5)]
    loss = sum(x * 10.0**-i for i, x in enumerate(xs)) + 0.0
    root = parsed(svg(loss))
    classes = {box.find(f"{SVG}text").text: box.get("class") for box in of_class(root, "box")}
    steps = [int(re.search(r"\bg(\d+)", classes[f"x{i}"])[1]) for i in range(5)]
    assert steps[0] == 10 and steps[-1] == 0
    assert set(np.diff(steps)) <= {-2, -3}, "equal factors, equal steps"


@pytest.mark.parametrize("i", range(11))
def test_text_can_be_read_on_every_colour(i):
    def luminance(colour):
        if len(colour) == 4:
            colour = "#" + "".join(2 * c for c in colour[1:])
        c = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.21, 0.72, 0.07]

    light, dark = sorted(map(luminance, paint(f"g{i}")), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG's AA
    if i:
        assert luminance(paint(f"g{i}")[0]) < luminance(paint(f"g{i - 1}")[0]), "order without hue"


def test_zero_and_not_finite_are_marked():
    x = tg.tensor([-1.0, -2.0], requires_grad=True, name="x")
    y = tg.tensor([0.0, 1.0], requires_grad=True, name="y")
    with np.errstate(all="ignore"):
        loss = (tg.relu(x) + tg.log(y) * np.zeros(2)).sum()
    root = parsed(svg(loss))
    classes = {box.find(f"{SVG}text").text: box.get("class") for box in of_class(root, "box")}
    assert "zero" in classes["x"].split() and "bad" in classes["y"].split()
    legend = " ".join(text.text for text in of_class(root, "legend")[0].iter(f"{SVG}text"))
    assert "exactly 0" in legend and "NaN" in legend


def test_collapse():
    loss, net = stack(4, residual=True)
    names = lambda picture: [  # noqa: E731
        box.find(f"{SVG}text").text for box in of_class(parsed(picture), "folded")
    ]
    assert names(svg(loss, net)) == []
    assert names(svg(loss, net, collapse=1)) == ["0", "2", "3", "4"]
    assert names(svg(loss, net, collapse=2)) == ["2.inner", "3.inner"]
    assert names(svg(loss, net, collapse=["2.inner", "3"])) == ["2.inner", "3"]
    assert names(svg(loss, net, collapse="3")) == ["3"]
    with pytest.raises(ArgumentError, match=r"'2.iner'. Is 2.inner"):
        svg(loss, net, collapse=["2.iner"])
    with pytest.raises(ArgumentError, match="at least 1"):
        svg(loss, net, collapse=0)


def test_a_folded_module_shows_its_result_and_what_flows_through():
    loss, net = stack(4)
    view = collapsed(trace(loss, net), ["2"])
    (folded,) = [item for item in view.items if item.kind == "folded"]
    node = trace(loss, net).find("2.linear")
    np.testing.assert_array_equal(folded.grad, node.grad)
    np.testing.assert_array_equal(folded.value, node.value)
    assert len(folded.nodes) == 3


def test_a_module_that_is_called_twice_folds_into_two_boxes():
    cell = tg.nn.Linear(3, 3, rng=0)

    class Twice(tg.nn.Module):
        def __init__(self):
            self.cell = tg.nn.Sequential(cell, tg.nn.Tanh())

        def forward(self, x):
            return self.cell(self.cell(x))

    net = Twice()
    loss = net(np.ones((2, 3))).sum()
    view = collapsed(trace(loss, net), 1)
    titles = [item.title for item in view.items]
    assert titles == ["cell.0.weight", "cell.0.bias", "cell", "cell#2", "sum"]
    parsed(svg(loss, net, collapse=1))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_shown_and_never_obeyed(name):
    class Holder(tg.nn.Module):
        def __init__(self):
            self.parts = {name: tg.nn.Linear(2, 2, rng=0)}

        def forward(self, x):
            return tg.tanh(self.parts[name](x))

    net = Holder()
    x = tg.tensor([[1.0, 2.0]], requires_grad=True, name=name)
    loss = (net(x) * tg.tensor([1.0, 2.0], name=name)).sum()
    for collapse in ((), 1):
        tags = {e.tag.removeprefix(SVG) for e in parsed(svg(loss, net, collapse=collapse)).iter()}
        assert tags <= {"svg", "title", "style", "rect", "g", "text", "path"}
    html = loss._repr_mimebundle_()["text/html"]
    assert "<img" not in html and "<script" not in html
    check_dot(to_dot(loss, net))
    check_mermaid(to_mermaid(loss, net))
    if name.startswith("<img"):
        assert name in [t.text for t in ET.fromstring(svg(loss, net)).iter(f"{SVG}text")]


DOT_STRING = r'"(?:[^"\\]|\\.)*"'


def check_dot(text):
    """Every line is one that we know, all strings are closed, all braces balance."""
    attributes = rf"\[\w+={DOT_STRING}(, \w+={DOT_STRING})*\]"
    known = re.compile(
        rf"digraph {{|node \[.*\]|edge \[.*\]|n\d+ {attributes}|n\d+ -> n\d+( {attributes})?"
        rf"|subgraph \"cluster_\d+\" {{ label={DOT_STRING}|}}"
    )
    for line in text.split("\n"):
        assert known.fullmatch(line.strip()), line
    bare = re.sub(DOT_STRING, "", text)
    assert bare.count("{") == bare.count("}") and '"' not in bare


def check_mermaid(text):
    """Every line is one that we know, with nothing inside quotes that could end them."""
    assert len(text) <= MERMAID_CHARACTERS
    assert text.count("-->") <= MERMAID_EDGES
    safe = r"(?:[\w .,·×…−+/=-]|<br>|#\d+;)*"
    known = re.compile(
        rf'flowchart TD|n\d+(\(\["{safe}"\]\)|\[\["{safe}"\]\]|\["{safe}"\]):::\w+'
        rf'|subgraph m\d+\["{safe}"\]|end|n\d+ -->(\|"{safe}"\|)? n\d+'
        r"|classDef \w+ fill:#\w+,stroke:#\w+,color:#\w+(,stroke-dasharray:4)?"
    )
    lines = text.split("\n")
    for line in lines:
        assert known.fullmatch(line.strip()), line
    assert sum(line.strip().startswith("subgraph") for line in lines) == sum(
        line.strip() == "end" for line in lines
    )


@settings(max_examples=25, deadline=None)
@given(GRAPHS)
@example(grown([]))
def test_text_formats_are_well_formed(loss):
    check_dot(to_dot(loss))
    check_mermaid(to_mermaid(loss))
    parsed(svg(loss))


def test_groups_become_subgraphs_and_clusters():
    loss, net = stack(4, residual=True)
    assert to_mermaid(loss, net).count("subgraph") == to_dot(loss, net).count("cluster_") > 4
    check_mermaid(to_mermaid(loss, net))
    check_dot(to_dot(loss, net))


@pytest.mark.parametrize("kind", ["modules", "nested modules", "chain", "tangle", "long names"])
def test_mermaid_of_a_large_graph_stays_within_its_limits(kind):
    rng = np.random.default_rng(0)
    net = None
    if kind in ("modules", "nested modules"):
        loss, net = stack(400, residual=kind == "nested modules")
    elif kind == "chain":
        h = tg.tensor(0.5, requires_grad=True)
        for _ in range(2000):
            h = tg.sin(h)
        loss = h
    elif kind == "long names":
        xs = [tg.tensor(1.0, requires_grad=True, name="<" * 99 + str(i)) for i in range(2000)]
        loss = sum(xs)
    else:
        loss = grown(rng.integers(0, 10**6, size=(1000, 2)).tolist())
    text = to_mermaid(loss, net)
    check_mermaid(text)
    boxes = len(re.findall(r":::", text))
    assert boxes >= 5, "folded no more than it must be"
    if kind == "modules":
        assert "400" not in text or "[[" in text


def test_mermaid_folds_inner_modules_before_outer_ones():
    assert "[[" not in to_mermaid(*stack(30, residual=True)), "a moderate graph is not folded"
    text = to_mermaid(*stack(100, residual=True))
    assert '[["50.inner.0<br>' in text and "subgraph m" in text and '["50.inner"]' in text
    text = to_mermaid(*stack(150, residual=True))
    assert '[["50.inner<br>' in text and '["50"]' in text
    check_mermaid(text)


def test_display_of_a_loss():
    loss, net = stack(3)
    bundle = loss._repr_mimebundle_()
    assert bundle["text/plain"] == repr(loss)
    picture = bundle["text/html"].removeprefix('<div style="overflow:auto;max-height:40em">')
    root = parsed(picture.removesuffix("</div>"))
    assert of_class(root, "legend")
    for parameter in net.parameters():
        assert parameter.grad is None, "looking changes nothing"


def test_display_keeps_gradients_that_are_there():
    loss, net = stack(3)
    loss.backward()
    before = {name: p.grad.copy() for name, p in net.named_parameters()}
    loss._repr_mimebundle_(include=None, exclude=None)
    svg(loss, net)
    for name, parameter in net.named_parameters():
        np.testing.assert_array_equal(parameter.grad, before[name])


def test_display_of_leaves_and_constants_is_their_text():
    with tg.no_grad():
        constant = tg.tensor(1.0, requires_grad=True) * 2.0
    for t in (tg.tensor([1.0]), tg.tensor(1.0, requires_grad=True), constant, tg.tensor([1, 2])):
        assert t._repr_mimebundle_() == {"text/plain": repr(t)}


def test_display_of_an_array_shows_values_only():
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    html = (x * x)._repr_mimebundle_()["text/html"]
    assert "value" in html and "grad " not in html and "legend" not in html.split("</style>")[1]
    assert "value" in to_mermaid(x * x) and "grad" not in to_mermaid(x * x)
    assert x.grad is None


def test_display_never_raises():
    x = tg.tensor([0.0, 1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        bad = (tg.log(x) * x).sum()
    assert "NaN" in bad._repr_mimebundle_()["text/html"]
    written = (x * x).sum()
    x.data[0] = 5.0  # a backward pass would be refused now
    assert set(written._repr_mimebundle_()) == {"text/plain"}
    with pytest.raises(GraphError):
        svg(written)
    empty = tg.tensor(np.zeros((0, 3)), requires_grad=True)
    assert "text/html" in (empty * 2.0).sum()._repr_mimebundle_()
    complex_ = tg.tensor(1.0, requires_grad=True) * np.array(1j)
    assert "text/plain" in complex_._repr_mimebundle_()


def test_display_of_a_large_graph_is_folded():
    loss, _ = stack(50, activation=tg.nn.Sigmoid)
    html = loss._repr_mimebundle_()["text/html"]
    assert 5 < html.count('class="box') <= 61
    h = tg.tensor(0.5, requires_grad=True)
    for _ in range(5000):
        h = tg.sin(h)
    assert set(h._repr_mimebundle_()) == {"text/plain"}, "too large to differentiate in passing"


@pytest.mark.parametrize("draw", [svg, to_dot, to_mermaid])
def test_what_has_no_graph_is_refused(draw):
    for what in (tg.tensor(1.0), tg.tensor([1.0, 2.0]), 3.0):
        with pytest.raises(GraphError, match="needs a tensor with a graph"):
            draw(what)
