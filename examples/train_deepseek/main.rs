//! Trains a small DeepSeek-style language model on a folder of text, by default this repository's own sources.
//!
//! `cargo run --release --example train_deepseek -- [--text FOLDER] [--out FOLDER] [--device cpu|ascend:0|emulator]
//! [--precision f32|bf16|f16] [--steps N] [--batch N] [--length N] [--rate R] [--seed N] [--save-every N] [--resume]
//! [--bpe TOKENS] [--optimizer adamw|muon] [--run-to-run] [--dry-run]`
//!
//! Tokens are bytes, or with `--bpe` (and `--features tokenizers`) so many byte pairs learnt from the text. With
//! `--optimizer muon` the matrices inside the layers are moved by Muon, in steps as long as AdamW's, and the rest by AdamW.
//! `--run-to-run` asks an NPU for the same bits in each run. `--dry-run` computes nothing and tells the memory that a step will take.
//!
//! Writes into the out folder: `checkpoints` (go on from the last with `--resume`), `model` (Hugging Face's layout, for the
//! example `generate`), `telemetry.jsonl` and `loss.svg`.

#[path = "../common/mod.rs"]
mod common;
mod text;

use std::error::Error;
use std::path::{Path, PathBuf};

use ascend_tensor::models::deepseek::{Config, DeepSeek, LossOptions, Sampling};
use ascend_tensor::nn::{Module, Parameter, Place};
use ascend_tensor::optim::{
    Adam, AdamOptions, MultiOptimizer, Muon, MuonOptions, MuonScale, Optimizer, Schedule,
    clip_grad_norm,
};
use ascend_tensor::train::{
    BatchLoader, Checkpoints, LoaderOptions, Saver, Snapshot, StepLoss, Telemetry, Tokens, Trainer,
    TrainerOptions,
};
use ascend_tensor::{DType, Device, Generator, Tensor, ascend, autocast, dry_run, manual_seed};
use plotters::prelude::*;
use text::Alphabet;

type Failure = Box<dyn Error + Send + Sync>;

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
    pairs: Option<usize>,
    muon: bool,
    run_to_run: bool,
    dry: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    if arguments.run_to_run {
        ascend::set_determinism(ascend::Determinism::RunToRun)?;
    }
    std::fs::create_dir_all(&arguments.out)?;
    let text = read_text(&arguments.text)?;
    let alphabet = alphabet(&text, &arguments)?;
    let config = config(alphabet.size())?;
    if arguments.dry {
        return tell_memory(&config, &arguments);
    }
    let tokens = alphabet.encode(&text)?;
    let (entropy, unit) = (unigram_entropy(&tokens), alphabet.unit());
    println!(
        "{} bytes of text, {} tokens, unigram entropy {entropy:.3} nats per {unit}",
        text.len(),
        tokens.len()
    );
    manual_seed(arguments.seed);
    let place = Place::new(arguments.device).generator(&Generator::new(arguments.seed));
    let model = DeepSeek::new(&config, &place)?;
    println!(
        "training {:.1} M parameters on {} in {}",
        model.parameter_count() as f64 / 1e6,
        arguments.device,
        arguments.precision
    );
    let losses = train(&model, &tokens, &arguments)?;
    let folder = arguments.out.join("model");
    model.save_pretrained(&folder, ())?;
    alphabet.save(&folder)?;
    finish(&losses, entropy, &arguments)?;
    let prompt = alphabet.encode(&text[..text.len().min(48)])?;
    let written = write(&model, &prompt, &arguments)?;
    println!("a sample:\n{}", alphabet.decode(&written)?);
    Ok(())
}

/// The tokens' alphabet: bytes, the pairs of the run that goes on, or new ones.
fn alphabet(text: &[u8], arguments: &Arguments) -> Result<Alphabet, Failure> {
    let alphabet = match arguments.pairs {
        None => Alphabet::Bytes,
        Some(_) if arguments.resume => Alphabet::of_model(&arguments.out)?,
        Some(count) => Alphabet::learn(text, count)?,
    };
    alphabet.save(&arguments.out)?;
    Ok(alphabet)
}

/// The memory of a step, without taking it: two steps are run dry, since the optimiser's state is there from the first on.
fn tell_memory(config: &Config, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.device;
    let steps = || -> ascend_tensor::Result<(DeepSeek, Adam)> {
        let model = DeepSeek::new(config, &Place::new(device))?;
        let mut adam = Adam::w(model.parameters(), AdamOptions::new());
        let shape = [arguments.batch, arguments.length + 1];
        let tokens = Tensor::zeros(shape, DType::I64, device)?;
        for _ in 0..2 {
            let loss = match arguments.precision {
                DType::F32 => model.loss(&tokens, LossOptions::new())?,
                dtype => autocast(dtype, || model.loss(&tokens, LossOptions::new()))?,
            };
            let mut gradients = loss.total.backward()?;
            clip_grad_norm(&mut gradients, &model.parameters(), 1.0)?;
            adam.step(&gradients)?;
        }
        Ok((model, adam))
    };
    let run = dry_run(steps)?;
    let (model, _) = &run.value;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:.1} M parameters, {:.1} MiB with the optimiser's state",
        model.parameter_count() as f64 / 1e6,
        mib(run.kept(device))
    );
    // The rows of all experts lie in one tensor, whoever gets them: the sizes do not depend on the routing.
    let peak = mib(run.peak(device));
    println!(
        "peak of a step on {device}: {peak:.1} MiB with tokens spread evenly over the experts"
    );
    println!("peak of a step on {device}: {peak:.1} MiB with all tokens at the same experts");
    Ok(())
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
        pairs: None,
        muon: false,
        run_to_run: false,
        dry: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let flag = match word.as_str() {
            "--resume" => Some(&mut arguments.resume),
            "--run-to-run" => Some(&mut arguments.run_to_run),
            "--dry-run" => Some(&mut arguments.dry),
            _ => None,
        };
        if let Some(flag) = flag {
            *flag = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        match word.as_str() {
            "--text" => arguments.text = value.into(),
            "--out" => arguments.out = value.into(),
            "--device" => arguments.device = common::device(&value)?,
            "--precision" => arguments.precision = value.parse()?,
            "--steps" => arguments.steps = value.parse()?,
            "--batch" => arguments.batch = value.parse()?,
            "--length" => arguments.length = value.parse()?,
            "--rate" => arguments.rate = value.parse()?,
            "--seed" => arguments.seed = value.parse()?,
            "--save-every" => arguments.save_every = value.parse()?,
            "--optimizer" => {
                arguments.muon = match value.as_str() {
                    "adamw" => false,
                    "muon" => true,
                    _ => {
                        return Err(format!("got optimizer {value:?}, wanted adamw or muon").into());
                    }
                }
            }
            "--bpe" => arguments.pairs = Some(value.parse()?),
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

/// Four layers of 256 dims, eight heads, the first layer dense, then eight experts of which two and a shared one.
fn config(tokens: usize) -> Result<Config, Failure> {
    let mut config = Config::parse(
        r#"{
            "vocab_size": 256, "hidden_size": 256, "intermediate_size": 1024, "moe_intermediate_size": 256,
            "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8, "n_shared_experts": 1,
            "n_routed_experts": 8, "num_experts_per_tok": 2, "routed_scaling_factor": 1.0, "kv_lora_rank": 64,
            "q_lora_rank": null, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32, "n_group": 1,
            "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
            "rope_interleave": false, "max_position_embeddings": 1024, "num_nextn_predict_layers": 0
        }"#,
    )?;
    config.vocab_size = tokens;
    Ok(config)
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

/// The loss of a model that knows the frequency of each token and nothing else.
fn unigram_entropy(tokens: &[i64]) -> f64 {
    let mut counts = std::collections::HashMap::new();
    for token in tokens {
        *counts.entry(token).or_insert(0u64) += 1;
    }
    let share = |count: &u64| *count as f64 / tokens.len() as f64;
    -counts.values().map(share).map(|p| p * p.ln()).sum::<f64>()
}

/// Trains to the last step and gives the losses of all steps, those before a resumption too.
fn train(model: &DeepSeek, tokens: &[i64], arguments: &Arguments) -> Result<Vec<f64>, Failure> {
    let tokens = Tokens::new(tokens.to_vec());
    let options = LoaderOptions::new(arguments.length).batch(arguments.batch);
    let mut loader = BatchLoader::new(tokens, options.seed(arguments.seed))?;
    let optimizer = optimizer(model, arguments)?;
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
    let bar = common::progress(arguments.steps, "steps")?.with_position(trainer.steps());
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

/// AdamW, or Muon for the matrices inside the layers and AdamW for embedding, head, norms and routers.
fn optimizer(model: &DeepSeek, arguments: &Arguments) -> ascend_tensor::Result<MultiOptimizer> {
    let inner = |(name, own): &(String, Parameter)| {
        let apart = name.contains("embed_tokens") || name == "lm_head.weight";
        arguments.muon && own.tensor().rank() > 1 && !apart && !name.ends_with("mlp.gate.weight")
    };
    let (matrices, rest) = model.parameters().into_iter().partition(inner);
    let adam = AdamOptions::new().betas([0.9, 0.95]).weight_decay(0.01);
    let adamw = Adam::w(rest, adam.lr(arguments.rate));
    let muon = MuonOptions::new().scale(MuonScale::MatchRmsAdamW);
    let muon = Muon::new(matrices, muon.lr(arguments.rate).weight_decay(0.01))?;
    MultiOptimizer::new(vec![Box::new(adamw), Box::new(muon)])
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

/// Prints what was reached and draws the curve.
fn finish(losses: &[f64], entropy: f64, arguments: &Arguments) -> Result<(), Failure> {
    let last = &losses[losses.len().saturating_sub(20)..];
    let reached = last.iter().sum::<f64>() / last.len().max(1) as f64;
    println!(
        "loss of the last {} steps {reached:.3}, unigram entropy {entropy:.3}",
        last.len()
    );
    let path = arguments.out.join("loss.svg");
    draw(&path, losses, entropy)?;
    println!("loss curve: {}", path.display());
    Ok(())
}

/// A prompt and what the model writes after it.
fn write(model: &DeepSeek, prompt: &[i64], arguments: &Arguments) -> Result<Vec<i64>, Failure> {
    let sampling = Sampling::greedy().temperature(0.7).top_k(40);
    let generator = Generator::new(arguments.seed);
    let written = model.generate(prompt, 200, sampling, &generator)?;
    Ok(prompt.iter().chain(&written).copied().collect())
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
        .y_desc("nats per token")
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
