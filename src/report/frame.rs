//! The frame of every page: head with style and content policy, title, script.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::figure;
use super::text::printable;

/// Shows the value below the pointer.
const SCRIPT: &str = include_str!("readout.js");

/// A whole document with `scripts` of its own. It loads nothing: its policy forbids all but its own pictures and scripts.
pub fn page(title: &str, body: &Markup, scripts: &[&str]) -> String {
    let scripts: Vec<&str> = [SCRIPT].into_iter().chain(scripts.iter().copied()).collect();
    let hash = |script: &&str| format!(" 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)));
    let hashes: String = scripts.iter().map(hash).collect();
    let policy = format!("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src{hashes}");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                (figure::gradients())
                main {
                    h1 { (title) }
                    (body)
                }
                @for script in &scripts { script { (PreEscaped(script)) } }
            }
        }
    };
    printable(&page.into_string())
}

/// Fails if `page` holds an address, a script but its own `scripts`, or an attribute that loads or leads anywhere but into it and
/// to the pages beside it.
#[cfg(test)]
pub fn assert_self_contained(page: &str, scripts: &[&str]) {
    let mut page = page.to_owned();
    for script in [SCRIPT].iter().chain(scripts) {
        let script = format!("<script>{script}</script>");
        assert_eq!(page.matches(&script).count(), 1);
        page = page.replace(&script, "");
    }
    for forbidden in ["http:", "https:", "//www", "<script", "<link", "@import", "<iframe", "<img", " src=", "file:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for (place, _) in page.match_indices("href=\"") {
        let target = &page[place + 6..];
        let page = target.split_once('"').map_or("", |(target, _)| target.split('#').next().unwrap_or_default());
        let is_beside = page.ends_with(".html") && !page.contains(['/', ':']);
        assert!(target.starts_with('#') || target.starts_with("data:image/png;base64,") || is_beside);
    }
    for (place, _) in page.match_indices("url(") {
        assert!(page[place + 4..].starts_with('#'));
    }
}
