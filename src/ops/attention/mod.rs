//! Attention: scaled dot products with softmax, and rotary position embeddings.
//!
//! Knows what the family's rooms are. Must not know how scores are computed.

rooms! {
    rotary_embedding,
    scaled_dot_product_attention,
}

mod flash;
mod frame;
mod rotary_lines;
mod scaled_dot_product_attention_backward;
