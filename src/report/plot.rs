//! Panels, lines and shades as inline SVG, drawn by `plotters`.

use std::ops::Range;

use anyhow::Result;
use maud::{Markup, PreEscaped, html};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::prelude::{
    Cartesian2d, Color, DrawingArea, IntoDrawingArea, LineSeries, PathElement, Polygon, RGBAColor, Rectangle,
    SVGBackend, ShapeStyle, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, IntoFont, TextStyle};

use super::scale::{Coordinate, Scale};

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Coordinate, Coordinate>>;

/// Charts are drawn this much larger than they are shown, since `plotters` rounds to whole units.
const OVERSAMPLING: u32 = 4;
/// Room for the numbers of the y axis, and for the end of the last number of the x axis, CSS pixels.
const LEFT: u32 = 62;
const RIGHT: u32 = 16;
/// Most points of a line: more than a chart has columns.
const MOST_POINTS: usize = 1200;

pub type Rgb = [u8; 3];
// Okabe and Ito's colours, told apart by the colour-blind.
pub const BLUE: Rgb = [0x00, 0x72, 0xb2];
pub const VERMILLION: Rgb = [0xd5, 0x5e, 0x00];
pub const GREEN: Rgb = [0x00, 0x9e, 0x73];
pub const INK: Rgb = [0x22, 0x2b, 0x36];
const RULE: Rgb = [0xe3, 0xe7, 0xec];
const SHADE: Rgb = [0xe6, 0x9f, 0x00];

/// An SVG element without links or scripts, `width` by `height` CSS pixels, drawn by `draw`.
///
/// `label` says what it shows; all of its panels share the axis `x`, which is linear.
pub fn svg(
    [width, height]: [u32; 2],
    label: &str,
    x: &Scale,
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<Markup> {
    let mut drawn = String::new();
    let size = (width * OVERSAMPLING, height * OVERSAMPLING);
    {
        let area = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    // The backend's own opening tag has a fixed size and a namespace, which HTML does not want.
    let body = drawn.split_once('>').and_then(|(_, body)| body.rsplit_once("</svg>"));
    let body = body.map_or("", |(body, _)| body);
    let share = |pixels: u32| f64::from(pixels) / f64::from(width);
    let axis = format!("{:.5} {:.5} {} {}", share(LEFT), share(width - RIGHT), x.range.start, x.range.end);
    Ok(html! {
        svg.chart role="img" aria-label=(label) width=(width) height=(height) viewBox={ "0 0 " (size.0) " " (size.1) }
            data-axis=(axis) data-words=(x.label) { (PreEscaped(body)) }
    })
}

/// Axes with what is drawn between them.
pub struct Panel<'a, 'b, 's> {
    chart: Chart<'a, 'b>,
    x: &'s Scale<'s>,
    y: &'s Scale<'s>,
}

impl<'a, 'b, 's> Panel<'a, 'b, 's> {
    /// Draws the axes `x` and `y` with their words into `area`.
    pub fn new(area: &'a Area<'b>, x: &'s Scale<'s>, y: &'s Scale<'s>) -> Result<Self> {
        let (_, height) = area.dim_in_pixel();
        let y_count = (height / (36 * OVERSAMPLING)).max(2) as usize;
        let mut chart = ChartBuilder::on(area)
            .margin_top(8 * OVERSAMPLING)
            .margin_right(RIGHT * OVERSAMPLING)
            .x_label_area_size(38 * OVERSAMPLING)
            .y_label_area_size(LEFT * OVERSAMPLING)
            .build_cartesian_2d(x.coordinate(8), y.coordinate(y_count))?;
        let x_ticks = x.ticks(8);
        let y_ticks = y.ticks(y_count);
        chart
            .configure_mesh()
            .bold_line_style(style(RULE, 1))
            .light_line_style(RGBAColor(0, 0, 0, 0.0))
            .axis_style(style([0x8a, 0x94, 0xa0], 1))
            .label_style(font(11))
            .axis_desc_style(font(12))
            .set_all_tick_mark_size(3 * OVERSAMPLING)
            .x_label_formatter(&|&place| x.text(place, &x_ticks))
            .y_label_formatter(&|&place| y.text(place, &y_ticks))
            .x_desc(x.label)
            .y_desc(y.label)
            .draw()?;
        Ok(Panel { chart, x, y })
    }

    /// A line through `points`, broken where one has no place.
    pub fn line(&mut self, points: &[(f64, f64)], color: Rgb) -> Result<()> {
        let placed: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (self.x.place(x), self.y.place(y))).collect();
        for run in placed.split(|(x, y)| !x.is_finite() || !y.is_finite()) {
            self.chart.draw_series(LineSeries::new(thin(run, MOST_POINTS), style(color, 2)))?;
        }
        Ok(())
    }

    /// A dot at each of `points`.
    pub fn dots(&mut self, points: &[(f64, f64)], color: Rgb) -> Result<()> {
        let placed = points
            .iter()
            .map(|&(x, y)| (self.x.place(x), self.y.place(y)))
            .filter(|(x, y)| x.is_finite() && y.is_finite());
        self.chart.draw_series(
            placed.map(|at| plotters::prelude::Circle::new(at, 3 * OVERSAMPLING, solid(color).filled())),
        )?;
        Ok(())
    }

    /// Bars of `counts` between consecutive `edges` (one more than counts), as one filled outline.
    pub fn bars(&mut self, edges: &[f64], counts: &[f64], color: Rgb) -> Result<()> {
        let floor = self.y.range.start;
        let mut outline = Vec::with_capacity(2 * counts.len() + 2);
        outline.extend(edges.first().map(|&x| (x, floor)));
        for (edge, &count) in edges.windows(2).zip(counts) {
            let place = self.y.place(count);
            let top = if place.is_finite() { place } else { floor };
            outline.extend([(edge[0], top), (edge[1], top)]);
        }
        outline.extend(edges.last().map(|&x| (x, floor)));
        let fill = RGBAColor(color[0], color[1], color[2], 0.35);
        self.chart.draw_series([Polygon::new(outline.clone(), fill.filled())])?;
        self.chart.draw_series([PathElement::new(outline, style(color, 1))])?;
        Ok(())
    }

    /// A dashed vertical line at `x`, labelled at its upper end.
    pub fn marker(&mut self, x: f64, words: &str) -> Result<()> {
        let Range { start, end } = self.y.range;
        let place = self.x.place(x);
        if !place.is_finite() {
            return Ok(());
        }
        const DASHES: usize = 24;
        let step = (end - start) / DASHES as f64;
        self.chart.draw_series((0..DASHES).map(|dash| {
            let from = start + dash as f64 * step;
            PathElement::new([(place, from), (place, from + 0.6 * step)], style(INK, 2))
        }))?;
        // Left of the line in the right half, so that the words stay inside.
        let right_half = place > 0.5 * (self.x.range.start + self.x.range.end);
        let (side, words) = if right_half {
            (HPos::Right, format!("{words}\u{a0}\u{a0}"))
        } else {
            (HPos::Left, format!("\u{a0}\u{a0}{words}"))
        };
        self.words(place, end, side, &words)
    }

    /// A dashed line at each onset of `edges` (name, eV) in view, with its name along it; names that would overlap are left
    /// out.
    pub fn onsets(&mut self, edges: &[(String, f64)]) -> Result<()> {
        let (x, y) = (self.x.range.clone(), self.y.range.clone());
        let (columns, _) = self.chart.plotting_area().dim_in_pixel();
        let apart = (x.end - x.start) * (13 * OVERSAMPLING) as f64 / columns.max(1) as f64;
        let mut sorted: Vec<&(String, f64)> = edges.iter().collect();
        sorted.retain(|(_, onset)| x.contains(onset));
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut free_from = f64::NEG_INFINITY;
        for (name, onset) in sorted {
            const DASHES: usize = 30;
            let step = (y.end - y.start) / DASHES as f64;
            self.chart.draw_series((0..DASHES).map(|dash| {
                let from = y.start + dash as f64 * step;
                PathElement::new([(*onset, from), (*onset, from + 0.5 * step)], style(BLUE, 1))
            }))?;
            if *onset < free_from {
                continue;
            }
            free_from = onset + apart;
            let style = font(11).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Left, VPos::Top));
            let words = Text::new(shortened(name), (*onset, y.start + 0.3 * step), style);
            self.chart.draw_series([words])?;
        }
        Ok(())
    }

    /// A horizontal rule at `y`.
    pub fn rule(&mut self, y: f64) -> Result<()> {
        let x = self.x.range.clone();
        self.chart.draw_series([PathElement::new([(x.start, y), (x.end, y)], style(INK, 1))])?;
        Ok(())
    }

    /// Shades each of `windows` (name, `[low, high]` on x) where it is in view.
    pub fn shades(&mut self, windows: &[(String, [f64; 2])]) -> Result<()> {
        let (x, y) = (self.x.range.clone(), self.y.range.clone());
        let shade = RGBAColor(SHADE[0], SHADE[1], SHADE[2], 0.18);
        for (low, high) in windows.iter().filter_map(|(_, [low, high])| visible(*low, *high, &x)) {
            let corners = [(low, y.start), (high, y.end)];
            self.chart.draw_series([Rectangle::new(corners, shade.filled())])?;
            // Windows may touch: their borders tell them apart.
            for border in [low, high] {
                let ends = [(border, y.start), (border, y.end)];
                self.chart.draw_series([PathElement::new(ends, shade.stroke_width(OVERSAMPLING))])?;
            }
        }
        Ok(())
    }

    /// The names of `windows` at the upper edge, each on the first of three lines where it overlaps no other.
    pub fn shade_names(&mut self, windows: &[(String, [f64; 2])]) -> Result<()> {
        let (x, y) = (self.x.range.clone(), self.y.range.clone());
        let (columns, rows) = self.chart.plotting_area().dim_in_pixel();
        let line_height = (y.end - y.start) * (14 * OVERSAMPLING) as f64 / rows.max(1) as f64;
        let letter = (x.end - x.start) * (7 * OVERSAMPLING) as f64 / columns.max(1) as f64;
        let mut taken = [f64::NEG_INFINITY; 3];
        let mut sorted: Vec<_> =
            windows.iter().filter_map(|(name, [low, high])| Some((name, visible(*low, *high, &x)?))).collect();
        sorted.sort_by(|a, b| a.1.0.total_cmp(&b.1.0));
        for (name, (low, high)) in sorted {
            let name = shortened(name);
            let half = 0.5 * (letter * name.chars().count() as f64).min(x.end - x.start);
            let center = (0.5 * (low + high)).max(x.start + half).min(x.end - half);
            let Some(line) = taken.iter().position(|&end| end <= center - half) else {
                continue;
            };
            taken[line] = center + half;
            self.words(center, y.end - line as f64 * line_height, HPos::Center, &name)?;
        }
        Ok(())
    }

    fn words(&mut self, x: f64, y: f64, side: HPos, words: &str) -> Result<()> {
        let style = font(11).pos(Pos::new(side, VPos::Top));
        self.chart.draw_series([Text::new(words.to_string(), (x, y), style)])?;
        Ok(())
    }
}

/// The part of `[low, high]` within `range`, if any.
fn visible(low: f64, high: f64, range: &Range<f64>) -> Option<(f64, f64)> {
    let (low, high) = (low.max(range.start), high.min(range.end));
    (low < high).then_some((low, high))
}

fn shortened(name: &str) -> String {
    const MOST: usize = 24;
    if name.chars().count() <= MOST { name.into() } else { name.chars().take(MOST - 3).chain("...".chars()).collect() }
}

/// At most about `most` of `points`: minimum and maximum of each run, so that no spike is lost.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let run = points.len().div_ceil(most / 2);
    let mut thinned = Vec::with_capacity(most);
    for chunk in points.chunks(run) {
        let order = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let least = chunk.iter().min_by(order);
        let greatest = chunk.iter().max_by(order);
        let mut both: Vec<(f64, f64)> = least.into_iter().chain(greatest).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        thinned.extend(both);
    }
    thinned
}

fn solid([r, g, b]: Rgb) -> RGBAColor {
    RGBAColor(r, g, b, 1.0)
}

/// A line of `color`, `width` half CSS pixels wide.
fn style(color: Rgb, width: u32) -> ShapeStyle {
    solid(color).stroke_width(width * OVERSAMPLING * 3 / 4)
}

/// Sans-serif of `size` CSS pixels; the factor is the backend's own.
fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", (size * OVERSAMPLING) as f64 * 1.24).into_font().color(&solid(INK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_spikes_and_order() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (i as f64, 0.0)).collect();
        points[7_777].1 = 5.0;
        let thinned = thin(&points, 1000);
        assert!(thinned.len() <= 1000);
        assert!(thinned.contains(&(7_777.0, 5.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}
