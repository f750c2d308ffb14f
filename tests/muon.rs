//! Muon against PyTorch's on both devices (`tests/parity/muon.py` made the numbers), and several optimisers as one.

use std::collections::BTreeMap;

use ascend_tensor::io::load_safetensors;
use ascend_tensor::nn::{Linear, Module, Parameter, Place, StateDict};
use ascend_tensor::optim::{
    Adam, AdamOptions, Momentum, MultiOptimizer, Muon, MuonOptions, MuonScale, Optimizer,
};
use ascend_tensor::{DType, Device, Generator, Result, Tensor, ascend};

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
            own: Parameter::new(&start.copy()?.to_device(device)?)?,
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
            let most = if precision == DType::F32 { 1e-5 } else { 3e-2 };
            assert!(
                error < most,
                "{case} of {name} in {precision} on {device}: off by {error}"
            );
            largest = largest.max(error);
        }
    }
    Ok(largest)
}

fn install() -> Result<()> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let mut done = Ok(());
    ONCE.call_once(|| {
        let api = ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
        done = ascend::install(api);
    });
    done
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

#[test]
fn a_stack_moves_as_its_matrices_do() -> Result<()> {
    install()?;
    let all = reference()?;
    for device in [Device::Cpu, Device::ascend(0)] {
        let both = |part: &str| -> Result<[Tensor; 2]> {
            let get = |index: u8| all[&format!("stack.{index}.{part}")].clone();
            Ok([get(0), get(1)])
        };
        let [a, b] = both("start")?;
        let start = Tensor::stack(&[&a, &b], 0)?;
        let [a, b] = both("gradients")?;
        let moved = Moved::new(&start, &Tensor::stack(&[&a, &b], 1)?, device)?;
        let options = MuonOptions::new().lr(0.05).precision(DType::F32);
        let mut muon = Muon::new(vec![("stack".into(), moved.own.clone())], options)?;
        for step in 0..STEPS {
            muon.step(&moved.loss(step)?.backward()?)?;
        }
        for index in 0..2 {
            let got = moved.own.tensor().select(0, index)?;
            let error = worst(&got, &all[&format!("usual.f32.stack.{index}")])?;
            assert!(error < 1e-5, "{index} on {device}: off by {error}");
        }
    }
    Ok(())
}

/// A network, and Muon for its matrices with AdamW for its biases.
fn network(seed: u64) -> Result<(Linear, MultiOptimizer)> {
    let place = Place::default().generator(&Generator::new(seed));
    let layer = Linear::new([4, 3], (), &place)?;
    let (matrices, rest) = layer
        .parameters()
        .into_iter()
        .partition(|(_, own)| own.tensor().rank() == 2);
    let muon = Muon::new(matrices, MuonOptions::new().lr(0.02))?;
    let adamw = Adam::w(rest, AdamOptions::new().lr(0.01));
    let both = MultiOptimizer::new(vec![Box::new(muon), Box::new(adamw)])?;
    Ok((layer, both))
}

fn loss(layer: &Linear) -> Result<Tensor> {
    layer
        .forward(&Tensor::new([[1.0f32, -2.0, 0.5], [0.25, 1.0, 2.0]]))?
        .sin()?
        .mean(())
}

fn bits(layer: &Linear) -> Result<Vec<u32>> {
    let values = |x: &Tensor| Ok(x.to_vec::<f32>()?.into_iter().map(f32::to_bits).collect());
    let all: Result<Vec<Vec<u32>>> = layer.state_dict().values().map(values).collect();
    Ok(all?.concat())
}

#[test]
fn a_saved_state_goes_on_bit_for_bit() -> Result<()> {
    let (layer, mut both) = network(1)?;
    let mut kept: Option<(StateDict, StateDict)> = None;
    for step in 0..6 {
        if step == 3 {
            let copies = |state: StateDict| -> Result<StateDict> {
                let copy = |(name, own): (String, Tensor)| Ok((name, own.copy()?));
                state.into_iter().map(copy).collect()
            };
            kept = Some((copies(layer.state_dict())?, copies(both.state_dict()?)?));
        }
        both.step(&loss(&layer)?.backward()?)?;
    }
    let (model, state) = kept.expect("step 3");
    let names: Vec<&str> = state.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "bias.exp_avg",
            "bias.exp_avg_sq",
            "bias.step",
            "weight.momentum_buffer"
        ]
    );
    let (again, mut resumed) = network(2)?;
    again.load_state_dict(&model)?;
    resumed.load_state_dict(&state)?;
    for _ in 3..6 {
        resumed.step(&loss(&again)?.backward()?)?;
    }
    assert_eq!(bits(&again)?, bits(&layer)?);
    let mut foreign = state;
    foreign.insert("weights.momentum_buffer".into(), Tensor::new([1.0f32]));
    let told = resumed
        .load_state_dict(&foreign)
        .expect_err("no such parameter");
    assert!(
        told.to_string().contains("weights.momentum_buffer"),
        "{told}"
    );
    both.set_factor(0.5);
    assert_eq!(both.rates(), [0.01, 0.005]);
    Ok(())
}
