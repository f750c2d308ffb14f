//! `embedding`: rows of a table by index.

use super::{Negative, host_indices, index_dtype, on_device};
use crate::cpu::alloc::collected;
use crate::cpu::gather::{NOWHERE, Path, Paths, gather, in_lanes, scatter};
use crate::ops::prelude::*;

/// Settings of [`Tensor::embedding`]. Made from `()` for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct EmbeddingOptions {
    padding: Option<i64>,
}

impl EmbeddingOptions {
    /// No padding row.
    pub fn new() -> Self {
        EmbeddingOptions::default()
    }

    /// The row that gets no gradient; negative counts from the end.
    pub fn padding_index(mut self, row: i64) -> Self {
        self.padding = Some(row);
        self
    }
}

impl From<()> for EmbeddingOptions {
    fn from((): ()) -> Self {
        EmbeddingOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct Embedding {
    options: EmbeddingOptions,
}

/// The gradient of the table: each row the sum of the gradients of where it was used.
#[derive(Debug, Clone, Copy)]
struct EmbeddingBackward {
    rows: usize,
    padding: Option<usize>,
}

impl Tensor {
    /// The rows of this table that an index names.
    ///
    /// Shapes: a table `[rows, width]` and an index `[..]` -> `[.., width]`. Dtypes: all; the index `i64` or `i32`.
    /// PyTorch: `torch.nn.functional.embedding(index, table)`. NPU: `aclnnEmbedding`, `aclnnEmbeddingDenseBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let table = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(table.embedding(&Tensor::new([1i64, 1, 0]), ())?.to_vec::<f32>()?, [3.0, 4.0, 3.0, 4.0, 1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Index` for an index out of range or negative (on the NPU under [`check_data`](crate::check_data) only), `DType` for
    /// one that is not an integer, `Shape` for a table that has not two dims, `Option` for a padding row that is not there.
    pub fn embedding(
        &self,
        index: &Tensor,
        options: impl Into<EmbeddingOptions>,
    ) -> Result<Tensor> {
        run_one(
            &Embedding {
                options: options.into(),
            },
            &[self, index],
        )
    }
}

impl Embedding {
    fn padding(&self, rows: usize) -> Result<Option<usize>> {
        let Some(row) = self.options.padding else {
            return Ok(None);
        };
        let wrapped = if row < 0 {
            row.saturating_add(rows as i64)
        } else {
            row
        };
        match usize::try_from(wrapped) {
            Ok(row) if row < rows => Ok(Some(row)),
            _ => Err(Error::option(
                self.name(),
                "padding_index",
                format!("got {row}, wanted one of {rows} rows"),
            )),
        }
    }
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        index_dtype(self.name(), &x[1])?;
        let [rows, width] = x[0].shape.dims() else {
            return Err(Error::shape(self.name(), x[0].shape, "a table of two dims"));
        };
        self.padding(*rows)?;
        plan.output(x[1].shape.inserted(x[1].shape.rank(), *width), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let index = host_indices(self.name(), &x[1], x[0].shape().size(0), Negative::Refused)?;
        let paths = Paths::of(x[0].layout()).with_indices(
            self.name(),
            0,
            index.iter().map(|index| *index as usize),
        )?;
        let flat = Layout::contiguous([index.len(), x[0].shape().size(1)])
            .with_offset(y[0].layout().offset());
        gather(&x[0], &paths, 0, &mut y[0].with_layout(flat));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        on_device(cx, &x[1], x[0].shape().size(0), Negative::Refused)?;
        aclnn::embedding(cx, &x[0], &x[1], &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let rows = cx.meta(0)?.shape.size(0);
        let op = EmbeddingBackward {
            rows,
            padding: self.padding(rows)?,
        };
        Ok(smallvec![cx.want(0, || run_one(
            &op,
            &[&cx.gradient()?.contiguous()?, cx.input(1)?]
        ))?])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Op for EmbeddingBackward {
    fn name(&self) -> &'static str {
        "embedding_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let width = x[0].shape.dims().last().copied().unwrap_or(1);
        plan.output(Shape::from([self.rows, width]), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let index = host_indices(self.name(), &x[1], self.rows, Negative::Refused)?;
        let width = y[0].shape().size(1);
        let row = |index: &i64| {
            if Some(*index as usize) == self.padding {
                NOWHERE
            } else {
                *index as usize * width
            }
        };
        let Some(flat) = x[0].layout().reshape(&[index.len(), width].into()) else {
            return Err(Error::unsupported(
                self.name(),
                Device::Cpu,
                x[0].dtype(),
                "a gradient whose rows do not merge",
            ));
        };
        let paths = Paths {
            dims: smallvec![
                Path::Offsets(collected(self.name(), index.iter().map(row))?),
                Path::Stride(width, 1)
            ],
            base: 0,
        };
        with_lane!(x[0].dtype(), T => {
            map::fill(&mut y[0], T::ZERO);
            in_lanes::<T>(self.name(), &mut y[0], |target| scatter(&x[0].with_layout(flat), &paths, target, |sum, x| sum.plus(x)))?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let padding = self.padding.map_or(u64::MAX, |row| row as u64);
        aclnn::embedding_dense_backward(cx, &x[0], &x[1], self.rows as u64, padding, false, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let width = x[0].dims().last().copied().unwrap_or(1);
        let (gradient, index) = (
            x[0].reshape([x[1].elements(), width])?,
            x[1].reshape([x[1].elements()])?,
        );
        let zeros = Tensor::zeros([self.rows, width], x[0].dtype(), x[0].device())?;
        let mut sum = zeros.index_add(0, &index, &gradient, ())?;
        if let Some(row) = self.padding {
            let zero = Tensor::zeros((), sum.dtype(), sum.device())?;
            sum.slice_assign_(0, row as i64..row as i64 + 1, &zero)?;
        }
        Ok(smallvec![sum])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let mut table = cx.gradient()?.clone();
        if let Some(row) = self.padding {
            table = table.copy()?;
            table.slice_assign_(
                0,
                row as i64..row as i64 + 1,
                &Tensor::zeros((), table.dtype(), table.device())?,
            )?;
        }
        Ok(smallvec![
            cx.want(0, || table
                .embedding(cx.input(1)?, ())?
                .reshape(cx.meta(0)?.shape))?,
            None
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "embedding",
    family: "index",
    kernels: &["aclnnEmbedding", "aclnnEmbeddingDenseBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = || {
        vec![
            SampleInput::new([5, 3], -2.0, 2.0),
            SampleInput::typed([2, 4], DType::I64, 0.0, 4.9),
        ]
    };
    let one = |options| Sample {
        op: Box::new(Embedding { options }),
        inputs: inputs(),
        dtypes: DType::ALL,
    };
    vec![one(EmbeddingOptions::new())]
}
