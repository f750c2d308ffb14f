//! The trainer: steps as transactions, which are repeated or taken back when a device fails.
//!
//! Knows the order of a step and what to do about each fault. Must not know models or data.

use std::time::Instant;

use super::sentinel::{find_overflow, overflow_flag, refuse_not_finite};
use super::{Fault, GradScaler, OverflowMode, Report, Snapshot, TrainerOptions, classify};
use crate::ascend;
use crate::autograd::Gradients;
use crate::cpu::cpu_memory;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, NotFinite, Result};
use crate::mode::{anomaly, autocast};
use crate::nn::{Module, Parameter};
use crate::ops::random::{GeneratorState, default_generator};
use crate::ops::update::ClipOptions;
use crate::optim::{Accumulator, Optimizer, grad_norm};
use crate::tensor::Tensor;

/// What errors of settings name.
const OP: &str = "trainer";

/// What the caller's loss function gives for one batch.
pub struct StepLoss<'a> {
    total: Tensor,
    shown: Tensor,
    tokens: usize,
    after: Option<After<'a>>,
}

/// What to do once the parameters have moved.
type After<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

impl std::fmt::Debug for StepLoss<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepLoss")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl<'a> StepLoss<'a> {
    /// A loss to minimise, of a batch of so many tokens or samples.
    pub fn new(total: Tensor, tokens: usize) -> Self {
        StepLoss {
            shown: total.detach(),
            total,
            tokens,
            after: None,
        }
    }

    /// The loss to report, where it is not the one that is minimised.
    #[must_use]
    pub fn shown(mut self, loss: &Tensor) -> Self {
        self.shown = loss.detach();
        self
    }

    /// Something to do after the update, such as balancing experts. It is left out when the update is.
    #[must_use]
    pub fn then(mut self, after: impl FnOnce() -> Result<()> + 'a) -> Self {
        self.after = Some(Box::new(after));
        self
    }
}

/// Trains a model step by step. PyTorch has no counterpart; the loop is the one that everybody writes.
///
/// A step computes losses and gradients, reads loss and norm back once, and moves the parameters. Where a call of the device
/// fails in the middle, the state is brought back to that before the step and the step is done again: after an emptied pool
/// where memory ran out, after a reset and the last snapshot where the device was lost. The losses are those of an undisturbed
/// run. Without a scaler, a loss or norm that is not finite ends the run with an error that names the op it came from.
///
/// ```
/// use ascend_tensor::nn::{Linear, Module, Place};
/// use ascend_tensor::optim::{Adam, AdamOptions};
/// use ascend_tensor::train::{StepLoss, Trainer, TrainerOptions};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let model = Linear::new([2, 1], (), &Place::default())?;
/// let adamw = Adam::w(model.parameters(), AdamOptions::new().lr(0.1));
/// let mut trainer = Trainer::new(&model, adamw, TrainerOptions::new().clip(1.0))?;
/// let batch = Tensor::new([[1.0f32], [2.0]]);
/// let loss = |x: &Tensor| Ok(StepLoss::new(model.forward(x)?.cross_entropy(&Tensor::new([0i64, 1]), ())?, 2));
/// let first = trainer.step(&[batch.clone()], &loss)?;
/// for _ in 0..30 {
///     trainer.step(&[batch.clone()], &loss)?;
/// }
/// assert!(trainer.step(&[batch], &loss)?.loss < first.loss);
/// assert_eq!(trainer.steps(), 32);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trainer<'m> {
    model: &'m dyn Module,
    optimizer: Box<dyn Optimizer>,
    parameters: Vec<(String, Parameter)>,
    options: TrainerOptions,
    scaler: Option<GradScaler>,
    device: Device,
    /// What the device makes of overflows.
    mode: OverflowMode,
    step: u64,
    snapshot: Option<Snapshot>,
    /// The steps' batches since the snapshot.
    since: Vec<Vec<Tensor>>,
}

impl std::fmt::Debug for dyn Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "optimiser of {} parameters", self.parameters().len())
    }
}

impl std::fmt::Debug for dyn Module + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "module of {} parameters", self.parameter_count())
    }
}

/// The loss of a batch, which is on the trainer's device. It may depend on nothing else that changes from step to step: after
/// a fault, batches of earlier steps are given to it again.
pub type LossOf<'f, 'a> = dyn Fn(&Tensor) -> Result<StepLoss<'a>> + 'f;

/// How far a step had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing that lasts was changed.
    Compute,
    /// Parameters may have moved.
    Update,
}

/// What a step that went through has to tell.
struct Done {
    loss: f64,
    norm: f64,
    scale: f64,
    skipped: bool,
    tokens: usize,
}

impl<'m> Trainer<'m> {
    /// A trainer at step 0, on the device of the optimiser's parameters.
    ///
    /// # Errors
    /// `Option` for an optimiser without parameters, and for settings of optimiser, schedule, scaler or trainer that no step
    /// could use, with the setting's name; [`Error::Entry`] that names a parameter with an element that is not
    /// finite; device errors.
    pub fn new(
        model: &'m dyn Module,
        optimizer: impl Optimizer + 'static,
        options: TrainerOptions,
    ) -> Result<Self> {
        let parameters = optimizer.parameters();
        let Some((_, first)) = parameters.first() else {
            let why = "got none, wanted one or more";
            return Err(Error::option(OP, "parameters", why));
        };
        optimizer.check()?;
        options.check()?;
        let device = first.tensor().device();
        let said = options.scaler.and_then(|scaler| scaler.own_mode());
        let mode = match (said, device) {
            (Some(mode), _) => mode,
            (None, Device::Ascend(number)) => ascend::overflow_mode(number)?,
            (None, Device::Cpu) => OverflowMode::Infinite,
        };
        refuse_not_finite(&parameters)?;
        Ok(Trainer {
            device,
            mode,
            model,
            optimizer: Box::new(optimizer),
            parameters,
            scaler: options.scaler.map(|scaler| scaler.mode(mode)),
            options,
            step: 0,
            snapshot: None,
            since: Vec::new(),
        })
    }

    /// The number of steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The state to put into a checkpoint.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::take(self.step, self.model, self.optimizer.as_ref())?;
        snapshot.scaler = self.scaler.map(|scaler| scaler.state());
        Ok(snapshot)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// As [`Snapshot::restore`].
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        snapshot.restore(self.model, self.optimizer.as_mut())?;
        self.step = snapshot.step;
        if let (Some(scaler), Some(state)) = (&mut self.scaler, snapshot.scaler) {
            scaler.set_state(state);
        }
        (self.snapshot, self.since) = (None, Vec::new());
        Ok(())
    }

    /// One step on a batch, or on several whose gradients are averaged. The batches are on the host.
    ///
    /// # Errors
    /// Those of `loss` that repeating does not help; [`Error::NotFinite`] for a loss or norm that is not finite, without a
    /// scaler.
    pub fn step<'a>(&mut self, batches: &[Tensor], loss: &LossOf<'_, 'a>) -> Result<Report> {
        let begun = Instant::now();
        let counted = ascend::counters();
        let mut retries = 0;
        let done = loop {
            let outcome = self
                .keep_snapshot()
                .map_err(|error| (Stage::Compute, error));
            match outcome.and_then(|()| self.attempt(batches, loss)) {
                Ok(done) => break done,
                Err((stage, error)) => self.repair(stage, error, &mut retries, loss)?,
            }
        };
        if self.snapshot.is_some() {
            self.since.push(batches.to_vec());
        }
        let spent = ascend::counters().since(counted);
        let peak = match self.device {
            Device::Cpu => cpu_memory().peak,
            Device::Ascend(number) => ascend::statistics(number).peak_allocated,
        };
        Ok(Report {
            step: self.step - 1,
            loss: done.loss,
            grad_norm: done.norm,
            rate: self.optimizer.rates().first().copied().unwrap_or(0.0),
            scale: done.scale,
            skipped: done.skipped,
            tokens: done.tokens,
            seconds: begun.elapsed().as_secs_f64(),
            peak_memory: peak,
            launches: spent.launches,
            calls: spent.calls,
            syncs: spent.syncs,
            retries,
        })
    }

    /// Copies the state to the host when it is time. Reading it waits for the device, so that failures of earlier steps
    /// surface before the copy is trusted.
    fn keep_snapshot(&mut self) -> Result<()> {
        let due = self.since.len() as u64 >= self.options.snapshot_every;
        if self.device.is_cpu() || self.options.snapshot_every == 0 {
            return Ok(());
        }
        if self.snapshot.is_none() || due {
            self.snapshot = Some(self.snapshot()?);
            self.since.clear();
        }
        Ok(())
    }

    /// One try of a step. On success the count of steps has risen.
    fn attempt<'a>(
        &mut self,
        batches: &[Tensor],
        loss: &LossOf<'_, 'a>,
    ) -> std::result::Result<Done, (Stage, Error)> {
        let before = (default_generator().state(), self.buffers());
        let computed = self.compute(batches, loss).inspect_err(|_| undo(&before));
        let (gradients, afters, done) = computed.map_err(|error| (Stage::Compute, error))?;
        if !done.skipped {
            let updated = self.update(gradients, afters, &done);
            updated.map_err(|error| (Stage::Update, error))?;
        }
        self.step += 1;
        Ok(done)
    }

    /// Buffers that a forward pass may replace, as they are.
    fn buffers(&self) -> Vec<(Parameter, Tensor)> {
        let state = self.model.state().into_iter();
        let buffers = state.filter(|(_, own)| !own.is_trained());
        buffers
            .map(|(_, own)| (own.clone(), own.tensor()))
            .collect()
    }

    /// Losses and gradients, and whether the numbers are good: the one read from the device.
    fn compute<'a>(
        &mut self,
        batches: &[Tensor],
        loss: &LossOf<'_, 'a>,
    ) -> Result<(Gradients, Vec<After<'a>>, Done)> {
        let start = default_generator().state();
        if let Some(number) = self.saturating() {
            ascend::forget_overflow(number)?;
        }
        let scale = self.scaler.map_or(1.0, |scaler| scaler.scale());
        let (mut sum, mut shown, mut afters, mut tokens) =
            (Accumulator::new(), Vec::new(), Vec::new(), 0);
        for batch in batches {
            let one = self.forward(batch, loss)?;
            let total = if scale == 1.0 {
                one.total
            } else {
                one.total.mul(scale)?
            };
            sum.add(self.backward(&total)?)?;
            shown.push(one.shown.to_dtype(DType::F32)?.reshape([1])?);
            afters.extend(one.after);
            tokens += one.tokens;
        }
        let none = || Error::option(OP, "batches", "got none, wanted one or more");
        let gradients = sum.mean(&self.parameters)?.ok_or_else(none)?;
        let numbers = self.numbers(&gradients, &shown)?;
        let (losses, [norm, largest, told]) = match numbers.as_slice() {
            [losses @ .., norm, largest, told] => (losses, [*norm, *largest, *told]),
            _ => return Err(none()),
        };
        let limit = self.scaler.and_then(|scaler| scaler.limit());
        let saturated = told != 0.0 || limit.is_some_and(|limit| f64::from(largest) >= limit);
        let overflow = !norm.is_finite() || losses.iter().any(|x| !x.is_finite()) || saturated;
        let skipped = match &mut self.scaler {
            Some(scaler) => !scaler.update(overflow),
            None if overflow => return Err(self.find(batches, loss, start)),
            None => false,
        };
        let mean = losses.iter().map(|x| f64::from(*x)).sum::<f64>() / losses.len() as f64;
        Ok((
            gradients,
            afters,
            Done {
                loss: mean,
                norm: f64::from(norm) / scale,
                scale,
                skipped,
                tokens,
            },
        ))
    }

    fn forward<'a>(&self, batch: &Tensor, loss: &LossOf<'_, 'a>) -> Result<StepLoss<'a>> {
        let batch = batch.to_device(self.device)?;
        match self.options.precision {
            Some(dtype) => autocast(dtype, || loss(&batch)),
            None => loss(&batch),
        }
    }

    fn backward(&self, total: &Tensor) -> Result<Gradients> {
        if self.options.anomaly {
            anomaly(|| total.backward())
        } else {
            total.backward()
        }
    }

    /// The NPU, if it saturates: then its overflow status tells what no number does.
    fn saturating(&self) -> Option<u32> {
        match self.device {
            Device::Ascend(number) if self.mode == OverflowMode::Saturate => Some(number),
            _ => None,
        }
    }

    /// The losses, the norm of the gradients, the largest of them where that tells of an overflow, and the chip's word on it.
    fn numbers(&self, gradients: &Gradients, shown: &[Tensor]) -> Result<Vec<f32>> {
        // Before the norms, which may overflow themselves.
        let told = self.saturating().map(overflow_flag).transpose()?;
        let norm = grad_norm(gradients, &self.parameters)?;
        let largest = if self.scaler.is_some_and(|scaler| scaler.limit().is_some()) {
            let leaves: Vec<Tensor> = self
                .parameters
                .iter()
                .map(|(_, own)| own.tensor())
                .collect();
            let list: Vec<&Tensor> = leaves.iter().filter_map(|own| gradients.get(own)).collect();
            let options = ClipOptions::new(f64::INFINITY).norm_type(f64::INFINITY);
            Tensor::clip_grad_norm(&list, options)?.0
        } else {
            norm.zeros_like()?
        };
        let flat = |x: &Tensor| x.to_dtype(DType::F32)?.reshape([1]);
        let (norm, largest) = (flat(&norm)?, flat(&largest)?);
        let told = told.map_or_else(|| largest.zeros_like(), Ok)?;
        let all: Vec<&Tensor> = shown.iter().chain([&norm, &largest, &told]).collect();
        Tensor::cat(&all, 0)?.to_vec::<f32>()
    }

    /// Replays the pass from the same state of the generator and finds the op that the bad number came from.
    fn find<'a>(&self, batches: &[Tensor], loss: &LossOf<'_, 'a>, start: GeneratorState) -> Error {
        default_generator().set_state(start);
        let replay = || -> Result<()> {
            for batch in batches {
                let _ = self.backward(&self.forward(batch, loss)?.total)?;
            }
            Ok(())
        };
        let unknown = || NotFinite {
            op: "training step",
            call: 0,
            output: 0,
            position: 0,
            value: f64::NAN,
            inputs: "of which a replay made finite numbers only".into(),
        };
        match find_overflow(self.mode, replay) {
            Ok(found) => Error::NotFinite(Box::new(found.unwrap_or_else(unknown))),
            Err(error) => error,
        }
    }

    fn update(
        &mut self,
        mut gradients: Gradients,
        afters: Vec<After<'_>>,
        done: &Done,
    ) -> Result<()> {
        let clip = match self.options.clip {
            Some(most) => (most / (done.norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let factor = clip / done.scale;
        if factor != 1.0 {
            for (_, parameter) in &self.parameters {
                let leaf = parameter.tensor();
                if let Some(gradient) = gradients.get(&leaf) {
                    let scaled = gradient.mul(factor)?;
                    gradients.put(&leaf, scaled);
                }
            }
        }
        let rate = self.options.schedule.factor(self.step);
        self.optimizer.set_factor(rate);
        self.optimizer.step(&gradients)?;
        afters.into_iter().try_for_each(|after| after())
    }

    /// Brings the state back to that before the failed step, or gives its error up.
    fn repair<'a>(
        &mut self,
        mut stage: Stage,
        mut error: Error,
        retries: &mut u32,
        loss: &LossOf<'_, 'a>,
    ) -> Result<()> {
        loop {
            let fault = classify(&error);
            let Device::Ascend(number) = self.device else {
                return Err(error);
            };
            if fault == Fault::Fatal || *retries >= self.options.retries {
                return Err(error);
            }
            *retries += 1;
            tracing::warn!(target: "ascend_tensor::train", step = self.step, ?fault, %error, "a step is repeated");
            if fault == Fault::OutOfMemory && stage == Stage::Compute {
                let _ = ascend::empty_cache(number);
                return Ok(());
            }
            if self.snapshot.is_none() && self.options.snapshot_every > 0 {
                // Reading the first snapshot failed: no step was done since the state was made, and nothing can be put back.
                return match (fault, &error) {
                    (Fault::Transient, Error::Acl(_)) => Ok(()),
                    _ => Err(error),
                };
            }
            match self.recover(fault, number, loss) {
                Ok(()) => return Ok(()),
                Err((at, next)) => (stage, error) = (at, next),
            }
        }
    }

    /// Restores the last snapshot, on a device that was reset if it was lost, and repeats the steps since.
    fn recover<'a>(
        &mut self,
        fault: Fault,
        number: u32,
        loss: &LossOf<'_, 'a>,
    ) -> std::result::Result<(), (Stage, Error)> {
        let late = |error| (Stage::Update, error);
        if fault == Fault::DeviceLost {
            ascend::reset(number).map_err(late)?;
        } else {
            let _ = ascend::empty_cache(number);
        }
        let Some(snapshot) = self.snapshot.take() else {
            let why = "got none to go back to, wanted snapshots to be kept";
            return Err(late(Error::option("trainer", "snapshot", why)));
        };
        let restored = snapshot.restore(self.model, self.optimizer.as_mut());
        self.step = snapshot.step;
        if let (Some(scaler), Some(state)) = (&mut self.scaler, snapshot.scaler) {
            scaler.set_state(state);
        }
        self.snapshot = Some(snapshot);
        restored.map_err(late)?;
        for batches in self.since.clone() {
            self.attempt(&batches, loss)
                .map_err(|(_, error)| late(error))?;
        }
        Ok(())
    }
}

/// Puts back what a failed pass may have moved on.
fn undo((generator, buffers): &(GeneratorState, Vec<(Parameter, Tensor)>)) {
    default_generator().set_state(*generator);
    for (parameter, tensor) in buffers {
        // The tensor is the parameter's own former one, so its shape and dtype fit.
        let _ = parameter.set(tensor);
    }
}
