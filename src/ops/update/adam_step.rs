//! `adam_step`, `adamw_step` and `adamw_step_`: one step of Adam, with weight decay in the gradient or apart from it.

use super::{not_negative, one_shape};
use crate::cpu::sweep::sweep;
use crate::ops::prelude::*;

/// Settings of an Adam or AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct AdamOptions {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: Option<f64>,
    maximize: bool,
}

impl Default for AdamOptions {
    fn default() -> Self {
        AdamOptions {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: None,
            maximize: false,
        }
    }
}

impl AdamOptions {
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
        self.check_for("adam")
    }

    fn check_for(&self, op: &'static str) -> Result<()> {
        not_negative(op, "lr", self.lr)?;
        not_negative(op, "eps", self.eps)?;
        not_negative(op, "weight_decay", self.weight_decay.unwrap_or(0.0))?;
        if self.betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            let why = format!("got {:?}, wanted both in [0, 1)", self.betas);
            return Err(Error::option(op, "betas", why));
        }
        Ok(())
    }

    /// Rate 1e-3, betas 0.9 and 0.999, eps 1e-8, weight decay 0 for Adam and 0.01 for AdamW.
    pub fn new() -> Self {
        AdamOptions::default()
    }

    /// The learning rate.
    pub fn lr(mut self, lr: f64) -> Self {
        self.lr = lr;
        self
    }

    /// How much of the two averages stays in a step.
    pub fn betas(mut self, betas: [f64; 2]) -> Self {
        self.betas = betas;
        self
    }

    /// What is added to the denominator.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The weight decay.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// Climbs instead of descending.
    pub fn maximize(mut self) -> Self {
        self.maximize = true;
        self
    }
}

/// What Adam keeps for a parameter.
#[derive(Debug, Clone)]
pub struct AdamState {
    /// The running mean of the gradient.
    pub exp_avg: Tensor,
    /// The running mean of its square.
    pub exp_avg_sq: Tensor,
    /// The largest of those means so far; there with the AMSGrad variant only.
    pub max_exp_avg_sq: Option<Tensor>,
}

impl AdamState {
    /// Zeros of a parameter's shape, dtype and device.
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn zeros(param: &Tensor) -> Result<Self> {
        let param = param.detach();
        Ok(AdamState {
            exp_avg: param.zeros_like()?,
            exp_avg_sq: param.zeros_like()?,
            max_exp_avg_sq: None,
        })
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.exp_avg, &self.exp_avg_sq]
            .into_iter()
            .chain(&self.max_exp_avg_sq)
    }

    /// A parameter and its state from the outputs of a step.
    fn split(op: &'static str, outputs: Outputs) -> Result<(Tensor, AdamState)> {
        let mut outputs = outputs.into_iter();
        let mut next = || outputs.next().ok_or(Error::NoGradient { op });
        let (param, exp_avg, exp_avg_sq) = (next()?, next()?, next()?);
        Ok((
            param,
            AdamState {
                exp_avg,
                exp_avg_sq,
                max_exp_avg_sq: outputs.next(),
            },
        ))
    }
}

#[derive(Debug, Clone, Copy)]
struct AdamStep {
    options: AdamOptions,
    step: i64,
    /// Weight decay apart from the gradient.
    decoupled: bool,
    amsgrad: bool,
    in_place: bool,
}

impl Tensor {
    /// One step of Adam: the new parameter and state. `step` counts this update, from 1.
    ///
    /// `g = gradient + decay p; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    /// p -= lr / (1 - b1^step) m / (sqrt(v) / sqrt(1 - b2^step) + eps)`; with AMSGrad (a state that has a maximum) the largest
    /// `v` so far. Shapes: all equal. Dtypes: floats; halves compute in `f32`, and the state may be wider than the parameter.
    /// PyTorch: `torch.optim.Adam`. NPU: `aclnnApplyAdamWV2`.
    ///
    /// # Errors
    /// `Option` for betas outside `[0, 1)`, negative numbers or a step below 1; `Shape` and `DType` if tensors do not fit.
    pub fn adam_step(
        &self,
        gradient: &Tensor,
        state: &AdamState,
        step: i64,
        options: AdamOptions,
    ) -> Result<(Tensor, AdamState)> {
        self.adam(
            gradient,
            state,
            AdamStep {
                options,
                step,
                decoupled: false,
                amsgrad: state.max_exp_avg_sq.is_some(),
                in_place: false,
            },
        )
    }

    /// One step of AdamW, which is Adam with `p *= 1 - lr decay` before the step instead of decay in the gradient.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::update::{AdamOptions, AdamState}};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (p, g) = (Tensor::new([1.0f64]), Tensor::new([0.5f64]));
    /// let (p, _) = p.adamw_step(&g, &AdamState::zeros(&p)?, 1, AdamOptions::new().lr(0.1).weight_decay(0.0).eps(0.0))?;
    /// assert!((p.item::<f64>()? - 0.9).abs() < 1e-9);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Shapes, dtypes: as [`Tensor::adam_step`]. PyTorch: `torch.optim.AdamW`. NPU: `aclnnApplyAdamWV2`.
    ///
    /// # Errors
    /// As [`Tensor::adam_step`].
    pub fn adamw_step(
        &self,
        gradient: &Tensor,
        state: &AdamState,
        step: i64,
        options: AdamOptions,
    ) -> Result<(Tensor, AdamState)> {
        self.adam(
            gradient,
            state,
            AdamStep {
                options,
                step,
                decoupled: true,
                amsgrad: state.max_exp_avg_sq.is_some(),
                in_place: false,
            },
        )
    }

    /// As [`Tensor::adam_step`], with parameter and state updated in place.
    ///
    /// # Errors
    /// As [`Tensor::adam_step`], and `Overlap` if two of them share memory.
    pub fn adam_step_(
        &mut self,
        gradient: &Tensor,
        state: &mut AdamState,
        step: i64,
        options: AdamOptions,
    ) -> Result<()> {
        let op = AdamStep {
            options,
            step,
            decoupled: false,
            amsgrad: state.max_exp_avg_sq.is_some(),
            in_place: true,
        };
        (*self, *state) = self.adam(gradient, state, op)?;
        Ok(())
    }

    /// As [`Tensor::adamw_step`], with parameter and state updated in place.
    ///
    /// # Errors
    /// As [`Tensor::adam_step`], and `Overlap` if two of them share memory.
    pub fn adamw_step_(
        &mut self,
        gradient: &Tensor,
        state: &mut AdamState,
        step: i64,
        options: AdamOptions,
    ) -> Result<()> {
        let op = AdamStep {
            options,
            step,
            decoupled: true,
            amsgrad: state.max_exp_avg_sq.is_some(),
            in_place: true,
        };
        (*self, *state) = self.adam(gradient, state, op)?;
        Ok(())
    }

    fn adam(
        &self,
        gradient: &Tensor,
        state: &AdamState,
        op: AdamStep,
    ) -> Result<(Tensor, AdamState)> {
        let inputs: smallvec::SmallVec<[&Tensor; 5]> = [self, gradient]
            .into_iter()
            .chain(state.tensors())
            .collect();
        AdamState::split(op.name(), run(&op, &inputs)?)
    }
}

/// The numbers of a step, once for all elements.
struct Factors {
    decay: f64,
    rate: f64,
    root: f64,
}

impl AdamStep {
    fn weight_decay(&self) -> f64 {
        self.options
            .weight_decay
            .unwrap_or(if self.decoupled { 0.01 } else { 0.0 })
    }

    fn factors(&self) -> Factors {
        let [b1, b2] = self.options.betas;
        let corrected = |beta: f64| 1.0 - beta.powf(self.step as f64);
        Factors {
            decay: 1.0 - self.options.lr * self.weight_decay(),
            rate: self.options.lr / corrected(b1),
            root: corrected(b2).sqrt(),
        }
    }

    fn check(&self) -> Result<()> {
        self.options.check_for(self.name())?;
        if self.step < 1 {
            return Err(Error::option(
                self.name(),
                "step",
                format!("got {}, wanted at least 1", self.step),
            ));
        }
        Ok(())
    }

    /// The step for one element: [parameter, m, v, largest v] from [parameter, gradient, m, v, largest v].
    fn element<T: Float>(&self) -> impl Fn([T; 5]) -> [T; 4] + Sync + use<T> {
        let Factors { decay, rate, root } = self.factors();
        let number = T::from_f64;
        let (b1, b2) = (number(self.options.betas[0]), number(self.options.betas[1]));
        let (c1, c2) = (
            number(1.0 - self.options.betas[0]),
            number(1.0 - self.options.betas[1]),
        );
        let (scale, decay) = if self.decoupled {
            (number(decay), T::ZERO)
        } else {
            (T::ONE, number(self.weight_decay()))
        };
        let (sign, eps) = (
            if self.options.maximize {
                number(-1.0)
            } else {
                T::ONE
            },
            number(self.options.eps),
        );
        let (rate, inverse, amsgrad) = (number(rate), number(1.0 / root), self.amsgrad);
        let plain = self.decoupled || self.weight_decay() == 0.0;
        move |[p, g, m, v, most]| {
            let g = sign.times(g);
            let g = if plain { g } else { g.plus(decay.times(p)) };
            let m = b1.times(m).plus(c1.times(g));
            let v = b2.times(v).plus(c2.times(g).times(g));
            let most = if amsgrad { most.larger(v) } else { v };
            let step = rate.times(m).over(most.sqrt().times(inverse).plus(eps));
            [scale.times(p).minus(step), m, v, most]
        }
    }

    fn run_host<T: Float + crate::cpu::lane::Lane>(&self, x: &[Host<'_>], y: &[HostMut<'_>]) {
        let step = self.element::<T>();
        match (x, y) {
            ([p, g, m, v], [p1, m1, v1]) => {
                sweep::<T, 4, 3, 7>([p, g, m, v], [p1, m1, v1], |[p, g, m, v]| {
                    let [p, m, v, _] = step([p, g, m, v, v]);
                    [p, m, v]
                });
            }
            ([p, g, m, v, most], [p1, m1, v1, most1]) => {
                sweep::<T, 5, 4, 9>([p, g, m, v, most], [p1, m1, v1, most1], step)
            }
            _ => {}
        }
    }
}

impl AdamStep {
    /// How much too much of the gradient's square the kernel puts into the second average, for it takes the beta in single
    /// precision; taken off before, where it would show: near 1 little is left of `1 - beta`.
    fn excess(&self) -> Option<f64> {
        let exact = self.options.betas[1];
        let single = f64::from(exact as f32);
        let excess = exact - single;
        (excess.abs() > 5e-5 * (1.0 - exact)).then(|| excess / single)
    }

    /// The kernel takes the betas in single precision, which their powers after many steps show: the factor that brings its
    /// rate `sqrt(1 - b2^step) / (1 - b1^step)` to that of the betas as given.
    fn correction(&self) -> f64 {
        let rate = |betas: [f64; 2]| {
            let [first, second] = betas.map(|beta| 1.0 - beta.powf(self.step as f64));
            second.sqrt() / first
        };
        let (exact, single) = (
            rate(self.options.betas),
            rate(self.options.betas.map(|beta| f64::from(beta as f32))),
        );
        if exact.is_finite() && single.is_finite() && single != 0.0 {
            exact / single
        } else {
            1.0
        }
    }
}

impl Op for AdamStep {
    fn name(&self) -> &'static str {
        match (self.decoupled, self.in_place) {
            (false, false) => "adam_step",
            (false, true) => "adam_step_",
            (true, false) => "adamw_step",
            (true, true) => "adamw_step_",
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        one_shape(self.name(), x)?;
        self.check()?;
        if !self.in_place {
            x.iter()
                .enumerate()
                .filter(|(index, _)| *index != 1)
                .for_each(|(_, x)| plan.output(x.shape, x.dtype));
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_float!(x[0].dtype(), T => self.run_host::<T>(x, y));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dtype = x[0].dtype();
        if dtype == DType::F64
            || x.iter().any(|x| x.dtype() != dtype)
            || !y.iter().all(|y| y.layout().is_contiguous())
        {
            return Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                dtype,
                "the kernel takes one dtype, not f64",
            ));
        }
        if !self.in_place {
            for (from, to) in [0, 2, 3, 4].iter().filter_map(|index| x.get(*index)).zip(y) {
                aclnn::inplace_copy(cx, to, from)?;
            }
        }
        let decay = self.weight_decay();
        let (options, folded) = (&self.options, !self.decoupled && decay != 0.0);
        let mixed = if folded {
            Some(cx.temporary(*x[1].shape(), dtype)?)
        } else {
            None
        };
        if let Some(mixed) = &mixed {
            let (mixed, one) = (mixed.dev(), AclScalar::of(Scalar::Float(1.0), dtype));
            if options.maximize {
                let scaled = cx.temporary(*x[1].shape(), dtype)?;
                aclnn::muls(
                    cx,
                    &x[0],
                    AclScalar::of(Scalar::Float(decay), dtype),
                    &scaled.dev(),
                )?;
                aclnn::sub(cx, &scaled.dev(), &x[1], one, &mixed)?;
            } else {
                aclnn::add(
                    cx,
                    &x[1],
                    &x[0],
                    AclScalar::of(Scalar::Float(decay), dtype),
                    &mixed,
                )?;
            }
        }
        let own = mixed.as_ref().map(|mixed| mixed.dev());
        let gradient = own.unwrap_or(x[1]);
        if let Some(excess) = self.excess() {
            let less = AclScalar::of(Scalar::Float(-excess), dtype);
            aclnn::inplace_addcmul(cx, &y[2], &gradient, &gradient, less)?;
        }
        let before = cx.constant_f32(&[(self.step - 1) as f32])?;
        let decay = if self.decoupled { decay } else { 0.0 };
        let [b1, b2] = options.betas.map(|beta| beta as f32);
        let maximize = options.maximize && !folded;
        let step = before.dev();
        let correction = self.correction();
        let (lr, decay, eps) = (
            (options.lr * correction) as f32,
            (decay / correction) as f32,
            options.eps as f32,
        );
        aclnn::apply_adam_wv2(
            cx,
            &y[0],
            &y[1],
            &y[2],
            y.get(3),
            &gradient,
            &step,
            lr,
            b1,
            b2,
            decay,
            eps,
            self.amsgrad,
            maximize,
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let Factors { decay, rate, root } = self.factors();
        let wide = x
            .iter()
            .map(|x| x.to_dtype(x.dtype().compute()))
            .collect::<Result<Vec<Tensor>>>()?;
        let (p, [b1, b2]) = (&wide[0], self.options.betas);
        let mut g = if self.options.maximize {
            wide[1].mul(-1.0)?
        } else {
            wide[1].clone()
        };
        if !self.decoupled {
            g = g.add(&p.mul(self.weight_decay())?)?;
        }
        let m = wide[2].mul(b1)?.add(&g.mul(1.0 - b1)?)?;
        let v = wide[3].mul(b2)?.add(&g.mul(&g)?.mul(1.0 - b2)?)?;
        let most = if self.amsgrad {
            wide[4].maximum(&v)?
        } else {
            v.clone()
        };
        let p = if self.decoupled {
            p.mul(decay)?
        } else {
            p.clone()
        };
        let p = p.sub(
            &m.mul(rate)?
                .div(&most.sqrt()?.mul(1.0 / root)?.add(self.options.eps)?)?,
        )?;
        let made = [p, m, v].into_iter().chain(self.amsgrad.then_some(most));
        made.zip([0, 2, 3, 4])
            .map(|(made, from)| made.to_dtype(x[from].dtype()))
            .collect()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn writes(&self) -> Writes {
        match (self.in_place, self.amsgrad) {
            (false, _) => Writes::NOTHING,
            (true, false) => Writes::FIRST.and(2).and(3),
            (true, true) => Writes::FIRST.and(2).and(3).and(4),
        }
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "adamw_step",
    family: "update",
    kernels: &["aclnnApplyAdamWV2"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |decoupled, amsgrad| {
        let op = AdamStep {
            options: AdamOptions::new().lr(0.1).weight_decay(0.02),
            step: 3,
            decoupled,
            amsgrad,
            in_place: false,
        };
        let signed = || SampleInput::new([3, 4], -2.0, 2.0);
        let squares =
            std::iter::repeat_n(SampleInput::new([3, 4], 0.1, 2.0), 1 + usize::from(amsgrad));
        Sample {
            op: Box::new(op),
            inputs: [signed(), signed(), signed()]
                .into_iter()
                .chain(squares)
                .collect(),
            dtypes: FLOATS,
        }
    };
    vec![one(true, false), one(true, true), one(false, false)]
}
