//! BERT, as an encoder of sentences: the layout of `BertModel` and of sentence-transformers.
//!
//! Knows the published architecture and names. Must not know how text becomes tokens.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use crate::check;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io;
use crate::nn::{
    Activation, AttentionMask, Embedding, Init, LayerNorm, Linear, LinearOptions, Module, Place,
    Visitor, attend,
};
use crate::ops::creation::ArangeOptions;
use crate::ops::norm::NormalizeOptions;
use crate::tensor::Tensor;

const OP: &str = "bert_config";

/// Fields that change no embedding: what made the file, how weights began, what is dropped in training.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dtype",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "initializer_range",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// A BERT model's sizes, with Hugging Face's names; the defaults are those of all-MiniLM-L6-v2.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The number of tokens there are.
    pub vocab_size: usize,
    /// The width of a token.
    pub hidden_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of heads.
    pub num_attention_heads: usize,
    /// The size between the matrices of a feed-forward block.
    pub intermediate_size: usize,
    /// The function between them.
    pub hidden_act: Activation,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// The number of kinds of segments.
    pub type_vocab_size: usize,
    /// The epsilon of the norms.
    pub layer_norm_eps: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 30_522,
            hidden_size: 384,
            num_hidden_layers: 6,
            num_attention_heads: 12,
            intermediate_size: 1536,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
        }
    }
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// `Format` for what is no JSON object; `Option`, which names the field, for a value that is wrong or not supported.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::format(OP, error))?;
        let Value::Object(object) = value else {
            return Err(Error::format(OP, "got no JSON object, wanted one"));
        };
        let (mut config, fields) = (Config::default(), Fields::of(OP, &object));
        fields.size("vocab_size", &mut config.vocab_size)?;
        fields.size("hidden_size", &mut config.hidden_size)?;
        fields.size("num_hidden_layers", &mut config.num_hidden_layers)?;
        fields.size("num_attention_heads", &mut config.num_attention_heads)?;
        fields.size("intermediate_size", &mut config.intermediate_size)?;
        fields.size(
            "max_position_embeddings",
            &mut config.max_position_embeddings,
        )?;
        fields.size("type_vocab_size", &mut config.type_vocab_size)?;
        fields.number("layer_norm_eps", &mut config.layer_norm_eps)?;
        if let Some(name) = fields.text("hidden_act")? {
            let wanted = "relu, silu, gelu, gelu_new, tanh or sigmoid";
            let known = name
                .parse()
                .map_err(|_| fields.refuse("hidden_act", wanted));
            config.hidden_act = known?;
        }
        if !matches!(fields.text("model_type")?, None | Some("bert")) {
            return Err(fields.refuse("model_type", "bert"));
        }
        if !matches!(
            fields.text("position_embedding_type")?,
            None | Some("absolute")
        ) {
            return Err(fields.refuse("position_embedding_type", "absolute"));
        }
        fields.refuse_foreign(&["is_decoder", "add_cross_attention"])?;
        fields.tell_unread(HARMLESS);
        config.check()?;
        Ok(config)
    }

    /// Refuses numbers that do not fit each other.
    ///
    /// # Errors
    /// `Option` with the field's name.
    pub fn check(&self) -> Result<()> {
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        check::sizes(
            OP,
            &[
                ("vocab_size", self.vocab_size),
                ("hidden_size", width),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", heads),
                ("intermediate_size", self.intermediate_size),
                ("max_position_embeddings", self.max_position_embeddings),
                ("type_vocab_size", self.type_vocab_size),
            ],
        )?;
        check::layers(OP, "num_hidden_layers", self.num_hidden_layers)?;
        check::not_negative(OP, "layer_norm_eps", self.layer_norm_eps)?;
        if !width.is_multiple_of(heads) {
            let why = format!("got {heads}, wanted a divisor of hidden_size, which is {width}");
            return Err(Error::option(OP, "num_attention_heads", why));
        }
        Ok(())
    }
}

/// One layer.
#[derive(Debug, Clone)]
struct Layer {
    projections: [Linear; 3],
    output: Linear,
    attended: LayerNorm,
    up: Linear,
    down: Linear,
    finished: LayerNorm,
}

/// A BERT encoder.
///
/// State: `embeddings` and `encoder` as in Hugging Face's `BertModel`, without its pooler.
///
/// ```
/// use ascend_tensor::models::bert::{Bert, Config};
/// use ascend_tensor::nn::Place;
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let config = Config::parse(r#"{"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
///     "intermediate_size": 16, "max_position_embeddings": 6}"#)?;
/// let bert = Bert::new(&config, &Place::default())?;
/// let (tokens, mask) = (Tensor::new([[1i64, 2, 0]]), Tensor::new([[true, true, false]]));
/// let vector = bert.embed(&tokens, &mask)?;
/// assert_eq!(vector.dims(), [1, 8]);
/// assert!((vector.square()?.sum(())?.item::<f32>()? - 1.0).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Bert {
    config: Config,
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Layer {
    fn new(config: &Config, init: Init, place: &Place) -> Result<Self> {
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let linear = |outputs: usize, inputs: usize| {
            Linear::new([outputs, inputs], LinearOptions::new().init(init), place)
        };
        let norm = || LayerNorm::new(width, config.layer_norm_eps, place);
        Ok(Layer {
            projections: [
                linear(width, width)?,
                linear(width, width)?,
                linear(width, width)?,
            ],
            output: linear(width, width)?,
            attended: norm()?,
            up: linear(hidden, width)?,
            down: linear(width, hidden)?,
            finished: norm()?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, config: &Config) -> Result<Tensor> {
        let heads = config.num_attention_heads;
        let part = |index: usize| {
            let all = self.projections[index].forward(x)?;
            all.unflatten(-1, &[heads as i64, -1])?.transpose(1, 2)
        };
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        let scale = 1.0 / ((config.hidden_size / heads) as f64).sqrt();
        let seen = attend([&query, &key, &value], AttentionMask::Allowed(mask), scale)?;
        let seen = self.output.forward(&seen.transpose(1, 2)?.flatten(2, 3)?)?;
        let x = self.attended.forward(&x.add(&seen)?)?;
        let more = config.hidden_act.apply(&self.up.forward(&x)?)?;
        self.finished.forward(&x.add(&self.down.forward(&more)?)?)
    }
}

impl Module for Layer {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        for (name, linear) in ["query", "key", "value"].iter().zip(&self.projections) {
            visitor.module(&format!("attention.self.{name}"), linear);
        }
        visitor.module("attention.output.dense", &self.output);
        visitor.module("attention.output.LayerNorm", &self.attended);
        visitor.module("intermediate.dense", &self.up);
        visitor.module("output.dense", &self.down);
        visitor.module("output.LayerNorm", &self.finished);
    }
}

impl Bert {
    /// An encoder with new weights.
    ///
    /// # Errors
    /// As [`Config::check`]; memory and device errors.
    pub fn new(config: &Config, place: &Place) -> Result<Self> {
        Bert::with(config, Init::Normal { deviation: 0.02 }, place)
    }

    fn with(config: &Config, init: Init, place: &Place) -> Result<Self> {
        config.check()?;
        let width = config.hidden_size;
        let table = |rows: usize| Embedding::new([rows, width], init, place);
        let layers = (0..config.num_hidden_layers).map(|_| Layer::new(config, init, place));
        Ok(Bert {
            words: table(config.vocab_size)?,
            positions: table(config.max_position_embeddings)?,
            segments: table(config.type_vocab_size)?,
            norm: LayerNorm::new(width, config.layer_norm_eps, place)?,
            layers: layers.collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Reads a folder with `config.json` and `model.safetensors`. Names may begin with `bert.`; a pooler is left out.
    ///
    /// # Errors
    /// As [`Config::parse`] and [`Module::load_state_dict`]; `Io` and `Format` of the files.
    pub fn load_pretrained(folder: impl AsRef<Path>, place: &Place) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io(OP, &path, error))?;
        let bert = Bert::with(&Config::parse(&text)?, Init::Zeros, place)?;
        let named = io::load_safetensors(folder.join("model.safetensors"))?;
        let own = |name: String| {
            name.strip_prefix("bert.")
                .map(str::to_string)
                .unwrap_or(name)
        };
        let kept = |name: &String| !name.starts_with("pooler.") && !name.ends_with("position_ids");
        let named = named.into_iter().map(|(name, value)| (own(name), value));
        bert.load_state_dict(&named.filter(|(name, _)| kept(name)).collect())?;
        Ok(bert)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokens' vectors `[batch, length, hidden]` of integers `[batch, length]`; `mask` is true where a token counts.
    ///
    /// # Errors
    /// `Shape` for other than two dims, a mask of another shape, or more tokens than there are positions; `Index` for a token
    /// that there is not.
    pub fn forward(&self, tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let most = self.config.max_position_embeddings;
        let length = match tokens.dims() {
            [_, length] if *length <= most && mask.shape() == tokens.shape() => *length,
            _ => {
                let got = format!("tokens {} and a mask {}", tokens.shape(), mask.shape());
                let want = format!("both [batch, length] with a length of at most {most}");
                return Err(Error::shape("bert", got, want));
            }
        };
        let positions = ArangeOptions::new(0i64, length as i64);
        let positions = Tensor::arange(positions, tokens.device())?;
        let segments = tokens.zeros_like()?;
        let x = self.words.forward(tokens)?;
        let x = x.add(&self.positions.forward(&positions)?)?;
        let mut x = self
            .norm
            .forward(&x.add(&self.segments.forward(&segments)?)?)?;
        let mask = mask.to_dtype(DType::Bool)?.unsqueeze(1)?.unsqueeze(1)?;
        for layer in &self.layers {
            x = layer.forward(&x, &mask, &self.config)?;
        }
        Ok(x)
    }

    /// One vector of length 1 per sequence, `[batch, hidden]`: the mean of its tokens' vectors, scaled.
    ///
    /// # Errors
    /// As [`Bert::forward`].
    pub fn embed(&self, tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let vectors = self.forward(tokens, mask)?;
        let weights = mask.to_dtype(vectors.dtype())?.unsqueeze(-1)?;
        let sum = vectors.mul(&weights)?.sum(1i64)?;
        let count = weights.sum(1i64)?.maximum(1e-9)?;
        sum.div(&count)?.normalize(NormalizeOptions::new().dim(-1))
    }
}

impl Module for Bert {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module("embeddings.word_embeddings", &self.words);
        visitor.module("embeddings.position_embeddings", &self.positions);
        visitor.module("embeddings.token_type_embeddings", &self.segments);
        visitor.module("embeddings.LayerNorm", &self.norm);
        for (index, layer) in self.layers.iter().enumerate() {
            visitor.module(&format!("encoder.layer.{index}"), layer);
        }
    }
}
