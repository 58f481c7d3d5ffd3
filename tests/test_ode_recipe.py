"""The benchmark of MLPGradientFlow.jl's recipe, on a problem whose end is known."""

from dataclasses import replace

from benchmarks import ode_recipe


def test_contestants_are_as_accurate_as_the_peer(monkeypatch):
    case = replace(ode_recipe.PROBLEMS["linear2"], t1=0.3)
    monkeypatch.setitem(ode_recipe.PROBLEMS, "ode", case)
    peer, ours = ode_recipe.contestants("ode", 0, ["tsit5"], None)
    assert 0 < ours.error <= peer.error < 1e-3
    solution = peer.run()
    assert peer.gradients == 1 + 6 * (
        int(solution.stats["num_accepted_steps"]) + int(solution.stats["num_rejected_steps"])
    )
    _, tighter = ode_recipe.contestants("ode", 0, ["tsit5"], 0.99 * ours.error)
    assert tighter.rtol < ours.rtol
    took = ode_recipe.seconds((peer, ours), 2)
    assert [len(times) for times in took] == [2, 2]
    assert all(second > 0 for times in took for second in times)
