"""Recurrent layers: against their own cells, against differences, against plain NumPy loops."""

import copy
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab import nn
from tinygrad_stab.errors import ArgumentError, DtypeError, ShapeError

LAYERS = {
    "rnn": (nn.RNN, nn.RNNCell),
    "relu": (
        lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
        lambda *a, **k: nn.RNNCell(*a, nonlinearity="relu", **k),
    ),
    "lstm": (nn.LSTM, nn.LSTMCell),
    "gru": (nn.GRU, nn.GRUCell),
}
KINDS = st.sampled_from(list(LAYERS))
SIZES = st.integers(1, 4)
every_kind = pytest.mark.parametrize("kind", LAYERS)


def parts(state):
    """The arrays of a state: one, or an LSTM's two."""
    return [s.data for s in (state if isinstance(state, tuple) else (state,))]


def close(found, expected):
    for a, b in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


def states(kind, rng, *shape):
    """A state of random numbers."""
    h, c = (tg.tensor(rng.normal(size=shape), requires_grad=True) for _ in range(2))
    return (h, c) if kind == "lstm" else h


def each(state, function):
    """The state with a function applied to each of its parts."""
    return tuple(map(function, state)) if isinstance(state, tuple) else function(state)


def copied(source, target, suffix):
    """The target with the source's weights of one layer and direction."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    to = "_l0" if hasattr(target, "weight_ih_l0") else ""
    target.load_state_dict({n + to: getattr(source, n + suffix).data for n in names})
    return target


# --- one form of a run against another


@given(KINDS, SIZES, SIZES, SIZES, st.booleans())
def test_a_batch_first_layer_is_a_layer_of_the_transposed_input(kind, length, n, depth, both):
    make, rng = LAYERS[kind][0], np.random.default_rng(0)
    by_time, by_batch = (
        make(3, 2, num_layers=depth, bidirectional=both, batch_first=b, rng=0) for b in (0, 1)
    )
    x = rng.normal(size=(length, n, 3))
    first = states(kind, rng, depth * (1 + both), n, 2)
    output, last = by_time(x, first)
    transposed, same = by_batch(x.swapaxes(0, 1), first)
    np.testing.assert_array_equal(transposed.data.swapaxes(0, 1), output.data)
    close(same, last)


@given(KINDS, SIZES, SIZES, st.booleans(), st.booleans())
def test_one_sequence_is_a_batch_of_one(kind, length, depth, both, batch_first):
    rng = np.random.default_rng(0)
    layer = LAYERS[kind][0](
        3, 2, num_layers=depth, bidirectional=both, batch_first=batch_first, rng=0
    )
    x = rng.normal(size=(length, 3))
    first = states(kind, rng, depth * (1 + both), 2)
    output, last = layer(x, first)
    axis = 0 if batch_first else 1
    batched, same = layer(np.expand_dims(x, axis), each(first, lambda s: s[:, None]))
    close(output, batched.squeeze(axis))
    close(last, each(same, lambda s: s[:, 0]))


@every_kind
@pytest.mark.parametrize("given_state", [False, True])
def test_a_layer_is_its_cell_at_every_step(kind, given_state, rng):
    make, make_cell = LAYERS[kind]
    layer = make(3, 4, rng=0)
    cell = copied(layer, make_cell(3, 4), "_l0")
    x = rng.normal(size=(6, 2, 3))
    first = states(kind, rng, 1, 2, 4) if given_state else None
    output, last = layer(x, first)
    state = each(first, lambda s: s[0]) if given_state else None
    for t in range(6):
        state = cell(x[t], state)
        np.testing.assert_array_equal(output.data[t], parts(state)[0])
    close(each(last, lambda s: s[0]), state)


@every_kind
def test_two_directions_are_two_runs(kind, rng):
    make = LAYERS[kind][0]
    both = make(3, 4, bidirectional=True, rng=0)
    there = copied(both, make(3, 4), "_l0")
    back = copied(both, make(3, 4), "_l0_reverse")
    x = rng.normal(size=(5, 2, 3))
    output, last = both(x)
    (a, a_last), (b, b_last) = there(x), back(x[::-1])
    np.testing.assert_array_equal(output.data, np.concatenate([a.data, b.data[::-1]], axis=-1))
    for found, p, q in zip(parts(last), parts(a_last), parts(b_last), strict=True):
        np.testing.assert_array_equal(found, np.concatenate([p, q]))


@every_kind
def test_several_layers_are_single_ones_one_above_the_other(kind, rng):
    make = LAYERS[kind][0]
    deep = make(3, 4, num_layers=3, rng=0)
    x = rng.normal(size=(5, 2, 3))
    output, last = deep(x)
    ends = []
    for i in range(3):
        x, end = copied(deep, make(x.shape[-1], 4), f"_l{i}")(x)
        ends.append(parts(end))
    np.testing.assert_array_equal(output.data, x.data)
    for found, singles in zip(parts(last), zip(*ends, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(singles))


@every_kind
def test_a_tensor_gives_what_its_array_gives(kind, rng):
    layer, x = LAYERS[kind][0](3, 4, rng=0), rng.normal(size=(7, 2, 3))
    close(layer(tg.tensor(x, requires_grad=True))[0], layer(x)[0])


def test_a_state_passed_on_continues_the_sequence(rng):
    lstm, x = nn.LSTM(3, 4, num_layers=2, rng=0), rng.normal(size=(7, 2, 3))
    output, last = lstm(x)
    begun, middle = lstm(x[:4])
    rest, end = lstm(x[4:], middle)
    np.testing.assert_array_equal(np.concatenate([begun.data, rest.data]), output.data)
    close(end, last)


# --- gradients


@every_kind
@pytest.mark.parametrize("both", [False, True])
def test_gradients_of_a_layer_are_those_of_differences(kind, both, rng):
    layer = LAYERS[kind][0](2, 2, num_layers=1 if both else 2, bidirectional=both, rng=3)
    for name, weight in layer.named_parameters():
        if "bias" in name:
            weight.data += 0.5  # so that no rectifier is off for good
    first = each(states(kind, rng, 2, 2, 2), lambda s: s.data.copy())
    weight = rng.normal(size=(3, 2, 2 + 2 * both))

    def loss(x, *state):
        output, last = layer(x, state if kind == "lstm" else state[0])
        ends = last if kind == "lstm" else (last,)
        return (output * weight).sum() + sum(((i + 2) * e * e).sum() for i, e in enumerate(ends))

    x = rng.normal(size=(3, 2, 2))
    state = first if kind == "lstm" else (first,)
    tg.testing.check_gradients(loss, x, *state, parameters=layer.parameters())


@every_kind
def test_second_derivatives_of_a_cell_are_those_of_differences(kind, rng):
    cell = LAYERS[kind][1](2, 2, rng=1)

    def loss(x):
        state = cell(x)
        return (state[0] if kind == "lstm" else state).sum()

    x = rng.normal(size=(2, 2))
    if kind == "relu":  # its second derivative is zero
        tg.testing.check_gradients(loss, x)
    else:
        tg.testing.check_gradients(loss, x, order=2)


def test_gradient_through_time_is_a_product_of_jacobians(rng):
    rnn = nn.RNN(3, 4, rng=0)
    output, last = rnn(rng.normal(size=(6, 3)))
    (last * [[1.0, 2.0, 3.0, 4.0]]).sum().backward()
    g = np.array([1.0, 2.0, 3.0, 4.0])
    for h, before in zip(output.args[:0:-1], output.args[-2::-1], strict=True):
        np.testing.assert_allclose(h.grad, g, rtol=1e-13)
        g = rnn.weight_hh_l0.data.T @ ((1 - h.data**2) * g)
        np.testing.assert_allclose(before.grad, g, rtol=1e-13)


def test_an_open_forget_gate_keeps_the_gradient_of_the_memory():
    def reaching_the_first_step(bias):
        lstm = nn.LSTM(1, 8, rng=0)
        lstm.bias_ih_l0[8:16] = bias
        c = tg.tensor(np.zeros((1, 8)), requires_grad=True)
        lstm(np.ones((50, 1)), (np.zeros((1, 8)), c))[1][1].sum().backward()
        return np.linalg.norm(c.grad)

    assert reaching_the_first_step(0.0) < 1e-6 < 1e-1 < reaching_the_first_step(8.0)


def test_backward_through_a_long_tensor_takes_time_in_proportion():
    """Each step's slice passes its gradient on through halves, not through the whole."""
    x = tg.tensor(np.zeros((256, 1, 1)), requires_grad=True)
    output, _ = nn.RNN(1, 1, rng=0)(x)
    slices = [t for t in tg.graph(output) if t.op is not None and t.op.name == "getitem"]
    written = sum(t.args[0].size for t in slices if t.args[0].ndim == 3)
    assert written <= 2 * 256 * (np.log2(256) + 1)


def test_every_hidden_state_is_found_by_name():
    class Net(nn.Module):
        def __init__(self):
            self.memory = nn.RNN(2, 3, rng=0)

        def forward(self, x):
            return self.memory(x)[1].sum()

    net = Net()
    loss = net(np.ones((3, 2)))
    loss.backward()
    named = tg.inspection.intermediates(loss, net)
    hidden = [named[f"memory.tanh{mark}"] for mark in ("", "#2", "#3")]
    assert all(h.shape == (3,) and np.any(h.grad) for h in hidden)
    assert "memory.weight_hh_l0" in named


# --- weights


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_orthogonal_weights_have_an_orthogonal_block_a_gate(kind, gates):
    for make, suffixes in zip(LAYERS[kind], (["_l0", "_l0_reverse", "_l1"], [""]), strict=True):
        options = {"num_layers": 2, "bidirectional": True} if len(suffixes) > 1 else {}
        module = make(3, 5, rng=0, recurrent_init="orthogonal", **options)
        for suffix in suffixes:
            blocks = np.split(getattr(module, f"weight_hh{suffix}").data, gates)
            for block in blocks:
                np.testing.assert_allclose(block @ block.T, np.eye(5), atol=1e-14)
            assert len({block.tobytes() for block in blocks}) == gates
    assert np.abs(module.weight_ih.data).max() <= 1 / np.sqrt(5), "inputs stay uniform"


@every_kind
def test_weights_are_uniform_and_come_from_the_seed(kind):
    for make in LAYERS[kind]:
        a, b, c = (make(30, 25, rng=seed).state_dict() for seed in (1, np.random.default_rng(1), 2))
        for name, weight in a.items():
            np.testing.assert_array_equal(weight, b[name])
            assert not np.array_equal(weight, c[name])
            assert 0.15 < np.abs(weight).max() <= 0.2
        assert abs(a[next(iter(a))].std() - 0.2 / np.sqrt(3)) < 0.01


@every_kind
def test_without_bias_there_are_two_weights(kind):
    layer, cell = (make(3, 4, bias=False) for make in LAYERS[kind])
    assert [*layer.state_dict()] == ["weight_ih_l0", "weight_hh_l0"]
    assert [*cell.state_dict()] == ["weight_ih", "weight_hh"]
    assert not np.any(parts(layer(np.zeros((2, 3)))[1])) and not np.any(parts(cell(np.zeros(3))))


@every_kind
@pytest.mark.parametrize("x", [np.ones((4, 2, 3), np.float32), np.eye(3, dtype=int)[None]])
def test_float32_stays_float32(kind, x):
    make, make_cell = LAYERS[kind]
    layer = make(3, 4, num_layers=2, bidirectional=True, dropout=0.5, dtype=np.float32)
    output, last = layer(x)
    output.sum().backward()
    assert {output.dtype, *(p.dtype for p in parts(last))} == {np.dtype(np.float32)}
    assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
    assert {p.dtype for p in parts(make_cell(3, 4, dtype=np.float32)(x[0]))} == {output.dtype}


def test_a_copy_is_independent_and_equal(rng):
    rnn, x = nn.RNN(3, 4, num_layers=2, dropout=0.5, rng=0), rng.normal(size=(5, 3))
    twin = copy.deepcopy(rnn)
    close(rnn(x)[0], twin(x)[0])


# --- dropout


def test_dropout_acts_between_layers_in_training_only(rng):
    x = rng.normal(size=(5, 2, 3))
    rnn = nn.RNN(3, 400, num_layers=2, dropout=0.25, rng=0)
    plain = nn.RNN(3, 400, num_layers=2)
    plain.load_state_dict(rnn.state_dict())
    output, last = rnn(x)
    assert not np.allclose(output.data, plain(x)[0].data)
    np.testing.assert_array_equal(last.data[0], plain(x)[1].data[0], "below the first dropout")
    assert not np.any(output.data == 0), "none after the last layer"
    dropped = [t for t in tg.graph(output) if t.op is not None and t.op.name == "multiply"]
    masks = [t.args[1] for t in dropped]
    assert len(masks) == 5 and {*np.unique(masks)} == {0, 1 / 0.75}
    assert abs(np.mean([mask == 0 for mask in masks]) - 0.25) < 0.03
    close(rnn.eval()(x)[0], plain(x)[0])


def test_the_generator_of_the_dropout_is_found():
    rnn = nn.RNN(3, 4, num_layers=2, dropout=0.5, rng=0)
    ((name, generator),) = rnn.named_generators()
    assert name == "rng"
    state, x = generator.bit_generator.state, np.ones((5, 3))
    before, other = rnn(x)[0].data, rnn(x)[0].data
    generator.bit_generator.state = state
    np.testing.assert_array_equal(rnn(x)[0].data, before)
    assert not np.array_equal(other, before)


def test_dropout_of_a_single_layer_is_warned_of():
    with pytest.warns(UserWarning, match="dropout acts between layers, and there is one"):
        nn.LSTM(3, 4, dropout=0.5)


# --- errors


@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("shape", [(3,), (5, 2, 4), (5, 4), (2, 5, 2, 3), ()])
def test_an_input_of_a_wrong_shape_is_an_error_that_names_it(make, shape):
    with pytest.raises(ShapeError, match=rf"\(N, L, input_size\).*3 .*{re.escape(str(shape))}"):
        make(3, 4, batch_first=True)(np.ones(shape))


@pytest.mark.parametrize("make", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize("shape", [(5, 2, 3), (2, 4), (4,), ()])
def test_a_cell_names_the_shape_of_a_wrong_input(make, shape):
    with pytest.raises(ShapeError, match=rf"\(N, input_size\).*3 .*{re.escape(str(shape))}"):
        make(3, 4)(np.ones(shape))


@every_kind
@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 4), (1, 2, 1), (2, 2, 4), ()])
def test_a_state_that_would_broadcast_is_an_error(kind, shape, rng):
    make, make_cell = LAYERS[kind]
    wanted = re.escape(f"(5, 2, 3) the state h has shape (1, 2, 4); received {shape}")
    with pytest.raises(ShapeError, match=wanted):
        make(3, 4)(np.ones((5, 2, 3)), states(kind, rng, *shape))
    if shape != (2, 4):
        with pytest.raises(ShapeError, match=re.escape(f"shape (2, 4); received {shape}")):
            make_cell(3, 4)(np.ones((2, 3)), states(kind, rng, *shape))


def test_the_memory_of_an_lstm_is_checked_too():
    h = np.zeros((1, 2, 4))
    with pytest.raises(ShapeError, match=r"the state c has shape \(1, 2, 4\); received \(2, 4\)"):
        nn.LSTM(3, 4)(np.ones((5, 2, 3)), (h, h[0]))
    for wrong in (h, (h,), (h, h, h), 3):
        with pytest.raises(ArgumentError, match=r"the state is a pair \(h, c\); received"):
            nn.LSTM(3, 4)(np.ones((5, 2, 3)), wrong)


def test_what_is_no_number_is_an_error():
    with pytest.raises(DtypeError, match="numbers"):
        nn.GRU(3, 4)("abc")
    with pytest.raises(DtypeError, match="numbers"):
        nn.GRUCell(3, 4)(np.ones((2, 3)), "state")


@every_kind
def test_an_empty_sequence_is_an_error_and_an_empty_batch_is_not(kind):
    layer = LAYERS[kind][0](3, 4)
    with pytest.raises(ShapeError, match=r"at least one step; received \(0, 2, 3\)"):
        layer(np.ones((0, 2, 3)))
    assert layer(np.ones((5, 0, 3)))[0].shape == (5, 0, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_size": 0},
        {"hidden_size": 0},
        {"hidden_size": -1},
        {"hidden_size": 2.5},
        {"hidden_size": True},
        {"input_size": "3"},
        {"num_layers": 0},
        {"dropout": -0.1},
        {"dropout": 1.5},
        {"dropout": float("nan")},
        {"nonlinearity": "sigmoid"},
        {"nonlinearity": True},
        {"recurrent_init": "identity"},
        {"recurrent_init": None},
    ],
)
def test_an_argument_outside_its_range_is_an_error_that_names_it(wrong):
    sizes = {"input_size": 3, "hidden_size": 4}
    (name, value) = next(iter(wrong.items()))
    makers = [nn.RNN, nn.RNNCell, nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell]
    takers = {"nonlinearity": makers[:2], "num_layers": makers[::2], "dropout": makers[::2]}
    for make in takers.get(name, makers):
        pattern = rf"^{make.__name__}: {name} is .*received .*{re.escape(repr(value))}"
        with pytest.raises(ArgumentError, match=pattern):
            make(**sizes | wrong)


def test_repr_shows_sizes_and_what_is_not_default():
    assert repr(nn.GRUCell(3, 4)) == "GRUCell(input_size=3, hidden_size=4)"
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    assert repr(lstm) == "LSTM(input_size=3, hidden_size=4, num_layers=2, batch_first=True)"


# --- learning


@every_kind
def test_a_character_model_learns_a_text_by_heart(kind):
    """What follows a letter depends on those before it: "a" is followed by "b", "c" and "d"."""
    text = "abacad" * 6
    letters = sorted(set(text))
    codes = np.array([letters.index(c) for c in text])
    onehot = np.eye(len(letters))[codes]
    rng = np.random.default_rng(0)
    layer = LAYERS[kind][0](len(letters), 12, rng=rng, recurrent_init="orthogonal")
    head = nn.Linear(12, len(letters), rng=rng)
    parameters = [*layer.parameters(), *head.parameters()]
    sgd = tg.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for _ in range(100):
        sgd.zero_grad()
        logits = head(layer(onehot[:-1])[0])
        nn.functional.cross_entropy(logits, codes[1:]).backward()
        tg.optim.clip_grad_norm_(parameters, 1.0)
        sgd.step()
    predicted = head(layer(onehot[:-1])[0]).data.argmax(axis=1)
    assert np.array_equal(predicted[6:], codes[7:])
