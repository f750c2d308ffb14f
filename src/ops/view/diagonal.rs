//! `diagonal`, and what is made of it: `diag`, `diag_embed` and `trace`.

use super::{Rule, view_sample};
use crate::ops::prelude::*;
use crate::shape::resolve_axis;

/// Which diagonal, of which two dims. Made from `()` for the main one, or from an offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct DiagonalOptions {
    offset: i64,
    dims: Option<[i64; 2]>,
}

impl DiagonalOptions {
    /// The main diagonal, of the first two dims ([`Tensor::diagonal`]) or the last two ([`Tensor::diag_embed`]).
    pub fn new() -> Self {
        DiagonalOptions::default()
    }

    /// So many places above the main diagonal; negative: below.
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }

    /// The dim of the rows and that of the columns.
    pub fn dims(mut self, dims: [i64; 2]) -> Self {
        self.dims = Some(dims);
        self
    }

    /// The dims among `rank`, which must differ.
    fn resolved(&self, op: &'static str, default: [i64; 2], rank: usize) -> Result<(usize, usize)> {
        let [rows, columns] = self.dims.unwrap_or(default);
        let (dim1, dim2) = (
            resolve_axis(op, rows, rank)?,
            resolve_axis(op, columns, rank)?,
        );
        if dim1 == dim2 {
            return Err(Error::option(
                op,
                "dims",
                format!("got dim {dim1} twice, wanted two dims"),
            ));
        }
        Ok((dim1, dim2))
    }
}

impl From<()> for DiagonalOptions {
    fn from((): ()) -> Self {
        DiagonalOptions::new()
    }
}

impl From<i64> for DiagonalOptions {
    fn from(offset: i64) -> Self {
        DiagonalOptions::new().offset(offset)
    }
}

#[derive(Debug, Clone, Copy)]
struct Diagonal {
    options: DiagonalOptions,
}

impl Tensor {
    /// A view of a diagonal of two dims, which becomes the last dim.
    ///
    /// Shapes: `[.., m, .., n, ..] -> [.., min(m, n)]` for offset 0. Dtypes: all. PyTorch: `torch.diagonal`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.diagonal(())?.to_vec::<i32>()?, [1, 5]);
    /// assert_eq!(x.diagonal(1)?.to_vec::<i32>()?, [2, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one dim twice.
    pub fn diagonal(&self, options: impl Into<DiagonalOptions>) -> Result<Tensor> {
        self.viewed(Diagonal {
            options: options.into(),
        })
    }

    /// Zeros with this tensor's last dim on a diagonal of a new pair of dims.
    ///
    /// Shapes: `[.., n] -> [.., n, n]` for offset 0. Dtypes: all. PyTorch: `torch.diag_embed`. NPU: `aclnnInplaceZero`,
    /// `aclnnInplaceCopy`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i32, 2]).diag_embed(())?.to_vec::<i32>()?, [1, 0, 0, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one dim twice, `Shape` for a tensor without dims.
    pub fn diag_embed(&self, options: impl Into<DiagonalOptions>) -> Result<Tensor> {
        let (op, options) = ("diag_embed", options.into());
        let Some((last, lead)) = self.dims().split_last() else {
            return Err(Error::shape(op, self.shape(), "at least one dim"));
        };
        let rank = self.rank() + 1;
        let (dim1, dim2) = options.resolved(op, [-2, -1], rank)?;
        let size = last
            .saturating_add(usize::try_from(options.offset.unsigned_abs()).unwrap_or(usize::MAX));
        let mut rest = lead.iter();
        let shape: Shape = (0..rank)
            .map(|dim| {
                if dim == dim1 || dim == dim2 {
                    size
                } else {
                    rest.next().copied().unwrap_or(1)
                }
            })
            .collect();
        shape.check(op)?;
        let layout = Diagonal {
            options: options.dims([dim1 as i64, dim2 as i64]),
        }
        .layout(&Layout::contiguous(shape))?;
        self.place(shape, layout)
    }

    /// Of a vector, the matrix with it on a diagonal; of a matrix, that diagonal.
    ///
    /// Dtypes: all. PyTorch: `torch.diag`. NPU: as [`Tensor::diag_embed`] or [`Tensor::diagonal`].
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i32]).diag(1)?.to_vec::<i32>()?, [0, 1, 0, 0]);
    /// assert_eq!(Tensor::new([[1i32, 2], [3, 4]]).diag(0)?.to_vec::<i32>()?, [1, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a tensor that has neither one dim nor two.
    pub fn diag(&self, diagonal: i64) -> Result<Tensor> {
        match self.rank() {
            1 => self.diag_embed(diagonal),
            2 => self.diagonal(diagonal),
            _ => Err(Error::shape("diag", self.shape(), "a vector or a matrix")),
        }
    }

    /// The sum of the main diagonal of a matrix; of integers and bools as `i64`.
    ///
    /// Shapes: `[m, n] -> []`. Dtypes: all. PyTorch: `torch.trace`. NPU: `aclnnReduceSum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]).trace()?.item::<f32>()?, 5.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a tensor that is no matrix.
    pub fn trace(&self) -> Result<Tensor> {
        if self.rank() != 2 {
            return Err(Error::shape("trace", self.shape(), "a matrix"));
        }
        self.diagonal(())?.sum(())
    }
}

impl Rule for Diagonal {
    const NAME: &'static str = "diagonal";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        let (rows, columns) = self
            .options
            .resolved(Self::NAME, [0, 1], x.shape().rank())?;
        let shift = usize::try_from(self.options.offset.unsigned_abs()).unwrap_or(usize::MAX);
        let (moved, still) = if self.options.offset < 0 {
            (rows, columns)
        } else {
            (columns, rows)
        };
        let length = x
            .shape()
            .size(moved)
            .saturating_sub(shift)
            .min(x.shape().size(still));
        let step = x.strides()[rows].saturating_add(x.strides()[columns]);
        let rest = x
            .pairs()
            .enumerate()
            .filter(|(dim, _)| *dim != rows && *dim != columns)
            .map(|(_, pair)| pair);
        let start = if length == 0 {
            0
        } else {
            shift * x.strides()[moved]
        };
        Ok(Layout::from_pairs(
            rest.chain([(length, step)]),
            x.offset() + start,
        ))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "diagonal",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |options| view_sample(Diagonal { options }, [3, 2, 4]);
    vec![
        one(DiagonalOptions::new()),
        one(DiagonalOptions::from(-1).dims([2, 0])),
    ]
}
