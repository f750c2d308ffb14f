//! Trains a small DeepSeek-style language model on the bytes of a folder of text, by default this repository's own sources.
//!
//! `cargo run --release --example train_deepseek -- [--text FOLDER] [--out FOLDER] [--device cpu|ascend:0|emulator]
//! [--precision f32|bf16|f16] [--steps N] [--batch N] [--length N] [--rate R] [--seed N] [--save-every N] [--resume]`
//!
//! Writes into the out folder: `checkpoints` (go on from the last with `--resume`), `model` (Hugging Face's layout, for the
//! example `generate`), `telemetry.jsonl` and `loss.svg`.

use std::error::Error;
use std::path::{Path, PathBuf};

use ascend_tensor::models::deepseek::{Config, DeepSeek, LossOptions, Sampling};
use ascend_tensor::nn::{Module, Place};
use ascend_tensor::optim::{Adam, AdamOptions, Schedule};
use ascend_tensor::train::{
    BatchLoader, Checkpoints, LoaderOptions, Saver, Snapshot, StepLoss, Telemetry, Tokens, Trainer,
    TrainerOptions,
};
use ascend_tensor::{DType, Device, Generator, Tensor, ascend, manual_seed};
use indicatif::{ProgressBar, ProgressStyle};
use plotters::prelude::*;

type Failure = Box<dyn Error>;

/// What the command line asks for.
struct Arguments {
    text: PathBuf,
    out: PathBuf,
    device: Device,
    precision: DType,
    steps: u64,
    batch: usize,
    length: usize,
    rate: f64,
    seed: u64,
    save_every: u64,
    resume: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let text = read_text(&arguments.text)?;
    let entropy = unigram_entropy(&text);
    println!(
        "{} bytes of text, unigram entropy {entropy:.3} nats per byte",
        text.len()
    );
    std::fs::create_dir_all(&arguments.out)?;
    manual_seed(arguments.seed);
    let place = Place::new(arguments.device).generator(&Generator::new(arguments.seed));
    let model = DeepSeek::new(&config()?, &place)?;
    println!(
        "training {:.1} M parameters on {} in {}",
        model.parameter_count() as f64 / 1e6,
        arguments.device,
        arguments.precision
    );
    let losses = train(&model, &text, &arguments)?;
    model.save_pretrained(arguments.out.join("model"), ())?;
    finish(&model, &losses, entropy, &text, &arguments)
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        text: env!("CARGO_MANIFEST_DIR").into(),
        out: "target/train_deepseek".into(),
        device: Device::Cpu,
        precision: DType::F32,
        steps: 250,
        batch: 8,
        length: 128,
        rate: 1e-3,
        seed: 0,
        save_every: 50,
        resume: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--resume" {
            arguments.resume = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        match word.as_str() {
            "--text" => arguments.text = value.into(),
            "--out" => arguments.out = value.into(),
            "--device" => arguments.device = device(&value)?,
            "--precision" => arguments.precision = value.parse()?,
            "--steps" => arguments.steps = value.parse()?,
            "--batch" => arguments.batch = value.parse()?,
            "--length" => arguments.length = value.parse()?,
            "--rate" => arguments.rate = value.parse()?,
            "--seed" => arguments.seed = value.parse()?,
            "--save-every" => arguments.save_every = value.parse()?,
            _ => return Err(format!("unknown argument {word:?}").into()),
        }
    }
    if !matches!(arguments.precision, DType::F32 | DType::BF16 | DType::F16) {
        return Err(format!(
            "got precision {}, wanted f32, bf16 or f16",
            arguments.precision
        )
        .into());
    }
    Ok(arguments)
}

fn device(name: &str) -> Result<Device, Failure> {
    if name != "emulator" {
        return Ok(name.parse()?);
    }
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    Ok(Device::ascend(0))
}

/// Four layers of 256 dims, eight heads, the first layer dense, then eight experts of which two and a shared one.
fn config() -> Result<Config, Failure> {
    Ok(Config::parse(
        r#"{
            "vocab_size": 256, "hidden_size": 256, "intermediate_size": 1024, "moe_intermediate_size": 256,
            "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8, "n_shared_experts": 1,
            "n_routed_experts": 8, "num_experts_per_tok": 2, "routed_scaling_factor": 1.0, "kv_lora_rank": 64,
            "q_lora_rank": null, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32, "n_group": 1,
            "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
            "rope_interleave": false, "max_position_embeddings": 1024, "num_nextn_predict_layers": 0
        }"#,
    )?)
}

/// The text files below a folder, one after the other, in the order of their names.
fn read_text(folder: &Path) -> Result<Vec<u8>, Failure> {
    let kinds = ["rs", "md", "txt", "toml", "py", "c", "h"];
    let (mut files, mut waiting) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(path) = waiting.pop() {
        let entries =
            std::fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                waiting.push(path);
            } else if path
                .extension()
                .is_some_and(|kind| kinds.iter().any(|own| kind == *own))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut text = Vec::new();
    for file in &files {
        text.extend(std::fs::read(file)?);
        text.push(b'\n');
    }
    if text.is_empty() {
        return Err(format!("{}: no text files ({})", folder.display(), kinds.join(", ")).into());
    }
    Ok(text)
}

/// The loss of a model that knows the frequency of each byte and nothing else.
fn unigram_entropy(text: &[u8]) -> f64 {
    let mut counts = [0u64; 256];
    text.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let share = |count: &u64| *count as f64 / text.len() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(share);
    -shares.map(|p| p * p.ln()).sum::<f64>()
}

/// Trains to the last step and gives the losses of all steps, those before a resumption too.
fn train(model: &DeepSeek, text: &[u8], arguments: &Arguments) -> Result<Vec<f64>, Failure> {
    let tokens = Tokens::new(text.iter().map(|byte| i64::from(*byte)).collect());
    let options = LoaderOptions::new(arguments.length).batch(arguments.batch);
    let mut loader = BatchLoader::new(tokens, options.seed(arguments.seed))?;
    let adam = AdamOptions::new().betas([0.9, 0.95]).weight_decay(0.01);
    let optimizer = Adam::w(model.parameters(), adam.lr(arguments.rate));
    let schedule = Schedule::Cosine {
        steps: arguments.steps.saturating_sub(20),
        least: 0.1,
    };
    let options = TrainerOptions::new()
        .precision(arguments.precision)
        .schedule(schedule.with_warm_up(20))
        .clip(1.0);
    let mut trainer = Trainer::new(model, optimizer, options)?;
    let checkpoints = Checkpoints::new(arguments.out.join("checkpoints"))?;
    let mut losses = Vec::new();
    match checkpoints.latest()?.filter(|_| arguments.resume) {
        Some(snapshot) => {
            trainer.restore(&snapshot)?;
            loader.seek(snapshot.data.unwrap_or_default());
            losses = noted_losses(&snapshot);
            println!("going on after step {}", snapshot.step);
        }
        None if arguments.resume => println!("no checkpoint yet: beginning anew"),
        None => {}
    }
    let mut telemetry = Telemetry::with_file(arguments.out.join("telemetry.jsonl"))?;
    let mut saver = Saver::new(checkpoints)?;
    let loss = |batch: &Tensor| step_loss(model, batch);
    let bar = ProgressBar::new(arguments.steps).with_position(trainer.steps());
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} steps, {elapsed}, {eta} left, {msg}",
    )?);
    while trainer.steps() < arguments.steps {
        let report = trainer.step(&[loader.next()?], &loss)?;
        losses.push(report.loss);
        telemetry.send(&report)?;
        let (speed, norm) = (report.throughput(), report.grad_norm);
        bar.set_message(format!(
            "loss {:.3}, norm {norm:.2}, {speed:.0} tokens/s",
            report.loss
        ));
        bar.inc(1);
        let last = trainer.steps() == arguments.steps;
        if last || trainer.steps().is_multiple_of(arguments.save_every.max(1)) {
            let mut snapshot = trainer.snapshot()?;
            snapshot.data = Some(loader.position());
            snapshot
                .notes
                .insert("losses".into(), losses.clone().into());
            saver.save(snapshot)?;
        }
    }
    bar.finish();
    saver.finish()?;
    Ok(losses)
}

/// The loss of a batch; after the update the experts' loads are evened out.
fn step_loss<'a>(model: &'a DeepSeek, batch: &Tensor) -> ascend_tensor::Result<StepLoss<'a>> {
    let loss = model.loss(batch, LossOptions::new())?;
    let tokens = batch.elements() - batch.dims()[0];
    let routings = loss.routings;
    Ok(StepLoss::new(loss.total, tokens)
        .shown(&loss.next)
        .then(move || model.balance(&routings, 1e-3)))
}

fn noted_losses(snapshot: &Snapshot) -> Vec<f64> {
    let noted = snapshot
        .notes
        .get("losses")
        .and_then(|list| list.as_array());
    let noted = noted.map(|list| list.iter().filter_map(|loss| loss.as_f64()).collect());
    noted.unwrap_or_default()
}

/// Prints what was reached, draws the curve, and lets the model write.
fn finish(
    model: &DeepSeek,
    losses: &[f64],
    entropy: f64,
    text: &[u8],
    arguments: &Arguments,
) -> Result<(), Failure> {
    let last = &losses[losses.len().saturating_sub(20)..];
    let reached = last.iter().sum::<f64>() / last.len().max(1) as f64;
    println!(
        "loss of the last {} steps {reached:.3}, unigram entropy {entropy:.3}",
        last.len()
    );
    let path = arguments.out.join("loss.svg");
    draw(&path, losses, entropy)?;
    println!("loss curve: {}", path.display());
    let prompt: Vec<i64> = text.iter().take(48).map(|byte| i64::from(*byte)).collect();
    let sampling = Sampling::greedy().temperature(0.7).top_k(40);
    let generator = Generator::new(arguments.seed);
    let written = model.generate(&prompt, 200, sampling, &generator)?;
    let all: Vec<u8> = prompt
        .iter()
        .chain(&written)
        .map(|token| *token as u8)
        .collect();
    println!("a sample:\n{}", String::from_utf8_lossy(&all));
    Ok(())
}

fn draw(path: &Path, losses: &[f64], entropy: f64) -> Result<(), Failure> {
    let root = SVGBackend::new(path, (800, 450)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = losses.iter().fold(entropy, |most, loss| most.max(*loss)) * 1.05;
    let mut chart = ChartBuilder::on(&root)
        .caption("loss by step", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..losses.len().max(1) as f64, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("nats per byte")
        .draw()?;
    let points = losses
        .iter()
        .enumerate()
        .map(|(step, loss)| (step as f64, *loss));
    chart
        .draw_series(LineSeries::new(points, &BLUE))?
        .label("training loss")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE));
    let flat = [(0.0, entropy), (losses.len() as f64, entropy)];
    chart
        .draw_series(LineSeries::new(flat, &RED))?
        .label("unigram entropy")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], RED));
    chart.configure_series_labels().border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
