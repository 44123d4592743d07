"""Networks, and the distributions of actions that stand on them.

networks.py      torsos: from an observation to features
actor_critic.py  a policy's outputs and a value
continuous.py    policies for bounded continuous actions
values.py        values of states and actions
options.py       policies, terminations and values of options
memories.py      recurrent layers and attention
dynamics.py      embeddings, and models of what actions do
noise.py         noise that is a function of the state
initializers.py  weights at the start
heads            distributions over actions
"""
