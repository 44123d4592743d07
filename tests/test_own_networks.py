"""Actor and critic that differ; torsos, activations and initialisers of the user's own."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxpg
from jaxpg import agents
from jaxpg.cli import options
from jaxpg.core.choices import ACTIVATIONS
from jaxpg.core.choices import INITS as INITS_NAMES
from jaxpg.core.config import from_dict, to_dict
from jaxpg.core.network_fields import Activation
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.run.folder import open_folder
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import CNN, MLP, activate, torso
from tests.conftest import TINY, short_env
from tests.experiments import run_folder

KEY = jax.random.key(3)
ENV = jaxpg.make("CartPole-v1")
TWO = [  # agents with an actor and a critic
    "reinforce", "a2c", "a3c", "impala", "npg", "trpo", "ppo", "ddpg", "td3", "sac", "sac_discrete",
]  # fmt: skip
INITS = nn.initializers


class Deep(nn.Module):
    """A user's own, which needs one number more."""

    hidden: tuple[int, ...]
    activation: Activation
    kernel_init: str
    layers: int

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for _ in range(self.layers):
            init = initializer(self.kernel_init, 1.0)
            x = activate(self.activation, nn.Dense(self.hidden[0], kernel_init=init)(x))
        return x


def snake(x):
    return x + jnp.sin(x) ** 2


def halves(key, shape, dtype):
    """An initialiser without defaults."""
    return jnp.full(shape, 0.5, dtype)


def make_halves():
    return halves


def begin(agent, cfg, env=ENV):
    """The shapes of a training state, by names."""
    state = jax.eval_shape(functools.partial(agent.init, cfg, env), KEY)
    return {jax.tree_util.keystr(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(state)}


# Actor and critic.


@pytest.mark.parametrize("name", [*TWO, "sac, value network"])
def test_actor_and_critic_differ(name):
    name, _, more = name.partition(", ")
    agent = agents.get(name)
    tiny = TINY[name] | {"hidden": (4, 5), "critic_hidden": (6, 7, 8), "critic_net": MLP}
    cfg = agent.Config(**tiny | ({"value_network": True} if more else {}))
    layers = {True: {}, False: {}}
    for path, shape in begin(agent, cfg, short_env(agent, cfg)).items():
        if found := re.search(r"\['Dense_(\d)'\]\['bias'\]$", path):
            of_critic = re.search(r"critic|\.value|\.target(?!\.actor)", path) is not None
            layers[of_critic].setdefault(int(found[1]), set()).add(shape[-1])
    assert layers == {True: {0: {6}, 1: {7}, 2: {8}}, False: {0: {4}, 1: {5}}}


def test_each_has_its_own_activation_and_net():
    cfg = jaxpg.ppo.Config(
        hidden=(5,),
        critic_hidden=(3,),
        critic_activation=snake,
        critic_net=functools.partial(Deep, layers=2),
    )
    net, _ = actor_critic(cfg, ENV)
    obs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    variables = net.init(KEY, obs)
    out, value, _ = net.apply(variables, obs)
    p = jax.tree.map(np.asarray, variables["params"])
    x = np.tanh(obs @ p["actor_torso"]["Dense_0"]["kernel"])
    np.testing.assert_allclose(out, x @ p["actor"]["kernel"], atol=1e-5)
    y = obs
    for layer in ("Dense_0", "Dense_1"):
        y = y @ p["critic_torso"][layer]["kernel"]
        y = y + np.sin(y) ** 2
    np.testing.assert_allclose(value, (y @ p["critic"]["kernel"])[:, 0], atol=1e-5)


def test_memories_stand_on_both():
    cfg = jaxpg.ppo.Config(hidden=(4,), critic_hidden=(3,), memory="gru", memory_size=2)
    shapes = begin(jaxpg.ppo, cfg)
    for part, width in {"actor": 4, "critic": 3}.items():
        assert shapes[f".params['params']['{part}_memory']['inputs']['kernel']"] == (width, 6)


def test_switches_are_the_critics_too():
    """Where its own net has none, the error names it."""
    deep = functools.partial(Deep, layers=1)
    said = "a2c.Config layer_norm=True: allowed is False with critic_net=Deep, which has no field"
    with pytest.raises(ValueError, match=re.escape(said)):
        begin(jaxpg.a2c, jaxpg.a2c.Config(layer_norm=True, critic_net=deep))
    cfg = jaxpg.a2c.Config(layer_norm=True, critic_net=CNN, critic_hidden=(2,))
    assert any("critic_torso']['MLP_0']['LayerNorm_0']" in path for path in begin(jaxpg.a2c, cfg))


def test_an_agent_without_the_fields_has_one_setting_for_both():
    class Config:
        net, hidden, activation, kernel_init = MLP, (4,), "tanh", "orthogonal"
        layer_norm = batch_norm = False

    assert torso(Config(), critic=True).args == torso(Config()).args
    Config.critic_hidden = None
    with pytest.raises(ValueError, match=r"no 'critic_net', which nets\.networks\.torso reads"):
        torso(Config(), critic=True)


# What is not allowed.

DEEP = functools.partial(Deep, layers=2)
ONE_ARRAY = ".*'tanh'.*, or a function of one array that gives one of the same shape"
TAKES = ".*a flax module class that takes .hidden, activation, kernel_init."
AN_INIT = ".*'he', or an initialiser init.key, shape, dtype. without a QR decomposition"
REFUSED = {
    "an activation of numbers": ({"activation": lambda x: float(x)}, f"activation={ONE_ARRAY}"),
    "of another shape": ({"activation": lambda x: x[..., 0]}, f"activation={ONE_ARRAY}"),
    "of truths": ({"activation": lambda x: x > 0}, f"activation={ONE_ARRAY}"),
    "of two arrays": ({"activation": jnp.add}, f"activation={ONE_ARRAY}"),
    "a class": ({"activation": nn.PReLU}, f"activation={ONE_ARRAY}"),
    "the critic's": ({"critic_activation": jnp.argmax}, f"critic_activation={ONE_ARRAY}"),
    "a partial": (
        {"activation": functools.partial(jax.nn.elu, beta=2)}, f"activation={ONE_ARRAY}"
    ),
    "a name": ({"critic_activation": "sine"}, f"critic_activation='sine'{ONE_ARRAY}"),
    "no torso": ({"critic_net": nn.Dense}, f"critic_net={TAKES}.*or None"),
    "a torso that is given its units": ({"net": functools.partial(MLP, (3,))}, f"net={TAKES}"),
    "by their name": ({"net": functools.partial(MLP, hidden=(3,))}, f"net={TAKES}"),
    "one that does not take it": ({"net": functools.partial(MLP, layers=3)}, f"net={TAKES}"),
    "one that needs more": ({"net": Deep}, f"net={TAKES}"),
    "no units": ({"critic_hidden": (0,)}, "critic_hidden=.*a tuple of integers >= 1, or None"),
    "an initialiser with QR": ({"kernel_init": INITS.orthogonal()}, f"kernel_init={AN_INIT}"),
    "what makes it": ({"kernel_init": INITS.orthogonal}, f"kernel_init={AN_INIT}"),
    "one that needs arguments": ({"kernel_init": INITS.variance_scaling}, f"kernel_init={AN_INIT}"),
    "of another form": ({"kernel_init": lambda key: key}, f"kernel_init={AN_INIT}"),
    "of another shape of weights": (
        {"kernel_init": lambda k, s, d: jnp.zeros(s[0], d)}, f"kernel_init={AN_INIT}",
    ),
    "hidden of a critic with a shared torso": (
        {"shared": True, "critic_hidden": (64, 64)},
        r"critic_hidden=\(64, 64\): allowed is None with shared=True, where actor and critic",
    ),
    "its net": ({"shared": True, "critic_net": MLP}, "critic_net=.*None with shared=True"),
    "its activation": (
        {"shared": True, "critic_activation": "elu"}, "critic_activation='elu': allowed is None",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    fields, said = REFUSED[case]
    with pytest.raises(ValueError, match=rf"^ppo\.Config {said}"):
        begin(jaxpg.ppo, jaxpg.ppo.Config(**fields))


# First weights.


@pytest.mark.parametrize(
    "init", [halves, make_halves, INITS.constant(0.5), functools.partial(INITS.constant, 0.5)]
)
def test_an_initialiser_makes_all_kernels(init):
    """Heads too: it has no gain. Biases are zero."""
    cfg = jaxpg.ppo.Config(net=CNN, hidden=(3,), critic_net=DEEP, kernel_init=init)
    net, _ = actor_critic(cfg, jaxpg.make("Breakout-MinAtar"))
    variables = jax.jit(net.init)(KEY, jnp.zeros((10, 10, 4)))
    for path, x in jax.tree_util.tree_leaves_with_path(variables):
        expected = 0.5 if path[-1].key == "kernel" else 0.0
        assert (np.asarray(x) == expected).all(), path


def test_names_have_a_gain():
    net, _ = actor_critic(jaxpg.ppo.Config(hidden=(64,), kernel_init="lecun"), ENV)
    p = jax.jit(net.init)(KEY, jnp.zeros(4))["params"]
    assert np.std(p["actor"]["kernel"]) < np.std(p["critic"]["kernel"]) / 20


def test_a_torso_gets_an_initialiser_as_flax_takes_it():
    """Whether the user gave it or what makes it; a name stays a name."""
    for init in (INITS.xavier_uniform(), INITS.xavier_uniform):
        given = torso(jaxpg.ppo.Config(kernel_init=init)).args[2]
        np.testing.assert_array_equal(given(KEY, (4, 3)), INITS.xavier_uniform()(KEY, (4, 3)))
        assert given is torso(jaxpg.ppo.Config(kernel_init=init)).args[2]  # one trace for all
    assert torso(jaxpg.ppo.Config(kernel_init="he")).args[2] == "he"


# Programs, files, commands.

OWN = {
    "hidden": (4,), "activation": jax.nn.mish, "critic_hidden": (3,),
    "critic_activation": functools.partial(jax.nn.elu, alpha=2.0),
    "critic_net": functools.partial(CNN, layers=((3, 2, 1),)),
    "kernel_init": functools.partial(INITS.normal, 0.1),
}  # fmt: skip


def own(**more):
    """The same fields in new objects."""
    copied = functools.partial(CNN, layers=((3, 2, 1),))
    return OWN | {"critic_net": copied, "kernel_init": functools.partial(INITS.normal, 0.1)} | more


def test_equal_partials_are_one_program():
    one, other = (jax.tree.structure(jaxpg.a2c.Config(**x)) for x in (OWN, own()))
    assert one == other
    assert hash(one) == hash(other)
    third = own(kernel_init=functools.partial(INITS.normal, 0.2))
    assert jax.tree.structure(jaxpg.a2c.Config(**third)) != one


def test_it_learns():
    """Both parts move, and a config that equals another is not compiled again."""
    begun = jaxpg.a2c.Config(num_envs=2, num_steps=2, **OWN)
    traced = []

    @jax.jit
    def train(cfg):
        traced.append(cfg)
        state, _ = jaxpg.train(jaxpg.a2c, cfg, ENV, KEY, 12)
        return jaxpg.a2c.init(cfg, ENV, jax.random.split(KEY)[0]).params, state.params

    before, after = train(begun)
    train(jaxpg.a2c.Config(num_envs=2, num_steps=2, **own()))
    assert len(traced) == 1
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)["params"]
    for part in ("actor_torso", "actor", "critic_torso", "critic"):
        assert all(jax.tree.leaves(moved[part]))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_a_folder_gives_them_again(tmp_path):
    cfg = jaxpg.ppo.Config(**OWN)
    path = run_folder(tmp_path / "run", [[1.0]], config=to_dict(cfg))
    told = json.loads((path / "run.json").read_text())["config"]
    assert told["activation"] == "jax.nn:mish"
    assert told["critic_net"]["keywords"] == {"layers": [[3, 2, 1]]}
    again = open_folder(path, None, None, False).cfg
    assert {name: getattr(again, name) for name in OWN} == {n: getattr(cfg, n) for n in OWN}


def test_what_no_file_can_hold():
    cfg = jaxpg.ppo.Config(net=functools.partial(Deep, layers=object()))
    with pytest.raises(ValueError, match=r"ppo\.Config net=.*no file can hold <object"):
        to_dict(cfg)
    said = "activation=.*no file can name it, allowed is a function of a module"
    points = [{"activation": "tanh"}, {"activation": lambda x: x}]
    with pytest.raises(ValueError, match=said):
        jaxpg.sweep.run(jaxpg.ppo, jaxpg.ppo.Config(), ENV, KEY, points, total_steps=512, seeds=1)


def typed(*words):
    """The config that the command makes of words."""

    def seen(agent, env_name, config, total_steps=1):
        return from_dict(agent.Config, vars(config), trust=True)

    return options.call_with_agent("train", seen, "", ["ppo", "CartPole-v1", *words])


def test_the_command_takes_names_and_partials():
    cfg = typed(
        "--config.activation", "jax.nn:mish", "--config.critic-hidden", "3", "3",
        "--config.net", "jaxpg.nets.networks:CNN", "--config.critic-net",
        f'{{"partial": "{__name__}:Deep", "keywords": {{"layers": 2}}}}',
        "--config.kernel-init", "jax.nn.initializers:xavier_uniform",
    )  # fmt: skip
    assert (cfg.net, cfg.critic_hidden, cfg.activation) == (CNN, (3, 3), jax.nn.mish)
    assert cfg.critic_net == jaxpg.ppo.Config(critic_net=DEEP).critic_net
    assert cfg.kernel_init is INITS.xavier_uniform
    words = "--config.critic-net None --config.critic-hidden None --config.critic-activation None"
    assert typed(*words.split()) == typed()
    with pytest.raises(ValueError, match=r"critic_activation='sine': allowed is one of 'tanh'"):
        typed("--config.critic-activation", "sine")


def test_the_help_names_the_choices(capsys):
    with pytest.raises(SystemExit):
        typed("--help")
    said = capsys.readouterr().out
    for field in ("activation", "critic-activation", "kernel-init"):
        block = said.partition(f"--config.{field} ")[2].partition("--config.")[0]
        choices = INITS_NAMES if field == "kernel-init" else ACTIVATIONS
        assert all(name in block for name in choices)


def test_values_of_a_sweep_on_the_command():
    text = 'net={"partial": "m:N", "args": [1, 2]},a.b:C'
    told = {"partial": "m:N", "args": [1, 2]}
    assert options.parse_values(text) == ("net", [told, "a.b:C"])
    found = options.parse_values("activation=tanh,flax.linen:gelu")
    assert found == ("activation", ["tanh", "flax.linen:gelu"])


def test_partials_in_tables():
    told = to_dict(jaxpg.ppo.Config(**OWN))
    assert scores.text(told["critic_activation"]) == "elu(alpha=2)"
    assert scores.text(told["critic_net"]) == "CNN(layers=3 x 2 x 1)"
    nested = to_dict(jaxpg.ppo.Config(net=functools.partial(Deep, layers=MLP)))["net"]
    assert scores.text(nested) == "Deep(layers=MLP)"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_run_of_ones_own_networks(name, tmp_path):
    """Trained with two seeds, loaded to the byte, gone on with, and evaluated."""
    agent, more = agents.get(name), {"activation": snake, "kernel_init": make_halves}
    cfg = agent.Config(**TINY[name] | own(**more, critic_net=DEEP))
    env, keys = short_env(agent, cfg), jax.random.split(KEY)
    steps, folder = 4 * agent.steps_per_iter(cfg), tmp_path / "run"
    trained = jaxpg.run(
        agent, cfg, env, keys, total_steps=steps, evaluations=1, episodes=2, out=folder
    )
    loaded = jaxpg.load(folder)
    assert {n: getattr(loaded.cfg, n) for n in OWN} == {n: getattr(cfg, n) for n in OWN}
    longer = jaxpg.resume(folder, total_steps=2 * steps)
    first, again, last = (jax.tree.leaves(learnt(x.state)) for x in (trained, loaded, longer))
    for a, b, c in zip(first, again, last, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(c).all()
    assert any(np.any(a != c) for a, c in zip(first, last, strict=True))
    play = functools.partial(jaxpg.evaluate, agent, cfg, env, key=keys[0], episodes=2)
    assert np.isfinite(jax.vmap(lambda state: play(state=state))(longer.state)).all()


def learnt(state):
    return state.learner.params if hasattr(state, "learner") else state.params
