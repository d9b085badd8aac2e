"""Derivatives that know nothing of the engine: differences and the complex step."""

import numpy as np


def contraction(f, cotangents, args):
    """Σ ⟨cotangent, output⟩ of a function of arrays that returns one array or a tuple."""
    outputs = f(*args)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum(np.sum(v * out) for v, out in zip(cotangents, outputs, strict=True))


def numeric_gradient(f, cotangents, args, index, step=1e-5):
    """Central differences of fourth order: error about step⁴ + 1e-16/step."""

    def at(change, place):
        moved = [np.array(a, copy=True) for a in args]
        moved[index][place] += change
        return contraction(f, cotangents, moved)

    gradient = np.zeros(args[index].shape)
    for place in np.ndindex(gradient.shape):
        near = at(step, place) - at(-step, place)
        far = at(2 * step, place) - at(-2 * step, place)
        gradient[place] = (8 * near - far) / (12 * step)
    return gradient


def complex_gradient(f, cotangents, args, index, step=1e-30):
    """The complex step, Im f(x + ih)/h: exact to rounding, for analytic functions."""
    gradient = np.zeros(args[index].shape)
    for place in np.ndindex(gradient.shape):
        moved = [np.array(a, copy=True) for a in args]
        moved[index] = moved[index].astype(complex)
        moved[index][place] += 1j * step
        gradient[place] = contraction(f, cotangents, moved).imag / step
    return gradient


def assert_close(actual, expected, tolerance):
    """Agreement relative to the largest entry: a sum is as exact as its largest term."""
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
