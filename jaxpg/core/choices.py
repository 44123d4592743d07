"""Names that fields of networks and policies choose from; `nets` gives them their meaning."""

ACTIVATIONS = (
    "tanh", "relu", "elu", "gelu", "silu", "leaky_relu",
    "selu", "celu", "softplus", "sigmoid", "soft_sign", "hard_tanh", "relu6",
)  # fmt: skip
INITS = ("orthogonal", "lecun", "he")
MEMORIES = ("none", "gru", "lstm", "attention")

# kind of action space -> its policy heads; the first is "auto"
HEADS_OF = {
    "discrete": ("categorical",),
    "multi-discrete": ("multi_categorical",),
    "multi-binary": ("bernoulli",),
    "continuous": (
        "gaussian",
        "gaussian_state_std",
        "tanh_gaussian",
        "tanh_gaussian_state_std",
        "beta",
        "mixture",
        "tanh_mixture",
        "flow",
    ),
}
HEADS = ("auto", *sum(HEADS_OF.values(), ()))
POINT_HEADS = (*HEADS, "deterministic")  # of agents that need no density
