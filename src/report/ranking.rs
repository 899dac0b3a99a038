//! The page of a survey: cubes from the most surprising down, for a person to work through.

use std::fmt::Write as _;

use anyhow::Result;
use ndarray::Array2;

use super::figure::{self, Overlay};
use super::frame;
use super::picture::Quantity;
use super::text::{counted, escape, number};

/// A cube in its place.
pub struct RankedCube {
    pub name: String,
    pub group: String,
    /// The file that it is from, and its results, relative to the page.
    pub input: String,
    pub output: String,
    pub shape: [usize; 3],
    /// Decades; below 0: nothing is flagged.
    pub surprise: f64,
    /// Mean image, score and region of each pixel `[y, x]`, where they are shown.
    pub maps: Option<(Array2<f32>, Array2<f32>, Array2<i32>)>,
    pub regions: Vec<RankedRegion>,
}

pub struct RankedRegion {
    /// Its centre, in pixels.
    pub y: f64,
    pub x: f64,
    pub area: usize,
    pub surprise: f64,
    pub estimated_shift_ev: Option<f64>,
}

/// Regions of a cube that the page lists.
const LISTED: usize = 5;

/// The whole document, self-contained; `cubes` have the most surprising first.
///
/// # Errors
/// Nothing that a caller could mend.
pub fn ranking_html(title: &str, cubes: &[RankedCube], set_aside: &[(String, String)]) -> Result<String> {
    let mut html = String::new();
    let flagged = cubes.iter().filter(|cube| !cube.regions.is_empty()).count();
    let _ = writeln!(
        html,
        "<p class=\"found\">{}, {flagged} of them flagged, {} set aside.</p>\n<p class=\"note\">Surprise counts decades: \
         at 3 it takes a thousand clean cubes for one region like this. A cube is held against the normal pixels of all \
         cubes of its group, so cubes of any size and kind compare. Up to 0 nothing is flagged.</p>",
        counted(cubes.len(), "cube"),
        set_aside.len()
    );
    html.push_str(
        "<table><thead><tr><th class=\"n\">rank</th><th>cube</th><th class=\"n\">surprise</th>\
         <th class=\"n\">regions</th><th class=\"n\">y &times; x &times; energy</th><th>group</th></tr></thead><tbody>\n",
    );
    for (i, cube) in cubes.iter().enumerate() {
        let name = escape(&cube.name);
        let link = match cube.maps {
            Some(_) => format!("<a href=\"#cube-{i}\">{name}</a>"),
            None => name,
        };
        let [rows, columns, channels] = cube.shape;
        let _ = writeln!(
            html,
            "<tr><td class=\"n\">{}</td><td>{link}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{rows} &times; {columns} &times; {channels}</td><td>{}</td></tr>",
            i + 1,
            number(cube.surprise),
            cube.regions.len(),
            escape(&cube.group)
        );
    }
    html.push_str("</tbody></table>\n");
    for (i, cube) in cubes.iter().enumerate() {
        section(&mut html, i, cube)?;
    }
    if !set_aside.is_empty() {
        html.push_str("<h2>Set aside</h2>\n<table><tbody>\n");
        for (path, reason) in set_aside {
            let _ = writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(path), escape(reason));
        }
        html.push_str("</tbody></table>\n");
    }
    Ok(frame::page(title, &html))
}

fn section(html: &mut String, i: usize, cube: &RankedCube) -> Result<()> {
    let Some((image, score, labels)) = &cube.maps else {
        return Ok(());
    };
    let _ = writeln!(
        html,
        "<section id=\"cube-{i}\">\n<h2>{}. {}</h2>\n<p class=\"note\">{} &rarr; {}</p>\n<div class=\"maps\">",
        i + 1,
        escape(&cube.name),
        escape(&cube.input),
        escape(&cube.output)
    );
    let overlay = Overlay::new(labels, None, &[], None);
    let maps = [(image, Quantity::Intensity, "Mean counts"), (score, Quantity::Score, "Score")];
    for (values, quantity, words) in maps {
        let label = format!("{words} of {}", cube.name);
        html.push_str(&figure::map(values, quantity, None, &overlay, &label, words)?);
    }
    html.push_str("</div>\n");
    if !cube.regions.is_empty() {
        html.push_str(
            "<table><thead><tr><th class=\"n\">y</th><th class=\"n\">x</th><th class=\"n\">pixels</th>\
             <th class=\"n\">surprise</th><th class=\"n\">shift, eV</th></tr></thead><tbody>\n",
        );
        for region in cube.regions.iter().take(LISTED) {
            let _ = writeln!(
                html,
                "<tr><td class=\"n\">{:.0}</td><td class=\"n\">{:.0}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td></tr>",
                region.y,
                region.x,
                region.area,
                number(region.surprise),
                region.estimated_shift_ev.map_or("&ndash;".into(), number)
            );
        }
        html.push_str("</tbody></table>\n");
    }
    html.push_str("</section>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_words_and_nothing_is_loaded() {
        let cube = RankedCube {
            name: "<script>alert(1)</script>".into(),
            group: "\"><img>".into(),
            input: "a&b".into(),
            output: "c".into(),
            shape: [2, 3, 4],
            surprise: f64::NEG_INFINITY,
            maps: Some((Array2::zeros((2, 3)), Array2::from_elem((2, 3), f32::NAN), Array2::zeros((2, 3)))),
            regions: vec![RankedRegion { y: 1.0, x: 0.0, area: 2, surprise: 3.25, estimated_shift_ev: None }],
        };
        let page = ranking_html("t", &[cube], &[("<p>".into(), "no".into())]).unwrap();
        frame::assert_self_contained(&page);
        assert!(page.contains("3.25") && page.trim_end().ends_with("</html>"));
        ranking_html("empty", &[], &[]).unwrap();
    }
}
