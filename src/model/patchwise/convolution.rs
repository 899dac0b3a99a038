//! One layer's convolution and its transpose, computed between blocks of energy channels where that is faster.
//!
//! A vector register holds 16 values, and layers with fewer channels leave part of it empty. With the channels last in
//! memory, neighbours along energy can be taken for channels at no cost: from blocks of `stride * merged` inputs to blocks of
//! `merged` outputs, the layer is a convolution of stride 1 along energy that has enough channels. Its kernel holds the
//! layer's own taps, and zeros where an input has no part in an output. The sums are those of the plain layer.

use tch::Tensor;

use super::spec::Patchwise;

/// The least channels that a convolution should have, on both sides.
const WIDTH: usize = 16;

/// Layer `i` of the encoder, and its mirror image in the decoder.
///
/// Tensors are `[batch, y, x, energy, channels]`, weights `[out, y, x, energy, in]` in both directions, as they lie in
/// the flat parameters.
pub struct Convolution {
    /// `[y, x, blocks]`, like `pad`.
    stride: [i64; 3],
    pad: [i64; 3],
    output_padding: [i64; 3],
    inner: Side,
    outer: Side,
    /// For each output of a block, the zeros that go before a weight's taps.
    fronts: Vec<i64>,
    /// Blocks of inputs on which a block of outputs depends.
    reach: i64,
}

/// The energy axis on one side of a layer: the outer side is the encoder's input, the inner its output.
struct Side {
    /// Length of the axis.
    energy: i64,
    /// Energy channels in a block.
    block: i64,
    /// The number of blocks; the last may reach beyond the axis.
    count: i64,
}

impl Convolution {
    pub fn new(spec: &Patchwise, i: usize) -> Convolution {
        let (sizes, layer) = (spec.sizes(), &spec.encoder[i]);
        let ([channels, _, _, energy], [_, _, _, inner_energy]) = (sizes[i], sizes[i + 1]);
        let [kernel, stride, pad] = [layer.kernel[2], layer.stride[2], layer.pad[2]];
        let side = |energy: usize, block: usize, count: usize| Side {
            energy: energy as i64,
            block: block as i64,
            count: count as i64,
        };
        let plain = Convolution {
            stride: layer.stride.map(|n| n as i64),
            pad: layer.pad.map(|n| n as i64),
            output_padding: spec.output_padding(i),
            outer: side(energy, 1, energy),
            inner: side(inner_energy, 1, inner_energy),
            fronts: vec![0],
            reach: kernel as i64,
        };
        if channels.min(layer.out) >= WIDTH {
            return plain;
        }
        let merged = WIDTH.div_ceil(layer.out).max(WIDTH.div_ceil(stride * channels));
        let block = stride * merged;
        // How many blocks on either side of its own an output depends on.
        let sides = pad.div_ceil(block).max((block - stride + kernel - 1 - pad) / block);
        let count = energy.div_ceil(block).max(inner_energy.div_ceil(merged));
        let along_energy = |mut sizes: [i64; 3], n: usize| {
            sizes[2] = n as i64;
            sizes
        };
        Convolution {
            stride: along_energy(plain.stride, 1),
            pad: along_energy(plain.pad, sides),
            output_padding: along_energy(plain.output_padding, 0),
            outer: side(energy, block, count),
            inner: side(inner_energy, merged, count),
            fronts: (0..merged).map(|output| (sides * block + output * stride - pad) as i64).collect(),
            reach: 2 * sides as i64 + 1,
        }
    }

    /// The encoder's direction, with ReLU.
    pub fn encode(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let y = self
            .outer
            .cut(x)
            .conv3d(&self.weight(weight), Some(self.inner.bias(bias)), self.stride, self.pad, [1i64, 1, 1], 1)
            .relu_();
        self.inner.join(&y)
    }

    /// The decoder's direction, with ReLU if `relu`.
    pub fn decode(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, relu: bool) -> Tensor {
        let mut y = self.inner.cut(x).conv_transpose3d(
            &self.weight(weight),
            Some(self.outer.bias(bias)),
            self.stride,
            self.pad,
            self.output_padding,
            1,
            [1i64, 1, 1],
        );
        if relu {
            y = y.relu_();
        }
        self.outer.join(&y)
    }

    /// The weight of the convolution between blocks, `[out, in, y, x, blocks]`.
    fn weight(&self, weight: &Tensor) -> Tensor {
        let (out, y, x, taps, channels) = weight.size5().expect("a convolution's weight");
        let length = self.reach * self.outer.block;
        if length == taps {
            return weight.permute([0, 4, 1, 2, 3]);
        }
        let shifted: Vec<Tensor> =
            self.fronts.iter().map(|&front| weight.constant_pad_nd([0, 0, front, length - front - taps])).collect();
        let (out, channels) = (out * self.inner.block, channels * self.outer.block);
        Tensor::cat(&shifted, 0).view([out, y, x, self.reach, channels]).permute([0, 4, 1, 2, 3])
    }
}

impl Side {
    /// The bias of each channel of a block.
    fn bias(&self, bias: &Tensor) -> Tensor {
        match self.block {
            1 => bias.shallow_clone(),
            block => bias.repeat([block]),
        }
    }

    /// `x` as blocks, `[batch, channels of a block, y, x, blocks]`, channels last in memory and the last block filled with
    /// zeros.
    fn cut(&self, x: &Tensor) -> Tensor {
        let (batch, rows, columns, energy, channels) = x.size5().expect("a batch");
        let missing = self.block * self.count - energy;
        let whole = if missing > 0 { x.constant_pad_nd([0, 0, 0, missing]) } else { x.shallow_clone() };
        whole.reshape([batch, rows, columns, self.count, self.block * channels]).permute([0, 4, 1, 2, 3])
    }

    /// The reverse: `[batch, y, x, energy, channels]` from blocks.
    fn join(&self, y: &Tensor) -> Tensor {
        let (batch, channels, rows, columns, count) = y.size5().expect("a batch");
        let (energy, channels) = (count * self.block, channels / self.block);
        y.permute([0, 2, 3, 4, 1]).reshape([batch, rows, columns, energy, channels]).narrow(3, 0, self.energy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Layer;
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;
    use tch::Kind;

    fn spec(energy: usize, channels: [usize; 2], along: [usize; 3]) -> Patchwise {
        let [kernel, stride, pad] = along;
        let layer =
            |out, kernel, stride, pad| Layer { out, kernel: [3, 1, kernel], stride: [2, 1, stride], pad: [1, 0, pad] };
        Patchwise {
            patch: [5, 4],
            energy,
            latent: 2,
            hidden: 4,
            // The second layer is the one under test: it has `channels`.
            encoder: vec![layer(channels[0], 1, 1, 0), layer(channels[1], kernel, stride, pad)],
        }
    }

    #[test]
    fn blocks_change_no_value_and_no_gradient() {
        // Not from libtorch's generator, from which other tests draw at the same time.
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (channels, along) in [
            ([1, 8], [7, 4, 3]),
            ([8, 16], [5, 2, 2]),
            ([1, 32], [7, 2, 3]),
            ([4, 3], [3, 1, 0]),
            ([16, 8], [9, 3, 1]),
            ([16, 32], [3, 2, 1]),
        ] {
            for energy in [24, 32, 33, 37, 480] {
                compare(&spec(energy, channels, along), &mut rng);
            }
        }
    }

    /// A layer as a function of input, weight and bias.
    type Layered<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

    /// Both directions of the second layer against libtorch's own convolutions.
    fn compare(spec: &Patchwise, rng: &mut ChaCha8Rng) {
        let mut random = |sizes: &[i64]| {
            let count = sizes.iter().product::<i64>() as usize;
            let values: Vec<f32> = rng.sample_iter(StandardNormal).take(count).collect();
            Tensor::from_slice(&values).view(sizes)
        };
        let (sizes, layer) = (spec.sizes(), &spec.encoder[1]);
        let [outer, inner] = [1, 2].map(|i| {
            let [channels, y, x, energy] = sizes[i].map(|n| n as i64);
            [2, y, x, energy, channels]
        });
        let [ky, kx, ke] = layer.kernel.map(|n| n as i64);
        let weight = random(&[inner[4], ky, kx, ke, outer[4]]);
        let convolution = Convolution::new(spec, 1);
        let (stride, pad) = (layer.stride.map(|n| n as i64), layer.pad.map(|n| n as i64));
        let last = |x: &Tensor| x.permute([0, 4, 1, 2, 3]).contiguous();
        let back = |x: &Tensor| x.permute([0, 2, 3, 4, 1]);
        let one = [1i64; 3];

        let leaves = [random(&outer), weight.shallow_clone(), random(&[inner[4]])];
        let plain = |t: &[Tensor]| {
            let y = last(&t[0]).conv3d(&last(&t[1]), Some(&t[2]), stride, pad, one, 1);
            back(&y.relu())
        };
        let blocks = |t: &[Tensor]| convolution.encode(&t[0], &t[1], &t[2]);
        check([&blocks, &plain], &leaves, &format!("encoder {layer:?}"));

        let leaves = [random(&inner), weight, random(&[outer[4]])];
        let more = spec.output_padding(1);
        let plain = |t: &[Tensor]| {
            let (x, w) = (last(&t[0]), last(&t[1]));
            back(&x.conv_transpose3d(&w, Some(&t[2]), stride, pad, more, 1, one))
        };
        let blocks = |t: &[Tensor]| convolution.decode(&t[0], &t[1], &t[2], false);
        check([&blocks, &plain], &leaves, &format!("decoder {layer:?}"));
    }

    /// The sums of both layers are the same. In f32 they are rounded in another order, but no worse than libtorch's.
    fn check(layers: [Layered; 2], leaves: &[Tensor], what: &str) {
        let [found, exact] = traced(layers, leaves, Kind::Double);
        let [rounded, plain] = traced(layers, leaves, Kind::Float);
        for (i, exact) in exact.iter().enumerate() {
            let off = |tensors: &[Tensor]| {
                assert_eq!(tensors[i].size(), exact.size(), "{what}");
                (&tensors[i] - exact).abs().max().double_value(&[])
            };
            let scale = exact.abs().max().double_value(&[]).max(1.0);
            let error = off(&found);
            assert!(error < 1e-13 * scale, "{what}: {error} of {scale}");
            let (error, own) = (off(&rounded), off(&plain));
            let allowed = 4.0 * own + 1e-6 * scale;
            assert!(error < allowed, "{what}, f32: {error} of {scale}, libtorch's {own}");
        }
    }

    /// Gradients (input, weight, bias) and output of each of two layers. Both get the sine of the second's output as gradient:
    /// it is small where rounding decides ReLU, and does not contain the rounding of the first.
    fn traced(layers: [Layered; 2], leaves: &[Tensor], kind: Kind) -> [Vec<Tensor>; 2] {
        let leaves: Vec<Tensor> = leaves.iter().map(|leaf| leaf.to_kind(kind).copy().set_requires_grad(true)).collect();
        let gradient = layers[1](&leaves).detach().sin();
        layers.map(|layer| {
            let y = layer(&leaves);
            let surrogate = (&y * &gradient).sum(y.kind());
            let mut found = Tensor::run_backward(&[surrogate], &leaves, false, false);
            found.push(y.detach());
            found
        })
    }
}
