//! Which files make up an archive, and the id of each.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use glob::{MatchOptions, Pattern};
use serde::{Deserialize, Serialize};

use super::zarr::is_zarr;

/// Extensions of the files that a directory is searched for.
pub(super) const READABLE: [&str; 9] = ["hspy", "zspy", "h5", "hdf5", "nxs", "emd", "dm3", "dm4", "dm5"];

/// Endings of files that lie beside cubes and are none themselves.
const COMPANIONS: [&str; 6] =
    [".truth.hspy", ".expected.hspy", ".mask.hspy", ".survey.hspy", ".coreloss.hspy", ".partial"];

/// Precedes the extension of a cube's low-loss companion.
pub(super) const LOW_LOSS: &str = "lowloss.";

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub path: PathBuf,
    /// The path below the inputs' common root, without its extension unless two paths differ only in that.
    pub id: String,
    /// Whether the user named this very file: then a failure is an error, else the file is set aside.
    pub named: bool,
}

/// Finds the files that `inputs` stand for: paths, globs (`**` crosses directories) and directories. Rank-local.
///
/// Sorted by path, each file once. Globs and directories never yield `*.truth.hspy`, `*.expected.hspy`, `*.mask.hspy`,
/// `*.survey.hspy`, `*.coreloss.hspy`, `*.lowloss.*` or `*.partial`.
///
/// # Errors
/// A named file that is missing (suggests a similar name); a glob or directory that yields nothing.
pub fn catalogue(inputs: &[String]) -> Result<Vec<Source>> {
    ensure!(!inputs.is_empty(), "archive.inputs is empty: give files, globs or directories");
    // Keyed by absolute path: a file may be both named and matched by a glob.
    let mut found: BTreeMap<PathBuf, (PathBuf, bool)> = BTreeMap::new();
    let mut root: Option<PathBuf> = None;
    for input in inputs {
        let (top, paths, named) = expand(input)?;
        let top = lexical(&top)?;
        root = Some(match root {
            Some(root) => common(&root, &top),
            None => top,
        });
        for path in paths {
            let entry = found.entry(lexical(&path)?).or_insert((path, false));
            entry.1 |= named;
        }
    }
    leave_out_second_names(&mut found);
    let root = root.unwrap_or_default();
    let below: Vec<PathBuf> = found.keys().map(|path| path.strip_prefix(&root).unwrap_or(path).to_path_buf()).collect();
    let ids = unique_ids(&below);
    Ok(found.into_values().zip(ids).map(|((path, named), id)| Source { path, id, named }).collect())
}

/// Keeps one name of each file: the one that was named, else the first that is no link, else the first.
fn leave_out_second_names(found: &mut BTreeMap<PathBuf, (PathBuf, bool)>) {
    let mut names: Vec<(bool, bool, PathBuf)> =
        found.iter().map(|(path, (_, named))| (!named, path.is_symlink(), path.clone())).collect();
    names.sort();
    let mut seen = HashSet::new();
    for (_, _, path) in names {
        // A file that is gone is told when it is opened.
        if fs::canonicalize(&path).is_ok_and(|real| !seen.insert(real)) {
            found.remove(&path);
        }
    }
}

/// The folder that `input` starts from, the files it stands for, and whether it names one.
fn expand(input: &str) -> Result<(PathBuf, Vec<PathBuf>, bool)> {
    let path = Path::new(input);
    if path.is_dir() && !is_zarr(path) {
        let folder = plain(path);
        let mut paths = without_companions(files_below(&folder, |_, _| true, input), &folder, false, input);
        let is_readable = |path: &PathBuf| {
            let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
            READABLE.contains(&extension.as_str())
        };
        paths.retain(is_readable);
        ensure!(
            !paths.is_empty(),
            "directory {input} holds no cube: none of {} below it",
            READABLE.map(|extension| format!("*.{extension}")).join(", ")
        );
        return Ok((path.to_path_buf(), paths, false));
    }
    // A name with brackets is no glob if such a file exists.
    if path.exists() || !input.contains(['*', '?', '[']) {
        ensure!(path.exists(), "{input}: no such file{}", nearest(path));
        let parent = path.parent().unwrap_or(Path::new(""));
        return Ok((parent.to_path_buf(), vec![path.to_path_buf()], true));
    }
    let paths = matches(input, input)?;
    ensure!(!paths.is_empty(), "{input} matches no file (relative to {})", std::env::current_dir()?.display());
    Ok((fixed_part(path), paths, false))
}

/// The regular files that match `pattern`, except companions, and hidden ones unless it names hidden files.
fn matches(pattern: &str, input: &str) -> Result<Vec<PathBuf>> {
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
    let parts = plain(Path::new(pattern));
    let fixed = fixed_part(&parts);
    let wild: Vec<_> = parts.components().skip(fixed.components().count()).collect();
    let pattern =
        |text: &OsStr| Pattern::new(&text.to_string_lossy()).with_context(|| format!("{input} is no valid glob"));
    let glob = pattern(parts.as_os_str())?;
    let levels = wild.iter().map(|part| pattern(part.as_os_str())).collect::<Result<Vec<Pattern>>>()?;
    // The last part is for files, unless there are folders of any depth.
    let leads_into = |name: &str, level: usize| {
        let before = &levels[..levels.len().min(level + 1)];
        before.iter().any(|part| part.as_str() == "**")
            || level + 1 < levels.len() && levels[level].matches_with(name, options)
    };
    let mut paths = files_below(&fixed, leads_into, input);
    paths.retain(|path| glob.matches_with(&path.to_string_lossy(), options));
    Ok(without_companions(paths, &fixed, wild.iter().any(|part| is_hidden(part)), input))
}

/// Of `paths` below `folder` those of regular files that may be cubes, sorted; `hidden` ones where they are wanted.
fn without_companions(mut paths: Vec<PathBuf>, folder: &Path, hidden: bool, input: &str) -> Vec<PathBuf> {
    let has_hidden_part =
        |path: &Path| path.strip_prefix(folder).is_ok_and(|below| below.components().any(|c| is_hidden(&c)));
    paths.retain(|path| !is_companion(path) && (hidden || !has_hidden_part(path)) && (path.is_file() || is_zarr(path)));
    paths.retain(|path| {
        let is_text = path.to_str().is_some();
        if !is_text {
            log::warn!("left out of {input}: {} is no UTF-8 in every letter; rename it", path.display());
        }
        is_text
    });
    paths.sort();
    paths
}

/// The files in `folder`, and in those folders below it that `enters` takes by name and level (0 in `folder`). Each folder is
/// looked into once, whatever links lead to it: they may lead in circles. Links come last, so that a file is found by its own
/// name.
fn files_below(folder: &Path, enters: impl Fn(&str, usize) -> bool, input: &str) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    let (mut folders, mut links) = (vec![(folder.to_path_buf(), 0)], VecDeque::new());
    while let Some((folder, level)) = folders.pop().or_else(|| links.pop_front()) {
        let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let read = fs::canonicalize(shown).and_then(|real| Ok((real, fs::read_dir(shown)?)));
        let entries = match read {
            Ok((real, _)) if !seen.insert(real.clone()) => continue,
            Ok((_, entries)) => entries,
            Err(error) => {
                log::warn!("left out of {input}: {}: {error}", shown.display());
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let is_folder = if is_link { path.is_dir() } else { entry.file_type().is_ok_and(|kind| kind.is_dir()) };
            match (is_folder && !is_zarr(&path), is_link) {
                (false, _) => files.push(path),
                (true, _) if !enters(&entry.file_name().to_string_lossy(), level) => (),
                (true, false) => folders.push((path, level + 1)),
                (true, true) => links.push_back((path, level + 1)),
            }
        }
    }
    files
}

/// Without `.` and doubled separators.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// The folders of a glob before its first wildcard.
fn fixed_part(glob: &Path) -> PathBuf {
    glob.components().take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '['])).collect()
}

fn is_hidden(part: &Component) -> bool {
    matches!(part, Component::Normal(name) if name.as_encoded_bytes().starts_with(b"."))
}

fn is_companion(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_low_loss = READABLE.iter().any(|extension| name.ends_with(&format!(".{LOW_LOSS}{extension}")));
    is_low_loss || COMPANIONS.iter().any(|suffix| name.ends_with(suffix))
}

/// `; did you mean ...?` if the directory of `path` holds a similar name.
fn nearest(path: &Path) -> String {
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(directory) else {
        return format!("; there is no directory {} either", directory.display());
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let closest = names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name), name))
        .min()
        .filter(|(distance, _)| *distance <= wanted.chars().count().div_ceil(3));
    match closest {
        Some((_, name)) => format!("; did you mean {}?", path.with_file_name(name).display()),
        None => String::new(),
    }
}

/// `path` made absolute, without `.` and `..`; symbolic links stay, since ids follow the names that users see.
fn lexical(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    let from = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let absolute = std::path::absolute(from).with_context(|| format!("{}: no absolute path", path.display()))?;
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    Ok(clean)
}

fn common(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Paths without their extensions, which are kept where ids would otherwise be equal.
fn unique_ids(paths: &[PathBuf]) -> Vec<String> {
    let mut whole = vec![false; paths.len()];
    loop {
        let ids: Vec<String> = paths
            .iter()
            .zip(&whole)
            .map(|(path, &whole)| if whole { path.clone() } else { path.with_extension("") })
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let mut count: HashMap<&str, usize> = HashMap::new();
        for id in &ids {
            *count.entry(id).or_default() += 1;
        }
        let clash: Vec<bool> = ids.iter().zip(&whole).map(|(id, &whole)| !whole && count[id.as_str()] > 1).collect();
        if !clash.contains(&true) {
            return ids;
        }
        for (whole, clash) in whole.iter_mut().zip(clash) {
            *whole |= clash;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn ids(dir: &Path, inputs: &[&str]) -> Vec<(String, bool)> {
        let inputs: Vec<String> = inputs.iter().map(|input| format!("{}/{input}", dir.display())).collect();
        catalogue(&inputs).unwrap().into_iter().map(|source| (source.id, source.named)).collect()
    }

    #[test]
    fn globs_are_sorted_and_leave_companions_out() {
        let dir = archive(&[
            "b/EELS.dm4",
            "a/EELS.dm4",
            "a/x.hspy",
            "a/x.truth.hspy",
            "a/x.mask.hspy",
            "a/x.survey.hspy",
            "a/x.lowloss.dm4",
            "a/x.coreloss.hspy",
            "a/y.coreloss.hspy.partial",
            "a/.hidden.hspy",
        ]);
        assert_eq!(
            ids(dir.path(), &["**/*"]),
            [("a/EELS".into(), false), ("a/x".into(), false), ("b/EELS".into(), false)]
        );
        assert_eq!(ids(dir.path(), &["."]).len(), 3);
    }

    #[test]
    fn hidden_files_are_taken_where_the_glob_names_them() {
        let dir = archive(&["a/.old/x.hspy", "a/y.hspy"]);
        assert_eq!(ids(dir.path(), &["a/**/*"]), [("y".into(), false)]);
        assert_eq!(ids(dir.path(), &["a/.old/*"]), [("x".into(), false)]);
        assert_eq!(ids(dir.path(), &["a/.o*/*"]), [(".old/x".into(), false)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_utf8_is_left_out() {
        use std::os::unix::ffi::OsStrExt;
        let dir = archive(&["x.hspy"]);
        fs::write(dir.path().join(OsStr::from_bytes(b"Pr\xfcfung.hspy")), "x").unwrap();
        assert_eq!(ids(dir.path(), &["*"]), [("x".into(), false)]);
        assert_eq!(ids(dir.path(), &["."]), [("x".into(), false)]);
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_no_file_twice() {
        use std::os::unix::fs::symlink;
        let dir = archive(&["d/x.hspy", "d/e/y.hspy"]);
        symlink(".", dir.path().join("d/a")).unwrap();
        symlink("..", dir.path().join("d/b")).unwrap();
        symlink("x.hspy", dir.path().join("d/0.hspy")).unwrap();
        symlink("gone", dir.path().join("d/broken.hspy")).unwrap();
        let found = [("e/y".into(), false), ("x".into(), false)];
        assert_eq!(ids(dir.path(), &["d"]), found);
        assert_eq!(ids(dir.path(), &["d/**/*.hspy"]), found);
        assert_eq!(ids(dir.path(), &["d/*.hspy"]), [("x".into(), false)]);
        assert_eq!(ids(dir.path(), &["d/*.hspy", "d/0.hspy"]), [("0".into(), true)]);
    }

    #[test]
    fn a_glob_leads_into_the_folders_that_it_names() {
        let dir = archive(&["a1/s/x.hspy", "a2/s/y.hspy", "b/s/z.hspy", "a1/t/x.hspy", "a1/s/u/v.hspy"]);
        let found = |glob: &str| ids(dir.path(), &[glob]).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(found("a*/s/*.hspy"), ["a1/s/x", "a2/s/y"]);
        assert_eq!(found("a1/**/v.hspy"), ["s/u/v"]);
        assert_eq!(found("*/s/**/*.hspy"), ["a1/s/u/v", "a1/s/x", "a2/s/y", "b/s/z"]);
    }

    #[test]
    fn a_named_file_stays_named_when_a_glob_matches_it_too() {
        let dir = archive(&["x.hspy", "y.hspy"]);
        assert_eq!(ids(dir.path(), &["*.hspy", "./x.hspy"]), [("x".into(), true), ("y".into(), false)]);
    }

    #[test]
    fn ids_are_unique() {
        let dir = archive(&["x.dm3", "x.hspy", "x.dm3.h5", "y.v2.hspy", "y.v1.hspy"]);
        let found: Vec<String> = ids(dir.path(), &["*"]).into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, ["x.dm3", "x.dm3.h5", "x.hspy", "y.v1", "y.v2"]);
    }

    #[test]
    fn inputs_from_two_places_keep_their_folders() {
        let dir = archive(&["monday/s/x.hspy", "friday/x.hspy"]);
        let found: Vec<String> =
            ids(dir.path(), &["monday/**/*.hspy", "friday/x.hspy"]).into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, ["friday/x", "monday/s/x"]);
    }

    #[test]
    fn brackets_in_an_existing_name_are_no_glob() {
        let dir = archive(&["EELS [1].hspy"]);
        assert_eq!(ids(dir.path(), &["EELS [1].hspy"]), [("EELS [1]".into(), true)]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = archive(&["nanocubes.hspy"]);
        let fails = |input: &str| {
            let input = format!("{}/{input}", dir.path().display());
            format!("{:#}", catalogue(&[input]).unwrap_err())
        };
        let message = fails("nanocube.hspy");
        assert!(message.contains("did you mean") && message.contains("nanocubes.hspy?"), "{message}");
        assert!(fails("*.dm4").contains("*.dm4 matches no file"));
        assert!(fails("none/x.hspy").contains("no directory"));
    }
}
