//! `dropout`: elements set to zero at random, the others scaled up.

use super::generator::Reserved;
use super::rand::RandomOptions;
use crate::cpu::alloc::workspace;
use crate::cpu::random::{counters, fill, thin_out};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Dropout {
    p: f64,
    source: Reserved,
}

/// What an element is multiplied with: 0 with probability `p`, else `1 / (1 - p)`.
#[derive(Debug, Clone, Copy)]
struct Factors {
    p: f64,
    shape: Shape,
    source: Reserved,
}

impl Tensor {
    /// Each element with probability `p` zero, else times `1 / (1 - p)`: what training does. The gradient goes the same way;
    /// the mask is not kept but drawn again.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.dropout(training=True)` (other numbers). NPU: a mask made on
    /// the host and `aclnnMul`; with [`Generator::device`](crate::Generator::device), `aclnnDropoutGenMask` and
    /// `aclnnDropoutDoMask`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let y = Tensor::new([3.0f32; 100]).dropout(0.5, ())?.to_vec::<f32>()?;
    /// assert!(y.iter().all(|y| *y == 0.0 || *y == 6.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a probability outside `[0, 1]`, `DType` for a tensor of another dtype than a float.
    pub fn dropout(&self, p: f64, options: impl Into<RandomOptions>) -> Result<Tensor> {
        let source = options.into().reserve(counters(self.elements()));
        run_one(&Dropout { p, source }, &[self])
    }
}

/// Words below this are dropped, and the factor of the others.
fn rule(p: f64) -> (u64, f64) {
    (
        (p * (1u64 << 32) as f64) as u64,
        if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 },
    )
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::option(
                self.name(),
                "p",
                format!("got {}, wanted a probability", self.p),
            ));
        }
        if !x[0].dtype.is_float() {
            return Err(Error::dtype(self.name(), x[0].dtype, "a float"));
        }
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (bound, scale) = rule(self.p);
        let Reserved { seed, offset, .. } = self.source;
        with_float!(x[0].dtype(), T => {
            let scale = T::from_f64(scale);
            match x[0].as_slice::<T>() {
                Some(values) => thin_out::<T>(values, &mut y[0], (seed, offset), bound, scale),
                None => {
                    let mut values = workspace(self.name(), T::ZERO, x[0].elements())?;
                    if let Some(mut wide) = HostMut::from_slice(&mut values, x[0].shape()) {
                        map::copy(&x[0], &mut wide);
                    }
                    thin_out::<T>(&values, &mut y[0], (seed, offset), bound, scale);
                }
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let Reserved {
            seed,
            offset,
            native,
        } = self.source;
        if !native || x[0].dtype() == DType::F64 {
            return Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                x[0].dtype(),
                "portable masks are made on the host",
            ));
        }
        let mask = cx.temporary([x[0].elements().next_multiple_of(128) / 8], DType::U8)?;
        let shape: Vec<i64> = x[0]
            .shape()
            .dims()
            .iter()
            .map(|size| *size as i64)
            .collect();
        aclnn::dropout_gen_mask(cx, &shape, self.p, seed as i64, offset as i64, &mask.dev())?;
        aclnn::dropout_do_mask(cx, &x[0], &mask.dev(), self.p, &y[0])?;
        Ok(Counts::EXACT)
    }

    /// A product with factors that are drawn on the host.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let op = Factors {
            p: self.p,
            shape: *x[0].shape(),
            source: self.source,
        };
        let dtype = x[0].dtype().compute();
        let factors = run_one(&op, &[])?
            .to_dtype(dtype)?
            .to_device(x[0].device())?;
        Ok(smallvec![
            x[0].to_dtype(dtype)?
                .mul(&factors)?
                .to_dtype(x[0].dtype())?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(run_one(self, &[cx.gradient()?])?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Op for Factors {
    fn name(&self) -> &'static str {
        "dropout_factors"
    }

    fn infer(&self, _x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(self.shape, DType::F64);
        Ok(())
    }

    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (bound, scale) = rule(self.p);
        fill::<f64>(
            &mut y[0],
            self.source.seed,
            self.source.offset,
            |_, word| if u64::from(word) < bound { 0.0 } else { scale },
        );
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "dropout",
    family: "random",
    kernels: &["aclnnDropoutGenMask", "aclnnDropoutDoMask", "aclnnMul"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Dropout {
        p: 0.3,
        source: Reserved {
            seed: 5,
            offset: 0,
            native: false,
        },
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([3, 5], -2.0, 2.0)],
        dtypes: FLOATS,
    }]
}
