"""Optimisers: every name, with options and as a callable, what each sees, and that agents learn."""

import functools
import importlib
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import keystr, tree_leaves_with_path

import jaxpg
from jaxpg import agents
from jaxpg.cli import options
from jaxpg.core.callables import freeze
from jaxpg.core.config import from_dict, to_dict, validate
from jaxpg.core.named_options import split_options
from jaxpg.core.names import UntrustedError
from jaxpg.core.optimizers import ELEMENTWISE, LAYERWISE, OPTIMIZERS, is_optimizer
from jaxpg.experiment.run import checkpoint
from jaxpg.loops import optimizers
from jaxpg.loops.optimizers import build_optimizer, for_each_network, for_vector
from tests import tabular
from tests.conftest import INSTALLED, TINY, short_env, slow_of
from tests.tabular import Probe

KEY = jax.random.key(0)
LEARNERS = [n for n in INSTALLED if "optimizer" in agents.get(n).Config.__dataclass_fields__]
PARAMS = {"kernel": jnp.full((3, 4), 0.5), "bias": jnp.full(4, -0.5), "scale": jnp.float32(2)}


def grads_of(params):
    """Gradients that no two entries share."""
    leaves, tree = jax.tree.flatten(params)
    draws = [0.1 * jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(tree, draws)


def one_update(rule, params):
    state = rule.init(params)
    updates, new = rule.update(grads_of(params), state, params)
    return updates, state, new


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


# Names.


def two_updates(name, rate):
    """The second update by an optimiser, and its state before the first and after the second."""
    rule = build_optimizer(name, rate)
    _, first, second = one_update(rule, PARAMS)
    updates, third = rule.update(grads_of(PARAMS), second, PARAMS)
    return updates, first, third


@functools.cache
def shapes_of(name):
    """Shapes of that under two rates at once: [2, ...]."""
    rates = jax.ShapeDtypeStruct((2,), jnp.float32)
    return jax.eval_shape(jax.vmap(functools.partial(two_updates, name)), rates)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rate_of_every_name_is_traced_and_its_state_keeps_its_shapes(name):
    updates, before, after = shapes_of(name)
    assert jax.tree.map(lambda x: x.shape[1:], updates) == jax.tree.map(jnp.shape, PARAMS)
    kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert kinds(before) == kinds(after)  # so it can be carried through a loop


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_larger_rate_is_a_larger_update(name):
    updates, _, _ = jax.jit(jax.vmap(functools.partial(two_updates, name)))(jnp.array([1e-3, 1e-2]))
    small, large = jax.vmap(optax.global_norm)(updates)
    assert 0 < small < large < np.inf


def test_the_states_of_all_names_come_back_from_a_checkpoint(tmp_path):
    shapes = {name: shapes_of(name)[2] for name in OPTIMIZERS}
    states = jax.tree.map(lambda x: jnp.full(x.shape, 3, x.dtype), shapes)
    about = {"agent": "mine", "config": {}, "environment": {}}
    checkpoint.save(tmp_path, checkpoint.take_snapshot(states), 1, about)
    back, _ = checkpoint.restore(tmp_path, jax.tree.map(jnp.zeros_like, states), about)
    assert jax.tree.structure(back) == jax.tree.structure(states)
    assert bits(back) == bits(states)
    assert len({str(jax.tree.structure(x)) for x in states.values()}) > 8  # they differ


@pytest.mark.parametrize("name", slow_of(ELEMENTWISE, *set(ELEMENTWISE) - {"lion"}))
def test_one_vector_is_the_same_to_what_works_element_by_element(name):
    apart, _, _ = one_update(build_optimizer(name, 1e-2), PARAMS)
    together, state, _ = one_update(build_optimizer(name, 1e-2, ravel=True), PARAMS)
    assert all(x.ndim <= 1 for x in jax.tree.leaves(state))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), apart, together)


@pytest.mark.parametrize("value", [*LAYERWISE, "muon(beta=0.9)", optax.adam])
def test_what_looks_at_shapes_is_never_given_one_vector(value):
    """Also what could: of a callable nothing is known."""
    rule = functools.partial(build_optimizer, value, 1e-2)
    state, raveled = (jax.eval_shape(rule(ravel=way).init, PARAMS) for way in (False, True))
    assert raveled == state


# Options.


def test_options_are_those_of_optax():
    named, _, _ = one_update(build_optimizer("adamw(weight_decay=0.3, b1=0.5)", 1e-2), PARAMS)
    given, _, _ = one_update(
        build_optimizer(functools.partial(optax.adamw, weight_decay=0.3, b1=0.5), 1e-2), PARAMS
    )
    plain, _, _ = one_update(build_optimizer("adamw", 1e-2), PARAMS)
    assert bits(named) == bits(given) != bits(plain)


def test_an_agent_s_own_options_are_below_those_that_are_given():
    def update(text, *more):
        return bits(one_update(build_optimizer(text, 1e-2, None, *more), PARAMS)[0])

    own = optimizers.ON_POLICY
    assert update("adam", own) == update("adam(eps=1e-5)") != update("adam")
    assert update("rmsprop", own) == update("rmsprop(decay=0.99, eps=1e-5)")
    assert update("adam(eps=1e-8)", own) == update("adam")
    assert update("adamw(weight_decay=0)", own) == update("adam", own)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("adam", {}),
        ("f()", {}),
        ("f(a=1, b=-0.5, c=True, d=None, e='x', g=(1, (2.5,)))",
         {"a": 1, "b": -0.5, "c": True, "d": None, "e": "x", "g": (1, (2.5,))}),
    ],
)  # fmt: skip
def test_a_name_with_options_is_read(text, options):
    assert split_options(text) == (text.partition("(")[0], options)


@pytest.mark.parametrize(
    "text",
    [
        "f(1)", "f(a=g(1))", "f(a=x)", "f(**{'a': 1})", "f(a=1, a=2)", "f(a=[1])", "f(a={})",
        "f(a=1e999)", "f(a=1j)", "f(", "f(a=1)(b=2)", "a.b(c=1)", "f(a=1); g",
        "f(a=" + "(" * 5000, "f(a=__import__('os'))", "f(a=1)\nimport os", "f(a=b'x')",
    ],
)  # fmt: skip
def test_what_is_no_constant_is_refused(text):
    with pytest.raises(ValueError, match=r"^allowed is a name with its options"):
        split_options(text)


def untraceable(learning_rate):
    return optax.sgd(learning_rate if learning_rate > 0 else 0.1)


def of_nothing(learning_rate):
    return {"rate": learning_rate}


WRONG = {
    "adamv": "did you mean 'adam' or 'adamw'. allowed is one of 'adam', .* or a callable learn",
    "adamv(weight_decay=0.1)": "did you mean 'adam' or 'adamw'. allowed is one of adam, adamw",
    "adamw(weight_deacy=0.1)": "unknown option 'weight_deacy': did you mean 'weight_decay'. a",
    "adamw(moment=0.1)": "unknown option 'moment': allowed are its options b1, b2, eps, eps_root",
    "adamw(b1='x')": "with a traced rate it gave TypeError",
    "muon(preconditioning='x')": "with a traced rate it gave",
    "rprop": "did you mean 'rmsprop'. allowed is one of 'adam'",
    "newton": "allowed is one of 'adam'",
    3: "allowed is one of 'adam'",
    optax.adam(1e-3): "allowed is one of .* such as optax.adamw",
    optax.scale: "its argument is called 'step_size', allowed is learning_rate or lr",
    os.system: "its argument is called 'command', allowed is learning_rate or lr",
    of_nothing: "allowed is one of",
    untraceable: "with a traced rate it gave TracerBoolConversionError",
    functools.partial(optax.adamw, weight=1): "unknown option 'weight': did you mean 'weight_d",
    functools.partial(optax.adam, learning_rate=1e-3): "unknown option 'learning_rate'",
}


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_optimiser_is_refused_in_one_sentence(value):
    with pytest.raises(ValueError, match=f"^ppo.Config optimizer=.*: {WRONG[value]}") as caught:
        validate(jaxpg.ppo.Config(optimizer=value))
    assert "\n" not in str(caught.value)


def test_no_function_of_another_name_is_ever_called():
    """A file may name what is imported already; the argument's name tells an optimiser from it."""
    called = []
    for value in (lambda rate: called.append(rate), functools.partial(called.append)):
        with pytest.raises(ValueError, match=r"argument is called .*, allowed is learning_rate"):
            is_optimizer(value)
    assert not called


def decayed(learning_rate, kernels_only=True):
    """Adam with decay of the kernels, while the first layer's biases stand still."""

    def kernels(params):
        return jax.tree.map_with_path(lambda path, _: keystr(path).endswith("['kernel']"), params)

    def first_biases(params):
        ends = "['Dense_0']['bias']"
        return jax.tree.map_with_path(lambda path, _: keystr(path).endswith(ends), params)

    decay = optax.add_decayed_weights(1e-4, kernels if kernels_only else None)
    freeze = optax.masked(optax.set_to_zero(), first_biases)
    return optax.chain(optax.scale_by_adam(), decay, optax.scale(-learning_rate), freeze)


CALLABLES = (
    "adamw(weight_decay=0.01)",
    optax.adamw,
    optax.contrib.muon,
    optax.nadam,  # itself a partial
    decayed,
    functools.partial(decayed, kernels_only=False),
)


@pytest.mark.parametrize("value", CALLABLES)
def test_a_config_with_an_optimiser_goes_through_json(value):
    cfg = jaxpg.ppo.Config(optimizer=value)
    validate(cfg)
    told = json.loads(json.dumps(to_dict(cfg)))
    back = from_dict(jaxpg.ppo.Config, told)
    assert back == cfg
    assert hash(jax.tree.structure(back)) == hash(jax.tree.structure(cfg))  # one program for both
    assert back != jaxpg.ppo.Config()


def test_a_module_that_is_not_imported_waits_for_the_user_s_word():
    with pytest.raises(UntrustedError, match="optimizer='never_seen:mine': to import"):
        from_dict(jaxpg.ppo.Config, {"optimizer": "never_seen:mine"})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("muon", "muon"),
        ("adamw(weight_decay=0.1)", "adamw(weight_decay=0.1)"),
        ("optax:adamw", optax.adamw),
        ("optax.contrib:muon", optax.contrib.muon),
    ],
)
def test_the_command_takes_names_options_and_modules(word, value):
    taken = []

    def command(agent, env_name, config=None, total_steps=1):
        taken.append(from_dict(agent.Config, vars(config), trust=True))
        return 0

    words = ["a2c", "CartPole-v1", "--config.optimizer", word]
    assert options.call_with_agent("train", command, "", words) == 0
    assert taken[0].optimizer == value


def test_the_command_takes_a_grid_of_them():
    grid = "optimizer=adam,adamw(weight_decay=0.1, b1=0.8),optax:sgd,muon(ns_coeffs=(3, 4, 2))"
    values = ["adam", "adamw(weight_decay=0.1, b1=0.8)", "optax:sgd", "muon(ns_coeffs=(3, 4, 2))"]
    assert options.parse_values(grid) == ("optimizer", values)


def test_a_sweep_with_a_wrong_option_leaves_nothing(tmp_path):
    points = jaxpg.sweep.grid(optimizer=["adam", "adamw(weight_deca=0.1)"])
    agent, cfg, env = tiny("a2c", total_steps=None)
    with pytest.raises(
        ValueError, match=r"a2c.Config optimizer='adamw\(weight_deca=0.1\)': unknown"
    ):
        jaxpg.sweep.run(
            agent, cfg, env, KEY, points, seeds=2, total_steps=64, out=tmp_path / "sweep"
        )
    assert not list(tmp_path.iterdir())


def test_ppo_s_default_is_adam_of_one_vector():
    cfg = jaxpg.ppo.Config()
    chain = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-4, eps=1e-5))
    ours, theirs = (
        one_update(x, PARAMS)
        for x in (importlib.import_module("jaxpg.agents.ppo").optimizer(cfg), optax.flatten(chain))
    )
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert bits(ours) == bits(theirs)


# What it sees in each agent.


def tiny(name, **fields):
    agent = agents.get(name)
    length = {"total_steps": 1e4} if "total_steps" in agent.Config.__dataclass_fields__ else {}
    cfg = agent.Config(**TINY[name] | length | fields)
    return agent, cfg, short_env(agent, cfg)


def parts(name, **fields):
    """The leaves of all optimisers' states, by path, as an agent's `init` shapes them."""
    agent, cfg, env = tiny(name, **fields)
    state = jax.eval_shape(functools.partial(agent.init, cfg, env), KEY)
    found = tree_leaves_with_path(state)
    return {keystr(path): x.shape for path, x in found if "opt" in keystr(path)}


@pytest.mark.parametrize("name", [n for n in LEARNERS if n != "evosax"])
def test_muon_s_state_holds_matrices_in_every_agent(name):
    """Of parameters that are one vector, or of critics that lie behind each other in one array, it
    would be another optimiser without a word."""
    means = {p: s for p, s in parts(name, optimizer="muon").items() if ".mu" in p}
    orthogonal = {p: s for p, s in means.items() if "['muon']" in p}
    adam = {p: s for p, s in means.items() if "['adam']" in p}
    # Networks that lie side by side are each seen by itself: critics, and those of players.
    players = not getattr(tiny(name)[1], "share_parameters", True)
    twins = name in ("ddpg", "td3", "sac", "maddpg")
    stacks = lambda path: players + (twins and ".critic" in path)  # noqa: E731
    assert len(orthogonal) >= 2
    assert {len(s) - stacks(p) for p, s in orthogonal.items()} == {2}
    assert all(len(s) - stacks(p) < 2 for p, s in adam.items())
    kernels = {p for p in orthogonal if "kernel" in p}
    assert kernels
    assert not any("bias" in p for p in orthogonal)
    assert not any("kernel" in p for p in adam)


@pytest.mark.parametrize("name", ["sac", "sac_discrete"])
def test_alpha_has_an_optimiser_of_its_own(name):
    """Decay of weights would pull log alpha to 0, alpha to 1."""
    of = lambda **fields: {p for p in parts(name, **fields) if ".log_alpha" in p}  # noqa: E731
    assert of(optimizer="muon") == of() != set()
    assert of(alpha_optimizer="sgd") == set()  # it has no state


def test_networks_side_by_side_are_optimised_each_by_itself():
    kernels = jax.random.normal(KEY, (2, 3, 4))
    rule = optax.contrib.muon(0.1)
    together, _, _ = one_update(for_each_network(rule), kernels)
    for i in range(2):
        alone, _ = rule.update(grads_of(kernels)[i], rule.init(kernels[i]), kernels[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-5)


def test_a_vector_is_optimised_in_the_shapes_that_it_stands_for():
    vector, unravel = jax.flatten_util.ravel_pytree(PARAMS)
    rule = optax.contrib.muon(0.1, weight_decay=0.1)
    updates, _ = rule.update(PARAMS, rule.init(PARAMS), PARAMS)
    mine = for_vector(rule, unravel)
    ours, _ = mine.update(vector, mine.init(vector), vector)
    np.testing.assert_allclose(ours, jax.flatten_util.ravel_pytree(updates)[0], rtol=1e-6)


@pytest.mark.parametrize(
    "name", slow_of(LEARNERS, *set(LEARNERS) - {"reinforce", "es", "sac_discrete"})
)
def test_decay_of_weights_finds_the_parameters(name):
    """And a second step takes the state of the first."""
    rate = {"learning_rate": 0.01} if name == "evosax" else {}
    agent, cfg, env = tiny(name, optimizer="lamb", **rate)
    state = jax.eval_shape(functools.partial(agent.init, cfg, env), KEY)
    after, _ = jax.eval_shape(functools.partial(agent.step, cfg, env), state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_what_moves_the_mean_of_a_search_needs_a_rate():
    pytest.importorskip("evosax")
    agent, cfg, env = tiny("evosax", learning_rate=None, optimizer="sgd")
    with pytest.raises(ValueError, match="learning_rate=None: with optimizer='sgd' allowed is"):
        agent.init(cfg, env, KEY)


# Learning.

OWN = {
    "adamw": functools.partial(optax.adamw, weight_decay=1e-3),
    "rmsprop": "rmsprop",
    "muon": "muon",
    "chain": decayed,
}
ROLLOUTS = {"num_envs": 16, "num_steps": 8, "hidden": (16,), "gae_lambda": 1.0, "gamma": 0.9}
REPLAY = {"num_envs": 8, "buffer_size": 2000, "learning_starts": 64, "batch_size": 64}
REPLAY |= {"hidden": (16,), "gamma": 0.9}
SETTINGS = {
    "ppo": ROLLOUTS | {"num_epochs": 2, "minibatches": 2, "entropy_coef": 0.0},
    "a2c": ROLLOUTS | {"entropy_coef": 0.0},
    "dqn": REPLAY | {"updates_per_step": 0.25, "exploration_fraction": 0.5, "target_period": 10},
    "sac": REPLAY | {"updates_per_step": 0.25, "alpha": 0.05, "learn_alpha": False},
}
ITERATIONS = {"ppo": 60, "a2c": 200, "dqn": 600, "sac": 800}
RATES = {"muon": 2e-2}  # its update has norm 1 in every direction, whatever the gradient


def learn(name, how, iterations):
    """An agent, its config, the probe, and the state after so many iterations on it."""
    agent = agents.get(name)
    rate = RATES.get(how, 1e-2)
    fields = {"learning_rate": rate, "learning_rate_schedule": "linear"}
    if "critic_learning_rate" in agent.Config.__dataclass_fields__:
        fields |= {"critic_learning_rate": rate, "critic_learning_rate_schedule": "linear"}
    cfg = agent.Config(**SETTINGS[name] | fields, optimizer=OWN[how])
    env = tabular.make(Probe(name != "sac"))
    train = jax.jit(functools.partial(jaxpg.train, agent, cfg, env))
    total = iterations * agent.steps_per_iter(cfg)
    train = functools.partial(jaxpg.train, agent, cfg, env, total_steps=total)
    state, _ = jax.jit(train)(KEY)
    return agent, cfg, env, state


def require_known_answer(agent, cfg, env, state):
    """Both sides: the greedy return is 1, and so is what the critic says."""
    returns = jaxpg.evaluate(agent, cfg, env, state, jax.random.key(1), episodes=16)
    assert float(returns.min()) > 0.97
    obs = jnp.array([[-1.0], [1.0]])
    if agent.name in ("ppo", "a2c"):
        from jaxpg.nets.actor_critic import actor_critic

        value = actor_critic(cfg, env)[0].apply(state.params, obs, method="value")
    elif agent.name == "dqn":
        from jaxpg.nets.values import discrete_q

        q = discrete_q(cfg, env).apply(state.learner.params, obs)
        np.testing.assert_allclose(q.min(-1), 0, atol=0.15)
        value = q.max(-1)
    else:
        from jaxpg.nets.values import critics

        value = critics(cfg, env).apply(state.learner.params.critic, obs, obs / 2).min(0)
    np.testing.assert_allclose(value, 1, atol=0.15)


def biases(params):
    """The first layers' biases."""
    found = tree_leaves_with_path(params)
    return [x for path, x in found if keystr(path).endswith("['Dense_0']['bias']")]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param(n, how, marks=() if (n, how) == ("a2c", "chain") else pytest.mark.slow)
        for n in SETTINGS
        for how in OWN
    ],
)
def test_agents_learn_the_probe_with_other_optimisers(name, how):
    agent, cfg, env, state = learn(name, how, ITERATIONS[name])
    require_known_answer(agent, cfg, env, state)
    learner = getattr(state, "learner", state)
    if how == "chain":  # biases begin at 0, and those of the first layers stay there
        assert biases(learner.params)
        assert not any(np.asarray(x).any() for x in biases(learner.params))
        assert optax.global_norm(learner.params) > 1


@pytest.mark.slow
def test_an_optimiser_is_a_field_of_a_sweep_and_the_rate_is_vmapped(tmp_path):
    own = functools.partial(optax.adamw, weight_decay=0.2)
    rules = ["adam", "muon", "adamw(weight_decay=0.1)", optax.sgd, own]
    points = jaxpg.sweep.grid(optimizer=rules, learning_rate=[0.0, 1e-2])
    agent, cfg, env = tiny("a2c", total_steps=None, critic_learning_rate=0.0)
    found = jaxpg.sweep.run(
        agent, cfg, env, KEY, points, seeds=2, total_steps=64, out=tmp_path / "sweep"
    )
    states = [jaxpg.sweep.result(found.folder, i) for i in range(len(points))]
    assert [x.cfg.optimizer for x in states[::2]] == list(map(freeze, rules))
    assert len({str(bits(x.state.params)) for x in states[1::2]}) == len(rules)
    assert len({str(bits(x.state.params)) for x in states[::2]}) == 1  # at rate 0 none moves
