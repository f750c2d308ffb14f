//! Activations: elementwise functions between layers.
//!
//! Knows nothing beyond its rooms; the shape and dtype rules are those of `elementwise`. Must not know layers.

mod gate;

rooms! {
    celu,
    elu,
    gelu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    silu,
    softplus,
    softshrink,
    softsign,
    swiglu,
    tanhshrink,
    threshold,
}
