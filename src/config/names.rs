//! The names of simulated and injected cubes, which become names of files.

use anyhow::{Result, ensure};

/// # Errors
/// A name that is no plain file name, or that two cubes share.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    for (i, name) in names.clone().enumerate() {
        let plain = !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.starts_with('.');
        ensure!(plain, "the name {name:?} is no plain file name: give one without slashes and without a dot in front");
        ensure!(
            !names.clone().take(i).any(|before| before == name),
            "two cubes have the name {name:?}, and the second would replace the first: rename one"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_given_once() {
        let problem = |names: &[&str]| {
            check_names(names.iter().copied()).map_or_else(|error| error.to_string(), |()| String::new())
        };
        assert_eq!(problem(&["a", "b 2.4 eV"]), "");
        assert!(problem(&["a", "b", "a"]).contains("two cubes have the name \"a\""));
        for bad in ["", "a/b", "..", ".hidden"] {
            assert!(problem(&[bad]).contains("no plain file name"), "{bad}");
        }
    }
}
