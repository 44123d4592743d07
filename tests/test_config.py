"""Fields of configs: each says what it means, and none that is missing is silently a default."""

import dataclasses
import functools
import json
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax
import pytest

import jaxpg
from jaxpg import agents
from jaxpg.core import fields
from jaxpg.core.config import config, from_dict, number, static, to_dict, validate
from jaxpg.core.names import Kind
from jaxpg.core.schedules import schedule
from jaxpg.loops import replay
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from tests.conftest import INSTALLED

ENV = jaxpg.make("CartPole-v1")


@pytest.mark.parametrize("name", INSTALLED)
def test_every_field_has_help(name):
    for field in dataclasses.fields(agents.get(name).Config):
        text = field.metadata["help"]
        assert text[0].isupper() or text.split()[0].rstrip(",") in {"alpha", "beta", "nu", "b"}
        assert text.endswith(".")
        assert "\n" not in text


@pytest.mark.parametrize("name", INSTALLED)
def test_help_lists_every_field(name):
    cls = agents.get(name).Config
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    for field in dataclasses.fields(cls):
        assert f"{field.name} = " in text
        assert field.metadata["help"] in text


def test_help_says_default_meaning_and_what_is_allowed():
    text = pydoc.render_doc(jaxpg.ppo.Config, renderer=pydoc.plaintext)
    lines = [line.lstrip(" |") for line in text.splitlines()]
    at = lines.index("gae_lambda = 0.95")
    assert lines[at + 1].startswith("Lambda of generalised advantage estimation")
    assert lines[at + 2] == "Allowed: a finite number >= 0 and <= 1."
    assert "net = MLP" in lines
    assert "Allowed: one of 'clip', 'kl', 'lagrangian'." in lines


def test_a_config_keeps_its_own_docstring():
    @config
    class Config:
        """Mine."""

        rate: float = number(0.1, gt=0, help="Of everything.")
        size: int = static(3)
        rate_schedule: str = schedule(help="Of the rate.")

    assert Config.__doc__.startswith(
        "Mine.\n\nrate = 0.1\n    Of everything.\n    Allowed: a finite number > 0.\n\n"
        "size = 3\n    Allowed: an integer.\n\nrate_schedule = 'constant'\n    Of the rate.\n"
    )


def network(**constants):
    """A config of one's own, with the fields of a network and these class constants."""

    class Config:
        head: str = fields.head("auto")
        temperature: float = fields.temperature(1.0)
        net: type = fields.net(MLP)
        hidden: tuple[int, ...] = fields.hidden((4,))
        activation: str = fields.activation("tanh")
        kernel_init: str = fields.kernel_init("orthogonal")
        layer_norm: bool = fields.layer_norm(False)

    for name, value in constants.items():
        Config.__annotations__[name] = ClassVar[type(value)]
        setattr(Config, name, value)
    return config(Config)


@pytest.mark.parametrize("name", ["ppo", "q_learning"])
def test_a_misspelt_field_is_refused_by_name(name):
    """In the class, in `preset` and in a copy alike."""
    agent = jaxpg.agents.get(name)
    words = rf"unknown {name}.Config field 'learnin_rate': did you mean 'learning_rate'\?"
    for make in (
        lambda: agent.Config(learnin_rate=0.1),
        lambda: jaxpg.preset(name, "CartPole-v1", learnin_rate=0.1),
        lambda: dataclasses.replace(agent.Config(), learnin_rate=0.1),
    ):
        with pytest.raises(ValueError, match=words):
            make()


def test_constants_stand_for_absent_fields():
    cfg = network(shared=False, memory="none", batch_norm=False)()
    validate(cfg)
    assert "shared" not in {field.name for field in dataclasses.fields(cfg)}
    net, pi = actor_critic(cfg, ENV)
    assert (net.shared, net.critic_gradient, pi.outputs) == (False, True, 2)


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({}, r"has no 'shared', which nets.actor_critic reads: allowed is a field of this"
             r" name, or, to go without, `shared: ClassVar\[bool\] = False`"),
        ({"shared": False}, r"no 'batch_norm', which nets.networks.torso .*ClassVar\[bool\] = F"),
        ({"shared": False, "batch_norm": False}, r"no 'memory'.*`memory: ClassVar\[str\] = 'none'"),
    ],
)  # fmt: skip
def test_a_field_that_is_missing_is_named(constants, message):
    with pytest.raises(ValueError, match=message):
        actor_critic(network(**constants)(), ENV)


def test_the_replay_loop_names_what_is_missing():
    cfg = network(random_warmup=False, n_step=1)()
    with pytest.raises(ValueError, match=r"'prioritized', which loops.replay reads: .* = False"):
        replay.init(cfg, ENV, jax.random.key(0))


def test_no_field_is_read_with_a_default():
    """`getattr(cfg, name, default)` would take a misspelt field for one that is off."""
    package = Path(jaxpg.__file__).parent
    found = [
        f"{file.name}: {line.strip()}"
        for file in package.rglob("*.py")
        if not file.relative_to(package).parts[0].startswith("cli")  # searches have no num_envs
        for line in file.read_text().splitlines()
        if re.search(r"getattr\((cfg|config|self\.cfg), [^,()]+,", line)
    ]
    assert not found


RULE = Kind("a function", callable)


@config
class Callables:
    rule: str | Callable = static("plain", choices=("plain", "bold"), kind=RULE, help="A rule.")
    net: type | None = static(None, kind=RULE, help="A class.")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("bold", "bold"),
        (jax.nn.gelu, "jax.nn:gelu"),
        (
            functools.partial(jax.nn.gelu, approximate=False),
            {"partial": "jax.nn:gelu", "args": [], "keywords": {"approximate": False}},
        ),
        (
            functools.partial(MLP, (2, 3), activation=functools.partial(jax.nn.elu, alpha=2)),
            {
                "partial": "jaxpg.nets.networks:MLP",
                "args": [[2, 3]],
                "keywords": {
                    "activation": {"partial": "jax.nn:elu", "args": [], "keywords": {"alpha": 2}}
                },
            },
        ),
    ],
)
def test_a_callable_goes_to_json_and_back(value, told):
    cfg = Callables(rule=value)
    assert json.loads(json.dumps(to_dict(cfg)["rule"])) == told
    again = from_dict(Callables, json.loads(json.dumps(to_dict(cfg))))
    assert again == cfg
    assert hash(again.rule) == hash(cfg.rule)


def test_equal_partials_share_a_program():
    traces = []

    @jax.jit
    def scale(cfg):
        traces.append(cfg)
        return cfg.rule(2.0)

    for alpha in (2.0, 2.0, 3.0):
        scale(Callables(rule=functools.partial(jax.nn.elu, alpha=alpha)))
    assert len(traces) == 2
    partial = functools.partial(jax.nn.elu, alpha=[1])  # a list has no hash, a tuple has one
    assert Callables(rule=partial).rule.keywords == {"alpha": (1,)}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("cursive", "allowed is one of 'plain', 'bold', or a function"),
        ("jax.nn:nothing", "jax.nn has no nothing"),
        ({"partial": 3}, "allowed is module:Name"),
        ({"partial": "jax.nn:elu", "args": 3}, '"args" as a list'),
        ({"partial": "jax.nn:elu", "keywords": {"x": {"name": "nothing:at_all"}}}, "run its code"),
    ],
)
def test_a_callable_that_is_none(told, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        from_dict(Callables, {"rule": told})
    with pytest.raises(ValueError, match="allowed is one of 'plain', 'bold', or a function"):
        validate(Callables(rule=3))
