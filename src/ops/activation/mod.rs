//! Activations: elementwise functions between layers.
//!
//! Knows nothing beyond its rooms; the shape and dtype rules are those of `elementwise`.

rooms! {
    gelu,
    relu,
    silu,
}
