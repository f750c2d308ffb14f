//! Fused optimiser steps that update parameters and state in place.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnApplyAdamWV2", adam_w_v2 as Prepare),
    ("aclnnApplyAdamW", adam_w as Prepare),
    ("aclnnApplyAdam", adam as Prepare),
    ("aclnnFusedAdamw", fused_adam_w as Prepare),
    ("aclnnFusedSgd", sgd as Prepare),
    ("aclnnAmpUpdateScale", update_scale as Prepare),
];

/// A loss scaler's next scale: lower where a gradient was not finite, higher after enough steps without one.
fn update_scale(call: &Call) -> Result<Work, Refusal> {
    let (scale, tracker, found) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (growth, backoff, interval) = (call.float(3)? as f32, call.float(4)? as f32, call.int(5)?);
    let (new_scale, new_tracker) = (call.tensor(6)?, call.tensor(7)?);
    for (what, tensor) in [
        ("currentScale", &scale),
        ("growthTracker", &tracker),
        ("foundInf", &found),
        ("updatedScale", &new_scale),
        ("updatedGrowthTracker", &new_tracker),
    ] {
        if tensor.count() != 1 {
            return Err(call.invalid(format!(
                "{what} has shape {:?}, wanted one element",
                tensor.shape()
            )));
        }
    }
    Ok(Work::new(move || {
        let (old, steps) = (scale.load_one::<f32>(), tracker.load_one::<i64>());
        let (next, count) = if found.load_one::<f32>() != 0.0 {
            (old * backoff, 0)
        } else if steps + 1 != interval {
            (old, steps + 1)
        } else if (old * growth).is_finite() {
            (old * growth, 0)
        } else {
            (old, 0)
        };
        new_scale.store_slice(&[next])?;
        new_tracker.store_slice(&[count])
    }))
}

/// The constants of one step.
#[derive(Debug, Clone, Copy)]
struct Step {
    lr: f32,
    beta1: f32,
    beta2: f32,
    weight_decay: f32,
    eps: f32,
    /// 1 − β₁^t and 1 − β₂^t.
    corrections: (f32, f32),
}

/// Parameter, state and gradient.
#[derive(Debug, Clone)]
struct Adam {
    var: Tensor,
    m: Tensor,
    v: Tensor,
    highest: Option<Tensor>,
    grad: Tensor,
    maximize: bool,
}

impl Adam {
    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let shape = self.var.shape();
        for (what, tensor) in [("m", &self.m), ("v", &self.v), ("grad", &self.grad)] {
            call.expect_shape(what, tensor, shape)?;
        }
        match &self.highest {
            Some(tensor) => call.expect_shape("maxGradNorm", tensor, shape),
            None => Ok(()),
        }
    }

    /// Decay first, then the moments, then the bias corrections (after the maximum of amsgrad).
    fn run(&self, step: Step) -> Result<(), Fault> {
        let mut var = self.var.load_vec::<f32>();
        let (mut m, mut v) = (self.m.load_vec::<f32>(), self.v.load_vec::<f32>());
        let mut highest = self.highest.as_ref().map(|tensor| tensor.load_vec::<f32>());
        let grad = self.grad.load_vec::<f32>();
        let sign = if self.maximize { -1.0 } else { 1.0 };
        let rate = step.lr / step.corrections.0;
        let root = step.corrections.1.sqrt();
        for at in 0..var.len() {
            let g = sign * grad[at];
            m[at] = step.beta1 * m[at] + (1.0 - step.beta1) * g;
            v[at] = step.beta2 * v[at] + (1.0 - step.beta2) * g * g;
            let spread = match &mut highest {
                Some(highest) => {
                    highest[at] = highest[at].max(v[at]);
                    highest[at]
                }
                None => v[at],
            };
            let decayed = var[at] * (1.0 - step.lr * step.weight_decay);
            var[at] = decayed - rate * m[at] / (spread.sqrt() / root + step.eps);
        }
        self.var.store_slice(&var)?;
        self.m.store_slice(&m)?;
        self.v.store_slice(&v)?;
        match (&self.highest, &highest) {
            (Some(tensor), Some(values)) => tensor.store_slice(values),
            _ => Ok(()),
        }
    }
}

/// 1 − β^t, computed wide.
fn correction(beta: f64, t: f64) -> f32 {
    (1.0 - beta.powf(t)) as f32
}

/// The step tensor holds t − 1.
fn adam_w_v2(call: &Call) -> Result<Work, Refusal> {
    let amsgrad = call.bool(11)?;
    let adam = Adam {
        var: call.tensor(0)?,
        m: call.tensor(1)?,
        v: call.tensor(2)?,
        highest: if amsgrad { Some(call.tensor(3)?) } else { None },
        grad: call.tensor(4)?,
        maximize: call.bool(12)?,
    };
    adam.check(call)?;
    let count = call.tensor(5)?;
    if count.count() != 1 {
        return Err(call.invalid(format!("step has shape {:?}, wanted [1]", count.shape())));
    }
    let (beta1, beta2) = (call.float(7)?, call.float(8)?);
    let step = Step {
        lr: call.float(6)? as f32,
        beta1: beta1 as f32,
        beta2: beta2 as f32,
        weight_decay: call.float(9)? as f32,
        eps: call.float(10)? as f32,
        corrections: (1.0, 1.0),
    };
    Ok(Work::new(move || {
        let t = count.load_one::<f64>() + 1.0;
        adam.run(Step {
            corrections: (correction(beta1, t), correction(beta2, t)),
            ..step
        })
    }))
}

/// The older form: all numbers are tensors, and the powers of the betas are those of t − 1.
fn adam_w(call: &Call) -> Result<Work, Refusal> {
    let amsgrad = call.bool(12)?;
    let adam = Adam {
        var: call.tensor(0)?,
        m: call.tensor(1)?,
        v: call.tensor(2)?,
        highest: if amsgrad {
            Some(call.tensor(11)?)
        } else {
            None
        },
        grad: call.tensor(10)?,
        maximize: call.bool(13)?,
    };
    adam.check(call)?;
    let numbers = (3..10)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Work::new(move || {
        let number = |index: usize| {
            numbers
                .get(index)
                .map_or(0.0, |tensor| tensor.load_one::<f32>())
        };
        adam.run(Step {
            lr: number(2),
            weight_decay: number(3),
            beta1: number(4),
            beta2: number(5),
            eps: number(6),
            corrections: (1.0 - number(0) * number(4), 1.0 - number(1) * number(5)),
        })
    }))
}

/// Stochastic gradient descent over lists, with torch's momentum.
fn sgd(call: &Call) -> Result<Work, Refusal> {
    let (params, grads) = (call.tensors(0)?, call.tensors(1)?);
    let buffers: Vec<Tensor> = call
        .optional_tensors(2)
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect();
    let scale = call.optional_tensor(3);
    let number = |index: usize| call.float(index).map(|value| value as f32);
    let (decay, momentum, lr, dampening) = (number(4)?, number(5)?, number(6)?, number(7)?);
    let (nesterov, maximize, first) = (call.bool(8)?, call.bool(9)?, call.bool(10)?);
    if grads.len() != params.len() || (momentum != 0.0 && buffers.len() != params.len()) {
        return Err(call.invalid(format!(
            "{} parameters, {} gradients, {} momentum buffers",
            params.len(),
            grads.len(),
            buffers.len()
        )));
    }
    for (param, other) in params.iter().zip(&grads).chain(params.iter().zip(&buffers)) {
        call.expect_shape("a list element", other, param.shape())?;
    }
    Ok(Work::new(move || {
        let divisor = scale.as_ref().map(|scale| scale.load_one::<f32>());
        for (number, (param, grad)) in params.iter().zip(&grads).enumerate() {
            let mut values = param.load_vec::<f32>();
            let mut g = grad.load_vec::<f32>();
            if let Some(divisor) = divisor {
                g.iter_mut().for_each(|value| *value /= divisor);
                grad.store_slice(&g)?;
            }
            for (g, &value) in g.iter_mut().zip(&values) {
                *g = if maximize { -*g } else { *g } + decay * value;
            }
            if let Some(buffer) = buffers.get(number).filter(|_| momentum != 0.0) {
                let mut velocity = buffer.load_vec::<f32>();
                for (velocity, g) in velocity.iter_mut().zip(&mut g) {
                    *velocity = if first {
                        *g
                    } else {
                        momentum * *velocity + (1.0 - dampening) * *g
                    };
                    *g = if nesterov {
                        *g + momentum * *velocity
                    } else {
                        *velocity
                    };
                }
                buffer.store_slice(&velocity)?;
            }
            values
                .iter_mut()
                .zip(&g)
                .for_each(|(value, g)| *value -= lr * g);
            param.store_slice(&values)?;
        }
        Ok(())
    }))
}

/// Adam with the powers of its rates given; Nesterov's form looks one step ahead.
fn adam(call: &Call) -> Result<Work, Refusal> {
    let (var, m, v, grad) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(9)?,
    );
    let numbers = (3..9)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let nesterov = call.bool(11)?;
    for (what, tensor) in [("m", &m), ("v", &v), ("grad", &grad)] {
        call.expect_shape(what, tensor, var.shape())?;
    }
    for number in &numbers {
        if number.count() != 1 {
            return Err(call.invalid(format!("a rate has shape {:?}", number.shape())));
        }
    }
    Ok(Work::new(move || {
        let rates: Vec<f32> = numbers.iter().map(Tensor::load_one).collect();
        let [power1, power2, lr, beta1, beta2, eps] = rates[..] else {
            return Ok(());
        };
        let (mut vars, grads) = (var.load_vec::<f32>(), grad.load_vec::<f32>());
        let (mut ms, mut vs) = (m.load_vec::<f32>(), v.load_vec::<f32>());
        let rate = lr * (1.0 - power2).sqrt() / (1.0 - power1);
        for (at, &g) in grads.iter().enumerate() {
            ms[at] += (g - ms[at]) * (1.0 - beta1);
            vs[at] += (g * g - vs[at]) * (1.0 - beta2);
            let ahead = match nesterov {
                true => ms[at] * beta1 + (1.0 - beta1) * g,
                false => ms[at],
            };
            vars[at] -= rate * ahead / (eps + vs[at].sqrt());
        }
        var.store_slice(&vars)?;
        m.store_slice(&ms)?;
        v.store_slice(&vs)
    }))
}

/// AdamW over lists: gradients divided by a scale, nothing changed where an infinite one was found.
fn fused_adam_w(call: &Call) -> Result<Work, Refusal> {
    let (vars, grads) = (call.tensors(0)?, call.tensors(1)?);
    let (ms, vs, steps) = (call.tensors(2)?, call.tensors(3)?, call.tensors(5)?);
    let (amsgrad, maximize) = (call.bool(13)?, call.bool(14)?);
    let highest = if amsgrad {
        call.tensors(4)?
    } else {
        Vec::new()
    };
    let (scale, found) = (call.optional_tensor(6), call.optional_tensor(7));
    let rates = (8..13)
        .map(|index| call.float(index).map(|rate| rate as f32))
        .collect::<Result<Vec<_>, _>>()?;
    let lengths = [grads.len(), ms.len(), vs.len(), steps.len()];
    if lengths.iter().any(|&length| length != vars.len())
        || (amsgrad && highest.len() != vars.len())
    {
        return Err(call.invalid(format!("lists of {} and {lengths:?} tensors", vars.len())));
    }
    let mut states = Vec::with_capacity(vars.len());
    for (at, var) in vars.into_iter().enumerate() {
        let state = Adam {
            var,
            m: ms[at].clone(),
            v: vs[at].clone(),
            highest: highest.get(at).cloned(),
            grad: grads[at].clone(),
            maximize,
        };
        state.check(call)?;
        states.push(state);
    }
    Ok(Work::new(move || {
        if found
            .as_ref()
            .is_some_and(|found| found.load_one::<f32>() != 0.0)
        {
            return Ok(());
        }
        let [lr, beta1, beta2, weight_decay, eps] = rates[..] else {
            return Ok(());
        };
        for (state, step) in states.iter().zip(&steps) {
            if let Some(scale) = &scale {
                let factor = scale.load_one::<f32>();
                let scaled: Vec<f32> = state
                    .grad
                    .load_vec::<f32>()
                    .iter()
                    .map(|g| g / factor)
                    .collect();
                state.grad.store_slice(&scaled)?;
            }
            let t = step.load_one::<f32>();
            state.run(Step {
                lr,
                beta1,
                beta2,
                weight_decay,
                eps,
                corrections: (1.0 - beta1.powf(t), 1.0 - beta2.powf(t)),
            })?;
        }
        Ok(())
    }))
}
