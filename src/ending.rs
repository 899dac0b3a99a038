//! How a command ended, and its exit code.

/// How a command ended without failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Done, but some inputs were set aside.
    SomeSetAside,
    /// A signal asked to stop; what was done is kept. The job scripts requeue a job that ends like this.
    Stopped,
}

impl Ending {
    /// The exit code of the program. A failure exits with 1, bad configuration or usage with 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::SomeSetAside => 3,
            Ending::Stopped => 75,
        }
    }
}
