//! Text and its tokens: bytes, or byte pairs that are learnt from the text itself.
//!
//! Knows files and tokens. Must not know models.

use std::error::Error;
use std::path::Path;

/// How text becomes tokens.
pub enum Alphabet {
    /// Each byte is a token.
    Bytes,
    /// Frequent sequences of bytes are tokens (byte-pair encoding).
    #[cfg(feature = "tokenizers")]
    Pairs(Box<tokenizers::Tokenizer>),
}

/// The file beside a model that has the byte pairs.
#[cfg(feature = "tokenizers")]
const FILE: &str = "tokenizer.json";

type Failure = Box<dyn Error + Send + Sync>;

#[cfg(feature = "tokenizers")]
fn told(error: tokenizers::Error) -> Failure {
    error.to_string().into()
}

impl Alphabet {
    /// The alphabet of a model that `train_deepseek` wrote.
    pub fn of_model(folder: &Path) -> Result<Self, Failure> {
        #[cfg(feature = "tokenizers")]
        if folder.join(FILE).exists() {
            let own = tokenizers::Tokenizer::from_file(folder.join(FILE)).map_err(told)?;
            return Ok(Alphabet::Pairs(Box::new(own)));
        }
        #[cfg(not(feature = "tokenizers"))]
        if folder.join("tokenizer.json").exists() {
            return Err("the model's tokens are byte pairs: run with --features tokenizers".into());
        }
        Ok(Alphabet::Bytes)
    }

    /// So many byte pairs, learnt from a text.
    #[cfg(feature = "tokenizers")]
    pub fn learn(text: &[u8], count: usize) -> Result<Self, Failure> {
        use tokenizers::models::TrainerWrapper;
        use tokenizers::models::bpe::{BPE, BpeTrainer};
        use tokenizers::pre_tokenizers::byte_level::ByteLevel;

        let level = ByteLevel::new(false, true, true);
        let mut own = tokenizers::Tokenizer::new(BPE::default());
        own.with_pre_tokenizer(Some(level));
        own.with_decoder(Some(level));
        let trainer = BpeTrainer::builder()
            .vocab_size(count)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let text = String::from_utf8_lossy(text);
        own.train(
            &mut TrainerWrapper::from(trainer),
            text.split_inclusive('\n'),
        )
        .map_err(told)?;
        Ok(Alphabet::Pairs(Box::new(own)))
    }

    /// Without the crate `tokenizers` there are bytes only.
    #[cfg(not(feature = "tokenizers"))]
    pub fn learn(_text: &[u8], _count: usize) -> Result<Self, Failure> {
        Err("byte pairs want --features tokenizers".into())
    }

    /// Writes what [`Alphabet::of_model`] reads.
    pub fn save(&self, folder: &Path) -> Result<(), Failure> {
        match self {
            Alphabet::Bytes => {
                let _ = std::fs::remove_file(folder.join("tokenizer.json"));
                Ok(())
            }
            #[cfg(feature = "tokenizers")]
            Alphabet::Pairs(own) => own.save(folder.join(FILE), true).map_err(told),
        }
    }

    /// The number of tokens there are.
    pub fn size(&self) -> usize {
        match self {
            Alphabet::Bytes => 256,
            #[cfg(feature = "tokenizers")]
            Alphabet::Pairs(own) => own.get_vocab_size(true),
        }
    }

    /// What a token is, in words.
    pub fn unit(&self) -> &'static str {
        match self {
            Alphabet::Bytes => "byte",
            #[cfg(feature = "tokenizers")]
            Alphabet::Pairs(_) => "token",
        }
    }

    pub fn encode(&self, text: &[u8]) -> Result<Vec<i64>, Failure> {
        match self {
            Alphabet::Bytes => Ok(text.iter().map(|byte| i64::from(*byte)).collect()),
            #[cfg(feature = "tokenizers")]
            Alphabet::Pairs(own) => {
                let text = String::from_utf8_lossy(text);
                let mut tokens = Vec::new();
                for line in text.split_inclusive('\n') {
                    let line = own.encode_fast(line, false).map_err(told)?;
                    tokens.extend(line.get_ids().iter().map(|id| i64::from(*id)));
                }
                Ok(tokens)
            }
        }
    }

    pub fn decode(&self, tokens: &[i64]) -> Result<String, Failure> {
        match self {
            Alphabet::Bytes => {
                let bytes: Vec<u8> = tokens.iter().map(|token| *token as u8).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            #[cfg(feature = "tokenizers")]
            Alphabet::Pairs(own) => {
                let ids: Vec<u32> = tokens.iter().map(|token| *token as u32).collect();
                own.decode(&ids, false).map_err(told)
            }
        }
    }
}
