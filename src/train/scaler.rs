//! Loss scaling: gradients kept in the range of `f16`.
//!
//! Knows one number and when it changes. Must not know gradients or devices.

use crate::ascend::OverflowMode;
use crate::check;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The state of a [`GradScaler`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ScalerState {
    /// The factor of the loss.
    pub scale: f64,
    /// The steps since the factor changed or a step was skipped.
    pub steady: u64,
}

/// A dynamic loss scale: halved when a step overflows, which is then skipped, and doubled after many that did not.
///
/// An overflow shows as a norm of the gradients that is not finite. Where the device saturates, no number ever is: there the
/// chip's own overflow status tells, and a gradient as large as the low precision's largest number counts as an overflow, too.
/// Which of the two an NPU does, the trainer asks it, unless [`GradScaler::mode`] says. PyTorch: `torch.amp.GradScaler`.
///
/// ```
/// use ascend_tensor::train::GradScaler;
/// let mut scaler = GradScaler::new(1024.0).growth_interval(2);
/// assert!(!scaler.update(true));          // an overflow: skip the step
/// assert_eq!(scaler.scale(), 512.0);
/// assert!(scaler.update(false) && scaler.update(false));
/// assert_eq!(scaler.scale(), 1024.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct GradScaler {
    state: ScalerState,
    growth: f64,
    backoff: f64,
    interval: u64,
    mode: Option<OverflowMode>,
    precision: DType,
}

impl Default for GradScaler {
    fn default() -> Self {
        GradScaler::new(65_536.0)
    }
}

impl GradScaler {
    /// Starts with a scale; doubles after 2000 steps, halves on overflow; infinities in `f16`.
    pub fn new(scale: f64) -> Self {
        GradScaler {
            state: ScalerState { scale, steady: 0 },
            growth: 2.0,
            backoff: 0.5,
            interval: 2000,
            mode: None,
            precision: DType::F16,
        }
    }

    /// How many steps without an overflow it takes to double the scale.
    pub fn growth_interval(mut self, steps: u64) -> Self {
        self.interval = steps;
        self
    }

    /// What the device makes of overflows, where it is not to be asked.
    pub fn mode(mut self, mode: OverflowMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Refuses a scale that is not above 0, and a precision that is no float.
    pub(super) fn check(&self) -> Result<()> {
        check::positive("grad_scaler", "scale", self.state.scale)?;
        if !self.precision.is_float() {
            let why = format!("got {}, wanted a float", self.precision);
            return Err(Error::option("grad_scaler", "precision", why));
        }
        Ok(())
    }

    pub(super) fn own_mode(&self) -> Option<OverflowMode> {
        self.mode
    }

    /// The low precision that gradients pass through.
    pub fn precision(mut self, precision: DType) -> Self {
        self.precision = precision;
        self
    }

    /// The factor of the loss.
    pub fn scale(&self) -> f64 {
        self.state.scale
    }

    /// The size of a gradient that counts as an overflow, where no infinity tells of it.
    pub fn limit(&self) -> Option<f64> {
        match self.mode {
            Some(OverflowMode::Saturate) => Some(self.precision.largest()),
            _ => None,
        }
    }

    /// The state, for a checkpoint.
    pub fn state(&self) -> ScalerState {
        self.state
    }

    /// Goes on from a state.
    pub fn set_state(&mut self, state: ScalerState) {
        self.state = state;
    }

    /// Notes whether a step overflowed; the answer is whether to do the step.
    pub fn update(&mut self, overflow: bool) -> bool {
        if overflow {
            self.state = ScalerState {
                scale: (self.state.scale * self.backoff).max(f64::MIN_POSITIVE),
                steady: 0,
            };
            return false;
        }
        self.state.steady += 1;
        if self.state.steady >= self.interval {
            let grown = self.state.scale * self.growth;
            let scale = if grown.is_finite() {
                grown
            } else {
                self.state.scale
            };
            self.state = ScalerState { scale, steady: 0 };
        }
        true
    }
}
