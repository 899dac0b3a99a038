//! What each key of a configuration means, from one source: the comments of the fields that hold it.

use serde_yaml::Value;

use super::Config;
use crate::invalid::Invalid;

/// The sources of all types that a configuration is made of.
const SOURCES: [&str; 18] = [
    include_str!("mod.rs"),
    include_str!("output.rs"),
    include_str!("archive.rs"),
    include_str!("region.rs"),
    include_str!("preprocess.rs"),
    include_str!("io.rs"),
    include_str!("model.rs"),
    include_str!("train.rs"),
    include_str!("comm.rs"),
    include_str!("pca.rs"),
    include_str!("score.rs"),
    include_str!("survey.rs"),
    include_str!("simulate.rs"),
    include_str!("inject.rs"),
    include_str!("material.rs"),
    include_str!("anomaly.rs"),
    include_str!("places.rs"),
    include_str!("sweep/mod.rs"),
];
/// Where the keys of a sweep file are told of: they stand at its top, which is not a configuration's.
const SWEEP: &str = "sweep";
/// Types deep, at most: none holds itself.
const DEEPEST: usize = 8;

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// `train.steps`.
    pub key: String,
    /// What it is, with units and range.
    pub meaning: String,
    /// As YAML; none where it is a section, or belongs to the items of a list.
    pub default: Option<String>,
    /// Words that it may be, each with its meaning.
    pub choices: Vec<(String, String)>,
}

/// A field or a variant as its source has it.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    kind: String,
    comment: String,
}

/// `key` and all below it; every key of a configuration for "", those of a sweep file for `sweep`.
///
/// # Errors
/// [`Invalid`]: no such key, with the nearest one.
pub fn explain(key: &str) -> Result<Vec<Explained>, Invalid> {
    let mut all = Vec::new();
    let defaults = serde_yaml::to_value(Config::default()).ok();
    walk("Config", "", defaults.as_ref(), DEEPEST, &mut all);
    if !key.is_empty() {
        walk("SweepFile", SWEEP, None, DEEPEST, &mut all);
    }
    let below = |found: &str| {
        key.is_empty() || found.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let found: Vec<Explained> = all.iter().filter(|one| below(&one.key)).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let near = all
        .iter()
        .max_by(|a, b| {
            let likeness = |one: &Explained| strsim::jaro_winkler(&one.key, key);
            likeness(a).total_cmp(&likeness(b))
        })
        .map_or("", |one| &one.key);
    Err(Invalid(format!(
        "no key {key:?} in a configuration; did you mean {near:?}? `coreloss config` shows all of them"
    )))
}

fn walk(of_type: &str, path: &str, defaults: Option<&Value>, depth: usize, found: &mut Vec<Explained>) {
    for member in members("struct", of_type) {
        let key = if path.is_empty() { member.name.clone() } else { format!("{path}.{}", member.name) };
        let default = defaults.and_then(|value| value.get(&member.name));
        let inner = innermost(&member.kind);
        let is_section = !members("struct", inner).is_empty();
        let comment = match member.comment.as_str() {
            "" => comment_of(inner),
            comment => comment.into(),
        };
        found.push(Explained {
            key: key.clone(),
            meaning: comment,
            default: default
                .filter(|value| !value.is_mapping())
                .and_then(|value| serde_yaml::to_string(value).ok())
                .map(|text| text.trim().to_string()),
            choices: members("enum", inner)
                .into_iter()
                .filter(|variant| variant.kind.is_empty())
                .map(|variant| (snake_case(&variant.name), variant.comment))
                .collect(),
        });
        if is_section && depth > 0 {
            walk(inner, &key, default, depth - 1, found);
        }
    }
}

/// The type within `Option`, `Vec`, `OneOrMany` and `Auto`.
fn innermost(kind: &str) -> &str {
    match kind.split_once('<') {
        Some(("Option" | "Vec" | "OneOrMany" | "Auto", rest)) => innermost(rest.strip_suffix('>').unwrap_or(rest)),
        _ => kind,
    }
}

/// The lines of the item `word NAME {`, from its first comment to its closing brace: (comment of the item, its body).
fn item(word: &str, name: &str) -> Option<(String, Vec<&'static str>)> {
    let head = format!("pub {word} {name} {{");
    for source in SOURCES {
        let lines: Vec<&'static str> = source.lines().collect();
        let Some(start) = lines.iter().position(|line| *line == head) else {
            continue;
        };
        let above = lines[..start].iter().rev();
        let mut comment: Vec<&str> = above
            .take_while(|line| line.starts_with("///") || line.starts_with("#["))
            .filter_map(|line| line.strip_prefix("///"))
            .map(str::trim)
            .collect();
        comment.reverse();
        let body = lines[start + 1..].iter().take_while(|line| **line != "}");
        return Some((comment.join(" "), body.copied().collect()));
    }
    None
}

fn comment_of(name: &str) -> String {
    let found = item("struct", name).or_else(|| item("enum", name));
    found.map_or(String::new(), |(comment, _)| comment)
}

/// The fields or variants of a type, in order; none where there is no such type.
fn members(word: &str, name: &str) -> Vec<Member> {
    let Some((_, body)) = item(word, name) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in body {
        // Fields have the indentation of the first level.
        let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with(' ')) else {
            continue;
        };
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if !line.starts_with("#[") && !line.starts_with('}') {
            let line = line.trim_start_matches("pub ").trim_end_matches(',');
            let (name, kind) = match line.split_once([':', '(', ' ']) {
                Some((name, kind)) => (name, kind.trim()),
                None => (line, ""),
            };
            found.push(Member {
                // A field may be called by a word of the language.
                name: name.trim_start_matches("r#").into(),
                kind: kind.into(),
                comment: comment.join(" "),
            });
            comment.clear();
        }
    }
    found
}

/// As serde writes the variants.
fn snake_case(name: &str) -> String {
    let mut word = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            word.push('_');
        }
        word.extend(c.to_lowercase());
    }
    word
}

impl Explained {
    /// As lines for a terminal.
    pub fn text(&self) -> String {
        let mut text = self.key.clone();
        if let Some(default) = &self.default {
            text.push_str(&format!(" (default: {})", default.replace('\n', " ")));
        }
        text.push_str(&format!("\n    {}\n", self.meaning));
        for (word, meaning) in &self.choices {
            let line = format!("    {word}: {meaning}");
            text.push_str(line.trim_end_matches([':', ' ']));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_configuration_is_explained() {
        let all = explain("").unwrap();
        let value = serde_yaml::to_value(Config::default()).unwrap();
        let mut wanted = Vec::new();
        keys(&value, "", &mut wanted);
        for key in wanted {
            let found = all.iter().find(|one| one.key == key);
            let found = found.unwrap_or_else(|| panic!("{key} is not found"));
            assert!(!found.meaning.is_empty(), "{key} has no comment");
        }
    }

    fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
        let Value::Mapping(members) = value else {
            return;
        };
        for (name, member) in members {
            let name = name.as_str().unwrap();
            let key = if path.is_empty() { name.into() } else { format!("{path}.{name}") };
            keys(member, &key, found);
            found.push(key);
        }
    }

    #[test]
    fn a_key_has_its_meaning_default_and_choices() {
        let found = explain("preprocess.align").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].default.as_deref(), Some("none"));
        let words: Vec<&str> = found[0].choices.iter().map(|(word, _)| &word[..]).collect();
        assert_eq!(words, ["none", "low_loss", "edge"]);
        assert!(explain("inject.cubes").unwrap().len() > 5);
        let sweep = explain("sweep").unwrap();
        assert!(sweep.iter().all(|one| !one.meaning.is_empty()), "{sweep:?}");
        assert!(sweep.iter().any(|one| one.key == "sweep.plots.by"));
        let error = explain("train.stepz").unwrap_err();
        assert!(error.0.contains("train.steps"), "{error}");
    }
}
