"""What every task promises."""

import equinox as eqx
import jax
import pytest

import gradflow as gf

SENTENCES = {"samples": 6, "length": 4, "vocabulary": 12, "width": 4, "neurons": 6}
TASKS = (
    gf.tasks.Cooccurrence(**SENTENCES),
    gf.tasks.Coupled(**SENTENCES),
    gf.tasks.Coupled(**SENTENCES, start="statistics", initialisation="theory"),
    gf.tasks.Deep(**SENTENCES, layers=2, heads=2),
    gf.tasks.Digits(samples=100),
    gf.tasks.Digits(samples=100, model="attention", hidden=4, heads=2),
    gf.tasks.NextToken(sequences=4, length=6, width=4, neurons=4),
    gf.tasks.DeepLinear(),
    gf.tasks.MatrixFactorisation(),
    gf.tasks.Separable(),
    gf.tasks.TeacherStudent(samples=5, test_samples=5),
    gf.tasks.Committee(),
)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_data_and_initial_parameters_have_keys_of_their_own(task):
    first, second = map(jax.random.key, (0, 1))
    one, other = task.build(first), task.build(second)
    mixed = task.build(first, second)
    assert eqx.tree_equal(mixed.data, other.data)
    assert not eqx.tree_equal(mixed.data, one.data)
    if task.kind == "coupled":  # it follows the words of its sentences alone
        assert mixed.params.readout == one.params.readout
    else:
        assert eqx.tree_equal(mixed.params, one.params)
    assert not eqx.tree_equal(mixed.params, other.params)
