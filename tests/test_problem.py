"""Problems: what is trained, what is kept, and what is refused by name."""

import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf


class Net(eqx.Module):
    weight: jax.Array
    steps: jax.Array
    name: str = eqx.field(static=True)
    activation: object

    def __call__(self, x):
        return self.activation(self.weight @ x) * self.steps


def mean_square(model, data):
    inputs, targets = data
    return jnp.mean((jax.vmap(model)(inputs) - targets) ** 2)


def test_a_module_is_partitioned_and_put_together_again():
    net = Net(jnp.ones((2, 3)), jnp.asarray(2), "mine", jnp.tanh)
    data = np.ones((5, 3)), np.zeros((5, 2))
    problem = gf.Problem(
        lambda m, d: mean_square(eqx.tree_at(lambda n: n.steps, m, 2.0), d), net, data
    )
    assert problem.size == 6
    flow = gf.solve(problem, t1=1.0, rtol=1e-3)
    assert isinstance(flow.final_params, Net)
    assert flow.final_params.steps == 2
    assert flow.final_params.name == "mine"
    assert flow.final_params.activation is jnp.tanh
    assert not np.allclose(flow.final_params.weight, 1.0)
    np.testing.assert_array_equal(net.weight, 1.0)  # the user's own arrays are left alone


def test_modules_inside_containers():
    params = {"net": eqx.nn.Linear(3, 2, key=jax.random.key(0)), "scale": 1.5, "shift": np.ones(2)}

    def loss(p, data):
        return jnp.sum((p["scale"] * p["net"](data) + p["shift"]) ** 2)

    flow = gf.solve(gf.Problem(loss, params, jnp.ones(3)), t1=1.0)
    assert flow["loss"][-1] < flow["loss"][0]
    assert isinstance(flow.final_params["net"], eqx.nn.Linear)
    assert set(flow.final_params) == set(params)


def test_scalars_are_typed_as_the_run_types_them():
    """A weakly typed parameter would have the whole loop compiled twice."""
    weak = jnp.asarray(1.5)
    assert weak.weak_type
    problem = gf.Problem(lambda p, d: p["a"] ** 2 + p["b"] ** 2, {"a": weak, "b": 0.5})
    assert [leaf.weak_type for leaf in jax.tree.leaves(problem.params)] == [False, False]
    assert problem.dtype == weak.dtype


def test_sample_loss_is_averaged():
    def losses(p, data):
        return (p - data) ** 2

    data = jnp.arange(4.0)
    one = gf.Problem(sample_loss=losses, params=jnp.asarray(0.5), data=data)
    other = gf.Problem(lambda p, d: jnp.mean(losses(p, d)), jnp.asarray(0.5), data)
    assert one.loss(one.params, one.data) == other.loss(other.params, other.data)


def test_any_vector_field():
    """No loss at all: a rotation, whose norm is conserved; and a stop rule it cannot have."""
    problem = gf.Problem(
        vector_field=lambda t, p, data: {"x": -data * p["y"], "y": data * p["x"]},
        params={"x": jnp.asarray(1.0), "y": jnp.asarray(0.0)},
        data=jnp.asarray(2.0),
    )
    flow = gf.solve(problem, t1=1.0, rtol=1e-8)
    np.testing.assert_allclose(flow.final_params["x"], np.cos(2.0), rtol=1e-7)
    np.testing.assert_allclose(flow.final_params["y"], np.sin(2.0), rtol=1e-7)
    assert set(flow) == {"distance"}
    with pytest.raises(TypeError, match=r"stop\.loss needs a loss"):
        gf.solve(problem, t1=1.0, stop=gf.Stop(loss=0.1))
    with pytest.raises(TypeError, match="vector field and has no loss"):
        problem.loss(problem.params, problem.data)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"params": 1.0}, "exactly one of loss, sample_loss and vector_field; got 0"),
        ({"loss": sum, "sample_loss": sum, "params": 1.0}, "got 2"),
        ({"loss": 3, "params": 1.0}, "must be a function"),
        ({"loss": lambda p, d: p, "params": None}, "nothing to train"),
        (
            {"loss": lambda p, d: p["a"], "params": {"a": 1.0, "b": 3}},
            r"params\['b'\] is 3 \(int\)",
        ),
        (
            {"loss": lambda p, d: 0.0, "params": {"a": np.arange(3)}},
            r"params\['a'\] is an array of dtype int64; a parameter must be a float array",
        ),
        (
            {"loss": lambda p, d: 0.0, "params": {"a": jnp.ones(2), "b": jnp.ones(2, jnp.float32)}},
            r"one dtype: params\['a'\] is float64 but params\['b'\] is float32",
        ),
        ({"loss": lambda p, d: 0.0, "params": jnp.ones(2, jnp.float16)}, "float16; allowed are"),
        ({"loss": lambda p, d: 0.0, "params": jnp.ones(2, complex)}, "complex128; allowed are"),
        (
            {"loss": lambda p, d: p**2, "params": jnp.ones(3)},
            r"real scalar, shape \(\), got shape \(3,\) of float64; pass it as sample_loss=",
        ),
        ({"loss": lambda p, d: (p, p), "params": 1.0}, "loss must return a real scalar"),
        ({"loss": lambda p, d: jnp.asarray(1), "params": 1.0}, "of int64"),
        ({"sample_loss": lambda p, d: p, "params": 1.0}, r"shape \(n,\), got shape \(\)"),
        (
            {"vector_field": lambda t, p, d: {"y": p["x"]}, "params": {"x": 1.0}},
            "structure and shapes of the parameters",
        ),
        ({"vector_field": lambda t, p, d: p[:2], "params": jnp.ones(3)}, "structure and shapes"),
    ],
)
def test_mistakes_are_named(arguments, error):
    with pytest.raises(TypeError, match=error):
        gf.Problem(**arguments)


def test_errors_in_the_loss_are_the_users_own():
    def loss(params, data):
        return data["wrong"]

    with pytest.raises(KeyError, match="wrong"):
        gf.Problem(loss, 1.0, {"right": 1.0})


def test_a_run_lets_go_of_its_data():
    """Also where it is followed by a shadow, and beside descents."""
    data = jnp.arange(3.0)
    seen = weakref.ref(data)
    problem = gf.Problem(lambda w, d: jnp.sum((w - d) ** 2) / 2, jnp.ones(3), data)
    assert problem.data is data
    gf.solve(problem, t1=0.1, certify=True, save=gf.Linear(count=3))
    gf.compare(
        problem, [0.05], t1=0.1, save=gf.Linear(count=3),
        modified=lambda rate: gf.fields.Modified(learning_rate=rate),
    )  # fmt: skip
    gf.polish(problem)
    with pytest.raises(AttributeError):
        problem.bare().params = 5
    del problem, data
    gc.collect()
    assert seen() is None
