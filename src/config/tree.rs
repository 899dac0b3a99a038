//! A configuration as a tree of YAML: values laid over it, and what differs between two.

use anyhow::Result;
use serde::Serialize;
use serde_yaml::{Mapping, Value};

use crate::invalid::Invalid;

/// Lays one `a.b=value` over a YAML tree.
pub(super) fn set(tree: &mut Value, assignment: &str) -> Result<()> {
    let (key, text) = assignment.split_once('=').ok_or_else(|| {
        Invalid(format!("--set {assignment}: write it as key=value, for example --set train.steps=800"))
    })?;
    let value: Value = serde_yaml::from_str(text).map_err(|error| {
        // The most common mistake: to YAML, *.hspy is an alias.
        let mend = if text.contains('*') {
            "; put a glob that begins with * in quotes, as in --set 'archive.inputs=[\"*.hspy\"]'"
        } else {
            ""
        };
        Invalid(format!("--set {assignment}: the value is not valid YAML: {error}{mend}"))
    })?;
    let parts: Vec<&str> = key.trim().split('.').collect();
    lay(tree, &parts, 0, &value).map_err(|problem| Invalid(format!("--set {assignment}: {problem}")).into())
}

/// Lays `value` over what `path[depth..]` names below `node`, and says what is wrong with the path.
pub(super) fn lay(node: &mut Value, path: &[&str], depth: usize, value: &Value) -> std::result::Result<(), String> {
    let Some(part) = path.get(depth) else {
        *node = value.clone();
        return Ok(());
    };
    if part.is_empty() {
        return Err("the key has an empty part".into());
    }
    // `output` may be a plain folder; a key below it turns it into a mapping that keeps the folder.
    if depth == 1 && path[0] == "output" && node.is_string() {
        let mut fields = Mapping::new();
        fields.insert("dir".into(), node.clone());
        *node = Value::Mapping(fields);
    }
    if node.is_null() {
        *node = Value::Mapping(Mapping::new());
    }
    match node {
        Value::Mapping(fields) => {
            let below = fields.entry((*part).into()).or_insert(Value::Null);
            lay(below, path, depth + 1, value)
        }
        Value::Sequence(items) if *part == "*" => {
            items.iter_mut().try_for_each(|item| lay(item, path, depth + 1, value))
        }
        Value::Sequence(items) => {
            let count = items.len();
            let item = part.parse().ok().and_then(|i: usize| items.get_mut(i));
            let list = path[..depth].join(".");
            let item = item.ok_or_else(|| {
                format!("{list} is a list of {count}: name an item by its number from 0, or all by *, not {part}")
            })?;
            lay(item, path, depth + 1, value)
        }
        _ => Err(format!("{} is not a section", path[..depth].join("."))),
    }
}

/// The keys of `value` that differ from their defaults, with their values: unchanged when the program gets a new key.
pub(super) fn given<T: Serialize + Default>(value: &T) -> Vec<(String, String)> {
    let tree = |value: &T| serde_yaml::to_value(value).expect("a configuration has plain types");
    let mut found = Vec::new();
    compare("", &tree(&T::default()), &tree(value), &mut found);
    found.into_iter().map(|(key, _, given)| (key, given)).collect()
}

/// Adds what differs below `path`: key, mine, other, as JSON.
pub(super) fn compare(path: &str, mine: &Value, other: &Value, found: &mut Vec<(String, String, String)>) {
    if let (Value::Mapping(a), Value::Mapping(b)) = (mine, other) {
        let only_in_b = b.keys().filter(|key| !a.contains_key(key));
        for key in a.keys().chain(only_in_b) {
            let key_text = key.as_str().unwrap_or("?");
            let below = if path.is_empty() { key_text.to_string() } else { format!("{path}.{key_text}") };
            let of = |fields: &Mapping| fields.get(key).cloned().unwrap_or(Value::Null);
            compare(&below, &of(a), &of(b), found);
        }
    } else if mine != other {
        let text = |value: &Value| serde_json::to_string(value).unwrap_or_default();
        found.push((path.into(), text(mine), text(other)));
    }
}
