"""Mistakes that a type checker has to find: each marked line, by this rule, and no other line.

`test_typing.py` has pyright read it; nothing runs it.
"""

import jax

import jaxpg

env, key = jaxpg.make("CartPole-v1"), jax.random.key(0)
cfg = jaxpg.ppo.Config(num_envs=8)

# Names that are not there.
jaxpg.mak("CartPole-v1")  # error: reportAttributeAccessIssue
jaxpg.poo.Config()  # error: reportAttributeAccessIssue
jaxpg.sweep.gird(learning_rate=[1e-3])  # error: reportAttributeAccessIssue
print(jaxpg.ppo.name, jaxpg.ppo.cost)  # error: reportAttributeAccessIssue
print(cfg.num_envs, cfg.num_env)  # error: reportAttributeAccessIssue
print(jaxpg.preset(jaxpg.ppo, "CartPole-v1").gama)  # error: reportAttributeAccessIssue

# Configs.
jaxpg.ppo.Config(num_env=8)  # error: reportCallIssue
jaxpg.ppo.Config(8)  # error: reportCallIssue
jaxpg.ppo.Config(learning_rate="fast")  # error: reportArgumentType
jaxpg.ppo.Config(num_envs=8.0)  # error: reportArgumentType
jaxpg.ppo.Config(hidden=64)  # error: reportArgumentType
jaxpg.ppo.Config(num_envs=None)  # error: reportArgumentType
jaxpg.dqn.Config(clip_eps=0.2)  # error: reportCallIssue
cfg.num_envs = 16  # error: reportAttributeAccessIssue

# Calls.
jaxpg.make()  # error: reportCallIssue
jaxpg.train(jaxpg.ppo, cfg, env, key, steps=1000)  # error: reportCallIssue
jaxpg.train(jaxpg.ppo, jaxpg.dqn.Config(), env, key, 1000)  # error: reportArgumentType
jaxpg.train(jaxpg.ppo, cfg, "CartPole-v1", key, 1000)  # error: reportArgumentType
jaxpg.train(jaxpg.ppo, cfg, env, 0, 1000)  # error: reportArgumentType
jaxpg.evaluate(jaxpg.ppo, cfg, env, None, key, episode=8)  # error: reportCallIssue
jaxpg.run(jaxpg.ppo, cfg, env, key)  # error: reportCallIssue
jaxpg.run(jaxpg.ppo, cfg, env, key, total_steps=1000, callbacks=[3])  # error: reportArgumentType
jaxpg.Callback(on_chunk=lambda event, result: None)  # error: reportArgumentType

# What comes back.
result = jaxpg.run(jaxpg.ppo, cfg, env, key, total_steps=1000)
print(result.metric)  # error: reportAttributeAccessIssue
print(result.cfg.clip_epsilon)  # error: reportAttributeAccessIssue
print(jaxpg.load("runs/mine").steps)  # error: reportAttributeAccessIssue
print(result.metrics["episode/return"].avg())  # error: reportAttributeAccessIssue
jaxpg.Policy.of(result).exprt("policy.jaxpolicy")  # error: reportAttributeAccessIssue
