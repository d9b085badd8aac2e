"""Formulas in three notations, and the formula of each term of a backward pass."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.inspection import formula, formulas, term_formula, trace

RULES = [
    pytest.param(p, case, id=f"{p.name}-{i}")
    for p in tg.REGISTRY.values()
    if p.rules
    for i, case in enumerate(p.cases)
]
SPACE = "{http://www.w3.org/1998/Math/MathML}"
# What MathML Core has of presentation, and the notation uses.
ELEMENTS = "math mrow mfrac msup msub msqrt mroot mi mo mn mtext mtable mtr mtd"
CHILDREN = {"mfrac": 2, "msup": 2, "msub": 2, "mroot": 2}


def well_formed_latex(text):
    r"""Braces balance; every \left has its \right; no sign that LaTeX does not know."""
    depth = 0
    for brace in re.sub(r"\\[{}]", "", text):
        depth += (brace == "{") - (brace == "}")
        assert depth >= 0, text
    assert depth == 0, text
    assert len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text)), text
    assert text.isascii(), text
    assert not re.search(r"(?<!\\)[#$%]|\w_\w", text.replace(r"\_", "")), text
    assert not re.search(r"\^\{[^{}]*\}\^|_\{[^{}]*\}_", text), f"double script: {text}"
    return text


def well_formed_mathml(text):
    root = ET.fromstring(text)
    assert root.tag == f"{SPACE}math" and root.get("display") == "block"
    for element in root.iter():
        tag = element.tag.removeprefix(SPACE)
        assert tag in ELEMENTS.split(), tag
        assert len(element) == CHILDREN.get(tag, len(element)), text
        assert len(element) == 0 or not element.text, "text stands in leaves only"
    return text


def inside(mathml):
    return re.fullmatch(r"<math [^>]*>(.*)</math>", well_formed_mathml(mathml))[1]


@pytest.mark.parametrize(("primitive", "case"), RULES)
@pytest.mark.parametrize("style", ["text", "latex", "mathml"])
def test_every_rule_can_be_written(primitive, case, style):
    written = formulas(primitive, case, style=style)
    assert list(written) == list(formulas(primitive, case))
    for text in written.values():
        assert "object at" not in text and "Symbol" not in text and "<class" not in text
        if style == "latex":
            well_formed_latex(text)
        if style == "mathml":
            well_formed_mathml(text)


def test_an_unknown_style_is_refused():
    with pytest.raises(tg.errors.ArgumentError, match="style is text, latex, mathml"):
        formula(tg.Symbol("a", 1.0), style="html")


# Precedence: what is written means what was computed.


def expressions(names):
    """Random arithmetic on symbols, and on numbers."""
    numbers = st.sampled_from([2, 3, -2, 0.5, -1.5])
    return st.recursive(
        st.sampled_from(names) | numbers,
        lambda part: (
            st.tuples(st.just("neg"), part)
            | st.tuples(st.sampled_from(["+", "-", "*", "/"]), part, part)
            | st.tuples(st.just("**"), part, st.sampled_from([2, 3, -1, ("neg", 2)]))
            | st.tuples(st.just("**"), st.sampled_from(names), part)
        ),
        max_leaves=12,
    )


def built(expression, values):
    """What an expression is, with these values for its names."""
    if not isinstance(expression, tuple):
        return values.get(expression, expression)
    sign, *parts = expression
    a, *b = [built(part, values) for part in parts]
    if sign == "neg":
        return -a
    (b,) = b
    return {
        "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b,
        "**": lambda: a**b,
    }[sign]()  # fmt: skip


VALUES = {"a": 1.25, "b": 0.75, "c": 1.5}
SIGNS = str.maketrans({"·": "*", "−": "-", "^": "**", "=": "==", "≠": "!=", "≥": ">="})


def python(text):
    return text.translate(SIGNS)


def computed(text, values):
    """A formula read as Python, on NumPy's numbers (which know an infinity)."""
    return eval(python(text), {}, {name: np.float64(value) for name, value in values.items()})


def largest(expression, values):
    """The largest number on the way: what the errors of differences are to be measured by."""
    own = abs(built(expression, values))
    parts = expression[1:] if isinstance(expression, tuple) else ()
    return max([own, *(largest(part, values) for part in parts)])


@pytest.mark.parametrize("style", ["text", "latex", "mathml"])
@given(expression=expressions(list(VALUES)))
def test_what_is_written_means_what_was_computed(style, expression):
    """Translated back to Python, a formula has the value of its symbol."""
    symbols = {name: tg.Symbol(name, value) for name, value in VALUES.items()}
    numbers = {name: np.float64(value) for name, value in VALUES.items()}
    with np.errstate(all="ignore"):
        try:
            symbol, size = built(expression, symbols), largest(expression, numbers)
        except ArithmeticError:  # of Python's own numbers
            assume(False)
        assume(isinstance(symbol, tg.Symbol) and size < 1e50)
        text = formula(symbol, style=style)
        value = computed({"text": str, "latex": of_latex, "mathml": of_mathml}[style](text), VALUES)
    np.testing.assert_allclose(value, symbol.value, rtol=1e-9, atol=1e-9 * size, err_msg=text)


def of_latex(text):
    """LaTeX of arithmetic as Python: braces are parentheses that nobody sees."""
    well_formed_latex(text)
    assert not re.search(r"--|\\cdot -|[+-] -", text), f"two signs in a row: {text}"
    assert "}^" not in text, f"a fraction or a power to a power: {text}"
    # Innermost braces first, so that what a fraction or an exponent holds has none left.
    text = text.replace(r"\left", "").replace(r"\right", "").replace(r"\cdot", "·")
    while "{" in text:
        shorter = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
        shorter = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", shorter)
        assert shorter != text, text
        text = shorter
    return text


def of_mathml(text):
    def read(element):
        parts = [read(child) for child in element]
        tag = element.tag.removeprefix(SPACE)
        if tag in ("mfrac", "msup"):
            return f"(({parts[0]}){'/' if tag == 'mfrac' else '^'}({parts[1]}))"
        return "".join(parts) if parts else element.text

    root = ET.fromstring(text)
    for power in root.iter(f"{SPACE}msup"):  # parentheses that are seen, not only rows
        base = "".join(power[0].itertext())
        assert re.fullmatch(r"\w|[\d.]+|\(.*\)", base), text
    return read(root)


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda a, b: np.array(-2.0) ** a, "(-2)^a"),
        (lambda a, b: np.float64(-2.0) * a, "(-2.0)·a"),
        (lambda a, b: (a < b) < b, "(a < b) < b"),
        (lambda a, b: a * (b / 2) ** 2, "a·(b / 2)^2"),
    ],
)
def test_numbers_and_comparisons_keep_their_meaning(f, text):
    assert formula(f(tg.Symbol("a", 1.0), tg.Symbol("b", 2.0))) == text


def test_only_exchanged_axes_are_a_transpose():
    a = tg.Symbol("A", np.ones((2, 2)))
    assert formula(np.transpose(a)) == formula(np.swapaxes(a, 0, -1)) == "Aᵀ"
    assert formula(np.transpose(a, (-1, 0))) == "Aᵀ"
    assert formula(np.transpose(a, (0, 1))) == "transpose(A, axes=(0, 1))"
    assert formula(np.swapaxes(a, 0, -2)) == "swapaxes(A, axis1=0, axis2=-2)"


def test_long_parameters_are_cut_between_elements():
    a = tg.Symbol("a", np.ones(10))
    assert formula(tg.scatter(a, [0, 1] * 5, (3,))) == (
        "scatter(a, index=[0, 1, 0, 1, 0, 1, 0, 1, …], shape=(3,))"
    )
    assert formula(a[:, None, ...]) == "a[:, None, …]"
    assert formula(a[[0, 0]]) == "a[[0, 0]]", "not a[0]"
    assert formula(a[np.zeros(9, int)]) == "a[table(9,)]"


# How typical formulas look.

G = r"\frac{\partial L}{\partial \mathrm{out}}"
G_XML = (
    "<mfrac><mrow><mi>∂</mi><mi>L</mi></mrow><mrow><mi>∂</mi><mi>out</mi></mrow></mfrac>"
)  # fmt: skip
OPEN, CLOSE = '<mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo>'


@pytest.mark.parametrize(
    ("name", "argument", "latex"),
    [
        ("tanh", "x", rf"(1 - \mathrm{{out}} \cdot \mathrm{{out}}) \cdot {G}"),
        ("sigmoid", "x", rf"(1 - \mathrm{{out}}) \cdot \mathrm{{out}} \cdot {G}"),
        ("softplus", "x", rf"{G} \cdot \sigma(x)"),
        ("divide", "y", rf"\frac{{-{G} \cdot \mathrm{{out}}}}{{y}}"),
        ("matmul", "x", rf"{G} \, y^{{\top}}"),
        ("matmul", "y", rf"x^{{\top}} \, {G}"),
        ("linear", "weight", rf"\left({G}\right)^{{\top}} \, x"),
        ("linear", "bias", rf"\operatorname{{ones}}(5,) \, {G}"),
        (
            "softmax", "x",
            rf"\mathrm{{out}} \cdot \left({G} - \operatorname{{sum}}\left({G} \cdot \mathrm{{out}}"
            r", \mathrm{axis}=-1, \mathrm{keepdims}=\mathrm{True}\right)\right)",
        ),
        ("softmax_cross_entropy", "target",
         rf"\operatorname{{expand\_dims}}\left({G}, \mathrm{{axis}}=-1\right)"
         r" \cdot (-\operatorname{log\_softmax}(\mathrm{logits}))"),
        ("arcsinh", "x", rf"\frac{{{G}}}{{\sqrt{{1 + x \cdot x}}}}"),
        ("remainder", "y", rf"-{G} \cdot \left\lfloor \frac{{x}}{{y}} \right\rfloor"),
        ("sin", "x", rf"{G} \cdot \cos(x)"),
        ("scatter", "x", rf"\left({G}\right)_{{1}}"),
        ("concatenate", "arrays[0]", rf"\left({G}\right)_{{\mathrm{{0:2}}, \mathrm{{:}}}}"),
    ],
)  # fmt: skip
def test_latex_as_people_write_it(name, argument, latex):
    assert well_formed_latex(formulas(tg.REGISTRY[name], style="latex")[argument]) == latex


@pytest.mark.parametrize(
    ("name", "argument", "mathml"),
    [
        ("tanh", "x",
         f"<mrow>{OPEN}<mn>1</mn><mo>−</mo><mi>out</mi><mo>·</mo><mi>out</mi>{CLOSE}</mrow>"
         f"<mo>·</mo>{G_XML}"),
        ("divide", "x", f"<mfrac><mrow>{G_XML}</mrow><mi>y</mi></mfrac>"),
        ("matmul", "x",
         f'{G_XML}<mo rspace="0.3em">&#x2062;</mo><msup><mi>y</mi><mo>⊤</mo></msup>'),
        ("softplus", "x",
         f"{G_XML}<mo>·</mo><mi>σ</mi><mo>&#x2061;</mo><mrow>{OPEN}<mi>x</mi>{CLOSE}</mrow>"),
        ("relu", "x",
         f"{G_XML}<mo>·</mo><mrow>{OPEN}<mi>x</mi><mo>&gt;</mo><mn>0</mn>{CLOSE}</mrow>"),
        ("negative", "x", f'<mo form="prefix">−</mo>{G_XML}'),
        ("scatter", "x",
         f"<msub><mrow><mrow><mo>(</mo>{G_XML}<mo>)</mo></mrow></mrow><mn>1</mn></msub>"),
    ],
)  # fmt: skip
def test_mathml_as_browsers_show_it(name, argument, mathml):
    assert inside(formulas(tg.REGISTRY[name], style="mathml")[argument]) == mathml


SQUARE = tg.Symbol("A", np.array([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    ("f", "latex"),
    [
        (lambda a, b: a**-b, "a^{-b}"),
        (lambda a, b: (-a) ** 2, "(-a)^{2}"),
        (lambda a, b: (a / b) ** 2, r"\left(\frac{a}{b}\right)^{2}"),
        (lambda a, b: (a**b) ** 2, "(a^{b})^{2}"),
        (lambda a, b: (a / b) * b, r"\frac{a}{b} \cdot b"),
        (lambda a, b: a * b / (a + b), r"\frac{a \cdot b}{a + b}"),
        (lambda a, b: a - -b, "a - (-b)"),
        (lambda a, b: -(a - b) - -a, "-(a - b) - (-a)"),
        (lambda a, b: -a.__neg__(), "-(-a)"),
        (lambda a, b: a * -2, r"a \cdot (-2)"),
        (lambda a, b: abs(a - b), r"\left|a - b\right|"),
        (lambda a, b: np.where(a != b, a, -2), r"\operatorname{where}(a \ne b, a, -2)"),
        (lambda a, b: a * 2e-05, r"a \cdot 2 \times 10^{-5}"),
        (lambda a, b: a * np.pi + np.inf, r"a \cdot \pi + \infty"),
        (lambda a, b: a % b, r"a \bmod b"),
        (lambda a, b: SQUARE @ (2.0 * SQUARE), r"A \, (2.0 \cdot A)"),
        (lambda a, b: SQUARE.T[0] ** 2, "(A^{\\top})_{0}^{2}"),
        (lambda a, b: SQUARE[0][..., 1], r"(A_{0})_{\ldots, 1}"),
        (lambda a, b: a * np.array([[0.0, 1.0], [2.0, 3.0]]),
         r"a \cdot \begin{bmatrix} 0 & 1 \\ 2 & 3 \end{bmatrix}"),
        (lambda a, b: a * np.array([True, False]),
         r"a \cdot [\mathrm{True}, \mathrm{False}]"),
        (lambda a, b: a * np.arange(8.0).reshape(2, 2, 2),
         r"a \cdot \left[\begin{bmatrix} 0 & 1 \\ 2 & 3 \end{bmatrix}, "
         r"\begin{bmatrix} 4 & 5 \\ 6 & 7 \end{bmatrix}\right]"),
        (lambda a, b: np.cbrt(a), r"\sqrt[3]{a}"),
    ],
)  # fmt: skip
def test_parentheses_and_numbers_of_latex(f, latex):
    symbol = f(tg.Symbol("a", 1.0), tg.Symbol("b", 2.0))
    assert well_formed_latex(formula(symbol, style="latex")) == latex
    well_formed_mathml(formula(symbol, style="mathml"))


@pytest.mark.parametrize(
    ("name", "latex", "mathml"),
    [
        ("x", "x", "<mi>x</mi>"),
        ("alpha", r"\alpha", "<mi>α</mi>"),
        ("δ", r"\delta", "<mi>δ</mi>"),
        ("blocks.3.linear", r"\mathrm{blocks.3.linear}", "<mi>blocks.3.linear</mi>"),
        ("mean_absolute", r"\mathrm{mean\_absolute}", "<mi>mean_absolute</mi>"),
        ("tanh#2", r"\mathrm{tanh\#2}", "<mi>tanh#2</mi>"),
        ("array 0", r"\mathrm{array\ 0}", "<mi>array 0</mi>"),
        ("a-b", r"\mathrm{a{-}b}", "<mi>a-b</mi>"),
        (r"\input{x}", r"\mathrm{{\backslash}input{\lbrace}x{\rbrace}}", r"<mi>\input{x}</mi>"),
        ("50%~^$&", r"\mathrm{50\%{\sim}{\wedge}\$\&}", "<mi>50%~^$&amp;</mi>"),
        ("<img onerror='x'>", r"\mathrm{{<}img\ onerror={\prime}x{\prime}{>}}",
         "<mi>&lt;img onerror=&#x27;x&#x27;&gt;</mi>"),
        ("a\n\x00b", r"\mathrm{a\ \ b}", "<mi>a  b</mi>"),
    ],
)  # fmt: skip
def test_a_name_is_one_identifier(name, latex, mathml):
    symbol = tg.Symbol(name, 1.0)
    assert formula(symbol) == name
    assert well_formed_latex(formula(symbol, style="latex")) == latex
    assert inside(formula(symbol, style="mathml")) == mathml
    gradient = tg.Symbol(f"∂L/∂{name}", 1.0)
    assert formula(gradient, style="latex") == rf"\frac{{\partial L}}{{\partial {latex}}}"
    assert mathml in inside(formula(gradient, style="mathml"))


@given(st.text())
def test_any_name_is_well_formed(name):
    symbol = tg.Symbol(name, 1.0) ** 2
    root = ET.fromstring(formula(symbol, style="mathml"))
    assert {element.tag.removeprefix(SPACE) for element in root.iter()} <= {
        "math", "msup", "mi", "mn", "mrow", "mfrac", "mo",
    }  # fmt: skip
    latex = formula(symbol, style="latex")
    assert latex.count("{") == latex.count("}") and "<" not in latex.replace("{<}", "")


def test_a_primitive_of_any_name_is_well_formed():
    odd = tg.primitive("<odd>_op", np.negative, lambda g, out, x: tg.REGISTRY["<odd>_op"](g))
    try:
        assert formulas(odd) == {"x": "<odd>_op(∂L/∂out)"}
        well_formed_latex(formulas(odd, style="latex")["x"])
        assert "&lt;odd&gt;_op" in well_formed_mathml(formulas(odd, style="mathml")["x"])
    finally:
        del tg.REGISTRY["<odd>_op"]


# The formula of one term.


def terms(whole, **options):
    return [
        term_formula(whole, step, term, **options) for step in whole.steps for term in step.terms
    ]


def network():
    rng = np.random.default_rng(0)
    net = tg.nn.Sequential(tg.nn.Linear(3, 2, rng=rng), tg.nn.Tanh(), tg.nn.Linear(2, 1, rng=rng))
    loss = tg.nn.MSELoss()(net(rng.normal(size=(4, 3))), np.zeros((4, 1)))
    return trace(loss, net)


def test_the_terms_of_a_network_by_name():
    written = terms(network())
    assert "∂L/∂0.linear = (1 − 1.tanh·1.tanh)·∂L/∂1.tanh" in written
    assert "∂L/∂1.tanh = ∂L/∂2.linear @ 2.weight" in written
    assert "∂L/∂0.weight = ∂L/∂0.linearᵀ @ x" in written, "a constant goes by the operation's word"
    assert written.count("∂L/∂subtract += ∂L/∂multiply·subtract") == 2


def test_the_terms_of_a_network_in_other_notations():
    latex = [well_formed_latex(text) for text in terms(network(), style="latex")]
    assert (
        r"\frac{\partial L}{\partial \mathrm{0.linear}} = "
        r"(1 - \mathrm{1.tanh} \cdot \mathrm{1.tanh}) \cdot "
        r"\frac{\partial L}{\partial \mathrm{1.tanh}}"
    ) in latex
    assert any(
        text.startswith(r"\frac{\partial L}{\partial \mathrm{subtract}} \mathrel{+}= ")
        for text in latex
    )
    for text in terms(network(), style="mathml"):
        well_formed_mathml(text)
    assert any("<mo>+=</mo>" in text for text in terms(network(), style="mathml"))


def test_numbers_can_be_multiplied_out():
    x = tg.tensor(0.5, requires_grad=True, name="x")
    w = tg.tensor(-1234567.0, requires_grad=True, name="w")
    whole = trace(tg.tanh(x) * w)
    assert terms(whole, numbers=True) == [
        "∂L/∂tanh = 1·(-1.235e+06)",
        "∂L/∂w = 1·0.4621",
        "∂L/∂x = (1 − 0.4621·0.4621)·(-1.235e+06)",
    ]
    latex = terms(whole, style="latex", numbers=True)
    assert latex[0] == r"\frac{\partial L}{\partial \mathrm{tanh}} = 1 \cdot (-1.235 \times 10^{6})"


def test_short_arrays_are_numbers_and_long_ones_names():
    x = tg.tensor([[1.0, 2.0]], requires_grad=True, name="x")
    w = tg.tensor(np.full((2, 5), 0.12345), requires_grad=True, name="w")
    whole = trace(np.sum(x @ w))
    assert terms(whole, numbers=True) == [
        "∂L/∂matmul = broadcast_to(1, shape=(1, 5))",
        "∂L/∂x = ∂L/∂matmul @ wᵀ",
        "∂L/∂w = [[1, 2]]ᵀ @ ∂L/∂matmul",
    ]
    assert r"\begin{bmatrix} 1 & 2 \end{bmatrix}^{\top}" in terms(
        whole, style="latex", numbers=True
    )[2]  # fmt: skip


def test_the_sum_over_repeated_axes_is_written_out():
    b = tg.tensor(np.ones((3, 1)), requires_grad=True, name="b")
    whole = trace(np.sum(b + np.zeros((2, 3, 4))))
    assert terms(whole)[-1] == "∂L/∂b = sum(sum(∂L/∂add, axis=0), axis=1, keepdims=True)"
    scalar = tg.tensor(1.0, requires_grad=True, name="s")
    whole = trace(np.sum(scalar * np.ones((2, 3))))
    assert terms(whole)[-1] == "∂L/∂s = sum(∂L/∂multiply·y, axis=(0, 1))"


def test_a_constant_is_not_mistaken_for_a_node():
    x = tg.tensor(2.0, requires_grad=True, name="x")
    five = np.array(5.0)
    assert terms(trace(tg.multiply(five, x))) == ["∂L/∂x = ∂L/∂multiply·multiply.x"]
    assert terms(trace(tg.multiply(five, x)), numbers=True) == ["∂L/∂x = 1·5"]
    assert terms(trace(tg.multiply(5.0, x))) == ["∂L/∂x = ∂L/∂multiply·5.0"]
    assert terms(trace(x**2)) == ["∂L/∂x = ∂L/∂power·2·x^1"]


def test_what_was_left_out_and_what_is_shared():
    x = tg.tensor(np.ones(3), requires_grad=True, name="x")
    w = tg.tensor(np.ones((2, 3)), requires_grad=True, name="w")
    assert terms(trace(np.sum(tg.linear(x, w))))[1:] == [
        "∂L/∂x = ∂L/∂linear @ w",
        "∂L/∂w = reshape(∂L/∂linear, shape=(1, 2))ᵀ @ reshape(x, shape=(1, 3))",
    ]
    stacked = terms(trace(np.sum(np.stack([x, np.zeros(3), x]))))
    assert stacked[1:] == ["∂L/∂x += ∂L/∂stack[0, :]", "∂L/∂x += ∂L/∂stack[2, :]"]


@given(expressions(["a", "b", "c"]))
def test_a_terms_formula_gives_its_contribution(expression):
    """Read as Python, with the values of the run, a formula is the number that was passed on."""
    leaves = {name: tg.tensor(v, requires_grad=True, name=name) for name, v in VALUES.items()}
    with np.errstate(all="ignore"):
        try:
            loss = built(expression, leaves)
        except (ArithmeticError, TypeError, tg.errors.StabError):
            assume(False)
        assume(isinstance(loss, tg.Tensor) and loss.op is not None)
        whole = trace(loss)
        for step in whole.steps:
            node = whole.nodes[step.node]
            values = {n.name: n.value for n in whole.nodes}
            values |= {arg.name: arg.value for arg in node.arguments if arg.node is None}
            values[f"∂L/∂{node.name}"] = step.upstream
            for term in step.terms:
                _, _, right = term_formula(whole, step, term).partition("= ")
                # Longest first: a name may be part of another.
                places = {name: f"v{i}" for i, name in enumerate(values)}
                for name in sorted(values, key=len, reverse=True):
                    right = right.replace(name, f" {places[name]} ")
                known = {places[n]: v for n, v in values.items()}
                found = eval(python(right).strip(), {"where": np.where, "log": np.log}, known)
                np.testing.assert_allclose(found, term.contribution, rtol=1e-12)
