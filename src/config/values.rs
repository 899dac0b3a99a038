//! The forms that values take in several sections: a number or `auto`, one value or a list.

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

/// A number, or `auto`: found from the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Auto<T> {
    Given(T),
    #[default]
    #[serde(with = "auto_word")]
    #[schemars(with = "String")]
    Auto,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value == "auto" {
            return Ok(Auto::Auto);
        }
        if let Ok(given) = serde_yaml::from_value(value.clone()) {
            return Ok(Auto::Given(given));
        }
        // `1e2` is a float to YAML, and means a whole number where one is wanted.
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0 && *number < 1e15);
        if let Some(given) = whole.and_then(|number| serde_yaml::from_value(Value::from(number as u64)).ok()) {
            return Ok(Auto::Given(given));
        }
        let found = serde_json::to_string(&value).unwrap_or_default();
        let mend = match value.as_str() {
            Some(text) if text.contains('_') => format!(": `{text}` is no number to YAML: leave out the _"),
            _ => String::new(),
        };
        Err(D::Error::custom(format!("a number or `auto` is wanted, a whole one of counts, not {found}{mend}")))
    }
}

impl<T: Copy> Auto<T> {
    /// What is given, else `usual`.
    pub fn or(self, usual: T) -> T {
        match self {
            Auto::Given(value) => value,
            Auto::Auto => usual,
        }
    }
}

pub(super) mod auto_word {
    use serde::Serializer;
    use serde::de::{Deserialize, Deserializer, Error};

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor `auto`"))),
        }
    }
}

/// A list, or a single value that stands for a list of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a value or a list of values (a name that looks like a number, in quotes)")]
pub enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::Many(values) => values,
            OneOrMany::One(value) => std::slice::from_ref(value),
        }
    }
}
