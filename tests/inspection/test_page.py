"""The page: what is in the file, and what a visitor sees, in a real browser."""

import html.parser
import json
import os
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from browser.chromium import Visit, chromium

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, GraphError
from tinygrad_stab.inspection import page, trace

HOSTILE = "<img src=x onerror=alert(1)>"


def leaf(value, name):
    return tg.tensor(value, requires_grad=True, name=name)


def small():
    """Of h, which is used three times: its gradient is a sum."""
    x, w = leaf([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]], "x"), leaf([[0.5], [-0.25]], "w")
    with tg.inspection.record():
        h = tg.tanh(x @ w)
        h.name = "h"
        loss = tg.sum(h * h) + tg.sum(tg.exp(h))
    return loss


class Net(tg.nn.Module):
    def __init__(self, *sizes):
        self.layers = [
            tg.nn.Sequential(tg.nn.Linear(a, b, rng=i), tg.nn.Tanh())
            for i, (a, b) in enumerate(pairwise(sizes))
        ]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def net(*sizes, batch=4):
    model = Net(*sizes)
    return tg.mean(model(np.linspace(-1, 1, batch * sizes[0]).reshape(batch, -1)) ** 2), model


def chain(length):
    """A graph of so many nodes; x has half of them for consumers."""
    x = y = leaf(np.linspace(-1, 1, 4), "x")
    for i in range(length - 2):
        y = y * 1.001 if i % 2 else y + x
    return tg.sum(y)


def content(path):
    """The data of a page, read as strictly as JSON can be."""

    def refuse(word):
        raise ValueError(word)

    text = re.search(
        r'<script id="data" type="application/json">(.*?)</script>',
        path.read_text(encoding="utf-8"),
        re.DOTALL,
    )[1]
    return json.loads(text, parse_constant=refuse)


# ---- the file ----


def test_it_is_one_file_and_says_where(tmp_path):
    path = page(small(), tmp_path / "page.html")
    assert path == tmp_path / "page.html" and list(tmp_path.iterdir()) == [path]
    assert page(small(), str(path)) == path, "what is there is replaced"
    text = path.read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org/", "").replace("http-equiv", "")
    assert not re.search(r"\bsrc=|\bhref=|@import|url\((?!#)", text)


def test_it_holds_the_trace(tmp_path):
    loss = small()
    told, seen = trace(loss), content(page(loss, tmp_path / "page.html"))
    assert [node["name"] for node in seen["nodes"]] == [node.name for node in told.nodes]
    assert [step["node"] for step in seen["steps"]] == [step.node for step in told.steps]
    assert seen["loss"] == told.loss and len(seen["boxes"]) == len(told.nodes)
    terms = [term for step in seen["steps"] for term in step["terms"]]
    assert sum(term["parent"] == told.find("h").id for term in terms) == 3, "h·h, and exp(h)"


def test_numbers_that_json_has_no_word_for(tmp_path):
    with np.errstate(all="ignore"):
        loss = tg.sum(tg.log(leaf([0.0, -1.0, 1e-320, np.inf], "x")))
        seen = content(page(loss, tmp_path / "page.html"))
    kinds = {array[key] for array in seen["arrays"] for key in ("rms", "min", "max")}
    assert {"NaN", "Infinity"} <= kinds
    assert all(isinstance(kind, float | str) for kind in kinds)


def test_large_arrays_are_cut_to_a_budget(tmp_path):
    x = leaf(np.arange(1_000_000.0).reshape(1000, 1000), "x")
    path = page(tg.sum(x), tmp_path / "page.html")
    array = content(path)["arrays"][0]
    assert (array["rows"], array["columns"]) == (16, 16)
    assert (array["heat"]["rows"], array["heat"]["columns"]) == (64, 64)
    assert array["max"] == 999_999 and path.stat().st_size < 200_000
    # Many of middling size: less of each, rather than too much of all.
    loss, model = net(*[100] * 60)
    assert page(loss, path, model).stat().st_size < 10_000_000


def test_hostile_text_cannot_leave_the_data(tmp_path):
    name = "</script><script>alert(1)</script><!--\u2028\ud800"
    path = page(tg.exp(leaf(1.0, name)), tmp_path / "page.html")
    tags = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)

    Parser().feed(path.read_text(encoding="utf-8"))
    assert tags.count("script") == 2 and "img" not in tags
    assert content(path)["nodes"][0]["name"] == name


@pytest.mark.parametrize("where", [".", "missing/page.html"])
def test_a_path_that_cannot_be_written_is_an_error(where, tmp_path):
    with pytest.raises(ArgumentError, match="page: "):
        page(small(), tmp_path / where)
    assert list(tmp_path.iterdir()) == []


def test_refusals_leave_what_is_there(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("precious")
    with pytest.raises(GraphError, match="must be a scalar"):
        page(leaf([1.0, 2.0], "x") * 2, path)
    with pytest.raises(ArgumentError, match="at most 10000 nodes; the graph has 10010"):
        page(chain(10_010), path)
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


# ---- the browser ----


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser, tmp_path):
    """Open the page of a loss; at the end, no request may have been made and nothing complained."""
    visits = []

    def open_page(loss, model=None, **settings):
        settings.setdefault("viewport", {"width": 1280, "height": 800})
        path = page(loss, tmp_path / f"{len(visits)}.html", model)
        visits.append(Visit(browser, path, **settings))
        return visits[-1]

    yield open_page
    for visitor in visits:
        visitor.close()


def near(text, number):
    """Whether a text gives a number to the digits that it shows."""
    found = re.search(r"-?[\d.]+(e-?\d+)?", text)
    return found and float(found[0]) == pytest.approx(float(number), rel=1e-3)


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def table(visitor, label):
    """The numbers of a table in the panel, as they are in full."""
    rows = visitor.tab.locator(f'[aria-label="{label}: numbers"] tr').all()[1:]
    return [
        [float(cell.get_attribute("title")) for cell in row.locator("td").all()] for row in rows
    ]


def test_forward_and_back_through_everything(visit):
    loss = small()
    told = trace(loss)
    v = visit(loss)
    names = [node.name for node in told.nodes]
    results = [node for node in told.nodes if node.op]
    terms = [(step, term) for step in told.steps for term in step.terms]
    expected = [r"Start: 2 leaves"]
    expected += [f"{re.escape(node.op)} makes {re.escape(node.name)}," for node in results]
    expected += [f"begins at {re.escape(names[told.loss])}, .* = 1"]
    expected += [
        rf"{re.escape(names[s.node])} passes .* on to {re.escape(names[t.parent])}, its argument "
        rf"{re.escape(t.argument)}" for s, t in terms
    ]  # fmt: skip
    assert v.text("#count") == f"0 / {len(expected) - 1}"
    forward = []
    for i, pattern in enumerate(expected):
        assert re.search(pattern, v.text("#words")), i
        forward.append([v.text("#words"), v.tab.locator("g.box.ahead").count()])
        v.press("ArrowRight")
    assert forward[0][1] == len(results), "nothing is computed yet"
    assert forward[len(results)][1] == 0, "all is"
    assert v.text("#count") == f"{len(expected) - 1} / {len(expected) - 1}", "there it stops"
    assert v.tab.locator("g.box.some").count() == len(names)
    for words, ahead in reversed(forward):
        assert [v.text("#words"), v.tab.locator("g.box.ahead").count()] == [words, ahead]
        v.press("ArrowLeft")
    v.press("End")
    assert v.text("#words") == forward[-1][0]
    v.press("Home")
    assert v.text("#words") == forward[0][0]


def test_numbers_are_those_of_numpy(visit):
    x, w = np.array([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]]), np.array([[0.5], [-0.25]])
    h = np.tanh(x @ w)
    through_square, through_exp = h, np.exp(h)
    gradient = 2 * h + np.exp(h)
    v = visit(small())
    v.box("h").click()
    assert np.allclose(table(v, "value of h"), h, rtol=1e-15)
    assert np.allclose(table(v, "gradient of h"), gradient, rtol=1e-15)
    facts = v.texts("#panel .facts dd")
    assert facts[:2] == ["(3, 1)", "float64"]
    for text, number in zip(facts[2:5], (rms(h), h.min(), h.max()), strict=True):
        assert near(text, number)
    # Where the gradient comes from: each contribution, and the sum so far.
    rows = [row.locator("td").all() for row in v.tab.locator("table.sums tr").all()[1:]]
    parts = [float(row[2].get_attribute("title")) for row in rows]
    sums = [float(row[3].get_attribute("title")) for row in rows]
    assert parts == pytest.approx([rms(through_exp), rms(through_square), rms(through_square)])
    running = [through_exp, through_exp + through_square, gradient]
    assert sums == pytest.approx([rms(total) for total in running])
    assert v.tab.locator("table.sums tr.reached").count() == 0, "not yet"
    v.press("End")
    assert v.tab.locator("table.sums tr.reached").count() == 3
    # The same on the wires.
    v.tab.locator("table.sums button").nth(1).click()
    assert v.text("#panel h2") == "h → multiply"
    assert np.allclose(table(v, "contribution"), through_square, rtol=1e-15)
    assert np.allclose(table(v, "sum so far"), through_exp + through_square, rtol=1e-15)
    assert np.allclose(table(v, "upstream gradient"), 1.0)
    # In the graph, and in the formula with this run's numbers.
    assert near(v.box("h").locator(".third").text_content().split("RMS")[1], rms(gradient))


def test_formulas_with_this_runs_numbers(visit):
    a, b = leaf(2.0, "a"), leaf(3.0, "b")
    v = visit(a * b)
    v.press("ArrowRight")
    assert v.texts("#formula math") == ["multiply=a·b", "multiply=2·3=6"]
    v.press("ArrowRight", "ArrowRight")
    assert "its argument x" in v.text("#words")
    symbols, numbers = v.texts("#formula math")
    assert "multiply" in symbols and "b" in symbols and numbers.endswith("1·3")
    spaces = v.tab.evaluate("[...document.querySelectorAll('math *')].map(e => e.namespaceURI)")
    assert set(spaces) == {"http://www.w3.org/1998/Math/MathML"}


def test_by_each_node(visit):
    loss = small()
    v = visit(loss)
    v.tab.select_option("#grain", "node")
    told = trace(loss)
    stops = 1 + sum(node.op is not None for node in told.nodes) + len(told.steps)
    assert v.text("#count") == f"0 / {stops}"
    v.tab.locator("#slider").fill(str(stops - len(told.steps) + 1))
    first = told.steps[0]
    for term in first.terms:
        assert told.nodes[term.parent].name in v.text("#words")
    assert v.tab.locator("g.wire.active").count() == len(first.terms)


def test_playing_stops_at_the_end_and_on_request(visit):
    v = visit(small())
    v.tab.select_option("#speed", "40")
    v.tab.locator("#graph").focus()
    v.press("Space")
    assert v.tab.locator("#play").get_attribute("aria-label") == "Pause"
    v.press("Space")
    assert v.tab.locator("#play").get_attribute("aria-label") == "Play"
    held = v.text("#count")
    v.tab.wait_for_timeout(150)
    assert v.text("#count") == held
    v.tab.locator("#play").click()
    v.tab.wait_for_selector("#on[aria-disabled=true]")
    assert v.tab.locator("#play").get_attribute("aria-label") == "Play"


def test_by_keyboard_alone(visit):
    v = visit(*net(3, 4, 2))
    order = []
    for _ in range(20):
        v.press("Tab")
        order.append(v.tab.evaluate("document.activeElement.id || document.activeElement.role"))
    wanted = [
        "search",
        "larger",
        "collapse",
        "option",
        "first",
        "play",
        "slider",
        "grain",
        "profile",
    ]
    places = [order.index(stop) for stop in wanted]
    assert order.count("option") == 1, "one stop for the whole graph"
    assert places == sorted(places), order
    assert v.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") is not None
    # Through the graph: every box and every module in turn.
    v.tab.locator("#graph [tabindex='0']").focus()
    seen = {v.focused()}
    for _ in range(30):
        v.press("ArrowDown")
        seen.add(v.focused())
    assert sum("Module" in label for label in seen) == 4
    assert len(seen) == v.tab.locator("g.box").count() + 4
    while not v.focused().startswith("layers.1.1.tanh,"):
        v.press("ArrowUp")
    stroke = "getComputedStyle(document.activeElement.querySelector('.card')).strokeWidth"
    assert v.tab.evaluate(stroke) == "5px", "the focus is seen"
    v.press("Enter")
    assert v.text("#panel h2") == "layers.1.1.tanh"
    assert v.tab.evaluate("document.activeElement.textContent") == "layers.1.1.tanh"
    v.press("ArrowRight")
    assert v.text("#count").startswith("1 /") and v.text("#panel h2") == "layers.1.1.tanh"
    v.press("Escape")
    assert v.focused().startswith("layers.1.1.tanh,")
    # Over the wires.
    for _ in range(40):
        v.press("Shift+ArrowDown")
        if v.focused().startswith("Wire"):
            break
    v.press("Enter")
    assert "→" in v.text("#panel h2") and "Contribution" in v.text("#panel")
    # The profile: choose, then jump.
    v.tab.locator("#profile").focus()
    v.press("End")
    assert v.tab.locator("#profile").get_attribute("aria-valuetext").startswith("mean: ")
    v.press("ArrowLeft", "Enter")
    assert v.text("#panel h2") == "power"


def test_modules_close_and_open(visit):
    v = visit(*net(3, 4, 2))
    boxes, wires = v.tab.locator("g.box"), v.tab.locator("g.wire")
    before = boxes.count(), wires.count()
    v.tab.locator("g.label").first.click()
    assert v.box("layers.0").count() == 1
    assert boxes.count() == before[0] - 3, "four became one"
    assert wires.count() == before[1] - 3, "those inside are gone, that to the next is kept"
    assert "Module layers.0, closed, 4 tensors" in v.box("layers.0").get_attribute("aria-label")
    assert "Module layers.0, closed" in v.focused()
    v.press("End")
    assert v.box("layers.0").get_attribute("class").count("some")
    v.press("Enter")
    assert (boxes.count(), wires.count()) == before
    v.tab.locator("#collapse").click()
    assert boxes.count() == 4 and wires.count() == 3
    heights = [box.bounding_box()["y"] for box in boxes.all()]
    assert heights == sorted(heights), "in the order of the pass"
    v.tab.locator("#expand").click()
    assert (boxes.count(), wires.count()) == before


def test_large_nets_open_with_their_modules_closed(visit):
    v = visit(*net(*[3] * 41))
    assert v.tab.locator("g.box.module").count() == 40
    v.tab.locator("#search").fill("layers.20.0.weight")
    v.press("Enter")
    assert v.text("#panel h2") == "layers.20.0.weight"
    assert v.tab.locator("g.box.module").count() == 39, "it was opened to be shown"
    assert v.box("layers.20.0.weight").get_attribute("aria-selected") == "true"


def test_search(visit):
    v = visit(*net(3, 4, 2))
    v.press("/")
    assert v.tab.evaluate("document.activeElement.id") == "search"
    v.tab.keyboard.type("TANH")
    assert v.texts("#found [role=option] span") == ["layers.0.1.tanh", "layers.1.1.tanh"]
    assert v.tab.locator("g.box.dim").count() == v.tab.locator("g.box").count() - 2
    v.press("ArrowDown")
    assert v.tab.locator("#search").get_attribute("aria-activedescendant") == "hit1"
    v.press("Enter")
    assert v.text("#panel h2") == "layers.1.1.tanh"
    assert v.tab.locator("g.box.dim").count() == 0
    assert v.focused().startswith("layers.1.1.tanh")
    v.press("/")
    v.tab.keyboard.type("nothing like it")
    assert "Nothing has this in its name" in v.text("#found")
    v.press("Escape")
    assert v.tab.locator("#found").is_hidden()


def test_profile_and_graph_are_linked(visit):
    x = leaf([1.0, -2.0], "x")
    dead = tg.relu(x * -1.0 - 5.0)
    v = visit(tg.sum(dead * x) + tg.sum(tg.relu(x - 9.0)))
    assert v.tab.locator(".bar.zero").count() == 3, "exactly zero is marked as such"
    v.box("relu").hover()
    assert "relu: " in v.text("#tip") and v.tab.locator(".bar.hot").count() == 1
    last = v.tab.locator(".bar").last.bounding_box()
    v.tab.mouse.move(last["x"] + last["width"] / 2, last["y"] + 5)
    assert v.box("add").get_attribute("class").count("hot")
    v.tab.mouse.click(last["x"] + last["width"] / 2, last["y"] + 5)
    assert v.text("#panel h2") == "add"


def test_what_is_not_finite_is_shown_as_such(visit):
    with np.errstate(all="ignore"):
        v = visit(tg.sum(tg.log(leaf([0.0, -1.0, 2.0], "x"))))
    v.press("End")
    v.box("x").click()
    assert v.tab.locator("g.box.bad").count() == 1
    assert "∞" in v.text('[aria-label="gradient of x: numbers"]')
    v.box("log").click()
    shown = v.text('[aria-label="value of log: numbers"]')
    assert "NaN" in shown and "-∞" in shown


def test_large_arrays_say_that_they_are_cut(visit):
    x = leaf(np.arange(40_000.0).reshape(200, 200), "x")
    y = leaf(np.ones((30, 20)), "y")
    v = visit(tg.sum(x) + tg.sum(y))
    v.box("x").click()
    assert "The first 16 × 16 of 200 × 200." in v.text("#panel")
    assert "The page does not hold the rest" in v.text("#panel")
    assert "Each cell is the mean of a block of about 3.1 × 3.1 elements" in v.text("#panel")
    v.box("y").click()
    assert "does not hold the rest" not in v.text("#panel")
    v.tab.get_by_role("button", name="Show 30 × 20").first.click()
    assert np.array_equal(table(v, "value of y"), np.ones((30, 20)))


def test_hostile_names_are_shown_and_not_run(visit):
    class Hostile(tg.nn.Module):
        def __init__(self):
            setattr(self, HOSTILE, tg.nn.Sequential(tg.nn.Linear(2, 2, rng=0), tg.nn.Tanh()))

        def forward(self, x):
            return getattr(self, HOSTILE)(x)

    model, x = Hostile(), leaf(np.ones((1, 2)), HOSTILE)
    with tg.inspection.record():
        y = model(x) * 2  # <script>alert("a source line")</script>
    other = "</math><script>alert(2)</script>"
    v = visit(tg.sum(y * leaf(1.0, other)), model)
    v.press("End")
    for _ in range(30):
        v.press("ArrowLeft")
        assert v.tab.locator("img").count() == 0
    for name in (HOSTILE, "multiply", other, f"{HOSTILE}.0.weight"):
        v.tab.locator("#search").fill(name)
        v.press("Enter")
        assert v.text("#panel h2") == name
    v.tab.locator("#search").fill("multiply")
    v.press("Enter")
    assert '# <script>alert("a source line")</script>' in v.text(".source code")
    v.tab.locator("#collapse").click()
    v.tab.wait_for_timeout(100)
    assert v.tab.locator("img, script:not([type]):not(:last-of-type)").count() == 0


def test_at_phone_width(visit):
    v = visit(*net(3, 4, 2), viewport={"width": 390, "height": 844}, has_touch=True)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    while v.tab.locator("#on[aria-disabled=false]").count():
        v.tab.locator("#on").tap()
        assert v.tab.evaluate(overflow) == 0
    v.tab.locator("g.box").first.tap()
    assert v.tab.evaluate(overflow) == 0
    assert v.tab.locator("#search").bounding_box()["width"] > 250
    heights = "[...document.querySelectorAll('#transport button')].map(b => b.offsetHeight)"
    assert min(v.tab.evaluate(heights)) >= 40, "fingers are wide"


def test_dark_and_light(visit):
    def brightness(v, element="body"):
        style = f"getComputedStyle(document.querySelector('{element}'))"
        colour = v.tab.evaluate(f"{style}.backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness(visit(small(), color_scheme="light")) > 700
    dark = visit(small(), color_scheme="dark")
    assert brightness(dark) < 150
    assert brightness(dark, "#panel") < 200


def test_motion(visit):
    moving = "getComputedStyle(document.querySelector('.card')).transitionDuration"
    assert visit(small()).tab.evaluate(moving) == "0s"
    lively = visit(small(), reduced_motion="no-preference")
    assert lively.tab.evaluate(moving).startswith("0.25s")


@pytest.mark.parametrize("what", ["a chain", "500 layers"])
def test_2000_nodes_open_in_two_seconds(what, visit, browser, tmp_path, capsys):
    loss, model = (chain(2000), None) if what == "a chain" else net(*[8] * 501)
    path = page(loss, tmp_path / "large.html", model)
    times = []
    for _ in range(3):  # the machine may be busy with other tests: the best of three counts
        begin = time.perf_counter()
        v = Visit(browser, path)
        v.tab.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        v.press("End", "ArrowLeft", "ArrowLeft")
        assert "Backward" in v.text("#words")
        steps = time.perf_counter() - begin
        v.close()
    with capsys.disabled():
        print(f"\n{what}: {path.stat().st_size / 1e6:.1f} MB, open in {min(times):.2f} s, "
              f"3 steps in {steps:.2f} s", end=" ")  # fmt: skip
    assert min(times) < 2


def test_a_graph_of_one_node(visit):
    v = visit(leaf(3.0, "x"))
    assert v.tab.locator("g.box").count() == 1
    v.press("End")
    assert "begins at x" in v.text("#words")
    v.box("x").click()
    assert v.text("#panel .scalar") == "3"


def test_empty_arrays_and_no_gradient(visit):
    x = leaf(np.ones((0, 3)), "x")
    v = visit(tg.sum(x * 2.0))
    v.press("End")
    v.box("x").click()
    assert "It has no elements." in v.text("#panel")


def test_a_link_stays_a_link_and_a_pipe_is_refused(tmp_path):
    loss = tg.exp(tg.tensor(1.0, requires_grad=True))
    target, link, pipe = tmp_path / "page.html", tmp_path / "link.html", tmp_path / "pipe"
    link.symlink_to(target)
    page(loss, link)
    assert link.is_symlink() and target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    os.mkfifo(pipe)
    with pytest.raises(ArgumentError, match="is no regular file"):
        page(loss, pipe)
