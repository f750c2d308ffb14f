//! Random numbers: generators, random tensors, and dropout.
//!
//! Knows where seeds and counters come from. Must not know what draws them.

rooms! {
    bernoulli,
    dropout,
    rand,
}

mod generator;
mod randperm;

pub use generator::{Generator, GeneratorState, default_generator, manual_seed};
