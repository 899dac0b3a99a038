//! The loss of the blind spot: how badly the hidden pixels are predicted.

use tch::{Kind, Tensor};

use super::super::batch::{Batch, Hiding};
use super::super::loss::{DeviceLoss, Weights};
use super::network::{Network, SHARPNESS, Seen, total};

/// Hidden pixels are left out whose loss is this many deviations above the median.
const TRIM: f64 = 3.0;
/// A deviation is this times the distance from the lower quartile to the median.
const NORMAL: f64 = 1.4826;
/// Losses are averaged over squares of this many pixels first, along each side.
const SQUARE: i64 = 5;

impl Network {
    /// The loss of a batch of crops at their hidden pixels, and a scalar whose gradient is `scale` times the loss's times the
    /// number of crops.
    ///
    /// # Source
    /// Kingma & Welling 2014, App. B, with the multinomial likelihood of the counts: sum over energy of
    /// u (log(u / U) - log share). Least trimmed: Rousseeuw, J. Am. Stat. Assoc. 79 (1984) 871.
    pub fn loss(&self, batch: &Batch, hiding: &Hiding, weights: &Weights, scale: f64) -> (DeviceLoss, Tensor) {
        let (counts, fold) = (&batch.counts, hiding.fold);
        let [crops, y, x, energy] = <[i64; 4]>::try_from(counts.size()).expect("a batch of crops");
        let lit = total(counts).gt(0.0).to_kind(Kind::Float).view([-1]);
        let visible = lit.index_fill(0, &hiding.pixels, 0.0).view([crops, y, x, 1]);
        let Seen { mean, log_variance, amounts } =
            self.see(fold, &self.features(fold, counts), &visible, batch.noise.as_ref());
        let amounts = amounts.reshape([crops * y * x, -1]).index_select(0, &hiding.pixels);
        let counts = counts.view([-1, energy]).index_select(0, &hiding.pixels);
        let targets = &hiding.targets * lit.index_select(0, &hiding.pixels);
        let [basis, log_mean] = self.output(fold);
        let bent = amounts.matmul(&basis.tr());

        let per_crop = scale * crops as f64;
        // The gradient with respect to what is bent and to the mean in closed form, so only the layers need autograd.
        let (reconstruction, of_bent, of_log_mean) = tch::no_grad(|| {
            let sharp = (bent.detach() + 1.0) * SHARPNESS;
            let slope = sharp.sigmoid();
            let bent = (sharp.softplus() / SHARPNESS).clamp_min(1e-9);
            let share = &bent * log_mean.exp();
            let electrons = total(&counts);
            let rate = &electrons / total(&share);
            let expected = (&share * rate).clamp_min(1e-20);
            let divergence =
                counts.xlogy(&(&counts / &expected)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
            let kept = self.kept(&divergence, &targets, &hiding.pixels, [crops, y, x], &weights.trim);
            let share_of_each = &kept / kept.sum(Kind::Float).clamp_min(1.0);
            let reconstruction = (&divergence * &share_of_each).sum(Kind::Double) * crops as f64;
            let excess = (expected - &counts) * (share_of_each * per_crop).unsqueeze(-1);
            let of_log_mean = excess.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
            (reconstruction, excess * slope / bent, of_log_mean)
        });
        let kl = (log_variance.exp() + mean.square() - 1.0 - log_variance).sum(Kind::Float) * (0.5 / (y * x) as f64);
        let surrogate =
            (bent * of_bent).sum(Kind::Float) + (log_mean * of_log_mean).sum(Kind::Float) + &kl * (&weights.kl * scale);
        (DeviceLoss::new(reconstruction, kl.detach().to_kind(Kind::Double)), surrogate)
    }

    /// The `targets` `[n]` but those that are predicted much worse than most: anomalies are not to be learned.
    fn kept(&self, divergence: &Tensor, targets: &Tensor, pixels: &Tensor, shape: [i64; 3], trim: &Tensor) -> Tensor {
        let [crops, y, x] = shape;
        let mean_around = |values: &Tensor| {
            let map = Tensor::zeros([crops * y * x], (Kind::Float, values.device()));
            let map = map.index_copy(0, pixels, values).view([crops, 1, y, x]);
            let square = [SQUARE.min(y), SQUARE];
            let around = map.avg_pool2d(square, [1, 1], square.map(|n| n / 2), false, true, None::<i64>);
            around.view([-1]).index_select(0, pixels)
        };
        let around = mean_around(&(divergence * targets)) / mean_around(targets).clamp_min(1e-6);
        let around = around.masked_fill(&targets.le(0.0), f64::NAN);
        let middle = median(&around);
        // Of the lower half: where a crop holds a border, the upper one is as wide as an anomaly is high.
        let lower = around.masked_fill(&around.gt_tensor(&middle), f64::NAN);
        let deviation = &middle - median(&lower);
        let far = around.gt_tensor(&(&middle + deviation * (TRIM * NORMAL))).to_kind(Kind::Float);
        targets * (1.0 - far * trim.to_kind(Kind::Float))
    }
}

/// The lower median of the values `[n]` that are not NaN, `[1]`; it never waits for a device.
fn median(values: &Tensor) -> Tensor {
    // NaN is sorted to the end.
    let (sorted, _) = values.sort(0, false);
    let count = values.isnan().logical_not().sum(Kind::Int64);
    let middle = (count - 1).clamp_min(0).divide_scalar_mode(2, "floor");
    sorted.index_select(0, &middle.to_kind(Kind::Int64).view([1]))
}
