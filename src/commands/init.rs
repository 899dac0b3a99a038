//! `coreloss init`: writes a commented configuration for one cube, from what is found in it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::inspect::{Measured, measure};
use super::startup::by_default;
use crate::archive::{self, Description, Options, Source};
use crate::comm::Comm;
use crate::config::{Config, Overrides, explain};
use crate::durable;
use crate::ending::Ending;
use crate::invalid::Invalid;

#[derive(Args)]
pub struct InitArguments {
    /// HyperSpy, HDF5, NeXus, EMD, DM3 or DM4 file.
    file: PathBuf,
    /// Configuration to write; by default the file's name with .yaml, in the working directory.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Longest line of a comment.
const WIDTH: usize = 100;

/// Measures the cube of a file and writes a configuration for it.
///
/// # Collective
/// # Errors
/// A file that is not a readable cube; a configuration that exists already.
pub fn init(comm: &Comm, arguments: &InitArguments) -> Result<Ending> {
    let config = &by_default(comm, "init", &arguments.overrides)?;
    let path = &arguments.file;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.yaml")));
    let source = Source { path: path.to_path_buf(), id: String::new(), named: true };
    let (measured, _) = measure(comm, config, &source)?;
    let options = Options::of(config);
    comm.on_root(|| {
        archive::inspect(path, &options).and_then(|summary| save(&output, &text(&summary, &measured, config, &stem)?))
    })?;
    if comm.is_root() {
        println!("{}", output.display());
    }
    Ok(Ending::Done)
}

fn save(output: &Path, text: &str) -> Result<()> {
    if output.exists() {
        let output = output.display();
        return Err(Invalid(format!("{output} exists: remove it, or name another file by -o")).into());
    }
    durable::write(output, text).map_err(|error| Invalid(format!("{error:#}")).into())
}

fn text(summary: &Description, measured: &Measured, config: &Config, stem: &str) -> Result<String> {
    let mut yaml = String::new();
    let sizes: Vec<String> = summary.shape.iter().map(usize::to_string).collect();
    comment(
        &mut yaml,
        "",
        &format!(
            "For {}, {} ({}). Run it: coreloss run THIS_FILE. What a key means: coreloss config --explain KEY.",
            summary.path.display(),
            sizes.join(" x "),
            summary.format
        ),
    );
    for problem in &summary.problems {
        comment(&mut yaml, "", &format!("Note: {problem}."));
    }
    let given = |key: &str, value: &dyn std::fmt::Display, yaml: &mut String| -> Result<()> {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let indent = if section.is_empty() { "" } else { "  " };
        for one in explain(key)?.iter().filter(|one| one.key == key) {
            comment(yaml, indent, &one.meaning);
        }
        writeln!(yaml, "{indent}{name}: {value}")?;
        Ok(())
    };
    let quoted = |text: String| -> Result<String> { Ok(serde_json::to_string(&text)?) };
    given("output", &quoted(format!("out/{stem}"))?, &mut yaml)?;
    given("seed", &config.seed, &mut yaml)?;
    yaml.push_str("\narchive:\n");
    let path = quoted(summary.path.display().to_string())?;
    given("archive.inputs", &format!("[{path}]"), &mut yaml)?;
    if let Some(dataset) = &config.archive.dataset {
        given("archive.dataset", &quoted(dataset.clone())?, &mut yaml)?;
    }
    if let Some(image) = config.archive.image {
        given("archive.image", &image, &mut yaml)?;
    }
    yaml.push_str("\npreprocess:\n");
    if let Some(noise) = &measured.noise {
        comment(
            &mut yaml,
            "  ",
            &format!(
                "Found: gain {:.3}, read noise {:.2} electrons, {:.0} electrons in a pixel.",
                noise.gain, noise.read_noise, noise.electrons_per_pixel
            ),
        );
    }
    given("preprocess.gain", &"auto", &mut yaml)?;
    given("preprocess.vacuum", &config.preprocess.vacuum, &mut yaml)?;
    if let Some(vacuum) = measured.vacuum.as_ref().filter(|vacuum| vacuum.pixels > 0) {
        comment(&mut yaml, "  ", &format!("Found: {} such pixels.", vacuum.pixels));
    }
    given("preprocess.align", &"none", &mut yaml)?;
    if let Some(drift) = &measured.drift {
        let found = format!("Found: {} moves by {:.2} eV (sd) from line to line.", drift.edge, drift.sd_ev);
        comment(&mut yaml, "  ", &found);
    }
    yaml.push_str("\ntrain:\n");
    given("train.steps", &"auto", &mut yaml)?;
    yaml.push_str("\nscore:\n");
    given("score.windows", &"auto", &mut yaml)?;
    windows(&mut yaml, measured)?;
    Ok(yaml)
}

/// The windows that `auto` finds, commented out, as a start for one's own.
fn windows(yaml: &mut String, measured: &Measured) -> Result<()> {
    let edges = measured.edges.as_deref().unwrap_or_default();
    if edges.is_empty() {
        comment(yaml, "  ", "No edge stands out of the mean spectrum.");
        return Ok(());
    }
    comment(yaml, "  ", "The edges found, with windows to begin from:");
    yaml.push_str("  # windows:\n");
    for edge in edges {
        let window = &edge.window;
        let [low, high] = window.range_ev;
        let [from, to] = window.background_ev;
        let name = serde_json::to_string(&window.name)?;
        let candidates = match edge.axis_error_ev {
            Some(_) => String::new(),
            None => format!(", perhaps {}", edge.candidates.join(" or ")),
        };
        writeln!(
            yaml,
            "  #   - {{name: {name}, range_ev: [{low:.1}, {high:.1}], background_ev: [{from:.1}, {to:.1}]}}  \
             # from {:.1} eV{candidates}",
            edge.onset_ev
        )?;
    }
    Ok(())
}

/// Adds `text` as comment lines, broken between words.
fn comment(yaml: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    for word in text.split_whitespace() {
        if line.len() + word.len() >= WIDTH && line.len() > indent.len() + 1 {
            yaml.push_str(&line);
            yaml.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    yaml.push_str(&line);
    yaml.push('\n');
}
