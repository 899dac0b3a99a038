//! What every page is wrapped in: its head with style and policy, its script.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest, Sha256};

use super::figure;
use super::text::escape;

/// What says what lies below the pointer.
const SCRIPT: &str = include_str!("readout.js");

/// A whole document of `body` (HTML). It loads nothing: its policy forbids all but its own pictures and this one script.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
         style-src 'unsafe-inline'; script-src 'sha256-{}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{1}</title>\n<style>\n{2}</style>\n</head>\n<body>\n{3}<main>\n<h1>{1}</h1>\n{body}</main>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        BASE64_STANDARD.encode(Sha256::digest(SCRIPT)),
        escape(title),
        include_str!("page.css"),
        figure::gradients(),
    )
}

/// Fails if `page` holds an address, a script but its own, or an attribute that loads or leads anywhere but into it.
#[cfg(test)]
pub fn assert_self_contained(page: &str) {
    let script = format!("<script>{SCRIPT}</script>");
    assert_eq!(page.matches(&script).count(), 1);
    let page = page.replace(&script, "");
    for forbidden in ["http:", "https:", "//www", "<script", "<link", "@import", "<iframe", "<img", " src=", "file:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for (place, _) in page.match_indices("href=\"") {
        let target = &page[place + 6..];
        assert!(target.starts_with('#') || target.starts_with("data:image/png;base64,"));
    }
    for (place, _) in page.match_indices("url(") {
        assert!(page[place + 4..].starts_with('#'));
    }
}
