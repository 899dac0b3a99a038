//! A training that several may want: done once, in a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;

use super::once;
use crate::comm::Comm;
use crate::durable;
use crate::ending::Ending;

/// Has `train` train in `folder` unless that was done, which the file `trained` there says.
///
/// # Collective
/// # Errors
/// Those of the training, which is not tried again if it failed since `since`.
pub fn train_once(
    comm: &Comm,
    folder: &Path,
    since: u64,
    stop: &Arc<AtomicBool>,
    train: impl FnOnce() -> Result<Ending>,
) -> Result<Ending> {
    let done = folder.join("trained");
    once(comm, &folder.join("attempts"), &done, since, stop, || {
        let ending = train()?;
        if ending != Ending::Stopped {
            comm.on_root(|| durable::write(&done, ""))?;
        }
        Ok(ending)
    })
}
