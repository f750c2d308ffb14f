//! Matrix products.
//!
//! Knows batching and shape rules of products. Must not know how a product is computed (that is `cpu::gemm`).

rooms! {}
