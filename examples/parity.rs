//! Parity: trains a DeepSeek-V3 model in Hugging Face's layout on given batches and prints the loss of each step.
//!
//! `cargo run --release --example parity -- <folder> [--device cpu|ascend:0|emulator] [--precision f32|bf16|f16]`
//!
//! The folder has `config.json`, the weights, `batches.safetensors` (`tokens`: i64 `[steps, batch, length + 1]`) and
//! `train.json` (`lr`, `betas`, `eps`, `weight_decay`, `grad_clip`, `steps`). One JSON line is printed per step; where the
//! folder has `logits.safetensors` or `losses.jsonl` (in bf16 `losses.bf16.jsonl`) too, the largest differences are told on
//! standard error: to be at most 1e-4 of each loss in f32, and 3e-2 in bf16, as far as PyTorch's own two runs are apart.
//! `tests/parity/make.py` makes such folders with PyTorch.

mod common;

use std::error::Error;
use std::path::{Path, PathBuf};

use ascend_tensor::io::load_safetensors;
use ascend_tensor::models::deepseek::{DeepSeek, LossOptions};
use ascend_tensor::nn::{Module, Phase, Place};
use ascend_tensor::optim::{Adam, AdamOptions, Optimizer, clip_grad_norm, grad_norm};
use ascend_tensor::{DType, Device, Tensor, autocast, no_grad};
use serde_json::{Value, json};

/// What the command line asks for.
struct Arguments {
    folder: PathBuf,
    device: Device,
    precision: DType,
}

/// The settings of `train.json`.
struct Settings {
    options: AdamOptions,
    clip: Option<f64>,
    steps: usize,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = arguments()?;
    let folder = &arguments.folder;
    let tokens = batches(&folder.join("batches.safetensors"))?;
    let model = DeepSeek::load_pretrained(folder, &Place::new(arguments.device))?;
    check_tokens(&tokens, model.config().vocab_size)?;
    let settings = settings(&folder.join("train.json"), tokens.dims()[0])?;
    compare_logits(&model, &tokens, &arguments)?;
    let losses = train(&model, &tokens, &settings, &arguments)?;
    let reference = match arguments.precision {
        DType::BF16 => "losses.bf16.jsonl",
        _ => "losses.jsonl",
    };
    compare_losses(&folder.join(reference), &losses)
}

fn arguments() -> Result<Arguments, Box<dyn Error + Send + Sync>> {
    let (mut folder, mut device, mut precision) = (None, Device::Cpu, DType::F32);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--device" => device = common::device(&value()?)?,
            "--precision" => {
                precision = value()?.parse()?;
                if !matches!(precision, DType::F32 | DType::BF16 | DType::F16) {
                    return Err(
                        format!("got precision {precision}, wanted f32, bf16 or f16").into(),
                    );
                }
            }
            _ if folder.is_none() && !word.starts_with("--") => folder = Some(word.into()),
            _ => return Err(format!("unknown argument {word:?}").into()),
        }
    }
    let usage =
        "usage: parity <folder> [--device cpu|ascend:0|emulator] [--precision f32|bf16|f16]";
    Ok(Arguments {
        folder: folder.ok_or(usage)?,
        device,
        precision,
    })
}

/// The tokens, `[steps, batch, length + 1]`.
fn batches(path: &Path) -> Result<Tensor, Box<dyn Error + Send + Sync>> {
    let tokens = load_safetensors(path)?.remove("tokens");
    let tokens = tokens.ok_or_else(|| format!("{}: tensor tokens is missing", path.display()))?;
    let (dims, dtype) = (tokens.dims(), tokens.dtype());
    if !dtype.is_int() || dims.len() != 3 || dims[0] == 0 || dims[1] == 0 || dims[2] < 2 {
        let wanted = "i64 [steps, batch, length + 1] with one step, sequence and token or more";
        return Err(format!(
            "{}: tensor tokens: got {dtype} {}, wanted {wanted}",
            path.display(),
            tokens.shape()
        )
        .into());
    }
    Ok(tokens.to_dtype(DType::I64)?)
}

/// Refuses tokens that the model has not, before the first step.
fn check_tokens(tokens: &Tensor, count: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let all = tokens.to_vec::<i64>()?;
    match all.iter().find(|token| !(0..count as i64).contains(*token)) {
        Some(token) => Err(format!(
            "tensor tokens: got token {token}, wanted 0 to below vocab_size {count}"
        )
        .into()),
        None => Ok(()),
    }
}

fn settings(path: &Path, batches: usize) -> Result<Settings, Box<dyn Error + Send + Sync>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let wrong = |name: &str, wanted: &str| {
        let got = value.get(name).cloned().unwrap_or_default();
        format!("{}: {name}: got {got}, wanted {wanted}", path.display())
    };
    let number = |name: &str, usual: f64| match value.get(name) {
        None | Some(Value::Null) => Ok(usual),
        Some(value) => value.as_f64().ok_or_else(|| wrong(name, "a number")),
    };
    let betas = match value.get("betas") {
        None | Some(Value::Null) => [0.9, 0.999],
        Some(list) => {
            serde_json::from_value(list.clone()).map_err(|_| wrong("betas", "two numbers"))?
        }
    };
    let clip = number("grad_clip", 0.0)?;
    let steps = match value.get("steps") {
        None | Some(Value::Null) => batches,
        Some(steps) => steps
            .as_u64()
            .ok_or_else(|| wrong("steps", "a whole number"))? as usize,
    };
    if steps > batches {
        return Err(wrong("steps", &format!("at most the {batches} batches there are")).into());
    }
    Ok(Settings {
        options: AdamOptions::new()
            .lr(number("lr", 1e-3)?)
            .betas(betas)
            .eps(number("eps", 1e-8)?)
            .weight_decay(number("weight_decay", 0.01)?),
        clip: (clip > 0.0).then_some(clip),
        steps,
    })
}

/// Runs in the precision asked for.
fn precisely<R>(precision: DType, body: impl FnOnce() -> R) -> R {
    if precision == DType::F32 {
        body()
    } else {
        autocast(precision, body)
    }
}

/// Trains, prints a line per step, and gives the losses.
fn train(
    model: &DeepSeek,
    tokens: &Tensor,
    settings: &Settings,
    arguments: &Arguments,
) -> ascend_tensor::Result<Vec<f64>> {
    let parameters = model.parameters();
    let mut adamw = Adam::w(parameters.clone(), settings.options);
    let mut losses = Vec::new();
    for step in 0..settings.steps {
        let batch = tokens.select(0, step as i64)?.to_device(arguments.device)?;
        let loss = precisely(arguments.precision, || {
            model.loss(&batch, LossOptions::new())
        })?;
        let mut gradients = loss.total.backward()?;
        let norm = match settings.clip {
            Some(most) => clip_grad_norm(&mut gradients, &parameters, most)?,
            None => grad_norm(&gradients, &parameters)?,
        };
        adamw.step(&gradients)?;
        let (loss, norm) = (loss.next.to_f64_vec()?[0], norm.to_f64_vec()?[0]);
        println!("{}", json!({"step": step, "loss": loss, "grad_norm": norm}));
        losses.push(loss);
    }
    Ok(losses)
}

/// Tells how far the logits of the first batch are from the reference's, where there is one.
fn compare_logits(
    model: &DeepSeek,
    tokens: &Tensor,
    arguments: &Arguments,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let path = arguments.folder.join("logits.safetensors");
    let Some(want) = path.exists().then(|| load_safetensors(&path)).transpose()? else {
        return Ok(());
    };
    let want = want
        .get("logits")
        .ok_or("tensor logits is missing")?
        .to_f64_vec()?;
    let length = tokens.dims()[2] as i64 - 1;
    let batch = tokens
        .select(0, 0)?
        .narrow(1, 0, length)?
        .to_device(arguments.device)?;
    let got = no_grad(|| {
        precisely(arguments.precision, || {
            model.forward(&batch, Phase::Evaluation)
        })
    })?;
    let got = got.to_f64_vec()?;
    if got.len() != want.len() {
        let message = format!("got {} logits, wanted {}", got.len(), want.len());
        return Err(message.into());
    }
    let off = |(got, want): (&f64, &f64)| match (got - want).abs() {
        off if off.is_nan() => f64::INFINITY,
        off => off,
    };
    let worst = got.iter().zip(&want).map(off).fold(0.0, f64::max);
    eprintln!("logits differ by at most {worst:.2e}");
    Ok(())
}

/// Tells how far the losses are from the reference's, where there are some.
fn compare_losses(path: &Path, losses: &[f64]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Ok(());
    };
    let (mut worst, mut count) = (0.0f64, 0);
    for (line, loss) in text.lines().zip(losses) {
        let want = serde_json::from_str::<Value>(line)?["loss"]
            .as_f64()
            .ok_or("no loss")?;
        let off = (loss - want).abs() / want.abs();
        // A loss that is no number is as far off as can be.
        worst = worst.max(if off.is_nan() { f64::INFINITY } else { off });
        count += 1;
    }
    eprintln!("{count} losses differ by at most {worst:.2e} of the reference's");
    Ok(())
}
