//! `--set KEY=VALUE` on the command line.

/// Values that replace those of a configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Replaces a value of the configuration: --set archive.image=1 --set 'archive.inputs=[a.hspy, b.hspy]'.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
