"""Options: their gradients against those of exact values, call and return against its law, time
limits, and agents that use them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import option_critic, ppoc
from jaxpg.core.types import Transition
from jaxpg.envs import tabular
from jaxpg.loops import options
from jaxpg.nets.options import Outputs
from jaxpg.ops import losses
from jaxpg.ops import options as ops
from tests.tabular import Constant, make

GAMMA, COST, COUNT = 0.9, 0.3, 3
KEY = jax.random.key(0)


# The theorems, on a small MDP.


class Tables:
    """A random MDP of 4 states and 2 actions, and COUNT options in tables, in double precision."""

    def __init__(self):
        m = tabular.model(jaxpg.make("Garnet-jaxpg", states=4, actions=2, branches=2, seed=5))
        self.P, self.R, self.start = m.P, m.R, m.start
        rng = np.random.default_rng(0)
        self.theta = jnp.asarray(rng.normal(size=(4, COUNT, 2)))  # logits of the options' policies
        self.phi = jnp.asarray(rng.normal(size=(4, COUNT)))  # of terminations
        self.over = jnp.asarray(rng.dirichlet(np.ones(COUNT), 4))  # policy over options

    def values(self, theta, phi):
        """Q(s, omega) by the linear equations of all pairs of a state and an option: what follows
        is the next state and, in it, the option that call and return puts in force."""
        pi, beta = jax.nn.softmax(theta), jax.nn.sigmoid(phi)
        to = jnp.einsum("soa,sat->sot", pi, self.P)
        stays = (1 - beta)[..., None] * jnp.eye(COUNT)  # [t, o, o']
        force = stays + beta[..., None] * self.over[:, None]
        follow = jnp.einsum("sot,top->sotp", to, force).reshape(4 * COUNT, 4 * COUNT)
        paid = GAMMA * COST * jnp.einsum("sot,to->so", to, beta)
        reward = jnp.einsum("soa,sa->so", pi, self.R) - paid
        q = jnp.linalg.solve(jnp.eye(4 * COUNT) - GAMMA * follow, reward.ravel()).reshape(4, COUNT)
        return q, follow

    def objective(self, theta, phi):
        """The value of an episode's start, where no option is in force yet."""
        q, _ = self.values(theta, phi)
        return self.start @ (self.over * q).sum(-1)

    def visits(self):
        """Discounted visits of all pairs, summed over time step by step: [4, O]."""
        _, follow = self.values(self.theta, self.phi)
        now, total = (self.start[:, None] * self.over).ravel(), jnp.zeros(4 * COUNT)
        for t in range(400):
            total = total + GAMMA**t * now
            now = now @ follow
        return total.reshape(4, COUNT)


@pytest.fixture(scope="module")
def tables():
    with jax.enable_x64(True):
        yield Tables()


def finite_differences(f, x, h=1e-5):
    slope = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        slope[i] = (f(x + step) - f(x - step)) / (2 * h)
    return slope


def test_the_gradient_of_an_options_policy_is_that_of_the_exact_value(tables):
    """Theorem 1: the loss of the agents, in the mean over all pairs, actions and successors."""
    q, _ = tables.values(tables.theta, tables.phi)
    beta, weight = jax.nn.sigmoid(tables.phi), tables.visits()
    every = jnp.broadcast_to(jnp.arange(COUNT), (4, COUNT))
    u = ops.upon_arrival(  # [t, o]
        jnp.broadcast_to(q[:, None], (4, COUNT, COUNT)),
        jnp.broadcast_to(tables.over[:, None], (4, COUNT, COUNT)), beta, every, COST,
    )  # fmt: skip
    target = tables.R[:, None] + GAMMA * jnp.einsum("sat,to->soa", tables.P, u)

    def loss(theta):
        log_p = jax.nn.log_softmax(theta)
        share = jax.lax.stop_gradient(weight[..., None] * jnp.exp(log_p))
        each = jax.vmap(losses.policy_gradient)(log_p.ravel(), (target - q[..., None]).ravel())
        return share.ravel() @ each

    exact = finite_differences(jax.jit(lambda x: tables.objective(x, tables.phi)), tables.theta)
    assert np.abs(exact).max() > 0.05
    np.testing.assert_allclose(-jax.jit(jax.grad(loss))(tables.theta), exact, atol=1e-5)


def test_the_gradient_of_terminations_is_that_of_the_exact_value(tables):
    """Theorem 2, with the cost of ending an option; the discount of the step stands in front."""
    q, _ = tables.values(tables.theta, tables.phi)
    weight, pi = tables.visits(), jax.nn.softmax(tables.theta)
    arrive = jnp.einsum("so,soa,sat->to", weight, pi, tables.P)  # by options, in what they led to
    every = jnp.broadcast_to(jnp.arange(COUNT), (4, COUNT))
    advantage = ops.termination_advantage(
        jnp.broadcast_to(q[:, None], (4, COUNT, COUNT)),
        jnp.broadcast_to(tables.over[:, None], (4, COUNT, COUNT)), every, COST,
    )  # fmt: skip

    def loss(phi):
        going = jnp.ones(4 * COUNT, bool)
        each = jax.vmap(ops.termination_loss)(jax.nn.sigmoid(phi).ravel(), advantage.ravel(), going)
        return GAMMA * arrive.ravel() @ each

    exact = finite_differences(jax.jit(lambda x: tables.objective(tables.theta, x)), tables.phi)
    assert np.abs(exact).max() > 0.01
    np.testing.assert_allclose(-jax.jit(jax.grad(loss))(tables.phi), exact, atol=1e-5)


def test_the_agents_own_gradient_is_that_of_the_exact_value(tables):
    """All of `option_critic.loss` at once, in tables: the gradient for a rollout of one step, in
    the mean over all pairs, actions and successors by how likely they are."""
    env = jaxpg.make("Garnet-jaxpg", states=4, actions=2, branches=2, seed=5)
    cfg = option_critic.Config(
        hidden=(), options=COUNT, gamma=GAMMA, gae_lambda=0.0, deliberation_cost=COST,
        option_policy="softmax", option_temperature=0.5, entropy_coef=0.0,
    )  # fmt: skip
    with jax.enable_x64(True):
        t = Tables()

        def follow(q):  # the policy over options is a softmax of the values: a fixed point
            t.over = jax.nn.softmax(q / 0.5)
            return t.values(t.theta, t.phi)[0]

        go = jax.jit(lambda q: jax.lax.fori_loop(0, 500, lambda _, q: follow(q), q))
        q = go(jnp.zeros((4, COUNT)))
        t.over = jax.nn.softmax(q / 0.5)
        params = {"params": {
            "actor": {"kernel": t.theta.reshape(4, 2 * COUNT)},
            "termination": {"kernel": t.phi}, "critic": {"kernel": q},
        }}  # fmt: skip
        s, o, a, to = (x.ravel() for x in jnp.meshgrid(*map(jnp.arange, (4, COUNT, 2, 4))))
        pi = jax.nn.softmax(t.theta)
        weight = t.visits()[s, o] * pi[s, o, a] * t.P[s, a, to]
        no, one_hot = jnp.zeros((1, 1), bool), lambda x: jnp.eye(4)[x][None, None]

        def loss(params, s, o, a, to):
            step = Transition(
                one_hot(s), a[None, None], t.R[s, a][None, None], no, no, one_hot(to), {}
            )
            seen = options.Seen(o[None, None], no, a[None, None], jnp.zeros((1, 1)))
            return option_critic.loss(params, cfg, env, step, seen, KEY)[0]

        each = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0, 0, 0)))(params, s, o, a, to)
        found = jax.tree.map(lambda g: jnp.tensordot(weight, g, 1), each)["params"]
        slope = jax.jit(jax.grad(t.objective, (0, 1)))(t.theta, t.phi)
        np.testing.assert_allclose(
            -found["actor"]["kernel"].reshape(t.theta.shape), slope[0], atol=1e-5
        )
        np.testing.assert_allclose(-GAMMA * found["termination"]["kernel"], slope[1], atol=1e-5)
        np.testing.assert_allclose(found["critic"]["kernel"], 0, atol=1e-9)  # q is exact
        assert min(np.abs(x).max() for x in slope) > 0.01


# Call and return.


def test_terminations_move_to_where_going_on_is_worth_less():
    """By a step along the gradient; what has terminated is not looked at, were it NaN."""
    beta, advantage = jnp.array([0.5, 0.5, 0.5]), jnp.array([2.0, -2.0, jnp.nan])
    going = jnp.array([True, True, False])
    slope = jax.grad(ops.termination_loss)(beta, advantage, going)
    np.testing.assert_allclose(slope, [2 / 3, -2 / 3, 0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon_greedy", "softmax"])
def test_the_policy_over_options_is_by_their_values(kind):
    q = np.array([[0.1, 0.3, 0.2], [0.5, 0.5, 0.0]])
    found = ops.over_options(jnp.asarray(q), kind, 0.3, 0.1)
    if kind == "softmax":
        expected = np.exp(q / 0.1) / np.exp(q / 0.1).sum(1, keepdims=True)
    else:
        expected = [[0.1, 0.8, 0.1], [0.45, 0.45, 0.1]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(ops.state_value(jnp.asarray(q), found), (found * q).sum(1))


def test_options_are_drawn_by_the_law_of_call_and_return():
    """P(omega | s, before) = (1 - beta) [omega = before] + beta pi(omega); none before: pi."""
    n, policy, beta = 40_000, np.array([0.5, 0.2, 0.3]), np.array([0.1, 0.6, 0.9])
    lots = lambda x: jnp.broadcast_to(jnp.asarray(x), (n, COUNT))  # noqa: E731
    for before in range(COUNT + 1):
        option, chosen = ops.choose(lots(policy), lots(beta), jnp.full(n, before), KEY)
        ends = 1.0 if before == 0 else beta[before - 1]
        law = ends * policy + (1 - ends) * (np.arange(COUNT) == before - 1)
        often = np.bincount(option, minlength=COUNT) / n
        assert (np.abs(often - law) <= 5 * np.sqrt(law * (1 - law) / n)).all()
        assert abs(float(chosen.mean()) - ends) <= 5 * np.sqrt(ends * (1 - ends) / n)
    greedy, chosen = ops.choose_greedy(lots(policy)[:4], lots(beta)[:4], jnp.arange(4))
    assert greedy.tolist() == [0, 0, 0, 0]
    assert chosen.tolist() == [True, False, True, True]
    greedy, _ = ops.choose_greedy(lots(policy)[:1], lots([0.5, 0.5, 0.5])[:1], jnp.array([3]))
    assert greedy.tolist() == [2]  # at 1/2 it goes on


def test_metrics_of_options_are_counts():
    """Two environments: the first ends an episode at step 1, the second has had its option before;
    lengths are those of options that ended, counted one by one."""
    option = jnp.array([[0, 2], [0, 2], [1, 2], [1, 0]])
    chosen = jnp.array([[1, 0], [0, 0], [1, 0], [1, 1]], bool)
    ended = jnp.array([[0, 0], [1, 0], [0, 0], [0, 1]], bool)
    found, age = options.option_metrics(option, chosen, ended, jnp.array([0, 5]), 4)
    assert [float(found[f"options/use_{i}"]) for i in range(4)] == [3 / 8, 2 / 8, 3 / 8, 0]
    lengths = [2, 1, 5 + 3, 1]  # ended with the episode; itself; itself; with the episode
    assert float(found["options/length"]) == pytest.approx(np.mean(lengths))
    assert float(found["options/chosen"]) == 4 / 8
    share = np.array([3, 2, 3]) / 8
    assert float(found["options/entropy"]) == pytest.approx(-(share * np.log(share)).sum())
    assert age.tolist() == [1, 0]
    no = jnp.zeros((4, 2), bool)
    found, age = options.option_metrics(option, no, no, jnp.array([1, 5]), 4)
    assert np.isnan(found["options/length"])
    assert age.tolist() == [5, 9]


AGENTS = {"option_critic": option_critic, "ppoc": ppoc}
SMALL = {"num_envs": 4, "num_steps": 8, "hidden": (), "options": 3}


@functools.cache
def begun(name, env_name="FourRooms-jaxpg", **fields):
    """An agent's config, environment and first state, with options that are kept for a while."""
    module, env = AGENTS[name], jaxpg.make(env_name, max_steps_in_episode=5)
    cfg = module.Config(**SMALL | fields)
    return module, cfg, env, jax.jit(functools.partial(module.init, cfg, env))(KEY)


def put(state, part, kernel):
    """The state with another table."""
    params = state.params["params"] | {part: {"kernel": kernel}}
    return state._replace(params={"params": params})


@pytest.mark.parametrize("name", AGENTS)
def test_the_option_is_in_the_carry_and_ends_with_the_episode(name):
    module, cfg, env, state = begun(name)
    state = put(state, "termination", jnp.full((104, 3), -20.0))  # none ends by itself
    collect = jax.jit(functools.partial(options.collect, cfg, env))
    _, running, t, seen, metrics = collect(state.params, (), state.env, state.running, KEY)
    ended = np.asarray(t.terminated | t.truncated)
    begins = np.concatenate([np.ones((1, 4), bool), ended[:-1]])
    np.testing.assert_array_equal(seen.chosen, begins)  # at an episode's first step, else never
    option = np.asarray(seen.option)
    assert (option[1:] == option[:-1])[~ended[:-1]].all()
    np.testing.assert_array_equal(running.option, np.where(ended[-1], 0, option[-1] + 1))
    last = 7 - begins[::-1].argmax(0)  # step at which the running episode began
    np.testing.assert_array_equal(running.age, np.where(ended[-1], 0, 8 - last))
    assert float(metrics["options/chosen"]) == begins.sum() / 32
    assert float(metrics["options/length"]) == pytest.approx(float(metrics["episode/length"]))

    obs = state.env.obs
    for carry in ((), jnp.zeros(4, jnp.int32)):  # as evaluation begins
        action, after = module.act(cfg, env, state, obs, carry, KEY, True)
        assert action.shape == (4,)
        assert ((after >= 1) & (after <= 3)).all()
    _, after = module.act(cfg, env, state, obs, jnp.array([3, 2, 1, 3]), KEY, False)
    assert after.tolist() == [3, 2, 1, 3]
    returns = jaxpg.evaluate(getattr(jaxpg, name), cfg, env, state, KEY, episodes=4)
    assert np.isfinite(returns).all()


@pytest.mark.parametrize("name", AGENTS)
def test_the_tables_of_a_linear_network_are_tables(name):
    state = begun(name)[-1]
    shapes = jax.tree.map(jnp.shape, state.params["params"])
    heads = {"actor": 3 * 4, "termination": 3, "critic": 3, "choice": 3}
    if name == "option_critic":
        del heads["choice"]
    assert shapes == {k: {"kernel": (104, n)} for k, n in heads.items()}
    assert not any(np.any(x) for x in jax.tree.leaves(state.params))
    *_, linear = begun(name, "CartPole-v1")
    assert "bias" in linear.params["params"]["actor"]  # coordinates have no table


# Targets.


def outputs(q, beta):
    return Outputs(jnp.zeros((*q.shape, 2)), beta, q, jnp.zeros_like(q))


def test_targets_are_the_recursion_that_defines_them():
    """Against loops over time, with an end and a time limit in it: the first cuts the bootstrap,
    the second does not, and the cost of ending is paid but at the end."""
    rng, T = np.random.default_rng(1), 6
    q, beta, reward = (
        rng.normal(size=(T, 1, COUNT)),
        rng.uniform(size=(T, 1, COUNT)),
        rng.normal(size=(T, 1)),
    )
    option = rng.integers(0, COUNT, (T, 1))
    terminated, truncated = np.zeros((2, T, 1), bool)
    terminated[1], truncated[3] = True, True
    cfg = option_critic.Config(
        options=COUNT, option_epsilon=0.3, deliberation_cost=COST, gamma=GAMMA, gae_lambda=0.7
    )
    after = options.arrive(cfg, outputs(jnp.asarray(q), jnp.asarray(beta)), jnp.asarray(option))
    t = Transition((), (), (), jnp.asarray(terminated), jnp.asarray(truncated), (), {})
    found = options.returns(cfg, jnp.asarray(reward), t, after)

    expected, ahead = np.zeros(T), None
    for i in reversed(range(T)):
        of, policy = option[i, 0], np.full(COUNT, 0.1)
        policy[q[i, 0].argmax()] += 0.7
        b, v = beta[i, 0, of], policy @ q[i, 0]
        plain, cost = (1 - b) * q[i, 0, of] + b * v, b * COST
        if terminated[i]:
            expected[i] = reward[i, 0]
        else:
            mixed = plain if ahead is None or truncated[i] else 0.3 * plain + 0.7 * ahead
            expected[i] = reward[i, 0] + GAMMA * (mixed - cost)
        ahead = expected[i]
        np.testing.assert_allclose(after.advantage[i, 0], q[i, 0, of] - v + COST, rtol=1e-4)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("name", AGENTS)
def test_no_gradient_of_the_value_of_what_follows(name, terminated):
    """Only the entry that was used learns a value; a termination is moved in the successor alone,
    and not at all where the episode terminated."""
    module, cfg, env, state = begun(name, normalize_advantage=False)
    s, to, option = 5, 6, 2
    q = jnp.arange(104.0 * 3).reshape(104, 3) % 11
    params = put(state, "critic", q).params
    end, no = jnp.full((1, 1), terminated), jnp.zeros((1, 1), bool)
    t = Transition(
        jnp.eye(104)[s][None, None], jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1)), end, no,
        jnp.eye(104)[to][None, None], {},
    )  # fmt: skip
    at, zero = jnp.full((1, 1), option), jnp.zeros((1, 1))
    seen = options.Seen(at, no, t.action, zero - np.log(4))
    if name == "option_critic":
        slope = jax.jit(jax.grad(lambda p: module.loss(p, cfg, env, t, seen, KEY)[0]))(params)
    else:
        after = options.arrive(cfg, outputs(q[to][None, None], jnp.full((1, 1, 3), 0.5)), at)
        b = module.Batch(
            t.obs, t.next_obs, seen, zero - np.log(3), q[s, option] + zero, zero, zero, zero,
            after.advantage, ~end,
        )  # fmt: skip
        slope = jax.jit(jax.grad(lambda p: module.loss(p, cfg, env, b, KEY)[0]))(params)
    moved = slope["params"]
    assert np.argwhere(moved["critic"]["kernel"]).tolist() == [[s, option]]
    ends = np.argwhere(moved["termination"]["kernel"]).tolist()
    assert ends == ([] if terminated else [[to, option]])


@pytest.mark.slow  # its quick twin is that of targets
@pytest.mark.parametrize("name", AGENTS)
def test_time_limits_bootstrap(name):
    """Reward 1 for ever: cut by truncation the value is 1 / (1 - gamma), by termination less."""
    for terminates, least, most in [(False, 4.7, 5.3), (True, 1.5, 4.5)]:
        env = make(Constant(terminates))
        fields = {"gamma": 0.8, "num_envs": 4, "num_steps": 16, "hidden": (4,), "options": 2}
        rates = dict.fromkeys(("learning_rate", "critic_learning_rate"), 0.02)
        cfg = AGENTS[name].Config(**fields, **rates, normalize_advantage=False, max_grad_norm=10.0)
        agent = getattr(jaxpg, name)
        train = jax.jit(functools.partial(jaxpg.train, agent, cfg, env, total_steps=16_000))
        state, _ = train(KEY)
        net, _ = options.network(cfg, env)
        q = net.apply(state.params, jnp.ones((1, 1))).q
        assert ((q > least) & (q < most)).all(), q


# What goes wrong.


@pytest.mark.parametrize("name", AGENTS)
def test_bad_settings_and_actions_are_named(name):
    module, cartpole = AGENTS[name], jaxpg.make("CartPole-v1")
    for fields, words in [
        ({"options": 0}, f"{name}.Config options=0: allowed is an integer >= 1"),
        (
            {"deliberation_cost": -1.0},
            f"{name}.Config deliberation_cost=-1.0: allowed is a finite",
        ),
        ({"head": "gaussian"}, "head='gaussian' on CartPole-v1, whose actions are discrete"),
    ]:
        with pytest.raises(ValueError, match=words):
            module.init(module.Config(**fields), cartpole, KEY)
    if name == "ppoc":
        with pytest.raises(ValueError, match="minibatches=3: allowed is a divisor of the batch"):
            module.init(module.Config(minibatches=3), cartpole, KEY)
    else:
        with pytest.raises(ValueError, match="option_policy='ucb': allowed is one of"):
            module.init(module.Config(option_policy="ucb"), cartpole, KEY)
