//! Attention and rotary embeddings.
//!
//! Knows masks and head rules. Must not know layers or caches.

rooms! {}
