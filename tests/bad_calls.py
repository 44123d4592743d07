"""Bad input in Python: calls, and what the ValueError that answers them says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.episodes import begin_episodes
from jaxpg.loops import population, tabular
from jaxpg.nets import heads

KEY, OLD, KEYS = jax.random.key(0), jax.random.PRNGKey(0), jax.random.split(jax.random.key(0), 2)
ENV, CFG = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
CARTPOLE, Q = jaxpg.make("CartPole-v1"), jaxpg.q_learning
POINTS = [{"gamma": 0.9}]
NO_AGENT, NO_ENV, NO_KEY = "agent=.*an Agent", "env=.*jaxpg.make", "key=.*jax.random.key"
MUCH = "it takes at least .* of memory, allowed are the "


def go(agent=Q, cfg=CFG, env=ENV, key=KEY, *, by=jaxpg.run, **more):
    """A run, whose arguments are right where they are not given."""
    by(agent, cfg, env, key, **{"total_steps": 100} | more)


def of(agent, *, env=CARTPOLE, **fields):
    """A run of an agent with other fields."""
    go(agent, agent.Config(**fields), env)


def state(seeds=()):
    """A state of q_learning, by its shapes: nothing is compiled."""
    init = lambda key: Q.init(CFG, ENV, key)  # noqa: E731
    keys = jax.random.split(KEY, seeds) if seeds else KEY
    found = jax.eval_shape(jax.vmap(init) if seeds else init, keys)
    zeros = lambda x: KEY if x.dtype == KEY.dtype else np.zeros(x.shape, x.dtype)  # noqa: E731
    return jax.tree.map(zeros, found) if not seeds else found


def evaluate(agent=Q, cfg=CFG, env=ENV, learnt=None, key=KEY, **more):
    jaxpg.evaluate(agent, cfg, env, state() if learnt is None else learnt, key, **more)


def rollout(env=ENV, policy=lambda *_: None, begun=None, key=KEY, num_steps=1):
    begun = E.reset(ENV, KEY, 2) if begun is None else begun
    jaxpg.rollout(env, policy, begun, (), key, num_steps)


def sweep(points=POINTS, *, agent=Q, cfg=CFG, env=ENV, key=KEY, **more):
    jaxpg.sweep.run(agent, cfg, env, key, points, **{"total_steps": 100, "seeds": 2} | more)


def search(space, **more):
    jaxpg.search(Q, CFG, ENV, more.pop("key", KEY), space, **{"total_steps": 100} | more)


def compare(agents=("q_learning",), envs=("Cliff-jaxpg",), key=KEY, **more):
    jaxpg.compare(agents, envs, key, **{"total_steps": 100, "seeds": 2} | more)


def head(name, **named):
    """A head on CartPole, asked with a key."""
    pi = heads.make("auto", CARTPOLE)
    out = jnp.zeros((1, pi.outputs))
    pi_of = {"sample": (out,), "entropy": (out,), "kl": (out, out)}[name]
    getattr(pi, name)(*pi_of, **named) if named else getattr(pi, name)(*pi_of, OLD)


def reporting(*names):
    """A run of q_learning whose metrics have another name or another kind."""
    name, value = names

    def step(cfg, env, begun):
        begun, metrics = Q.step(cfg, env, begun)
        return begun, {"metrics": value} if name is None else metrics | {name: value}

    go(Q._replace(step=step))


def bad_metrics(value):
    go(Q._replace(step=lambda cfg, env, begun: (Q.step(cfg, env, begun)[0], value)))


CALLS = {
    # agents, configs, environments, keys
    "no agent": (partial(go, None), NO_AGENT),
    "another agent's name": (partial(go, "ppo"), "cfg=q_learning.Config: allowed for ppo is ppo."),
    "no agent's name": (partial(go, "pppo"), "unknown agent 'pppo': did you mean 'ppo'"),
    "agent by its module": (partial(go, jaxpg.agents), NO_AGENT),
    "train: agent by name": (partial(go, "ppo", by=jaxpg.train), NO_AGENT),
    "train: no config": (
        partial(go, cfg=None, by=jaxpg.train),
        "cfg=None: allowed for q_learning is q_learning.Config",
    ),
    "config's place": (
        partial(go, cfg="Cliff-jaxpg"),
        "cfg='Cliff-jaxpg': allowed for q_learning .*; the order is agent, cfg, env, key",
    ),
    "config's class": (partial(go, cfg=jaxpg.q_learning.Config), "cfg=.*allowed for q_learning"),
    "config in a dict": (partial(go, cfg={"gamma": 0.9}), "cfg={'gamma': 0.9}: allowed for q_lear"),
    "another agent's config": (partial(go, cfg=jaxpg.sarsa.Config()), "cfg=sarsa.Config: allowed"),
    "train: another's config": (partial(go, cfg=jaxpg.sarsa.Config(), by=jaxpg.train), "cfg=sarsa"),
    "no environment": (partial(go, env=None), NO_ENV),
    "no environment's name": (partial(go, env="Clif-jaxpg"), "did you mean 'Cliff-jaxpg'"),
    "train: environment by name": (partial(go, env="Cliff-jaxpg", by=jaxpg.train), NO_ENV),
    "a bare core": (partial(go, env=ENV.core), NO_ENV),
    "train: a bare core": (partial(go, env=ENV.core, by=jaxpg.train), NO_ENV),
    "environment's parameters": (partial(go, env=ENV.params), NO_ENV),
    "no key": (partial(go, key=None), NO_KEY),
    "a seed": (partial(go, key=0), NO_KEY),
    "old key": (partial(go, key=OLD), NO_KEY),
    "old key's words in NumPy": (partial(go, key=np.zeros(2, np.uint32)), NO_KEY),
    "no seeds": (partial(go, key=KEYS[:0]), r"key of shape \(0,\)"),
    "a table of keys": (partial(go, key=jax.random.split(KEY, (2, 2))), r"key of shape \(2, 2\)"),
    # numbers of a run
    **{
        f"{by.__name__}: total_steps={x!r}": (partial(go, by=by, total_steps=x), "total_steps=")
        for by in (jaxpg.run, jaxpg.train)
        for x in (None, 0, -1, 2.5, True, "5", [], [1, [2]], float("inf"), float("nan"), 10**30)
    },
    "train: total_steps=4*10^11": (
        partial(go, by=jaxpg.train, total_steps=4 * 10**11),
        f"total_steps of 4000000000 iterations: {MUCH}",
    ),
    "train: total_steps=10^30": (
        partial(go, by=jaxpg.train, total_steps=10**30),
        "total_steps=1000000000000000000000000000000: allowed is an integer <= 429496729500",
    ),
    "train: total_steps=10^15": (
        partial(go, by=jaxpg.train, total_steps=10**15),
        "total_steps=1000000000000000: allowed is an integer <= 429496729500",
    ),
    "chunk=0": (partial(go, chunk=0), "chunk=0: allowed is an integer >= 1"),
    "chunk=2.5": (partial(go, chunk=2.5), "chunk=2.5: allowed is an integer >= 1"),
    "chunk=2^40": (partial(go, chunk=2**40), "chunk=1099511627776: allowed is an integer >= 1 and"),
    "chunk=2^31-1": (partial(go, chunk=2**31 - 1), f"chunk=2147483647: {MUCH}"),
    "data_parallel=x": (partial(go, data_parallel="x"), "data_parallel='x': allowed is True or"),
    "data_parallel=1": (partial(go, data_parallel=1), "data_parallel=1: allowed is True or False"),
    "callbacks=5": (partial(go, callbacks=5), "callbacks=5: allowed is a list of functions"),
    "callbacks=[5]": (partial(go, callbacks=[5]), r"callbacks=\[5\]: allowed is a list of"),
    "episodes=0": (partial(go, episodes=0), "episodes=0: allowed is an integer >= 1"),
    "evaluations=-1": (partial(go, evaluations=-1), "evaluations=-1: allowed is an integer >= 0"),
    "log_every=2.5": (partial(go, log_every=2.5), "log_every=2.5: allowed is an integer >= 1"),
    "checkpoints=0": (partial(go, checkpoints=0), "checkpoints=0: allowed is an integer >= 1"),
    "keep=True": (partial(go, keep=True), "keep=True: allowed is an integer >= 1"),
    "target='x'": (partial(go, target="x"), "target='x': allowed is a finite number"),
    # memory
    "num_envs=10^9": (partial(of, Q, env=ENV, num_envs=10**9), f"num_envs=1000000000: {MUCH}"),
    "num_envs=10^400": (partial(of, Q, env=ENV, num_envs=10**400), "num_envs=1000.*integers, < 2"),
    "train: num_envs=10^9": (
        partial(go, cfg=Q.Config(num_envs=10**9), by=jaxpg.train),
        f"num_envs=1000000000: {MUCH}",
    ),
    "hidden=10^9": (partial(of, jaxpg.ppo, hidden=(10**9,)), rf"hidden=\(1000000000,\): {MUCH}"),
    "buffer=10^12": (
        partial(of, jaxpg.dqn, buffer_size=10**12),
        f"buffer_size=1000000000000: {MUCH}",
    ),
    "batch=10^9": (partial(of, jaxpg.dqn, batch_size=10**9), f"batch_size=1000000000: {MUCH}"),
    "batch=10^10": (partial(of, jaxpg.dqn, batch_size=10**10), f"batch_size=10000000000: {MUCH}"),
    "n_step=10^9": (
        partial(of, jaxpg.dqn, n_step=10**9),
        "n_step=1000000000: allowed is an integer",
    ),
    "population=10^9": (partial(of, jaxpg.es, population=10**9), f"population=1000000000: {MUCH}"),
    # fields
    "gamma is complex": (partial(of, Q, env=ENV, gamma=np.complex64(1)), "gamma=.*finite number"),
    "gamma beyond float32": (partial(of, Q, env=ENV, initial_value=1e39), "initial_value=1e.39"),
    "an integer beyond int32": (
        partial(of, Q, env=ENV, initial_value=10**12),
        r"initial_value=1000000000000: .*integers, < 2\*\*31",
    ),
    "a static array": (
        partial(of, jaxpg.dqn, updates_per_step=np.array([0.5, 1.0])),
        "updates_per_step=array.*allowed is a finite number > 0",
    ),
    # environments
    "make: no name": (partial(jaxpg.make, None), "unknown environment None"),
    "make: names": (partial(jaxpg.make, ["CartPole-v1"]), r"unknown environment \['CartPole-v1'\]"),
    "make: gravity=True": (partial(jaxpg.make, "CartPole-v1", gravity=True), "gravity=True"),
    "make: half a step": (
        partial(jaxpg.make, "CartPole-v1", max_steps_in_episode=1.5),
        "max_steps_in_episode=1.5: allowed is an integer",
    ),
    "steps beyond int32": (
        lambda: go(env=jaxpg.make("Cliff-jaxpg", max_steps_in_episode=10**12)),
        "max_steps_in_episode=1000000000000: allowed is an integer <= 2147483647",
    ),
    "reward beyond float32": (
        lambda: go(env=jaxpg.make("Cliff-jaxpg", step_reward=-1e39)),
        "step_reward=-1e.39: allowed is a finite number <= 3.4",
    ),
    "preset: no agent": (partial(jaxpg.preset, 5, "CartPole-v1"), "agent=5: allowed is an Agent"),
    # evaluations, rollouts, episodes
    "evaluate: no agent": (partial(evaluate, None), NO_AGENT),
    "evaluate: another's config": (partial(evaluate, cfg=jaxpg.sarsa.Config()), "cfg=sarsa.Config"),
    "evaluate: no environment": (partial(evaluate, env="Cliff-jaxpg"), NO_ENV),
    "evaluate: no state": (
        lambda: jaxpg.evaluate(Q, CFG, ENV, None, KEY),
        "state=None: allowed is one of q_learning",
    ),
    "evaluate: a state in words": (
        partial(evaluate, learnt="x"),
        "state='x': allowed is one of q_",
    ),
    "evaluate: a state of other seeds": (
        partial(evaluate, learnt=state(2), key=jax.random.split(KEY, 3)),
        r"key of shape \(3,\): allowed is one key, or as many as the state has seeds",
    ),
    "evaluate: episodes=0": (partial(evaluate, episodes=0), "episodes=0: allowed is an integer"),
    "evaluate: episodes=10^12": (
        partial(evaluate, episodes=10**12),
        f"episodes=1000000000000: {MUCH}",
    ),
    "evaluate: max_steps=2^40": (
        partial(evaluate, max_steps=2**40),
        "max_steps=1099511627776: all",
    ),
    "evaluate: greedy=1": (partial(evaluate, greedy=1), "greedy=1: allowed is True or False"),
    "evaluate: old key": (partial(evaluate, key=OLD), NO_KEY),
    "rollout: old key": (partial(rollout, key=OLD), NO_KEY),
    "rollout: several keys": (
        partial(rollout, key=KEYS),
        r"key of shape \(2,\): allowed is one key",
    ),
    "rollout: no environment": (partial(rollout, env=ENV.core), NO_ENV),
    "rollout: no state": (partial(rollout, begun=5), "state=5: allowed is an EnvState"),
    "rollout: num_steps=10^12": (
        partial(rollout, num_steps=10**12),
        f"num_steps=1000000000000: {MUCH}",
    ),
    "reset: old key": (partial(E.reset, ENV, OLD, 2), NO_KEY),
    "reset: old key in jit": (lambda: jax.jit(lambda k: E.reset(ENV, k, 2))(OLD), NO_KEY),
    "reset: no environments": (partial(E.reset, ENV, KEY, 0), "num_envs=0: allowed is an integer"),
    "step: old key": (lambda: E.step(ENV, E.reset(ENV, KEY, 2), jnp.zeros(2, int), OLD), NO_KEY),
    "begin_episodes: old key": (partial(begin_episodes, ENV, None, OLD, 2), NO_KEY),
    "train: old key": (partial(go, key=OLD, by=jaxpg.train), NO_KEY),
    "train: old key in jit": (
        lambda: jax.jit(lambda k: jaxpg.train(Q, CFG, ENV, k, 100))(OLD),
        NO_KEY,
    ),
    "init of a table: old key": (partial(Q.init, CFG, ENV, OLD), NO_KEY),
    "init of a search: old key": (
        partial(population.initial_params, jaxpg.cem.Config(), CARTPOLE, OLD),
        NO_KEY,
    ),
    "sample: old key": (partial(head, "sample"), NO_KEY),
    "entropy: old key": (partial(head, "entropy"), NO_KEY),
    "kl: old key by name": (partial(head, "kl", key=OLD), NO_KEY),
    "explore: old key": (partial(tabular.explore, jnp.zeros((1, 2)), 0.1, OLD), NO_KEY),
    # sweeps
    "sweep: old key": (partial(sweep, key=OLD), NO_KEY),
    "sweep: several keys": (partial(sweep, key=KEYS), r"key of shape \(2,\): allowed is one key"),
    "sweep: no environment": (partial(sweep, env=ENV.core), NO_ENV),
    "sweep: another's config": (partial(sweep, cfg=jaxpg.sarsa.Config()), "cfg=sarsa.Config"),
    "sweep: points=5": (partial(sweep, 5), "points=5: allowed is a list of dicts"),
    "sweep: points=[5]": (partial(sweep, [5]), r"points=\[5\]: allowed is a list of dicts"),
    "sweep: points=[]": (partial(sweep, []), r"points=\[\]: allowed is a list of dicts"),
    "sweep: callbacks=5": (partial(sweep, callbacks=5), "callbacks=5: allowed is a list of"),
    "sweep: target='x'": (partial(sweep, target="x"), "target='x': allowed is a finite number"),
    "sweep: seeds=10^9": (partial(sweep, seeds=10**9), "seeds=1000000000 of 1 points: allowed are"),
    "sweep: episodes=10^12": (partial(sweep, episodes=10**12), f"episodes=1000000000000: {MUCH}"),
    "sweep: out=5": (partial(sweep, out=5), "out=5: allowed is a path"),
    "random: count=10^9": (
        partial(jaxpg.sweep.random, 10**9, {"gamma": [0.5, 0.9]}),
        "count=1000000000: allowed is an integer >= 1 and <= 1000000",
    ),
    "random: old key": (
        partial(jaxpg.sweep.random, 2, {"gamma": [0.5]}, seed=OLD),
        "seed=.*integer",
    ),
    "random: a key": (partial(jaxpg.sweep.random, 2, {"gamma": [0.5]}, seed=KEY), "seed=.*integer"),
    "grid of 10^12": (
        partial(jaxpg.sweep.grid, {f"f{i}": range(10) for i in range(12)}),
        "a grid of 1000000000000 points: allowed are at most 1000000",
    ),
    "uniform('a', 1)": (
        partial(jaxpg.sweep.uniform, "a", 1),
        "range a .. 1: allowed are two finite numbers",
    ),
    "search: space=5": (partial(search, 5), "space=5: allowed is a dict of fields"),
    "search: trials=10^9": (partial(search, {"gamma": [0.9]}, trials=10**9), "trials=1000000000: "),
    "search: old key": (partial(search, {"gamma": [0.9]}, key=OLD), NO_KEY),
    "compare: one name": (partial(compare, "ppo"), "agents='ppo': allowed is a list of agents"),
    "compare: one agent": (partial(compare, Q), "agents=Agent.*: allowed is a list of agents"),
    "compare: no agent": (partial(compare, [5]), NO_AGENT),
    "compare: three of a pair": (partial(compare, [(Q, CFG, 3)]), "allowed is a pair, the agent"),
    "compare: another's config": (partial(compare, [("sarsa", CFG)]), "cfg=q_learning.Config: al"),
    "compare: another's field": (partial(compare, [(Q, {"gama": 1})]), "did you mean 'gamma'"),
    "compare: one name twice": (
        partial(compare, [Q, Q._replace(act=None)]),
        "called 'q_learning', .*a label for each",
    ),
    "compare: a label": (partial(compare, {"a\nb": Q}), "agents: label .*allowed is a text in one"),
    "compare: envs=5": (partial(compare, envs=5), "envs=5: allowed is a list of envs"),
    "compare: envs=[]": (partial(compare, envs=[]), r"envs=\[\]: allowed is at least one"),
    "compare: a bare core": (partial(compare, envs=[ENV.core]), NO_ENV),
    "compare: old key": (partial(compare, key=OLD), NO_KEY),
    "compare: several keys": (partial(compare, key=KEYS), r"key of shape \(2,\): allowed is one"),
    # folders and files
    "out=5": (partial(go, out=5), "out=5: allowed is a path"),
    "out=''": (partial(go, out=""), "out='': allowed is a path"),
    **{
        f"{name}: {what}": (partial(call, path), f"{argument}=.*: {words}")
        for name, argument, call in (
            ("run", "out", lambda path: go(out=path)),
            ("sweep", "out", lambda path: sweep(out=path)),
            ("compare", "out", lambda path: compare(out=path)),
            ("load", "out|folder", lambda path: jaxpg.load(path)),
            ("fan_out", "folder", lambda path: jaxpg.fan_out(abs, [1], path)),
            ("report", "out", lambda path: jaxpg.report(["run"], f"{path}.html")),
            ("render", "out", lambda path: jaxpg.render("run", f"{path}.gif")),
            ("from_file", "path", lambda path: jaxpg.Policy.from_file(path)),
        )
        for what, path, words in (
            ("too long", "p" * 300, "allowed is a path as long as the file system can hold"),
            ("null byte", "a\0b", "allowed is a path of whole letters, without null bytes"),
            ("half a letter", "a\ud800", "allowed is a path of whole letters"),
        )
    },
    "out through a file": (partial(go, out=f"{__file__}/x"), "allowed is a folder; .* is none"),
    "fan_out through a file": (
        lambda: jaxpg.fan_out(abs, [1], f"{__file__}/x"),
        "folder=.*: allowed is a folder; .* is",
    ),
    "out in /proc": (partial(go, out="/proc/x/y"), r"out='/proc/x/y': cannot be made \("),
    "sweep: out in /proc": (partial(sweep, out="/proc/x/y"), "out='/proc/x/y': cannot be made"),
    "tensorboard='yes'": (partial(go, out="x", tensorboard="yes"), "tensorboard='yes': allowed is"),
    "keep_best=1": (partial(go, out="x", keep_best=1), "keep_best=1: allowed is True or False"),
    "keep_best without a folder": (
        partial(go, keep_best=True),
        "keep_best=True: allowed only with",
    ),
    "keep_best without evaluations": (
        partial(go, out="x", keep_best=True, evaluations=0),
        "evaluations=0: with keep_best",
    ),
    "checkpoint_minutes=0": (
        partial(go, checkpoint_minutes=0),
        "minutes=0: allowed is a number > 0",
    ),
    "checkpoint_minutes=nan": (
        partial(go, checkpoint_minutes=float("nan")),
        "checkpoint_minutes=nan: allowed is a finite",
    ),
    "checkpoint_minutes='5'": (
        partial(go, checkpoint_minutes="5"),
        "checkpoint_minutes='5': allowed is a finite number",
    ),
    "load(best=1)": (lambda: jaxpg.load("run", best=1), "best=1: allowed is True or False"),
    "load(5)": (partial(jaxpg.load, 5), "folder=5: allowed is a path"),
    "resume(None)": (partial(jaxpg.resume, None), "folder=None: allowed is a path"),
    "sweep.load(5)": (partial(jaxpg.sweep.load, 5), "out=5: allowed is a path"),
    "resume: one Callback": (
        partial(jaxpg.resume, "runs/x", callbacks=jaxpg.Callback()),
        "allowed is a list of functions of an event, and of Callbacks",
    ),
    "sweep.resume: one Callback": (
        partial(jaxpg.sweep.resume, "runs/x", callbacks=jaxpg.Callback()),
        "allowed is a list of functions of an event, and of Callbacks",
    ),
    "sweep.result(5, 0)": (partial(jaxpg.sweep.result, 5, 0), "out=5: allowed is a path"),
    "report([5])": (partial(jaxpg.report, [5], "page.html"), "runs=5: allowed is a path"),
    "report(5)": (partial(jaxpg.report, 5, "page.html"), "runs=5: allowed are folders"),
    "report(a path)": (
        partial(jaxpg.report, "run", "page.html"),
        "runs='run': allowed are folders",
    ),
    "report([])": (partial(jaxpg.report, [], "page.html"), r"runs=\[\]: allowed are folders"),
    "report(out=5)": (partial(jaxpg.report, ["run"], 5), "out=5: allowed is a path"),
    "render(5)": (partial(jaxpg.render, 5, "x.gif"), "out=5: allowed is a path"),
    "render(out=5)": (partial(jaxpg.render, "run", 5), "out=5: allowed is a path"),
    "render(fps='x')": (
        partial(jaxpg.render, "run", "x.gif", fps="x"),
        "fps='x': allowed is a number >= 0.1",
    ),
    "render(greedy='x')": (
        partial(jaxpg.render, "run", "x.gif", greedy="x"),
        "greedy='x': allowed",
    ),
    "Policy.load(5)": (partial(jaxpg.Policy.load, 5), "out=5: allowed is a path"),
    "Policy.of(a path)": (partial(jaxpg.Policy.of, "run"), "result='run': allowed is a Result"),
    "Policy.from_file(5)": (partial(jaxpg.Policy.from_file, 5), "path=5: allowed is a path"),
    # metrics of an agent of one's own
    "a metric with a comma": (partial(reporting, "loss/a,b", 0.0), "metric 'loss/a,b': allowed is"),
    "a metric in two lines": (partial(reporting, "loss\n/a", 0.0), r"metric 'loss\\n/a': allowed"),
    "a metric with a quote": (partial(reporting, 'loss/"a"', 0.0), "metric 'loss/.*: allowed is a"),
    "a metric that ends blank": (partial(reporting, "loss ", 0.0), "metric 'loss ': allowed is"),
    "a metric without a name": (partial(reporting, "", 0.0), "metric '': allowed is a name"),
    "a metric named seed": (
        partial(reporting, "seed", 0.0),
        "metric 'seed': .* none of config, seed",
    ),
    "a metric named iteration": (
        partial(reporting, "iteration", 0.0),
        "metric 'iteration': allowed",
    ),
    "a metric named env_steps": (
        partial(reporting, "env_steps", 0.0),
        "metric 'env_steps': allowed",
    ),
    "a metric of evaluations": (
        partial(reporting, "eval/greedy", 0.0),
        "metric 'eval/greedy': all",
    ),
    "a metric of three": (
        partial(reporting, "loss/a", jnp.zeros(3)),
        "metric 'loss/a' is .*scalar",
    ),
    "a complex metric": (
        partial(reporting, "loss/a", jnp.zeros((), complex)),
        "metric 'loss/a' is",
    ),
    "a key for a metric": (partial(reporting, "loss/a", KEY), "metric 'loss/a' is .*scalar"),
    "no metrics": (partial(bad_metrics, {}), "metrics={}: allowed is a dict of scalars"),
    "metrics in a tuple": (partial(bad_metrics, (jnp.zeros(()),)), "metrics=.*allowed is a dict"),
}
