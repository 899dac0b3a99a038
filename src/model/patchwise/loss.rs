//! The forward pass and the loss: how badly the decoder's spectra explain the electrons that were counted.

use tch::{Kind, Tensor};

use super::super::loss::DeviceLoss;
use super::network::Network;

/// What a network makes of a batch, with the autograd graph back to its parameters.
pub struct Output {
    /// `[batch, latent]`.
    mean: Tensor,
    /// `[batch, latent]`.
    log_variance: Tensor,
    /// `[batch, y, x, energy]`.
    logits: Tensor,
}

impl Network {
    /// Encodes and decodes whitened spectra `input` `[batch, 1, y, x, energy]`.
    ///
    /// `noise` `[batch, latent]` is the unit normal of the reparameterisation; without it the latent mean is decoded.
    /// # Source
    /// Kingma & Welling 2014, sec. 2.4.
    pub fn forward(&self, input: &Tensor, noise: Option<&Tensor>) -> Output {
        let (mean, log_variance) = self.encode(input);
        let latent = match noise {
            Some(noise) => &mean + (&log_variance * 0.5).exp() * noise,
            None => mean.shallow_clone(),
        };
        Output { logits: self.decode(&latent), mean, log_variance }
    }
}

impl Output {
    /// The loss against `counts` `[batch, y, x, energy]` (electrons, 0 in ignored pixels), and a scalar whose gradient is
    /// `scale` times the loss's. `kl_weight` is one f64.
    ///
    /// # Source
    /// Kingma & Welling 2014, App. B, with the multinomial likelihood of the counts: sum over energy of
    /// u (log(u / U) - log softmax(logits)).
    pub fn loss(&self, counts: &Tensor, kl_weight: &Tensor, scale: f64) -> (DeviceLoss, Tensor) {
        let size = self.logits.size();
        let pixels = (size[1] * size[2]) as f64;
        // The gradient with respect to the logits is U softmax - u in closed form, so only the layers need autograd.
        let (reconstruction, gradient) = tch::no_grad(|| {
            let log_share = self.logits.detach().log_softmax(-1, Kind::Float);
            let total = counts.sum_dim_intlist(-1, true, Kind::Float);
            let measured = (counts / total.clamp_min(1e-12)).clamp_min(1e-30).log();
            let divergence = (counts * (measured - &log_share)).sum(Kind::Double);
            let gradient = (log_share.exp() * &total - counts) * (scale / pixels);
            (divergence, gradient)
        });
        let (mean, log_variance) = (&self.mean, &self.log_variance);
        let kl = (log_variance.exp() + mean.square() - 1.0 - log_variance).sum(Kind::Float) * 0.5;
        let surrogate = (&self.logits * gradient).sum(Kind::Float) + &kl * (kl_weight * scale / pixels);
        let kl = kl.detach().to_kind(Kind::Double);
        (DeviceLoss::new(reconstruction / pixels, kl / pixels), surrogate)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Parameters, Spec};
    use super::super::Patchwise;
    use super::*;
    use tch::Device;

    fn small() -> (Patchwise, Parameters) {
        let spec = Patchwise::new(([4, 4], 33), 16, 128, [8, 16, 32, 64], 4);
        let parameters = Parameters::initial(&Spec::Patchwise(spec.clone()), &[1.0 / 33.0; 33], 1);
        (spec, parameters)
    }

    #[test]
    fn the_gradient_is_that_of_the_plain_loss() {
        let (spec, parameters) = small();
        let network = Network::new(&spec, &parameters.tensor(), Device::Cpu, Kind::Float);
        tch::manual_seed(3);
        let counts = Tensor::rand([2, 4, 4, 33], (Kind::Float, Device::Cpu)) * 20.0;
        let input = (&counts - 10.0).unsqueeze(1) / 3.0;
        let noise = Tensor::randn([2, 16], (Kind::Float, Device::Cpu));
        let (loss, surrogate) = network.forward(&input, Some(&noise)).loss(&counts, &Tensor::from(0.7), 1.0);
        let loss = loss.read();
        let fast = Parameters::zeros(parameters.values().len());
        network.gradient(&surrogate, &fast.tensor());

        let (mean, log_variance) = network.encode(&input);
        let logits = network.decode(&(&mean + (&log_variance * 0.5).exp() * noise));
        let share = &counts / counts.sum_dim_intlist(-1, true, Kind::Float);
        let divergence = (&counts * (share.log() - logits.log_softmax(-1, Kind::Float))).sum(Kind::Float);
        let kl = (log_variance.exp() + mean.square() - 1.0 - &log_variance).sum(Kind::Float) * 0.5;
        let plain = (divergence + kl * 0.7) / 16.0;
        let reference = Parameters::zeros(parameters.values().len());
        network.gradient(&plain, &reference.tensor());

        assert!((loss.total(0.7) - plain.double_value(&[])).abs() < 1e-4);
        let largest = reference.values().iter().fold(0f32, |a, b| a.max(b.abs()));
        for (a, b) in fast.values().iter().zip(reference.values()) {
            assert!((a - b).abs() < 1e-5 * largest.max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn an_untrained_network_decodes_to_the_mean_spectrum() {
        let (spec, _) = small();
        let mean: Vec<f64> = (1..=33).map(|i| i as f64 / 561.0).collect();
        let parameters = Parameters::initial(&Spec::Patchwise(spec.clone()), &mean, 5);
        let network = Network::new(&spec, &parameters.tensor(), Device::Cpu, Kind::Float);
        let share = network.decode(&Tensor::zeros([1, 16], (Kind::Float, Device::Cpu))).softmax(-1, Kind::Float);
        for (i, expected) in mean.iter().enumerate() {
            let found = share.double_value(&[0, 1, 2, i as i64]);
            assert!((found / expected - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn layers_in_bf16_predict_and_learn_as_those_in_f32_do() {
        let (spec, parameters) = small();
        tch::manual_seed(4);
        let counts = Tensor::rand([3, 4, 4, 33], (Kind::Float, Device::Cpu)) * 20.0;
        let input = (&counts - 10.0).unsqueeze(1) / 3.0;
        let noise = Tensor::randn([3, 16], (Kind::Float, Device::Cpu));
        let [(exact, of_exact), (short, of_short)] = [Kind::Float, Kind::BFloat16].map(|kind| {
            let network = Network::new(&spec, &parameters.tensor(), Device::Cpu, kind);
            let output = network.forward(&input, Some(&noise));
            let (loss, surrogate) = output.loss(&counts, &Tensor::from(0.5), 1.0);
            let gradient = Parameters::zeros(parameters.values().len());
            network.gradient(&surrogate, &gradient.tensor());
            (loss.read(), gradient)
        });
        // The logarithm of the mean spectrum, most of a logit, is never rounded.
        assert!((short.reconstruction / exact.reconstruction - 1.0).abs() < 1e-4);
        assert!((short.kl / exact.kl - 1.0).abs() < 0.05);
        let dot = |a: &Parameters, b: &Parameters| -> f64 {
            let pairs = a.values().iter().zip(b.values());
            pairs.map(|(a, b)| f64::from(a * b)).sum()
        };
        let lengths = dot(&of_exact, &of_exact) * dot(&of_short, &of_short);
        assert!(dot(&of_exact, &of_short) / lengths.sqrt() > 0.999);
    }
}
