//! `sgd_step` and `sgd_step_`: one step of gradient descent, with momentum.

use super::{not_negative, one_shape};
use crate::cpu::lane::Lane;
use crate::cpu::sweep::sweep;
use crate::ops::prelude::*;

/// Settings of an SGD step. Made from a learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct SgdOptions {
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    maximize: bool,
}

impl SgdOptions {
    /// The learning rate.
    pub(crate) fn rate(&self) -> f64 {
        self.lr
    }

    /// The same step with the learning rate times a factor.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.lr *= factor;
        self
    }

    /// Refuses what no step takes.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_for("sgd")
    }

    fn check_for(&self, op: &'static str) -> Result<()> {
        not_negative(op, "lr", self.lr)?;
        not_negative(op, "momentum", self.momentum)?;
        not_negative(op, "weight_decay", self.weight_decay)?;
        if self.dampening.is_nan() {
            return Err(Error::option(op, "dampening", "got NaN, wanted a number"));
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Error::option(
                op,
                "nesterov",
                "got it without momentum or with dampening, wanted momentum and no dampening",
            ));
        }
        Ok(())
    }

    /// Plain descent with a learning rate.
    pub fn new(lr: f64) -> Self {
        SgdOptions {
            lr,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            maximize: false,
        }
    }

    /// How much of the running gradient stays in a step.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// How much of the new gradient is left out of the running one.
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// How much of the parameter is added to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Looks ahead along the running gradient.
    pub fn nesterov(mut self) -> Self {
        self.nesterov = true;
        self
    }

    /// Climbs instead of descending.
    pub fn maximize(mut self) -> Self {
        self.maximize = true;
        self
    }
}

impl From<f64> for SgdOptions {
    fn from(lr: f64) -> Self {
        SgdOptions::new(lr)
    }
}

#[derive(Debug, Clone, Copy)]
struct SgdStep {
    options: SgdOptions,
    /// The running gradient starts with this one.
    first: bool,
    in_place: bool,
}

impl Tensor {
    /// One step of gradient descent: the new parameter and, with momentum, the running gradient (`buffer`; none before the
    /// first step).
    ///
    /// `g = gradient + decay p; buffer = momentum buffer + (1 - dampening) g; p -= lr buffer` (Nesterov: `lr (g + momentum
    /// buffer)`). Shapes: all equal. Dtypes: floats; halves compute in `f32`. PyTorch: `torch.optim.SGD`. NPU: `aclnnAdd`,
    /// `aclnnMuls`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (p, g) = (Tensor::new([1.0f32, 2.0]), Tensor::new([10.0f32, 20.0]));
    /// let (p, buffer) = p.sgd_step(&g, None, 0.5)?;
    /// assert_eq!(p.to_vec::<f32>()?, [-4.0, -8.0]);
    /// assert!(buffer.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for negative numbers, or Nesterov without momentum or with dampening; `Shape` and `DType` if tensors do not fit.
    pub fn sgd_step(
        &self,
        gradient: &Tensor,
        buffer: Option<&Tensor>,
        options: impl Into<SgdOptions>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let options = options.into();
        let with_buffer = options.momentum != 0.0;
        let op = SgdStep {
            options,
            first: buffer.is_none(),
            in_place: false,
        };
        let buffer = buffer.filter(|_| with_buffer);
        let inputs: smallvec::SmallVec<[&Tensor; 3]> =
            [self, gradient].into_iter().chain(buffer).collect();
        let mut outputs = run(&op, &inputs)?.into_iter();
        let param = outputs.next().ok_or(Error::NoGradient { op: op.name() })?;
        Ok((param, outputs.next()))
    }

    /// As [`Tensor::sgd_step`], with parameter and running gradient updated in place.
    ///
    /// # Errors
    /// As [`Tensor::sgd_step`], and `Overlap` if two of them share memory.
    pub fn sgd_step_(
        &mut self,
        gradient: &Tensor,
        buffer: &mut Option<Tensor>,
        options: impl Into<SgdOptions>,
    ) -> Result<()> {
        let options = options.into();
        let op = SgdStep {
            options,
            first: buffer.is_none(),
            in_place: true,
        };
        if options.momentum == 0.0 {
            *self = run_one(&op, &[self, gradient])?;
            return Ok(());
        }
        let own = match buffer.take() {
            Some(own) => own,
            None => self.detach().zeros_like()?,
        };
        let outcome = run(&op, &[self, gradient, &own]);
        *buffer = Some(own);
        let mut outputs = outcome?.into_iter();
        if let (Some(param), Some(own)) = (outputs.next(), outputs.next()) {
            (*self, *buffer) = (param, Some(own));
        }
        Ok(())
    }
}

impl SgdStep {
    fn has_buffer(&self) -> bool {
        self.options.momentum != 0.0
    }

    /// How much of the old buffer and of the gradient make the new buffer.
    fn weights(&self) -> (f64, f64) {
        if self.first {
            (0.0, 1.0)
        } else {
            (self.options.momentum, 1.0 - self.options.dampening)
        }
    }

    fn run_host<T: Lane>(&self, x: &[Host<'_>], y: &[HostMut<'_>]) {
        let options = &self.options;
        let number = T::from_f64;
        let (lr, decay, momentum) = (
            number(options.lr),
            number(options.weight_decay),
            number(options.momentum),
        );
        let (old, new) = self.weights();
        let (old, new, sign) = (
            number(old),
            number(new),
            number(if options.maximize { -1.0 } else { 1.0 }),
        );
        let (nesterov, first) = (options.nesterov, self.first);
        let plain = options.weight_decay == 0.0;
        let g = move |p: T, g: T| {
            let g = sign.times(g);
            if plain { g } else { g.plus(decay.times(p)) }
        };
        let step = move |p: T, g: T, buffer: T| {
            let buffer = if first {
                g
            } else {
                old.times(buffer).plus(new.times(g))
            };
            [
                p.minus(lr.times(if nesterov {
                    g.plus(momentum.times(buffer))
                } else {
                    buffer
                })),
                buffer,
            ]
        };
        match (x, y) {
            ([p, gradient], [to]) => {
                sweep::<T, 2, 1, 3>([p, gradient], [to], |[p, x]| [p.minus(lr.times(g(p, x)))])
            }
            ([p, gradient], [to, made]) => {
                sweep::<T, 2, 2, 4>([p, gradient], [to, made], |[p, x]| step(p, g(p, x), x))
            }
            ([p, gradient, buffer], [to, made]) => {
                sweep::<T, 3, 2, 5>([p, gradient, buffer], [to, made], |[p, x, buffer]| {
                    step(p, g(p, x), buffer)
                });
            }
            _ => {}
        }
    }
}

impl Op for SgdStep {
    fn name(&self) -> &'static str {
        if self.in_place {
            "sgd_step_"
        } else {
            "sgd_step"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        one_shape(self.name(), x)?;
        self.options.check_for(self.name())?;
        if !self.in_place {
            plan.output(x[0].shape, x[0].dtype);
            if self.has_buffer() {
                plan.output(x[0].shape, x.get(2).unwrap_or(&x[0]).dtype);
            }
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_float!(x[0].dtype(), T => self.run_host::<T>(x, y));
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let options = &self.options;
        let wide = x
            .iter()
            .map(|x| x.to_dtype(x.dtype().compute()))
            .collect::<Result<Vec<Tensor>>>()?;
        let p = &wide[0];
        let g = if options.maximize {
            wide[1].mul(-1.0)?
        } else {
            wide[1].clone()
        };
        let g = if options.weight_decay == 0.0 {
            g
        } else {
            g.add(&p.mul(options.weight_decay)?)?
        };
        if !self.has_buffer() {
            return Ok(smallvec![
                p.sub(&g.mul(options.lr)?)?.to_dtype(x[0].dtype())?
            ]);
        }
        let buffer = match wide.get(2) {
            Some(buffer) if !self.first => buffer
                .mul(options.momentum)?
                .add(&g.mul(1.0 - options.dampening)?)?,
            _ => g.clone(),
        };
        let direction = if options.nesterov {
            g.add(&buffer.mul(options.momentum)?)?
        } else {
            buffer.clone()
        };
        let p = p.sub(&direction.mul(options.lr)?)?;
        Ok(smallvec![
            p.to_dtype(x[0].dtype())?,
            buffer.to_dtype(x.get(2).unwrap_or(&x[0]).dtype())?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn writes(&self) -> Writes {
        match (self.in_place, self.has_buffer()) {
            (false, _) => Writes::NOTHING,
            (true, false) => Writes::FIRST,
            (true, true) => Writes::FIRST.and(2),
        }
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sgd_step",
    family: "update",
    kernels: &["aclnnAdd", "aclnnSub", "aclnnMuls"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |options: SgdOptions, first, inputs| {
        let inputs = std::iter::repeat_n(SampleInput::new([3, 4], -2.0, 2.0), inputs).collect();
        Sample {
            op: Box::new(SgdStep {
                options,
                first,
                in_place: false,
            }),
            inputs,
            dtypes: FLOATS,
        }
    };
    let momentum = SgdOptions::new(0.1).momentum(0.9).weight_decay(0.01);
    vec![
        one(0.1.into(), true, 2),
        one(momentum, true, 2),
        one(momentum.nesterov(), false, 3),
    ]
}
