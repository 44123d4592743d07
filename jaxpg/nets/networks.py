"""Networks: torsos that turn an observation into features."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from jaxpg.core.config import label, require
from jaxpg.core.observations import array_leaves
from jaxpg.core.parallel.devices import shard_axis
from jaxpg.core.types import Array, Key, Tree
from jaxpg.nets.initializers import initializer


class Network(Protocol):
    """Type of a flax module, as agents call it. Flax's own types say that `apply` may return a pair
    of what the module returns and its variables, which it does only with `mutable`."""

    def init(self, *args: Any, **kwargs: Any) -> Any: ...

    def apply(self, *args: Any, **kwargs: Any) -> Any: ...


_OFF = {"layer_norm": False, "batch_norm": False, "dropout": 0.0}  # switches of a torso


STATISTICS = "batch_stats"  # flax's name for what batch norm remembers


_DROPOUT = 0xD0000000  # folded into an update's key: far from the numbers that `split` counts with


class MLP(nn.Module):
    """Fully connected layers, each with the activation: [B, *obs] -> [B, hidden[-1]].

    layer_norm: Ba et al. (2016), arXiv:1607.06450, before each activation.
    batch_norm: Ioffe & Szegedy (2015), arXiv:1502.03167, there too; see `learning`.
    dropout: a fraction of each layer's outputs is zero, before it is normalised, Hiraoka et al.
    (2022), arXiv:2110.02034; only in an `apply` with `rngs`, see `dropping`.
    """

    hidden: tuple[int, ...]
    activation: str | Callable = "tanh"
    kernel_init: str | Callable = "orthogonal"
    layer_norm: bool = False
    batch_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden:
            x = nn.Dense(size, kernel_init=initializer(self.kernel_init, math.sqrt(2)))(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            x = activate(self.activation, _normalized(self, x))
        return x


def activate(activation: str | Callable[[Array], Array], x: Array) -> Array:
    """Applies the field `activation`, one of its names or a function: [..., F] -> [..., F].

    >>> activate("relu", jax.numpy.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return (getattr(nn, activation) if isinstance(activation, str) else activation)(x)


def _normalized(net: nn.Module, x: Array) -> Array:
    x = nn.LayerNorm()(x) if net.layer_norm else x
    if net.batch_norm:
        acting = not net.is_mutable_collection(STATISTICS)
        x = nn.BatchNorm(use_running_average=acting, use_fast_variance=False)(x)
    return x


class Conv(nn.Module):
    """A convolution without padding: [B, H, W, C] -> [B, H', W', features].

    One of stride 1 is a product of the pixels under the kernel with its weights: on a CPU as fast
    as XLA's convolution, and 1.7 times as fast under `vmap`, where that one would be grouped. On a
    CPU one of a larger stride is of stride 1, on blocks of pixels, where the stride divides its
    size: in a loop, as learning is, XLA's took 30 times as long.
    """

    features: int
    size: int
    stride: int = 1
    kernel_init: str | Callable = "orthogonal"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k, channels, stride = self.size, x.shape[-1], self.stride
        init = initializer(self.kernel_init, math.sqrt(2))
        kernel = self.param("kernel", init, (k * k * channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)  # images may be of bytes or truths
        if stride > 1 and (k % stride or jax.default_backend() != "cpu"):
            kernel, axes = kernel.reshape(k, k, channels, -1), ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(
                x, kernel, (stride, stride), "VALID", dimension_numbers=axes
            )
            return x + bias
        if stride > 1:
            x, kernel = _as_blocks(x, kernel, k, stride)
            k //= stride
        rows, cols = x.shape[1] - k + 1, x.shape[2] - k + 1
        across = [jax.lax.slice_in_dim(x, i, i + rows, axis=1) for i in range(k)]
        under = [jax.lax.slice_in_dim(x, j, j + cols, axis=2) for x in across for j in range(k)]
        return jnp.concatenate(under, -1) @ kernel + bias


def _as_blocks(x: Array, kernel: Array, size: int, block: int) -> tuple[Array, Array]:
    """Pixels [B, H, W, C] of a block as channels of one, [B, H / block, W / block, block^2 C], and
    the weights [size^2 C, features] in the order of those; what is beyond whole blocks is left."""
    batch, height, width, channels = x.shape
    rows, cols, many = height // block, width // block, size // block
    x = x[:, : rows * block, : cols * block]
    x = x.reshape(batch, rows, block, cols, block, channels).swapaxes(2, 3)
    kernel = kernel.reshape(many, block, many, block, channels, -1).swapaxes(1, 2)
    flat = block * block * channels
    return x.reshape(batch, rows, cols, flat), kernel.reshape(many * many * flat, -1)


class CNN(nn.Module):
    """Convolutions and then fully connected layers: images [B, H, W, C] -> [B, hidden[-1]].

    Images of at least 36 x 36 go through the three layers of Mnih et al. (2015), smaller ones
    through the one of Young & Tian (2019), arXiv:1903.03176 (MinAtar). What is no image goes to
    the fully connected layers alone. For other layers, subclass with `layers` of your own: the
    number of features, the kernel's size and the stride of each. Pixels are taken as they are:
    bytes are not divided by 255. Raises ValueError for an image that is smaller than its kernels.
    """

    hidden: tuple[int, ...]
    activation: str | Callable = "relu"
    kernel_init: str | Callable = "orthogonal"
    layer_norm: bool = False
    layers: tuple[tuple[int, int, int], ...] = ()
    batch_norm: bool = False
    dropout: float = 0.0  # of the fully connected layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if x.ndim == 4:
            small = ((16, 3, 1),)
            layers = small if min(x.shape[1:3]) < 36 else ((32, 8, 4), (64, 4, 2), (64, 3, 1))
            layers = self.layers or layers
            _check_size(x, layers)
            for features, size, stride in layers:
                x = Conv(features, size, stride, self.kernel_init)(x)
                x = activate(self.activation, _normalized(self, x))
        return MLP(
            self.hidden, self.activation, self.kernel_init,
            self.layer_norm, self.batch_norm, self.dropout,
        )(x)  # fmt: skip


def _check_size(x: Array, layers: Sequence[tuple[int, int, int]]) -> None:
    least = 1
    for _, size, stride in reversed(layers):
        least = (least - 1) * stride + size
    if min(x.shape[1:3]) < least:
        raise ValueError(
            f"CNN on images of {x.shape[1]} x {x.shape[2]}: allowed are at least {least} x {least} "
            f"for its layers (features, kernel, stride) {layers}"
        )


def torso(
    cfg, switches=("layer_norm", "batch_norm"), critic: bool = False
) -> Callable[[], nn.Module]:
    """Makes the torso that a config asks for: [B, *obs] -> features [B, F].

    Reads the fields `net, hidden, activation, kernel_init`, and the `switches`; for a critic those
    of `critic_fields` in the place of the first three. Raises ValueError for a field that is
    missing, and for a switch with a net that has no field of its name.
    """
    off = {name: _OFF[name] for name in switches}
    require(cfg, "nets.networks.torso", "net", "hidden", "activation", "kernel_init", **off)
    own = {x.removeprefix("critic_"): x for x in critic_fields(cfg)} if critic else {}
    net, hidden, activation = (
        getattr(cfg, own.get(name, name)) for name in ("net", "hidden", "activation")
    )
    cls = net.func if isinstance(net, functools.partial) else net
    options = {}
    for name in switches:
        if value := getattr(cfg, name):
            if name not in getattr(cls, "__dataclass_fields__", ()):
                raise ValueError(
                    f"{label(type(cfg))} {name}={value!r}: allowed is {type(value)()!r} with "
                    f"{own.get('net', 'net')}={cls.__name__}, which has no field {name!r}"
                )
            options[name] = value
    # A class of the user's own gets a name as the name, all else as flax takes it.
    init = cfg.kernel_init
    init = init if isinstance(init, str) else initializer(init, 1.0)
    return functools.partial(net, hidden, activation, init, **options)


def critic_fields(cfg) -> list[str]:
    """Fields by which the critic's torso differs from the actor's: those of `critic_net,
    critic_hidden, critic_activation` that are not None.

    A config may be without all three. Raises ValueError for one that has only some of them.
    """
    names = "critic_net", "critic_hidden", "critic_activation"
    if not any(hasattr(cfg, name) for name in names):
        return []
    require(cfg, "nets.networks.torso", **dict.fromkeys(names))
    return [name for name in names if getattr(cfg, name) is not None]


def dropping(cfg, key: Any, use: int = 0) -> dict[str, Key]:
    """The `rngs` of an `apply` that shall drop, by the field `dropout`; {} without dropout.

    key: an update's, that may serve other draws too; None without dropout. use: a number of its own
    for each `apply`.
    """
    return {"dropout": jax.random.fold_in(key, _DROPOUT + use)} if cfg.dropout else {}


def learning(net: Network, variables: Tree, *args, **kwargs) -> Tree:
    """Applies a network in an update: batch norm uses the mean and variance of this batch, where a
    plain `apply`, of what acts and of targets, uses the running ones."""
    return net.apply(variables, *args, mutable=[STATISTICS], **kwargs)[0]


def running(net: Network, variables: Tree, *args, **kwargs) -> Tree:
    """Updates batch norm's running statistics with a batch: 0.99 of what they were and 0.01 of its
    mean and (biased) variance. Without batch norm the variables stay as they are."""
    if STATISTICS not in variables:
        return variables
    _, new = net.apply(variables, *args, mutable=[STATISTICS], **kwargs)
    old = variables[STATISTICS]
    own_type = lambda old, new: new.astype(old.dtype)  # noqa: E731
    return variables | {STATISTICS: jax.tree.map(own_type, old, new[STATISTICS])}


def features(
    torsos: nn.Module | Sequence[nn.Module], shapes: tuple[tuple[int, ...], ...], obs: Tree
) -> Array:
    """Every leaf of an observation [..., *shape] through its own torso, side by side: [..., F].

    torsos: one for each leaf; or the one, of an observation that is an array.
    """
    parts, torsos = [], [torsos] if isinstance(torsos, nn.Module) else torsos
    for torso, shape, x in zip(torsos, shapes, array_leaves(obs), strict=True):
        lead = x.shape[: x.ndim - len(shape)]
        flat = shard_axis(x.reshape(-1, *shape), 0)  # [T, N] merged cannot be split as N was
        y = torso(flat)
        parts.append(y.reshape(*lead, y.shape[-1]))
    return jnp.concatenate(parts, -1) if len(parts) > 1 else parts[0]
