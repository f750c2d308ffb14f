//! `linear`: a linear layer, input by transposed weight, plus bias.

use super::matmul::Product;
use super::{Frame, KEEP};
use crate::cpu::gemm::products;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Linear;

impl Tensor {
    /// `y = x w^T + b` over the last dim; halves accumulate in f32.
    ///
    /// Shapes: `[.., k] x [n, k] -> [.., n]` with a bias `[n]`; a weight `[k]` gives `[..]`. Dtypes: all but `bool`, equal ones.
    /// PyTorch: `torch.nn.functional.linear`. NPU: `aclnnMm`, `aclnnAddmm`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0]]);
    /// let weight = Tensor::new([[1.0f32, 0.0], [0.0, 1.0], [1.0, 1.0]]);
    /// let bias = Tensor::new([0.5f32, 0.5, 0.5]);
    /// assert_eq!(x.linear(&weight, Some(&bias))?.to_vec::<f32>()?, [1.5, 2.5, 3.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the last sizes differ, the weight has other than one or two dims or the bias does not fit; `DType` for
    /// unequal dtypes.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match bias {
            Some(bias) => run_one(&Linear, &[self, weight, bias]),
            None => run_one(&Linear, &[self, weight]),
        }
    }
}

/// A weight of two dims is read transposed.
const FLIP: [bool; 2] = [false, true];

/// The input's rows as one matrix: its shape.
fn rows(x: &Shape) -> Shape {
    let inner = x.dims().last().copied().unwrap_or(1);
    let rows: usize = x.dims().iter().rev().skip(1).product();
    Shape::from([rows, inner])
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = super::same_dtype("linear", x)?;
        if x[1].shape.rank() > 2 {
            return Err(Error::shape(
                "linear",
                format!("a weight of {}", x[1].shape),
                "a weight of one or two dims",
            ));
        }
        let result = Frame::of("linear", &x[0].shape, &x[1].shape, FLIP)?.result();
        if let Some(bias) = x.get(2)
            && (Layout::contiguous(bias.shape)
                .expand("linear", &result)
                .is_err())
        {
            return Err(Error::shape(
                "linear",
                format!("a bias of {} for a result of {result}", bias.shape),
                "a bias that broadcasts",
            ));
        }
        plan.output(result, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let frame = Frame::of("linear", x[0].shape(), x[1].shape(), FLIP)?;
        let [a, b, c] = frame.layouts("linear", x[0].layout(), x[1].layout(), FLIP)?;
        let (a, b) = (x[0].with_layout(a), x[1].with_layout(b));
        let bias = x.get(2).map(|bias| bias.broadcast(y[0].shape()));
        let bias = bias.and_then(|bias| {
            bias.layout()
                .reshape(c.shape())
                .map(|layout| bias.with_layout(layout))
        });
        let mut z = y[0].with_layout(c);
        with_lane!(z.dtype(), T => products::<T>("linear", &a, &b, &mut z, T::ONE, bias.as_ref().map(|bias| (bias, T::ONE)))?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let why = "the kernels take a matrix of rows and a weight of two dims that are not empty";
        let refuse =
            || Error::unsupported("linear", Device::Ascend(cx.device()), y[0].dtype(), why);
        let flat = x[0]
            .layout()
            .reshape(&rows(x[0].shape()))
            .filter(|_| x[0].elements() > 0 && x[1].shape().rank() == 2);
        let (a, b) = (
            x[0].with_layout(flat.ok_or_else(refuse)?),
            super::lay(&x[1], true),
        );
        let out = y[0]
            .layout()
            .reshape(&Shape::from([a.shape().size(0), b.shape().size(1)]))
            .ok_or_else(refuse)?;
        let out = y[0].with_layout(out);
        match x.get(2) {
            None => aclnn::mm(cx, &a, &b, &out, KEEP)?,
            Some(bias) if bias.shape().rank() <= 1 => {
                let one = AclScalar::of(Scalar::Int(1), y[0].dtype());
                aclnn::addmm(cx, bias, &a, &b, one, one, &out, KEEP)?;
            }
            Some(_) => return Err(refuse()),
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let product = Product::run(FLIP, &x[0], &x[1])?;
        Ok(smallvec![match x.get(2) {
            Some(bias) => product.add(bias)?,
            None => product,
        }])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(0).and_input(1)
    }

    /// `dx = dy w`, `dw = dy^T x`, `db = dy` summed by the tape; all rows as one product.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, weight, dy) = (cx.input(0)?, cx.input(1)?, cx.gradient()?);
        let shape = rows(x.shape());
        let columns = if weight.rank() == 1 {
            1
        } else {
            weight.shape().size(0)
        };
        let flat = dy.reshape([shape.size(0), columns])?;
        let dx = cx.want(0, || {
            flat.matmul(&weight.reshape([columns, shape.size(1)])?)?
                .reshape(*x.shape())
        })?;
        let dw = cx.want(1, || {
            Product::run([true, false], &flat, &x.reshape(shape)?)?.reshape(*weight.shape())
        })?;
        let mut grads: Grads = smallvec![dx, dw];
        if cx.len() > 2 {
            grads.push(cx.want(2, || Ok(dy.clone()))?);
        }
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "linear",
    family: "linear",
    kernels: &["aclnnMm", "aclnnAddmm"],
    samples,
};

fn samples() -> Vec<Sample> {
    let input = |shape: &[usize]| SampleInput::new(shape, -2.0, 2.0);
    let sample = |inputs| Sample {
        op: Box::new(Linear),
        inputs,
        dtypes: NUMBERS,
    };
    vec![
        sample(vec![input(&[3, 4]), input(&[2, 4])]),
        sample(vec![input(&[2, 3, 4]), input(&[5, 4]), input(&[5])]),
        sample(vec![input(&[3, 4]), input(&[4])]),
    ]
}
