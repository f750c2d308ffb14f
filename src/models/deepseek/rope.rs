//! The rotary part of a configuration: `rope_parameters` of newer files, `rope_theta` and `rope_scaling` of older ones.
//!
//! Knows the types of scaling and what each needs. Must not know how a rotation is computed.

use serde_json::{Map, Value, json};

use super::Config;
use super::config::OP;
use crate::error::{Error, Result};
use crate::models::fields::Fields;
use crate::nn::RotaryScaling;

/// The factor that a context stretched by `scale` gives scores (YaRN, section 3.4).
fn magnitude(scale: f64, weight: f64) -> f64 {
    if scale <= 1.0 {
        1.0
    } else {
        0.1 * weight * scale.ln() + 1.0
    }
}

pub(super) fn read(config: &mut Config, fields: &Fields<'_>) -> Result<()> {
    fields.number("rope_theta", &mut config.rope_theta)?;
    let scaling = fields.object("rope_scaling")?;
    if let Some(inner) = scaling.or(fields.object("rope_parameters")?) {
        let inner = Fields::of(OP, inner);
        inner.number("rope_theta", &mut config.rope_theta)?;
        let kind = inner.first(&["rope_type", "type"]);
        let kind = inner.text(kind)?.unwrap_or("default");
        config.rope_scaling = scaling_of(kind, config, &inner)?;
        let all = inner.optional_number("mscale_all_dim")?.unwrap_or(0.0);
        if kind != "default" && all != 0.0 {
            config.rope_score_factor = magnitude(factor(config, &inner)?, all).powi(2);
        }
        if kind != "default" {
            partial(&inner)?;
        }
        inner.tell_unread(&[]);
    }
    if config.rope_theta <= 0.0 {
        let why = format!("got {}, wanted one above 0", config.rope_theta);
        return Err(Error::option(OP, "rope_theta", why));
    }
    Ok(())
}

/// Rotation of a part of the rotary dims only has no meaning here: `qk_rope_head_dim` is that part already.
fn partial(inner: &Fields<'_>) -> Result<()> {
    match inner.optional_number("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(inner.refuse("partial_rotary_factor", "1")),
    }
}

fn trained(config: &Config, inner: &Fields<'_>) -> Result<usize> {
    let mut trained = Some(config.max_position_embeddings);
    inner.optional_size("original_max_position_embeddings", &mut trained)?;
    Ok(trained.unwrap_or(config.max_position_embeddings))
}

/// The factor that is given, or that of the two lengths.
fn factor(config: &Config, inner: &Fields<'_>) -> Result<f64> {
    let given = inner.optional_number("factor")?;
    let ratio = config.max_position_embeddings as f64 / trained(config, inner)? as f64;
    let factor = given.unwrap_or(ratio);
    if factor > 0.0 {
        Ok(factor)
    } else {
        Err(inner.refuse("factor", "a number above 0"))
    }
}

fn scaling_of(kind: &str, config: &Config, inner: &Fields<'_>) -> Result<RotaryScaling> {
    let needed = |name: &'static str| {
        let value = inner.optional_number(name)?;
        value.ok_or_else(|| inner.refuse(name, "a number"))
    };
    Ok(match kind {
        "default" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear {
            factor: needed("factor").and_then(|_| factor(config, inner))?,
        },
        "dynamic" => RotaryScaling::Dynamic {
            factor: needed("factor").and_then(|_| factor(config, inner))?,
            trained: config.max_position_embeddings,
        },
        "yarn" => yarn(config, inner)?,
        "llama3" => RotaryScaling::Llama3 {
            factor: needed("factor").and_then(|_| factor(config, inner))?,
            trained: trained(config, inner)?,
            low: needed("low_freq_factor")?,
            high: needed("high_freq_factor")?,
        },
        _ => {
            let name = inner.first(&["rope_type", "type"]);
            return Err(inner.refuse(name, "default, linear, dynamic, yarn or llama3"));
        }
    })
}

fn yarn(config: &Config, inner: &Fields<'_>) -> Result<RotaryScaling> {
    let factor = factor(config, inner)?;
    let (own, all) = (
        inner.optional_number("mscale")?.unwrap_or(0.0),
        inner.optional_number("mscale_all_dim")?.unwrap_or(0.0),
    );
    let usual = if own != 0.0 && all != 0.0 {
        magnitude(factor, own) / magnitude(factor, all)
    } else {
        magnitude(factor, 1.0)
    };
    let nonzero = |name, usual: f64| -> Result<f64> {
        let value = inner.optional_number(name)?.filter(|value| *value != 0.0);
        Ok(value.unwrap_or(usual))
    };
    let mut truncate = true;
    inner.flag("truncate", &mut truncate)?;
    Ok(RotaryScaling::Yarn {
        factor,
        trained: trained(config, inner)?,
        beta_fast: nonzero("beta_fast", 32.0)?,
        beta_slow: nonzero("beta_slow", 1.0)?,
        attention_factor: inner.optional_number("attention_factor")?.unwrap_or(usual),
        truncate,
    })
}

/// Writes what was read; a configuration made here has its base only, or the scaling's own numbers.
pub(super) fn write(config: &Config, object: &mut Map<String, Value>) {
    let read = ["rope_parameters", "rope_scaling", "rope_theta"];
    if read.iter().any(|name| object.contains_key(*name)) {
        return;
    }
    let theta = config.rope_theta;
    let parameters = match &config.rope_scaling {
        RotaryScaling::None => json!({"rope_type": "default", "rope_theta": theta}),
        RotaryScaling::Linear { factor } => {
            json!({"rope_type": "linear", "rope_theta": theta, "factor": factor})
        }
        RotaryScaling::Dynamic { factor, .. } => {
            json!({"rope_type": "dynamic", "rope_theta": theta, "factor": factor})
        }
        RotaryScaling::Yarn {
            factor,
            trained,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate,
        } => json!({
            "rope_type": "yarn", "rope_theta": theta, "factor": factor,
            "original_max_position_embeddings": trained, "beta_fast": beta_fast, "beta_slow": beta_slow,
            "attention_factor": attention_factor, "truncate": truncate,
        }),
        RotaryScaling::Llama3 {
            factor,
            trained,
            low,
            high,
        } => json!({
            "rope_type": "llama3", "rope_theta": theta, "factor": factor,
            "original_max_position_embeddings": trained, "low_freq_factor": low, "high_freq_factor": high,
        }),
    };
    object.insert("rope_parameters".to_string(), parameters);
}
