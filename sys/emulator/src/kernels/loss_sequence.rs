//! Connectionist temporal classification: the loss over all alignments of a target with a sequence, and its gradient.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::checked_index;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnCtcLoss", forward),
    ("aclnnCtcLossBackward", backward),
];

/// ln(exp a + exp b + ..), minus infinity for nothing.
fn log_sum(terms: &[f64]) -> f64 {
    let highest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    let sum: f64 = terms.iter().map(|term| (term - highest).exp()).sum();
    highest + sum.ln()
}

/// The inputs that both passes share.
struct Setup {
    log_probs: Tensor,
    targets: Tensor,
    steps: usize,
    batch: usize,
    classes: usize,
    input_lengths: Vec<usize>,
    target_lengths: Vec<usize>,
    blank: usize,
    zero_infinity: bool,
}

impl Setup {
    /// `first` is the position of logProbs; targets and both lengths follow. `blank` is followed by zeroInfinity.
    fn new(call: &Call, first: usize, blank: usize) -> Result<Setup, Refusal> {
        let (log_probs, targets) = (call.tensor(first)?, call.tensor(first + 1)?);
        let (steps, batch, classes) = match *log_probs.shape() {
            [steps, batch, classes] => (steps, batch, classes),
            [steps, classes] => (steps, 1, classes),
            ref shape => return Err(call.invalid(format!("logProbs has shape {shape:?}"))),
        };
        let lengths = |index: usize, limit: usize| -> Result<Vec<usize>, Refusal> {
            let given = call.ints(index)?;
            let natural: Vec<usize> = given
                .iter()
                .filter_map(|&length| usize::try_from(length).ok())
                .filter(|&length| length <= limit)
                .collect();
            if natural.len() != batch || given.len() != batch {
                return Err(call.invalid(format!(
                    "{given:?} are not {batch} lengths from 0 to {limit}"
                )));
            }
            Ok(natural)
        };
        let longest = match *targets.shape() {
            [rows, width] if rows == batch => width,
            [count] => count,
            ref shape => return Err(call.invalid(format!("targets has shape {shape:?}"))),
        };
        let input_lengths = lengths(first + 2, steps)?;
        let target_lengths = lengths(first + 3, longest)?;
        if targets.rank() == 1 && target_lengths.iter().sum::<usize>() != longest {
            return Err(call.invalid(format!(
                "{longest} targets, but the lengths {target_lengths:?}"
            )));
        }
        let label = call.int(blank)?;
        let label = usize::try_from(label).ok().filter(|&label| label < classes);
        Ok(Setup {
            log_probs,
            targets,
            steps,
            batch,
            classes,
            input_lengths,
            target_lengths,
            blank: label.ok_or_else(|| call.invalid("blank is not one of the classes"))?,
            zero_infinity: call.bool(blank + 1)?,
        })
    }

    /// Positions of the statistics of one step: blanks around each label, at least.
    fn expect_alpha(&self, call: &Call, alpha: &Tensor) -> Result<usize, Refusal> {
        let longest = self.target_lengths.iter().copied().max().unwrap_or(0);
        match *alpha.shape() {
            [batch, steps, width]
                if (batch, steps) == (self.batch, self.steps) && width > 2 * longest =>
            {
                Ok(width)
            }
            ref shape => Err(call.invalid(format!("logAlpha has shape {shape:?}"))),
        }
    }

    /// Each sample's labels with blanks between, before and after them.
    fn labels(&self) -> Result<Vec<Vec<usize>>, Fault> {
        let values = self.targets.load_vec::<i64>();
        let (mut next, mut all) = (0, Vec::new());
        for (sample, &length) in self.target_lengths.iter().enumerate() {
            let start = match self.targets.shape() {
                [_, width] => sample * width,
                _ => next,
            };
            next += length;
            let mut labels = vec![self.blank];
            for &value in &values[start..start + length] {
                labels.push(checked_index("CtcLoss", value, self.classes)?);
                labels.push(self.blank);
            }
            all.push(labels);
        }
        Ok(all)
    }

    /// Whether a path may come to `position` over the blank before it.
    fn skips(&self, labels: &[usize], position: usize) -> bool {
        position >= 2 && labels[position] != self.blank && labels[position] != labels[position - 2]
    }
}

fn forward(call: &Call) -> Result<Work, Refusal> {
    let setup = Setup::new(call, 0, 4)?;
    let (out, alpha) = (call.tensor(6)?, call.tensor(7)?);
    let width = setup.expect_alpha(call, &alpha)?;
    if out.count() != setup.batch {
        return Err(call.invalid(format!("negLogLikelihoodOut has shape {:?}", out.shape())));
    }
    Ok(Work::new(move || {
        let log_probs = setup.log_probs.load_vec::<f64>();
        let at = |step: usize, sample: usize, label: usize| {
            log_probs[(step * setup.batch + sample) * setup.classes + label]
        };
        let mut table = vec![f64::NEG_INFINITY; alpha.count()];
        let mut losses = Vec::new();
        for (sample, labels) in setup.labels()?.iter().enumerate() {
            let own = &mut table[sample * setup.steps * width..][..setup.steps * width];
            let steps = setup.input_lengths[sample];
            for step in 0..steps {
                for (position, &label) in labels.iter().enumerate() {
                    let mut paths = Vec::new();
                    if step == 0 {
                        paths.extend((position < 2).then_some(0.0));
                    } else {
                        let before = &own[(step - 1) * width..][..width];
                        paths.push(before[position]);
                        paths.extend((position > 0).then(|| before[position - 1]));
                        let skips = setup.skips(labels, position);
                        paths.extend(skips.then(|| before[position - 2]));
                    }
                    own[step * width + position] = log_sum(&paths) + at(step, sample, label);
                }
            }
            let ends = match steps.checked_sub(1) {
                Some(last) => {
                    let last = &own[last * width..][..labels.len()];
                    last[last.len().saturating_sub(2)..].to_vec()
                }
                None if labels.len() == 1 => vec![0.0],
                None => Vec::new(),
            };
            let loss = -log_sum(&ends);
            let dropped = setup.zero_infinity && loss == f64::INFINITY;
            losses.push(if dropped { 0.0 } else { loss });
        }
        out.store_slice(&losses)?;
        alpha.store_slice(&table)
    }))
}

/// d loss / d log p: the probability of a label less its share in all alignments.
fn backward(call: &Call) -> Result<Work, Refusal> {
    let setup = Setup::new(call, 1, 7)?;
    let (dy, losses, alpha, out) = (
        call.tensor(0)?,
        call.tensor(5)?,
        call.tensor(6)?,
        call.tensor(9)?,
    );
    let width = setup.expect_alpha(call, &alpha)?;
    if dy.count() != setup.batch || losses.count() != setup.batch {
        return Err(call.invalid(format!(
            "gradOut has shape {:?}, negLogLikelihood {:?}",
            dy.shape(),
            losses.shape()
        )));
    }
    call.expect_shape("out", &out, setup.log_probs.shape())?;
    Ok(Work::new(move || {
        let log_probs = setup.log_probs.load_vec::<f64>();
        let (dy, losses) = (dy.load_vec::<f64>(), losses.load_vec::<f64>());
        let alpha = alpha.load_vec::<f64>();
        let mut result = vec![0f64; out.count()];
        for (sample, labels) in setup.labels()?.iter().enumerate() {
            let place = |step: usize| (step * setup.batch + sample) * setup.classes;
            let own = &alpha[sample * setup.steps * width..][..setup.steps * width];
            let steps = setup.input_lengths[sample];
            // The loss of no alignment at all is infinite; the statistics tell where it was set to 0.
            let impossible = steps.checked_sub(1).is_some_and(|last| {
                let last = &own[last * width..][..labels.len()];
                log_sum(&last[last.len().saturating_sub(2)..]) == f64::NEG_INFINITY
            });
            if setup.zero_infinity && impossible {
                continue;
            }
            let mut beta = vec![f64::NEG_INFINITY; labels.len()];
            for step in (0..steps).rev() {
                let later = beta.clone();
                for (position, &label) in labels.iter().enumerate() {
                    let mut paths = Vec::new();
                    if step + 1 == steps {
                        paths.extend((position + 2 >= labels.len()).then_some(0.0));
                    } else {
                        paths.push(later[position]);
                        paths.extend(later.get(position + 1));
                        let next = position + 2;
                        let skips = next < labels.len() && setup.skips(labels, next);
                        paths.extend(skips.then(|| later[next]));
                    }
                    beta[position] = log_sum(&paths) + log_probs[place(step) + label];
                }
                for class in 0..setup.classes {
                    let paths: Vec<f64> = (0..labels.len())
                        .filter(|&position| labels[position] == class)
                        .map(|position| own[step * width + position] + beta[position])
                        .collect();
                    let log_prob = log_probs[place(step) + class];
                    let share = (log_sum(&paths) + losses[sample] - log_prob).exp();
                    result[place(step) + class] = (log_prob.exp() - share) * dy[sample];
                }
            }
        }
        out.store_slice(&result)
    }))
}
