//! Continues a prompt with a model that `train_deepseek` trained, with a cache and without, and tells how fast each is.
//!
//! `cargo run --release --example generate -- [--model FOLDER] [--prompt TEXT] [--count N] [--temperature T] [--top-k N]
//! [--top-p P] [--seed N] [--device cpu|ascend:0|emulator]`

#[path = "train_deepseek/text.rs"]
#[allow(dead_code, reason = "the other example's half")]
mod text;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use ascend_tensor::models::deepseek::{DeepSeek, Sampling};
use ascend_tensor::nn::Place;
use ascend_tensor::{DType, Device, Generator, Tensor, ascend};
use indicatif::{ProgressBar, ProgressStyle};

type Failure = Box<dyn Error>;

/// What the command line asks for.
struct Arguments {
    model: PathBuf,
    prompt: String,
    count: usize,
    sampling: Sampling,
    seed: u64,
    device: Device,
}

/// Whether past tokens are kept or read again.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Cached,
    Again,
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
    let (cached, fast) = write(&model, &prompt, &arguments, Reading::Cached)?;
    let whole: Vec<i64> = prompt.iter().chain(&cached).copied().collect();
    println!("{}", alphabet.decode(&whole)?);
    let (again, slow) = write(&model, &prompt, &arguments, Reading::Again)?;
    println!("with cache {fast:.1} tokens/s, without {slow:.1} tokens/s");
    let same = cached
        .iter()
        .zip(&again)
        .take_while(|(a, b)| a == b)
        .count();
    println!("both agree in the first {same} of {} tokens", cached.len());
    Ok(())
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
            "--device" if value == "emulator" => {
                ascend::install(ascend_sys::Api::from_resolver(
                    "ascend-emulator",
                    ascend_emulator::resolve,
                ))?;
                arguments.device = Device::ascend(0);
            }
            "--device" => arguments.device = value.parse()?,
            _ => return Err(format!("unknown argument {word:?}").into()),
        }
    }
    Ok(arguments)
}

/// The tokens that follow the prompt, and how many were written per second.
fn write(
    model: &DeepSeek,
    prompt: &[i64],
    arguments: &Arguments,
    reading: Reading,
) -> Result<(Vec<i64>, f64), Failure> {
    let generator = Generator::new(arguments.seed);
    let mut cache = model.cache([1, prompt.len() + arguments.count])?;
    let (mut all, mut fresh) = (prompt.to_vec(), prompt.to_vec());
    let bar = ProgressBar::new(arguments.count as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} tokens, {eta} left",
    )?);
    let begun = Instant::now();
    for _ in 0..arguments.count {
        let read = if reading == Reading::Cached {
            &fresh
        } else {
            &all
        };
        let tokens = Tensor::from_slice(read, [1, read.len()])?.to_device(arguments.device)?;
        let logits = match reading {
            Reading::Cached => model.decode(&tokens, &mut cache)?,
            Reading::Again => model.next(&tokens)?,
        };
        let logits = logits.to_dtype(DType::F32)?.to_vec::<f32>()?;
        let token = arguments.sampling.pick(&logits, &generator)? as i64;
        all.push(token);
        fresh = vec![token];
        bar.inc(1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    bar.finish_and_clear();
    std::io::stdout().flush()?;
    Ok((
        all.split_off(prompt.len()),
        arguments.count as f64 / seconds,
    ))
}
