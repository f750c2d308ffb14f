//! The configuration of a DeepSeek-V3 model, as `config.json` of Hugging Face has it.
//!
//! Knows the fields' names, defaults and limits. Must not know tensors or layers.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::check;
use crate::error::{Error, Result};
use crate::models::fields::Fields;
use crate::nn::{Activation, GroupScore, Pairing, RotaryScaling, Scoring};

/// The call that errors of a configuration name.
pub(super) const OP: &str = "deepseek_config";

/// Fields of related models, whose results this one would not give: sparse and windowed attention, capped or scaled logits,
/// biases of feed-forward blocks.
const FOREIGN: &[&str] = &[
    "index_topk",
    "index_n_heads",
    "index_head_dim",
    "sliding_window",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "embedding_multiplier",
    "residual_multiplier",
    "mlp_bias",
    "use_qk_norm",
];

/// Fields that change no result: what made the file, how text is read, how the model is spread or served.
const HARMLESS: &[&str] = &[
    "architectures",
    "auto_map",
    "aux_loss_alpha",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "ep_size",
    "head_dim",
    "output_router_logits",
    "pretraining_tp",
    "qk_head_dim",
    "seq_aux",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// A DeepSeek-V3 model's sizes and rules, with Hugging Face's names.
///
/// [`Config::default`] has the defaults of `transformers`' `DeepseekV3Config`, which are the published 671B model's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The number of tokens there are.
    pub vocab_size: usize,
    /// The width of a token.
    pub hidden_size: usize,
    /// The size between the matrices of a dense feed-forward block.
    pub intermediate_size: usize,
    /// The size between the matrices of an expert.
    pub moe_intermediate_size: usize,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number of heads.
    pub num_attention_heads: usize,
    /// The number of experts that every token uses, as one block of so many times the size.
    pub n_shared_experts: usize,
    /// The number of experts that are chosen from.
    pub n_routed_experts: usize,
    /// The number of experts chosen for a token.
    pub num_experts_per_tok: usize,
    /// What the weights of the chosen experts are multiplied with.
    pub routed_scaling_factor: f64,
    /// The rank of the keys' and values' compression.
    pub kv_lora_rank: usize,
    /// The rank of the queries' compression; `None` for none.
    pub q_lora_rank: Option<usize>,
    /// The dims of a head that are turned by position.
    pub qk_rope_head_dim: usize,
    /// The dims of a head that carry no position.
    pub qk_nope_head_dim: usize,
    /// The dims of a head's values.
    pub v_head_dim: usize,
    /// The number of groups of experts.
    pub n_group: usize,
    /// The number of groups that a token's experts may come from.
    pub topk_group: usize,
    /// The number of layers at the beginning that have a dense feed-forward block.
    pub first_k_dense_replace: usize,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub norm_topk_prob: bool,
    /// How an expert's score is made: `sigmoid` or `softmax`.
    pub scoring_func: Scoring,
    /// How groups are ranked: `noaux_tc` by the sum of the two best, `group_limited_greedy` by the best; `greedy` has none.
    pub topk_method: GroupScore,
    /// The gate function of feed-forward blocks.
    pub hidden_act: Activation,
    /// The longest sequence the model is meant for.
    pub max_position_embeddings: usize,
    /// The standard deviation of new weights.
    pub initializer_range: f64,
    /// The epsilon of the norms of tokens; those of compressed vectors always have 1e-6.
    pub rms_norm_eps: f64,
    /// The token that pads, whose embedding is not trained.
    pub pad_token_id: Option<i64>,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// How rotary frequencies are changed for long contexts.
    pub rope_scaling: RotaryScaling,
    /// The factor of the scores that a scaling asks for, beside one over the root of a head's dims.
    pub rope_score_factor: f64,
    /// Whether neighbours turn together (`rope_interleave`) or halves.
    pub rope_interleave: Pairing,
    /// Whether the projections from the token and to the result have biases.
    pub attention_bias: bool,
    /// How many of the attention weights are dropped in training.
    pub attention_dropout: f64,
    /// The number of layers after the last that predict further tokens.
    pub num_nextn_predict_layers: usize,
    /// Rows and columns of the blocks that share a scale in FP8 weights.
    pub weight_block_size: [usize; 2],
    /// The object that was read, whose other fields are written back as they were.
    source: Map<String, Value>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 129_280,
            hidden_size: 7168,
            intermediate_size: 18_432,
            moe_intermediate_size: 2048,
            num_hidden_layers: 61,
            num_attention_heads: 128,
            n_shared_experts: 1,
            n_routed_experts: 256,
            num_experts_per_tok: 8,
            routed_scaling_factor: 2.5,
            kv_lora_rank: 512,
            q_lora_rank: Some(1536),
            qk_rope_head_dim: 64,
            qk_nope_head_dim: 128,
            v_head_dim: 128,
            n_group: 8,
            topk_group: 4,
            first_k_dense_replace: 3,
            norm_topk_prob: true,
            scoring_func: Scoring::Sigmoid,
            topk_method: GroupScore::TopTwo,
            hidden_act: Activation::Silu,
            max_position_embeddings: 4096,
            initializer_range: 0.02,
            rms_norm_eps: 1e-6,
            pad_token_id: None,
            tie_word_embeddings: false,
            rope_theta: 10_000.0,
            rope_scaling: RotaryScaling::None,
            rope_score_factor: 1.0,
            rope_interleave: Pairing::Interleaved,
            attention_bias: false,
            attention_dropout: 0.0,
            num_nextn_predict_layers: 0,
            weight_block_size: [128, 128],
            source: Map::new(),
        }
    }
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// `Io`; `Format` for what is no JSON object; `Option`, which names the field, for a value of a wrong type, outside its
    /// limits, or that this model does not support.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(OP, path, error))?;
        let damaged = |error| Error::format(OP, format!("{}: {error}", path.display()));
        Config::parse(&text).map_err(|error| match error {
            Error::Format { what, .. } => damaged(what),
            other => other,
        })
    }

    /// Reads the text of a `config.json`.
    ///
    /// A field of a related model that this one lacks the part for is refused; any other unknown field is ignored, as
    /// `transformers` does, and told as a `tracing` event of the target `ascend_tensor::models`.
    ///
    /// ```
    /// use ascend_tensor::models::deepseek::Config;
    /// let refused = Config::parse(r#"{"hidden_act": "swishy"}"#).unwrap_err();
    /// assert!(refused.to_string().contains("hidden_act"));
    /// ```
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::format(OP, error))?;
        let Value::Object(source) = value else {
            return Err(Error::format(OP, "got no JSON object, wanted one"));
        };
        let mut config = Config::default();
        let fields = Fields::of(OP, &source);
        config.read_sizes(&fields)?;
        config.read_experts(&fields)?;
        config.read_rules(&fields)?;
        super::rope::read(&mut config, &fields)?;
        fields.refuse_foreign(FOREIGN)?;
        fields.tell_unread(HARMLESS);
        config.source = source;
        config.check()?;
        Ok(config)
    }

    fn read_sizes(&mut self, fields: &Fields<'_>) -> Result<()> {
        fields.size("vocab_size", &mut self.vocab_size)?;
        fields.size("hidden_size", &mut self.hidden_size)?;
        fields.size("intermediate_size", &mut self.intermediate_size)?;
        fields.size("moe_intermediate_size", &mut self.moe_intermediate_size)?;
        fields.size("num_hidden_layers", &mut self.num_hidden_layers)?;
        fields.size("num_attention_heads", &mut self.num_attention_heads)?;
        fields.size("kv_lora_rank", &mut self.kv_lora_rank)?;
        fields.optional_size("q_lora_rank", &mut self.q_lora_rank)?;
        fields.size("qk_rope_head_dim", &mut self.qk_rope_head_dim)?;
        fields.size("qk_nope_head_dim", &mut self.qk_nope_head_dim)?;
        fields.size("v_head_dim", &mut self.v_head_dim)?;
        fields.size("max_position_embeddings", &mut self.max_position_embeddings)?;
        let mut keys = Some(self.num_attention_heads);
        fields.optional_size("num_key_value_heads", &mut keys)?;
        if keys.is_some_and(|keys| keys < self.num_attention_heads) {
            let wanted = "as many as num_attention_heads: every head has keys of its own";
            return Err(fields.refuse("num_key_value_heads", wanted));
        }
        Ok(())
    }

    fn read_experts(&mut self, fields: &Fields<'_>) -> Result<()> {
        let routed = fields.first(&["n_routed_experts", "num_local_experts"]);
        fields.size(routed, &mut self.n_routed_experts)?;
        let one = |own: &mut usize, name| -> Result<()> {
            let mut count = Some(*own);
            fields.optional_count(name, &mut count)?;
            *own = count.unwrap_or(0);
            Ok(())
        };
        one(&mut self.n_shared_experts, "n_shared_experts")?;
        one(&mut self.first_k_dense_replace, "first_k_dense_replace")?;
        let further = fields.first(&["num_nextn_predict_layers", "num_mtp_layers"]);
        one(&mut self.num_nextn_predict_layers, further)?;
        fields.size("num_experts_per_tok", &mut self.num_experts_per_tok)?;
        for (name, own) in [
            ("n_group", &mut self.n_group),
            ("topk_group", &mut self.topk_group),
        ] {
            let mut count = Some(*own);
            fields.optional_size(name, &mut count)?;
            *own = count.unwrap_or(1);
        }
        fields.number("routed_scaling_factor", &mut self.routed_scaling_factor)?;
        fields.flag("norm_topk_prob", &mut self.norm_topk_prob)?;
        match fields.text("scoring_func")? {
            None | Some("sigmoid") => {}
            Some("softmax") => self.scoring_func = Scoring::Softmax,
            Some(_) => return Err(fields.refuse("scoring_func", "sigmoid or softmax")),
        }
        match fields.text("topk_method")? {
            None | Some("noaux_tc") => {}
            Some("group_limited_greedy") => self.topk_method = GroupScore::Largest,
            Some("greedy") => (self.n_group, self.topk_group) = (1, 1),
            Some(_) => {
                let wanted = "noaux_tc, group_limited_greedy or greedy";
                return Err(fields.refuse("topk_method", wanted));
            }
        }
        let mut every = Some(1);
        fields.optional_count("moe_layer_freq", &mut every)?;
        if every != Some(1) {
            return Err(fields.refuse(
                "moe_layer_freq",
                "1: experts in each layer after the dense ones",
            ));
        }
        Ok(())
    }

    fn read_rules(&mut self, fields: &Fields<'_>) -> Result<()> {
        if !matches!(fields.text("model_type")?, None | Some("deepseek_v3")) {
            return Err(fields.refuse("model_type", "deepseek_v3"));
        }
        if let Some(name) = fields.text("hidden_act")? {
            let wanted = "relu, silu, gelu, gelu_new, tanh or sigmoid";
            self.hidden_act = name
                .parse()
                .map_err(|_| fields.refuse("hidden_act", wanted))?;
        }
        fields.number("initializer_range", &mut self.initializer_range)?;
        fields.number("rms_norm_eps", &mut self.rms_norm_eps)?;
        fields.number("attention_dropout", &mut self.attention_dropout)?;
        fields.flag("attention_bias", &mut self.attention_bias)?;
        fields.flag("tie_word_embeddings", &mut self.tie_word_embeddings)?;
        let mut interleave = self.rope_interleave == Pairing::Interleaved;
        fields.flag("rope_interleave", &mut interleave)?;
        if !interleave {
            self.rope_interleave = Pairing::Half;
        }
        self.pad_token_id = fields.integer("pad_token_id")?;
        self.read_quantization(fields)
    }

    fn read_quantization(&mut self, fields: &Fields<'_>) -> Result<()> {
        let Some(inner) = fields.object("quantization_config")? else {
            return Ok(());
        };
        let inner = Fields::of(OP, inner);
        if !matches!(inner.text("quant_method")?, None | Some("fp8")) {
            return Err(inner.refuse("quant_method", "fp8"));
        }
        if !matches!(inner.text("fmt")?, None | Some("e4m3")) {
            return Err(inner.refuse("fmt", "e4m3"));
        }
        if !matches!(inner.text("activation_scheme")?, None | Some("dynamic")) {
            return Err(inner.refuse("activation_scheme", "dynamic"));
        }
        if let Some(sizes) = inner.sizes("weight_block_size")? {
            self.weight_block_size = sizes
                .try_into()
                .map_err(|_| inner.refuse("weight_block_size", "two sizes above 0"))?;
        }
        inner.tell_unread(&["modules_to_not_convert", "scale_fmt"]);
        Ok(())
    }

    /// Refuses sizes of 0 or beyond 32 bits, and factors that are no numbers.
    fn check_each(&self) -> Result<()> {
        check::sizes(
            OP,
            &[
                ("vocab_size", self.vocab_size),
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("moe_intermediate_size", self.moe_intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("n_routed_experts", self.n_routed_experts),
                ("kv_lora_rank", self.kv_lora_rank),
                ("q_lora_rank", self.q_lora_rank.unwrap_or(1)),
                ("qk_rope_head_dim", self.qk_rope_head_dim),
                ("qk_nope_head_dim", self.qk_nope_head_dim),
                ("v_head_dim", self.v_head_dim),
                ("max_position_embeddings", self.max_position_embeddings),
                ("weight_block_size", self.weight_block_size[0]),
                ("weight_block_size", self.weight_block_size[1]),
            ],
        )?;
        check::layers(OP, "num_hidden_layers", self.num_hidden_layers)?;
        check::layers(
            OP,
            "num_nextn_predict_layers",
            self.num_nextn_predict_layers,
        )?;
        check::layers(OP, "n_shared_experts", self.n_shared_experts)?;
        check::finite(OP, "routed_scaling_factor", self.routed_scaling_factor)?;
        check::finite(OP, "rope_score_factor", self.rope_score_factor)?;
        check::positive(OP, "rope_theta", self.rope_theta)
    }

    /// Refuses numbers that do not fit each other.
    ///
    /// # Errors
    /// `Option` with the field's name.
    pub fn check(&self) -> Result<()> {
        self.check_each()?;
        let refuse = |name: &'static str, got: String, wanted: String| {
            let why = format!("got {got}, wanted {wanted}");
            Err(Error::option(OP, name, why))
        };
        if !self.qk_rope_head_dim.is_multiple_of(2) {
            let wanted = "an even number".to_string();
            return refuse(
                "qk_rope_head_dim",
                self.qk_rope_head_dim.to_string(),
                wanted,
            );
        }
        let experts = self.n_routed_experts;
        if self.num_hidden_layers > self.first_k_dense_replace {
            if self.n_group == 0 || !experts.is_multiple_of(self.n_group) {
                let wanted = format!("a divisor of n_routed_experts, which is {experts}");
                return refuse("n_group", self.n_group.to_string(), wanted);
            }
            if self.topk_group == 0 || self.topk_group > self.n_group {
                let wanted = format!("one of 1 to n_group, which is {}", self.n_group);
                return refuse("topk_group", self.topk_group.to_string(), wanted);
            }
            let each = experts / self.n_group;
            if self.n_group > 1 && each < 2 && self.topk_method == GroupScore::TopTwo {
                let wanted = "groups of two experts or more".to_string();
                return refuse("n_group", self.n_group.to_string(), wanted);
            }
            let open = each * self.topk_group;
            if self.num_experts_per_tok == 0 || self.num_experts_per_tok > open {
                let wanted = format!("one of 1 to {open} experts of topk_group groups");
                return refuse(
                    "num_experts_per_tok",
                    self.num_experts_per_tok.to_string(),
                    wanted,
                );
            }
        }
        if !(0.0..1.0).contains(&self.attention_dropout) {
            let wanted = "one of 0 to 1".to_string();
            return refuse(
                "attention_dropout",
                self.attention_dropout.to_string(),
                wanted,
            );
        }
        check::not_negative(OP, "rms_norm_eps", self.rms_norm_eps)?;
        check::not_negative(OP, "initializer_range", self.initializer_range)?;
        check::finite(OP, "initializer_range", self.initializer_range)?;
        let rows = self.vocab_size as i64;
        match self.pad_token_id {
            Some(row) if row >= rows || row < -rows => refuse(
                "pad_token_id",
                row.to_string(),
                format!("one of {rows} tokens"),
            ),
            _ => Ok(()),
        }
    }

    /// The text of a `config.json` that [`Config::parse`] and `transformers` read back. Fields that were read and have no
    /// counterpart here are kept; a quantization is dropped, since weights are written as they are.
    pub fn to_json(&self) -> String {
        let mut object = self.source.clone();
        for dropped in ["quantization_config", "num_local_experts", "num_mtp_layers"] {
            object.remove(dropped);
        }
        let scoring = match self.scoring_func {
            Scoring::Sigmoid => "sigmoid",
            Scoring::Softmax => "softmax",
        };
        let method = match self.topk_method {
            GroupScore::TopTwo => "noaux_tc",
            GroupScore::Largest => "group_limited_greedy",
        };
        let fields = json!({
            "model_type": "deepseek_v3",
            "architectures": ["DeepseekV3ForCausalLM"],
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "moe_intermediate_size": self.moe_intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_attention_heads,
            "n_shared_experts": self.n_shared_experts,
            "n_routed_experts": self.n_routed_experts,
            "num_experts_per_tok": self.num_experts_per_tok,
            "routed_scaling_factor": self.routed_scaling_factor,
            "kv_lora_rank": self.kv_lora_rank,
            "q_lora_rank": self.q_lora_rank,
            "qk_rope_head_dim": self.qk_rope_head_dim,
            "qk_nope_head_dim": self.qk_nope_head_dim,
            "v_head_dim": self.v_head_dim,
            "n_group": self.n_group,
            "topk_group": self.topk_group,
            "first_k_dense_replace": self.first_k_dense_replace,
            "norm_topk_prob": self.norm_topk_prob,
            "scoring_func": scoring,
            "topk_method": method,
            "hidden_act": self.hidden_act.name(),
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "rms_norm_eps": self.rms_norm_eps,
            "pad_token_id": self.pad_token_id,
            "tie_word_embeddings": self.tie_word_embeddings,
            "rope_interleave": self.rope_interleave == Pairing::Interleaved,
            "attention_bias": self.attention_bias,
            "attention_dropout": self.attention_dropout,
            "num_nextn_predict_layers": self.num_nextn_predict_layers,
        });
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        super::rope::write(self, &mut object);
        format!("{:#}\n", Value::Object(object))
    }
}
