//! What the documentation states is what the tests hold.
