//! The trainable tensors of a network as they lie in the flat parameters.

/// A trainable tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub name: String,
    /// Sizes as stored: convolutions keep their input channels last.
    pub sizes: Vec<i64>,
    pub start: Start,
}

/// How a tensor's values are drawn at first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Uniform within 1 / sqrt(the inputs that one output sums over).
    FanIn(usize),
    /// Uniform within the bound of the weights before it; 0 after small ones.
    Bias,
    /// Nearly 0, so that an untrained network predicts the mean spectrum.
    Small,
    /// The logarithm of the mean spectrum.
    LogMean,
}

impl Shape {
    pub fn new(name: String, sizes: &[usize], start: Start) -> Shape {
        Shape { name, sizes: sizes.iter().map(|&n| n as i64).collect(), start }
    }

    /// The number of values.
    pub fn count(&self) -> usize {
        self.sizes.iter().product::<i64>() as usize
    }
}
