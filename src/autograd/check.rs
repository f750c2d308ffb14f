//! Gradient checking: a backward pass against central differences.
//!
//! Knows functions of tensors only. Must not know ops or the tape's insides.
