//! The ops: one file per op, grouped in families, and the catalog of them all.
//!
//! Knows the list of families. Must not know storages, nor how an op is dispatched.

/// Declares the rooms of a family: a module per op, its public names, and its entries in the catalog.
macro_rules! rooms {
    ($($room:ident),* $(,)?) => {
        $(mod $room;)*
        #[allow(unused_imports, reason = "many rooms have no public type of their own")]
        pub use self::{$($room::*),*};
        /// The family's ops.
        pub(crate) const CATALOG: &[$crate::op::OpInfo] = &[$($room::INFO),*];
    };
}

pub mod activation;
pub mod attention;
pub mod conv;
pub mod creation;
pub mod elementwise;
pub mod index;
pub mod linear;
pub mod loss;
pub mod moe;
pub mod norm;
pub mod pool;
pub(crate) mod prelude;
pub mod quant;
pub mod random;
pub mod recurrent;
pub mod reduce;
pub mod sort;
pub mod update;
pub mod view;

use crate::op::OpInfo;

const FAMILIES: &[&[OpInfo]] = &[
    activation::CATALOG,
    attention::CATALOG,
    conv::CATALOG,
    creation::CATALOG,
    elementwise::CATALOG,
    index::CATALOG,
    linear::CATALOG,
    loss::CATALOG,
    moe::CATALOG,
    norm::CATALOG,
    pool::CATALOG,
    quant::CATALOG,
    random::CATALOG,
    recurrent::CATALOG,
    reduce::CATALOG,
    sort::CATALOG,
    update::CATALOG,
    view::CATALOG,
];

/// Every op of the crate, with sample calls: what the tests over all ops enumerate.
///
/// ```
/// assert!(ascend_tensor::catalog().any(|op| op.name == "add"));
/// ```
pub fn catalog() -> impl Iterator<Item = &'static OpInfo> {
    FAMILIES.iter().flat_map(|family| family.iter())
}
