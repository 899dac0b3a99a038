//! `--set KEY=VALUE` on the command line.

/// Values laid over a configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Lays a value over the configuration: --set archive.image=1 --set 'archive.inputs=[a.hspy, b.hspy]'.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
