//! How a command ended, and the exit code that says so.

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Done, but some inputs were set aside.
    SomeSetAside,
    /// A signal asked for an end; what was done is kept. The job scripts requeue a job that ends so.
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
