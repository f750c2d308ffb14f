//! Optimisers, trainers and data: rates, schedules, scales, batches, files.
//!
//! Knows what each constructor names. Must not know rules of descent.

use super::{BAD, Either, Fine, Names, hold, place, row};
use ascend_tensor::nn::{Linear, Parameter};
use ascend_tensor::optim::{
    Adam, AdamOptions, Ema, MultiOptimizer, Muon, MuonOptions, Optimizer, Schedule, Sgd,
    SgdOptions, clip_grad_norm, clip_grad_value,
};
use ascend_tensor::train::{
    BatchLoader, Checkpoints, GradScaler, LoaderOptions, StepLoss, Telemetry, TokenWidth, Tokens,
    Trainer, TrainerOptions,
};
use ascend_tensor::{DType, Result, Tensor};

/// One weight with its name.
fn weight() -> Result<Vec<(String, Parameter)>> {
    let own = Parameter::new(&Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]))?;
    Ok(vec![("weight".into(), own)])
}

/// A step of an optimiser on its parameters.
fn step(mut optimizer: impl Optimizer) -> Result<()> {
    let (_, own) = &optimizer.parameters()[0];
    let gradients = own.tensor().square()?.sum(())?.backward()?;
    optimizer.step(&gradients)
}

/// A trainer of an optimiser: what no step could do is refused here.
fn trainer(optimizer: impl Optimizer + 'static, options: TrainerOptions) -> Result<()> {
    let model = Linear::new([2, 2], (), &place())?;
    Trainer::new(&model, optimizer, options).map(|_| ())
}

#[test]
fn adam_and_sgd() {
    let mut rows = Vec::new();
    for bad in BAD {
        let adam: [(&'static str, AdamOptions); 5] = [
            ("lr", AdamOptions::new().lr(bad)),
            ("betas", AdamOptions::new().betas([bad, 0.9])),
            ("betas", AdamOptions::new().betas([0.9, bad])),
            ("eps", AdamOptions::new().eps(bad)),
            ("weight_decay", AdamOptions::new().weight_decay(bad)),
        ];
        for (name, options) in adam {
            rows.push(row(
                format!("adam step {name} {bad}"),
                Names(name),
                move || step(Adam::new(weight()?, options)),
            ));
            rows.push(row(format!("adamw {name} {bad}"), Names(name), move || {
                trainer(Adam::w(weight()?, options), TrainerOptions::new())
            }));
        }
        let sgd: [(&'static str, SgdOptions); 3] = [
            ("lr", SgdOptions::new(bad)),
            ("momentum", SgdOptions::new(0.1).momentum(bad)),
            ("weight_decay", SgdOptions::new(0.1).weight_decay(bad)),
        ];
        for (name, options) in sgd {
            rows.push(row(
                format!("sgd step {name} {bad}"),
                Names(name),
                move || step(Sgd::new(weight()?, options)),
            ));
            rows.push(row(format!("sgd {name} {bad}"), Names(name), move || {
                trainer(Sgd::new(weight()?, options), TrainerOptions::new())
            }));
        }
    }
    rows.push(row("betas of 1", Names("betas"), || {
        step(Adam::w(weight()?, AdamOptions::new().betas([0.9, 1.0])))
    }));
    rows.push(row("nesterov", Names("nesterov"), || {
        trainer(
            Sgd::new(weight()?, SgdOptions::new(0.1).nesterov()),
            TrainerOptions::new(),
        )
    }));
    hold(rows);
}

#[test]
fn muon_averages_and_clipping() {
    let mut rows = Vec::new();
    for bad in BAD {
        let muon: [(&'static str, MuonOptions); 5] = [
            ("lr", MuonOptions::new().lr(bad)),
            ("momentum", MuonOptions::new().momentum(bad)),
            ("eps", MuonOptions::new().eps(bad)),
            ("weight_decay", MuonOptions::new().weight_decay(bad)),
            (
                "coefficients",
                MuonOptions::new().coefficients([1.0, f64::NAN, bad]),
            ),
        ];
        for (name, options) in muon {
            rows.push(row(format!("muon {name} {bad}"), Names(name), move || {
                Muon::new(weight()?, options)
            }));
        }
        rows.push(row(format!("ema {bad}"), Names("decay"), move || {
            Ema::new(weight()?, bad)
        }));
        rows.push(row(
            format!("clip value {bad}"),
            Names("limit"),
            move || {
                clip_grad_value(
                    &mut weight()?[0].1.tensor().sum(())?.backward()?,
                    &weight()?,
                    bad,
                )
            },
        ));
        rows.push(row(
            format!("clip norm {bad}"),
            Names("max_norm"),
            move || {
                clip_grad_norm(
                    &mut weight()?[0].1.tensor().sum(())?.backward()?,
                    &weight()?,
                    bad,
                )
            },
        ));
    }
    rows.push(row("many steps", Names("newton_schulz_steps"), || {
        Muon::new(
            weight()?,
            MuonOptions::new().newton_schulz_steps(usize::MAX),
        )
    }));
    rows.push(row("precision", Names("precision"), || {
        Muon::new(weight()?, MuonOptions::new().precision(DType::I64))
    }));
    rows.push(row("a bias in muon", Names("weight.bias"), || {
        let bias = Parameter::new(&Tensor::new([1.0f32]))?;
        Muon::new(vec![("weight.bias".into(), bias)], MuonOptions::new())
    }));
    rows.push(row("one weight twice", Names("weight"), || {
        let own = weight()?;
        let twice: Vec<Box<dyn Optimizer>> = vec![
            Box::new(Adam::w(own.clone(), AdamOptions::new())),
            Box::new(Sgd::new(own, 0.1)),
        ];
        MultiOptimizer::new(twice)
    }));
    rows.push(row("no optimisers", Names("parameters"), || {
        trainer(MultiOptimizer::new(Vec::new())?, TrainerOptions::new())
    }));
    hold(rows);
}

/// AdamW over one weight.
fn adam() -> Result<Adam> {
    Ok(Adam::w(weight()?, AdamOptions::new()))
}

#[test]
fn trainers() {
    let mut rows = Vec::new();
    for bad in BAD {
        let schedules = [
            Schedule::Cosine {
                steps: 0,
                least: bad,
            },
            Schedule::Linear {
                steps: 3,
                least: bad,
            }
            .with_warm_up(0),
            Schedule::StableDecay {
                stable: u64::MAX,
                decay: u64::MAX,
                least: bad,
            },
        ];
        for schedule in schedules {
            rows.push(row(format!("{schedule:?}"), Names("least"), move || {
                trainer(adam()?, TrainerOptions::new().schedule(schedule))
            }));
        }
        rows.push(row(format!("clip {bad}"), Names("clip"), move || {
            trainer(adam()?, TrainerOptions::new().clip(bad))
        }));
        rows.push(row(format!("scale {bad}"), Names("scale"), move || {
            trainer(adam()?, TrainerOptions::new().scaler(GradScaler::new(bad)))
        }));
    }
    rows.push(row("scale 0", Names("scale"), move || {
        trainer(adam()?, TrainerOptions::new().scaler(GradScaler::new(0.0)))
    }));
    rows.push(row("scaler of integers", Names("precision"), move || {
        trainer(
            adam()?,
            TrainerOptions::new().scaler(GradScaler::default().precision(DType::I32)),
        )
    }));
    for dtype in [DType::I64, DType::Bool, DType::F64] {
        rows.push(row(format!("in {dtype}"), Names("precision"), move || {
            trainer(adam()?, TrainerOptions::new().precision(dtype))
        }));
    }
    rows.push(row("no parameters", Names("parameters"), || {
        trainer(
            Adam::w(Vec::new(), AdamOptions::new()),
            TrainerOptions::new(),
        )
    }));
    rows.push(row("no batches", Names("batches"), move || {
        let (model, own) = (Linear::new([2, 2], (), &place())?, weight()?);
        let mut trainer = Trainer::new(
            &model,
            Adam::w(own.clone(), AdamOptions::new()),
            TrainerOptions::new(),
        )?;
        trainer.step(&[], &|_: &Tensor| {
            Ok(StepLoss::new(own[0].1.tensor().sum(())?, 1))
        })
    }));
    rows.push(row("a loss that is no scalar", Either, move || {
        let (model, own) = (Linear::new([2, 2], (), &place())?, weight()?);
        let mut trainer = Trainer::new(
            &model,
            Adam::w(own.clone(), AdamOptions::new()),
            TrainerOptions::new(),
        )?;
        trainer.step(&[Tensor::new([1i64])], &|_: &Tensor| {
            Ok(StepLoss::new(own[0].1.tensor(), 0))
        })
    }));
    hold(rows);
}

#[test]
fn data_and_files() {
    let mut rows = Vec::new();
    let tokens = |count: usize| Tokens::new(vec![1; count]);
    for (name, count, length, batch) in [
        ("length", 9, 0, 1),
        ("batch", 9, 1, 0),
        ("tokens", 0, 1, 1),
        ("tokens", 1, 1, 1),
        ("tokens", 9, usize::MAX, 1),
        ("tokens", 9, 2, usize::MAX),
        ("tokens", 9, usize::MAX, usize::MAX),
    ] {
        let options = LoaderOptions::new(length).batch(batch);
        rows.push(row(
            format!("loader {name} {count} {length} {batch}"),
            Names(name),
            move || BatchLoader::new(tokens(count), options),
        ));
    }
    rows.push(row("far ahead", Fine, move || {
        BatchLoader::new(tokens(9), LoaderOptions::new(1).ahead(usize::MAX))?.next()
    }));
    rows.push(row("tokens beyond the end", Fine, move || {
        tokens(9).read(usize::MAX, usize::MAX)
    }));
    let none = std::env::temp_dir().join(format!("ascend-tensor-none-{}", std::process::id()));
    let path = none.clone();
    rows.push(row("no file of tokens", Names("none"), move || {
        Tokens::open(path, TokenWidth::U8)
    }));
    let path = none.join("a/b");
    rows.push(row("no folder for telemetry", Names("none"), move || {
        Telemetry::with_file(path)
    }));
    let file = none.with_extension("file");
    std::fs::write(&file, b"abc").expect("a file");
    let path = file.clone();
    rows.push(row("half a token", Names("multiple of 2"), move || {
        Tokens::open(path, TokenWidth::U16)
    }));
    let path = file.clone();
    rows.push(row("a file for a folder", Names(".file"), move || {
        Checkpoints::new(path)
    }));
    rows.push(row("no checkpoint", Names("none"), move || {
        Checkpoints::load(none)
    }));
    hold(rows);
    std::fs::remove_file(file).expect("the file");
}
