//! The forms that values take in several sections: a number or `auto`, one value or a list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number, or `auto`: found from the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number or `auto`")]
pub enum Auto<T> {
    Given(T),
    #[default]
    #[serde(with = "auto_word")]
    #[schemars(with = "String")]
    Auto,
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
#[serde(untagged, expecting = "a value or a list of values")]
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
