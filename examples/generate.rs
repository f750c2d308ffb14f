//! Continues a prompt with a model that `train_deepseek` trained, with a cache and without, and tells how fast each is.
//!
//! `cargo run --release --example generate -- [--model FOLDER] [--prompt TEXT] [--count N] [--temperature T] [--top-k N]
//! [--top-p P] [--seed N] [--device cpu|ascend:0|emulator]`

mod common;
#[path = "train_deepseek/text.rs"]
#[allow(dead_code, reason = "the other example's half")]
mod text;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use ascend_tensor::models::deepseek::{DeepSeek, Sampling};
use ascend_tensor::nn::Place;
use ascend_tensor::{DType, Device, Generator, Tensor};

type Failure = Box<dyn Error + Send + Sync>;

/// What the command line asks for.
struct Arguments {
    model: PathBuf,
    prompt: String,
    count: usize,
    sampling: Sampling,
    seed: u64,
    device: Device,
}

/// How a continuation is read, and which one.
#[derive(Clone, Copy)]
enum Reading<'a> {
    /// Past tokens are in a cache; each new one is picked.
    Cached,
    /// All tokens are read anew for each of these, which were picked before.
    Again(&'a [i64]),
}

/// What was written.
struct Written {
    tokens: Vec<i64>,
    /// The logits that each token was picked by.
    logits: Vec<Vec<f32>>,
    /// Tokens per second.
    speed: f64,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let place = Place::new(arguments.device);
    let model = DeepSeek::load_pretrained(&arguments.model, &place)
        .map_err(|error| format!("{error} (the example train_deepseek makes a model)"))?;
    let alphabet = text::Alphabet::of_model(&arguments.model)?;
    let prompt = alphabet.encode(arguments.prompt.as_bytes())?;
    if prompt.is_empty() || arguments.count == 0 {
        return Err("wanted a prompt and a count of 1 or more".into());
    }
    let cached = write(&model, &prompt, &arguments, Reading::Cached)?;
    let whole: Vec<i64> = prompt.iter().chain(&cached.tokens).copied().collect();
    println!("{}", alphabet.decode(&whole)?);
    let again = Reading::Again(&cached.tokens);
    let again = write(&model, &prompt, &arguments, again)?;
    println!(
        "with cache {:.1} tokens/s, without {:.1} tokens/s",
        cached.speed, again.speed
    );
    tell_difference(&cached, &again);
    Ok(())
}

/// Tells how far the logits with and without a cache are apart, for the same tokens. The cache's way adds up in another order:
/// the last bits differ, and where two tokens are that close, two texts could part though both are right.
fn tell_difference(cached: &Written, again: &Written) {
    let (mut most, mut gap) = (0.0f32, f32::INFINITY);
    for (a, b) in cached.logits.iter().zip(&again.logits) {
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        most = apart.fold(most, f32::max);
        let mut order = a.clone();
        order.sort_by(|a, b| b.total_cmp(a));
        if let [first, second, ..] = order[..] {
            gap = gap.min(first - second);
        }
    }
    println!(
        "logits with and without differ by at most {most:.1e}; the two likeliest tokens by at least {gap:.1e}"
    );
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        model: "target/train_deepseek/model".into(),
        prompt: "/// The number of ".into(),
        count: 200,
        sampling: Sampling::greedy().temperature(0.7).top_k(40),
        seed: 0,
        device: Device::Cpu,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let sampling = arguments.sampling;
        match word.as_str() {
            "--model" => arguments.model = value.into(),
            "--prompt" => arguments.prompt = value,
            "--count" => arguments.count = value.parse()?,
            "--temperature" => arguments.sampling = sampling.temperature(value.parse()?),
            "--top-k" => arguments.sampling = sampling.top_k(value.parse()?),
            "--top-p" => arguments.sampling = sampling.top_p(value.parse()?),
            "--seed" => arguments.seed = value.parse()?,
            "--device" => arguments.device = common::device(&value)?,
            _ => return Err(format!("unknown argument {word:?}").into()),
        }
    }
    Ok(arguments)
}

/// The tokens that follow the prompt.
fn write(
    model: &DeepSeek,
    prompt: &[i64],
    arguments: &Arguments,
    reading: Reading<'_>,
) -> Result<Written, Failure> {
    let generator = Generator::new(arguments.seed);
    let mut cache = model.cache([1, prompt.len() + arguments.count])?;
    let (mut all, mut fresh) = (prompt.to_vec(), prompt.to_vec());
    let mut kept = Vec::new();
    let bar = common::progress(arguments.count as u64, "tokens")?;
    let begun = Instant::now();
    for number in 0..arguments.count {
        let read = match reading {
            Reading::Cached => &fresh,
            Reading::Again(_) => &all,
        };
        let tokens = Tensor::from_slice(read, [1, read.len()])?.to_device(arguments.device)?;
        let logits = match reading {
            Reading::Cached => model.decode(&tokens, &mut cache)?,
            Reading::Again(_) => model.next(&tokens)?,
        };
        let logits = logits.to_dtype(DType::F32)?.to_vec::<f32>()?;
        let token = match reading {
            Reading::Cached => arguments.sampling.pick(&logits, &generator)? as i64,
            Reading::Again(picked) => picked[number],
        };
        kept.push(logits);
        all.push(token);
        fresh = vec![token];
        bar.inc(1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    bar.finish_and_clear();
    std::io::stdout().flush()?;
    Ok(Written {
        tokens: all.split_off(prompt.len()),
        logits: kept,
        speed: arguments.count as f64 / seconds,
    })
}
