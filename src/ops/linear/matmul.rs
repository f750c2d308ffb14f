//! `matmul`: the product of matrices and vectors, over batches that broadcast. The op behind `mm`, `bmm`, `mv` and `dot` too.

use super::{Frame, KEEP, lay, transposed};
use crate::cpu::gemm::products;
use crate::ops::prelude::*;

/// Which public op a product is: its name and the ranks that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Matmul,
    Mm,
    Bmm,
    Mv,
    Dot,
}

/// A product of matrices, either of them read transposed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) form: Form,
    pub(super) flip: [bool; 2],
}

impl Product {
    pub(super) fn of(form: Form) -> Self {
        Product {
            form,
            flip: [false, false],
        }
    }

    /// `x y`, either of them transposed.
    pub(super) fn run(flip: [bool; 2], x: &Tensor, y: &Tensor) -> Result<Tensor> {
        run_one(
            &Product {
                form: Form::Matmul,
                flip,
            },
            &[x, y],
        )
    }
}

impl Tensor {
    /// The matrix product over the last two dims; the dims before them are batches and broadcast. A vector counts as a row on
    /// the left and as a column on the right, and that dim goes again. Integers wrap, halves accumulate in f32.
    ///
    /// Shapes: `[.., m, k] x [.., k, n] -> [.., m, n]`, `[k] x [k] -> []`. Dtypes: all but `bool`, equal ones.
    /// PyTorch: `torch.matmul`. NPU: `aclnnMatmul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.matmul(&x)?.to_vec::<f32>()?, [7.0, 10.0, 15.0, 22.0]);
    /// assert_eq!(x.matmul(&Tensor::new([1.0f32, -1.0]))?.to_vec::<f32>()?, [-1.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a 0-d tensor or inner sizes that differ, `Broadcast` for batches that do not fit, `DType` for unequal dtypes.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        run_one(&Product::of(Form::Matmul), &[self, other])
    }
}

impl Op for Product {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Matmul => "matmul",
            Form::Mm => "mm",
            Form::Bmm => "bmm",
            Form::Mv => "mv",
            Form::Dot => "dot",
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let ranks = match self.form {
            Form::Matmul => None,
            Form::Mm => Some((2, 2, "two matrices")),
            Form::Bmm => Some((3, 3, "two tensors of three dims")),
            Form::Mv => Some((2, 1, "a matrix and a vector")),
            Form::Dot => Some((1, 1, "two vectors")),
        };
        let (left, right) = (x[0].shape, x[1].shape);
        if let Some((first, second, want)) = ranks
            && (left.rank(), right.rank()) != (first, second)
        {
            return Err(Error::shape(
                self.name(),
                format!("{left} and {right}"),
                want,
            ));
        }
        super::same_dtype(self.name(), x)?;
        let frame = Frame::of(self.name(), &left, &right, self.flip)?;
        if self.form == Form::Bmm && left.size(0) != right.size(0) {
            return Err(Error::shape(
                self.name(),
                format!("{left} and {right}"),
                "as many matrices on both sides",
            ));
        }
        plan.output(frame.result(), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        if x[0].shape().rank() == 2 && x[1].shape().rank() == 2 {
            let matrix = |x: &Host<'_>, flip: bool| -> Layout {
                if flip {
                    x.layout().transpose(0, 1)
                } else {
                    *x.layout()
                }
            };
            let a = x[0].with_layout(matrix(&x[0], self.flip[0]));
            let b = x[1].with_layout(matrix(&x[1], self.flip[1]));
            with_lane!(y[0].dtype(), T => products::<T>(self.name(), &a, &b, &mut y[0], T::ONE, None)?);
            return Ok(Counts::EXACT);
        }
        let frame = Frame::of(self.name(), x[0].shape(), x[1].shape(), self.flip)?;
        let [a, b, c] = frame.layouts(self.name(), x[0].layout(), x[1].layout(), self.flip)?;
        let (a, b) = (x[0].with_layout(a), x[1].with_layout(b));
        with_lane!(y[0].dtype(), T => products::<T>(self.name(), &a, &b, &mut y[0].with_layout(c), T::ONE, None)?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() == 0 || x[1].elements() == 0 {
            aclnn::inplace_zero(cx, &y[0])?;
            return Ok(Counts::EXACT);
        }
        let (a, b) = (lay(&x[0], self.flip[0]), lay(&x[1], self.flip[1]));
        if a.shape().rank().max(b.shape().rank()) > 6 {
            let why = "the kernel takes at most six dims";
            return Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                a.dtype(),
                why,
            ));
        }
        match self.form {
            Form::Mm => aclnn::mm(cx, &a, &b, &y[0], KEEP)?,
            Form::Bmm => aclnn::batch_matmul(cx, &a, &b, &y[0], KEEP)?,
            _ => aclnn::matmul(cx, &a, &b, &y[0], KEEP)?,
        }
        Ok(Counts::EXACT)
    }

    /// Sums of elementwise products: for dtypes that the kernel does not take.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let frame = Frame::of(self.name(), x[0].shape(), x[1].shape(), self.flip)?;
        let (a, b) = (
            transposed(&x[0], self.flip[0])?,
            transposed(&x[1], self.flip[1])?,
        );
        let rows = |a: &Tensor| a.reshape(a.shape().inserted(a.rank(), 1));
        let a = if a.rank() == 1 {
            a.reshape([1, frame.inner, 1])?
        } else {
            rows(&a)?
        };
        let b = if b.rank() == 1 { rows(&b)? } else { b };
        let b = b.reshape(b.shape().inserted(b.rank().saturating_sub(2), 1))?;
        let sum = a.mul(&b)?.sum(-2)?.to_dtype(x[0].dtype())?;
        Ok(smallvec![sum.reshape(frame.result())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    /// `dx = dz y^T` and `dy = x^T dz`, with vectors as matrices and, where `y` is one matrix, all rows as one product.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, y, dz) = (cx.input(0)?, cx.input(1)?, cx.gradient()?);
        let frame = Frame::of(self.name(), x.shape(), y.shape(), self.flip)?;
        let mut dz = shaped(dz.clone(), frame.full())?;
        let mut a = if x.rank() == 1 {
            x.reshape([1, frame.inner])?
        } else {
            x.clone()
        };
        let b = if y.rank() == 1 {
            y.reshape([frame.inner, 1])?
        } else {
            y.clone()
        };
        let [left, right] = [self.flip[0] && x.rank() > 1, self.flip[1] && y.rank() > 1];
        let fold = b.rank() == 2 && a.rank() > 2 && !left;
        if fold {
            let rows = frame.batch.elements() * frame.rows.unwrap_or(1);
            a = a.reshape([rows, frame.inner])?;
            dz = dz.reshape([rows, frame.columns.unwrap_or(1)])?;
        }
        // Halves whose gradient is summed over batches round once, after the sum.
        let summed = |factor: &Tensor| {
            let sums = !fold && frame.batched(factor.shape()) != *factor.shape();
            sums && factor.dtype().is_half()
        };
        let dx = cx.want(0, || {
            let (dz, b) = (wide_if(summed(x), &dz)?, wide_if(summed(x), &b)?);
            // A matrix is added to what has arrived of its gradient while it is computed.
            let matrices = [&a, &b, &dz].iter().all(|x| x.rank() == 2) && x.rank() > 1;
            let start = if matrices { cx.before(0) } else { None };
            let flips = if left { [right, true] } else { [false, !right] };
            let (one, other) = if left { (&b, &dz) } else { (&dz, &b) };
            let dx = match start {
                Some(start) => {
                    let [one, other] = [transposed(one, flips[0])?, transposed(other, flips[1])?];
                    shaped(start, *a.shape())?.addmm(&one, &other, ())
                }
                None => Product::run(flips, one, other),
            }?;
            let batched = if fold {
                *x.shape()
            } else {
                frame.batched(x.shape())
            };
            shaped(dx, batched)
        })?;
        let dy = cx.want(1, || {
            let (dz, a) = (wide_if(summed(y), &dz)?, wide_if(summed(y), &a)?);
            let dy = if right {
                Product::run([true, left], &dz, &a)
            } else {
                Product::run([!left, false], &a, &dz)
            }?;
            let batched = if fold {
                *y.shape()
            } else {
                frame.batched(y.shape())
            };
            shaped(dy, batched)
        })?;
        Ok(smallvec![dx, dy])
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The tensor in a shape that it may have already.
fn shaped(x: Tensor, shape: Shape) -> Result<Tensor> {
    if *x.shape() == shape {
        Ok(x)
    } else {
        x.reshape(shape)
    }
}

fn wide_if(wanted: bool, x: &Tensor) -> Result<Tensor> {
    if wanted {
        x.to_dtype(DType::F32)
    } else {
        Ok(x.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "matmul",
    family: "linear",
    kernels: &["aclnnMatmul"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::product_samples(
        Form::Matmul,
        &[
            (&[3, 4], &[4, 2]),
            (&[2, 3, 4], &[4, 2]),
            (&[2, 1, 3, 4], &[5, 4, 2]),
            (&[4], &[2, 4, 3]),
            (&[4], &[4]),
        ],
    )
}
