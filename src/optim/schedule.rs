//! Learning-rate schedules: the factor of the rate at each step.
//!
//! Knows counts of steps. Must not know optimisers.

use crate::check;
use crate::error::Result;

/// The factor of the learning rate by step, counted from 0.
///
/// ```
/// use ascend_tensor::optim::Schedule;
/// let schedule = Schedule::Cosine { steps: 100, least: 0.1 }.with_warm_up(10);
/// assert_eq!(schedule.factor(0), 0.1);
/// assert_eq!(schedule.factor(10), 1.0);
/// assert!((schedule.factor(110) - 0.1).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// From 1 to `least` along half a cosine over `steps`, then `least`.
    Cosine {
        /// The length of the descent.
        steps: u64,
        /// The last factor.
        least: f64,
    },
    /// From 1 to `least` along a line over `steps`, then `least`.
    Linear {
        /// The length of the descent.
        steps: u64,
        /// The last factor.
        least: f64,
    },
    /// 1 for `stable` steps, then to `least` along a line over `decay` steps: warm-up-stable-decay with a warm-up before it.
    StableDecay {
        /// The steps at the full rate.
        stable: u64,
        /// The length of the descent.
        decay: u64,
        /// The last factor.
        least: f64,
    },
    /// From `1 / steps` to 1 over so many steps, then another schedule from its step 0 on.
    WarmUp {
        /// The length of the rise.
        steps: u64,
        /// What follows.
        then: Box<Schedule>,
    },
}

impl Schedule {
    /// Refuses a last factor that is negative or no finite number.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Schedule::Constant => Ok(()),
            Schedule::Cosine { least, .. }
            | Schedule::Linear { least, .. }
            | Schedule::StableDecay { least, .. } => {
                check::finite("schedule", "least", *least)?;
                check::not_negative("schedule", "least", *least)
            }
            Schedule::WarmUp { then, .. } => then.check(),
        }
    }

    /// This schedule after a linear rise over so many steps.
    #[must_use]
    pub fn with_warm_up(self, steps: u64) -> Self {
        Schedule::WarmUp {
            steps,
            then: Box::new(self),
        }
    }

    /// The factor at a step.
    pub fn factor(&self, step: u64) -> f64 {
        let share = |step: u64, steps: u64| {
            if steps == 0 {
                1.0
            } else {
                (step as f64 / steps as f64).min(1.0)
            }
        };
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine { steps, least } => {
                let angle = std::f64::consts::PI * share(step, *steps);
                least + (1.0 - least) * 0.5 * (1.0 + angle.cos())
            }
            Schedule::Linear { steps, least } => 1.0 - (1.0 - least) * share(step, *steps),
            Schedule::StableDecay {
                stable,
                decay,
                least,
            } => {
                1.0 - (1.0 - least)
                    * share(step.saturating_sub(*stable), *decay)
                    * f64::from(u8::from(step > *stable))
            }
            Schedule::WarmUp { steps, .. } if step < *steps => (step + 1) as f64 / *steps as f64,
            Schedule::WarmUp { steps, then } => then.factor(step - steps),
        }
    }
}
