//! Reading fields of a JSON object, with errors that name the field.
//!
//! Knows JSON's types, and which fields were read. Must not know what a field means.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The fields of an object. A field that is absent leaves the default as it is.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// The call that errors name.
    op: &'static str,
    object: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    pub fn of(op: &'static str, object: &'a Map<String, Value>) -> Self {
        Fields {
            op,
            object,
            read: RefCell::default(),
        }
    }

    fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(name);
        self.object.get(name)
    }

    /// Refuses fields of other models, whose results would be others; null, false and 0 say that the part is not there.
    pub fn refuse_foreign(&self, names: &[&'static str]) -> Result<()> {
        let absent = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        let there = |name: &&&'static str| !self.get(name).is_none_or(absent);
        match names.iter().find(there) {
            Some(name) => Err(self.refuse(name, "null: this model has no such part")),
            None => Ok(()),
        }
    }

    /// Tells, as `tracing` events, which fields nobody has read, apart from those that are known to change no result.
    pub fn tell_unread(&self, harmless: &[&str]) {
        let read = self.read.borrow();
        for (field, value) in self.object {
            if !read.contains(field.as_str()) && !harmless.contains(&field.as_str()) {
                let op = self.op;
                tracing::warn!(target: "ascend_tensor::models", op, %field, %value, "an unknown field is ignored");
            }
        }
    }

    /// The first of several names that is there, or the first at all.
    pub fn first(&self, names: &[&'static str]) -> &'static str {
        let there = names.iter().find(|name| self.object.contains_key(**name));
        there.or(names.first()).copied().unwrap_or_default()
    }

    /// The error of a field's present value.
    pub fn refuse(&self, name: &'static str, wanted: &str) -> Error {
        let got = self.get(name).cloned().unwrap_or_default();
        Error::option(self.op, name, format!("got {got}, wanted {wanted}"))
    }

    pub fn size(&self, name: &'static str, own: &mut usize) -> Result<()> {
        let mut size = Some(*own);
        self.optional_size(name, &mut size)?;
        *own = size.ok_or_else(|| self.refuse(name, "a whole number above 0"))?;
        Ok(())
    }

    /// A number above 0, or null for none.
    pub fn optional_size(&self, name: &'static str, own: &mut Option<usize>) -> Result<()> {
        self.optional_count(name, own)?;
        if *own == Some(0) {
            return Err(self.refuse(name, "a whole number above 0"));
        }
        Ok(())
    }

    /// A number, or null for none.
    pub fn optional_count(&self, name: &'static str, own: &mut Option<usize>) -> Result<()> {
        match self.get(name) {
            None => {}
            Some(Value::Null) => *own = None,
            Some(value) => {
                let count = value
                    .as_u64()
                    .and_then(|count| usize::try_from(count).ok())
                    .filter(|count| *count <= u32::MAX as usize);
                let wanted = "a whole number that is not negative";
                *own = Some(count.ok_or_else(|| self.refuse(name, wanted))?);
            }
        }
        Ok(())
    }

    pub fn integer(&self, name: &'static str) -> Result<Option<i64>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(value) => Ok(Some(value)),
                None => Err(self.refuse(name, "a whole number or null")),
            },
        }
    }

    /// A finite number; null leaves the default.
    pub fn number(&self, name: &'static str, own: &mut f64) -> Result<()> {
        if let Some(value) = self.optional_number(name)? {
            *own = value;
        }
        Ok(())
    }

    pub fn optional_number(&self, name: &'static str) -> Result<Option<f64>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|value| value.is_finite()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.refuse(name, "a finite number")),
            },
        }
    }

    /// True or false; null leaves the default.
    pub fn flag(&self, name: &'static str, own: &mut bool) -> Result<()> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Bool(value)) => {
                *own = *value;
                Ok(())
            }
            Some(_) => Err(self.refuse(name, "true or false")),
        }
    }

    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(name, "a string")),
        }
    }

    pub fn object(&self, name: &'static str) -> Result<Option<&'a Map<String, Value>>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(self.refuse(name, "an object")),
        }
    }

    pub fn sizes(&self, name: &'static str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let wrong = || self.refuse(name, "a list of whole numbers above 0");
        let size = |value: &Value| {
            let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
            size.filter(|size| *size > 0).ok_or_else(wrong)
        };
        let list = value.as_array().ok_or_else(wrong)?;
        list.iter().map(size).collect::<Result<_>>().map(Some)
    }
}
