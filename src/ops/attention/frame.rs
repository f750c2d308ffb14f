//! The shapes of attention: heads, rows and keys, and how operands broadcast to them.
//!
//! Knows shapes and layouts. Must not know how scores are computed.

use crate::cpu::attention::{Operand, Sizes};
use crate::ops::prelude::*;

/// The op's name in errors.
pub(super) const NAME: &str = "scaled_dot_product_attention";

/// The sizes of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// The dims before rows: batches, then query heads.
    pub batch: Shape,
    pub rows: usize,
    pub keys: usize,
    pub width: usize,
    pub value_width: usize,
    /// Query heads in a row that share a key head.
    pub group: usize,
}

/// A shape as batch, rows and columns.
fn parts(shape: &Shape) -> Result<(Shape, usize, usize)> {
    match shape.dims() {
        [batch @ .., rows, columns] => Ok((Shape::from(batch), *rows, *columns)),
        _ => Err(Error::shape(NAME, shape, "at least two dims: [.., l, e]")),
    }
}

impl Frame {
    /// The sizes for queries, keys and values, which share heads where `grouped`.
    pub fn of(query: &Shape, key: &Shape, value: &Shape, grouped: bool) -> Result<Self> {
        let (batch, rows, width) = parts(query)?;
        let (key_batch, keys, key_width) = parts(key)?;
        let (value_batch, value_rows, value_width) = parts(value)?;
        if key_width != width || value_rows != keys {
            return Err(Error::shape(
                NAME,
                format!("{query}, {key} and {value}"),
                "queries [.., l, e], keys [.., s, e], values [.., s, v]",
            ));
        }
        let group = if grouped {
            shared([&batch, &key_batch, &value_batch])?
        } else {
            1
        };
        let spread = |batch: &Shape| match batch.dims() {
            [.., heads] if grouped => batch.with(batch.rank() - 1, heads * group),
            _ => *batch,
        };
        let batch = batch
            .broadcast(NAME, &spread(&key_batch))?
            .broadcast(NAME, &spread(&value_batch))?;
        Ok(Frame {
            batch,
            rows,
            keys,
            width,
            value_width,
            group,
        })
    }

    /// The batch with two dims more.
    pub fn shape(&self, rows: usize, columns: usize) -> Shape {
        self.batch
            .dims()
            .iter()
            .copied()
            .chain([rows, columns])
            .collect()
    }

    /// The same for operands that share heads.
    pub fn shared_shape(&self, rows: usize, columns: usize) -> Shape {
        let shape = self.shape(rows, columns);
        match shape.rank().checked_sub(3) {
            Some(dim) => shape.with(dim, shape.size(dim) / self.group.max(1)),
            None => shape,
        }
    }

    /// The shape of the result.
    pub fn result(&self) -> Shape {
        self.shape(self.rows, self.value_width)
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            heads: self.batch.elements(),
            group: self.group.max(1),
            rows: self.rows,
            keys: self.keys,
            width: self.width,
            value_width: self.value_width,
        }
    }

    /// Queries or something of their kind, as an operand of the host's kernel.
    pub fn own<'a>(&self, x: &'a Host<'a>, rows: usize, columns: usize) -> Result<Operand<'a>> {
        let layout = x.layout().expand(NAME, &self.shape(rows, columns))?;
        Operand::new(NAME, x, &layout, 1)
    }

    /// Keys or values as an operand of the host's kernel.
    pub fn shared<'a>(&self, x: &'a Host<'a>, columns: usize) -> Result<Operand<'a>> {
        let shape = self.shared_shape(self.keys, columns);
        let layout = x.layout().expand(NAME, &shape)?;
        Operand::new(NAME, x, &layout, self.group.max(1))
    }
}

/// How many query heads share a key head.
fn shared([query, key, value]: [&Shape; 3]) -> Result<usize> {
    let misfit = || {
        Error::shape(
            NAME,
            format!("heads of {query}, {key} and {value}"),
            "as many heads of values as of keys, and a multiple of queries",
        )
    };
    let heads = |batch: &Shape| batch.dims().last().copied().ok_or_else(misfit);
    let (own, keys, values) = (heads(query)?, heads(key)?, heads(value)?);
    match (own, keys) {
        _ if keys != values => Err(misfit()),
        (0, 0) => Ok(1),
        _ if keys == 0 || own % keys != 0 => Err(misfit()),
        _ => Ok(own / keys),
    }
}
