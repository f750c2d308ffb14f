//! `pixel_shuffle` and `pixel_unshuffle`: channels to and from places; reshapes and a permute, so without ops of their own.

use crate::ops::prelude::*;

/// The product of the leading dims and the last three; and the factor, at least 1.
fn sizes(op: &'static str, x: &Shape, factor: i64) -> Result<([usize; 4], usize)> {
    let [lead @ .., channels, rows, columns] = x.dims() else {
        return Err(Error::shape(op, x, "at least three dims"));
    };
    let factor = usize::try_from(factor)
        .ok()
        .filter(|factor| (1..=1 << 16).contains(factor));
    let factor = factor.ok_or_else(|| {
        Error::option(op, "factor", "got a factor out of range, wanted at least 1")
    })?;
    Ok(([lead.iter().product(), *channels, *rows, *columns], factor))
}

/// The leading dims of a shape with three others after them.
fn with_last(x: &Shape, last: [usize; 3]) -> Shape {
    x.dims()[..x.rank().saturating_sub(3)]
        .iter()
        .copied()
        .chain(last)
        .collect()
}

impl Tensor {
    /// Channels to places: `out[c, h r + i, w r + j] = in[c r^2 + i r + j, h, w]`.
    ///
    /// Shapes: `[.., c r^2, h, w] -> [.., c, h r, w r]`. Dtypes: all. PyTorch: `torch.nn.functional.pixel_shuffle`.
    /// NPU: `aclnnInplaceCopy`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1i32]], [[2]], [[3]], [[4]]]);
    /// assert_eq!(x.pixel_shuffle(2)?.dims(), [1, 2, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the channels cannot be divided or there are fewer than three dims, `Option` for a factor below 1.
    pub fn pixel_shuffle(&self, factor: i64) -> Result<Tensor> {
        let ([lead, channels, rows, columns], r) = sizes("pixel_shuffle", self.shape(), factor)?;
        if channels % (r * r) != 0 {
            return Err(Error::shape(
                "pixel_shuffle",
                self.shape(),
                format!("a multiple of {} channels", r * r),
            ));
        }
        let c = channels / (r * r);
        let parts = self
            .reshape([lead, c, r, r, rows, columns])?
            .permute([0, 1, 4, 2, 5, 3])?;
        parts.reshape(with_last(self.shape(), [c, rows * r, columns * r]))
    }

    /// The inverse of [`Tensor::pixel_shuffle`].
    ///
    /// Shapes: `[.., c, h r, w r] -> [.., c r^2, h, w]`. Dtypes: all. PyTorch: `torch.nn.functional.pixel_unshuffle`.
    /// NPU: `aclnnInplaceCopy`.
    ///
    /// # Errors
    /// `Shape` if height or width cannot be divided or there are fewer than three dims, `Option` for a factor below 1.
    pub fn pixel_unshuffle(&self, factor: i64) -> Result<Tensor> {
        let ([lead, channels, rows, columns], r) = sizes("pixel_unshuffle", self.shape(), factor)?;
        if rows % r != 0 || columns % r != 0 {
            return Err(Error::shape(
                "pixel_unshuffle",
                self.shape(),
                format!("multiples of {r} as height and width"),
            ));
        }
        let (rows, columns) = (rows / r, columns / r);
        let parts = self
            .reshape([lead, channels, rows, r, columns, r])?
            .permute([0, 1, 3, 5, 2, 4])?;
        parts.reshape(with_last(self.shape(), [channels * r * r, rows, columns]))
    }
}
