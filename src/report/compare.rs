//! A figure that compares lines, as an SVG file of its own.

use anyhow::Result;
use maud::html;

use super::plot::{BLUE, GREEN, INK, Panel, Rgb, VERMILLION, svg};
use super::scale::Scale;
use super::text::printable;
use crate::spectrum::{Middle, median};

/// Okabe and Ito's colours, the strong ones first.
const COLORS: [Rgb; 7] = [BLUE, VERMILLION, GREEN, [0xcc, 0x79, 0xa7], [0xe6, 0x9f, 0x00], [0x56, 0xb4, 0xe9], INK];
const SIZE: [u32; 2] = [640, 360];
const LEGEND_LINE: u32 = 18;

/// A named line through the medians of its points, which are drawn too.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// An SVG document of `lines` over `x`, with a legend below.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn comparison(title: &str, x: &str, y: &str, lines: &[Line]) -> Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Scale::linear(x, points().map(|point| point.0), 0.04);
    // Metrics such as F1 are compared from 0.
    let y = Scale::linear(y, points().map(|point| point.1).chain([0.0]), 0.04);
    let color = |i: usize| COLORS[i % COLORS.len()];
    let chart = svg(SIZE, title, &x, |area| {
        let mut panel = Panel::new(area, &x, &y)?;
        for (i, line) in lines.iter().enumerate() {
            panel.line(&medians(&line.points), color(i))?;
            panel.dots(&line.points, color(i))?;
        }
        Ok(())
    })?;
    let [width, height] = SIZE;
    let document = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height + 30 + LEGEND_LINE * lines.len() as u32)
            font-family="sans-serif" font-size="12"
        {
            rect width="100%" height="100%" fill="white" {}
            text x="62" y="18" font-weight="bold" { (title) }
            g transform="translate(0,20)" { (chart) }
            @for (i, line) in lines.iter().enumerate() {
                @let [r, g, b] = color(i);
                @let top = height + 26 + LEGEND_LINE * i as u32;
                rect x="62" y=(top) width="14" height="10" fill={ "rgb(" (r) "," (g) "," (b) ")" } {}
                text x="82" y=(top + 10) { (line.name) }
            }
        }
    };
    Ok(printable(&document.into_string()) + "\n")
}

/// The median of the points at each x, in order.
fn medians(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups = sorted.chunk_by(|a, b| a.0 == b.0);
    groups.map(|group| (group[0].0, median(group.iter().map(|point| point.1), Middle::Mean))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_one_document_of_all_lines() {
        let line = |name: &str, shift: f64| Line {
            name: name.into(),
            points: vec![(5.4, 0.9 + shift), (2.4, 0.5), (2.4, 0.7)],
        };
        let lines = [line("cvae combined", 0.0), line("<pca3>", 0.05)];
        let text = comparison("f1 by amount", "amount", "f1", &lines).unwrap();
        assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
        assert!(text.contains("&lt;pca3&gt;") && !text.contains("<pca3>"));
        assert!(text.matches("<circle").count() >= 6);
        let points = [(5.4, 0.9), (2.4, 1.0), (2.4, 0.5), (2.4, 0.6), (1.0, 0.2), (1.0, 0.4)];
        let found = medians(&points);
        assert_eq!(found.len(), 3);
        assert!((found[0].1 - 0.3).abs() < 1e-12);
        assert_eq!(found[1..], [(2.4, 0.6), (5.4, 0.9)]);
        comparison("nothing", "x", "y", &[]).unwrap();
    }
}
