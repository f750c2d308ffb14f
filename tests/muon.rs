//! Muon against PyTorch's on both devices (`tests/parity/muon.py` made the numbers), and several optimisers as one.

use std::collections::BTreeMap;

use ascend_tensor::io::load_safetensors;
use ascend_tensor::nn::{Linear, Module, Parameter, Phase, Place, StateDict};
use ascend_tensor::optim::{
    Adam, AdamOptions, Momentum, MultiOptimizer, Muon, MuonOptions, MuonScale, Optimizer,
};
use ascend_tensor::{DType, Device, Error, Result, Tensor, ascend};

const SHAPES: [&str; 6] = ["tall", "wide", "square", "row", "stack.0", "stack.1"];
const STEPS: i64 = 4;

fn reference() -> Result<BTreeMap<String, Tensor>> {
    load_safetensors(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/parity/muon.safetensors"
    ))
}

/// The cases of `muon.py`.
fn cases() -> [(&'static str, MuonOptions); 5] {
    let new = MuonOptions::new;
    let plain = new().lr(0.05).kind(Momentum::Plain).momentum(0.8);
    let spectral = new().lr(0.03).scale(MuonScale::Spectral);
    let coefficients = new().lr(0.04).coefficients([2.0, -1.5, 0.5]);
    [
        ("usual", new().lr(0.05)),
        ("plain_momentum", plain.weight_decay(0.0)),
        (
            "adamw_rms",
            new()
                .lr(0.02)
                .scale(MuonScale::MatchRmsAdamW)
                .weight_decay(0.3),
        ),
        ("spectral", spectral.newton_schulz_steps(3)),
        (
            "coefficients",
            coefficients.newton_schulz_steps(8).eps(1e-3),
        ),
    ]
}

/// A parameter, and the gradient that it is to get in each step.
struct Moved {
    own: Parameter,
    gradients: Tensor,
}

impl Moved {
    fn new(start: &Tensor, gradients: &Tensor, device: Device) -> Result<Self> {
        Ok(Moved {
            own: Parameter::new(&start.to_device(device)?)?,
            gradients: gradients.to_device(device)?,
        })
    }

    /// A loss with the step's gradient.
    fn loss(&self, step: i64) -> Result<Tensor> {
        self.own
            .tensor()
            .mul(&self.gradients.select(0, step)?)?
            .sum(())
    }
}

fn worst(got: &Tensor, want: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), want.dims());
    let (got, want) = (got.to_f64_vec()?, want.to_f64_vec()?);
    let errors = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
    Ok(errors.fold(0.0, f64::max))
}

/// Runs all cases on a device, and gives the largest error of all.
fn errors(precision: DType, device: Device) -> Result<f64> {
    let all = reference()?;
    let mut largest = 0.0f64;
    for (case, options) in cases() {
        let fresh = |name: &&str| {
            let moved = Moved::new(
                &all[&format!("{name}.start")],
                &all[&format!("{name}.gradients")],
                device,
            )?;
            Ok((name.to_string(), moved))
        };
        let moved: Vec<(String, Moved)> = SHAPES.iter().map(fresh).collect::<Result<_>>()?;
        let parameters = moved
            .iter()
            .map(|(name, moved)| (name.clone(), moved.own.clone()));
        let mut muon = Muon::new(parameters.collect(), options.precision(precision))?;
        for step in 0..STEPS {
            let mut loss = moved[0].1.loss(step)?;
            for (_, other) in &moved[1..] {
                loss = loss.add(&other.loss(step)?)?;
            }
            muon.step(&loss.backward()?)?;
        }
        for (name, moved) in &moved {
            let want = &all[&format!("{case}.{precision}.{name}")];
            let error = worst(&moved.own.tensor(), want)?;
            let most = if precision == DType::F32 {
                1e-5
            } else {
                3e-2 * rate(case)
            };
            assert!(
                error < most,
                "{case} of {name} in {precision} on {device}: off by {error}"
            );
            largest = largest.max(error);
        }
    }
    Ok(largest)
}

fn rate(_case: &str) -> f64 {
    1.0
}

fn install() -> Result<()> {
    let api = ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
    match ascend::install(api) {
        Err(Error::Option { .. }) => Ok(()),
        other => other,
    }
}

#[test]
fn steps_are_pytorchs() -> Result<()> {
    install()?;
    for device in [Device::Cpu, Device::ascend(0)] {
        for precision in [DType::F32, DType::BF16] {
            println!(
                "{precision} on {device}: off by {:.1e} at most",
                errors(precision, device)?
            );
        }
    }
    Ok(())
}
