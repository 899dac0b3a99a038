//! Parses the tree of tags that makes up a Gatan file: names, numbers and texts are read, arrays only located.
//!
//! Knows nothing of images. Files are not trusted: memory and depth are bounded whatever they claim, and an array that
//! would reach beyond the file is refused.
//!
//! # Source
//! The layout of the format as published by C. Boothroyd and G. Jefferis ("Digital Micrograph version 3 file
//! format"), with the 64-bit lengths of version 4.

use std::io::{BufReader, Read, Seek};

use anyhow::{Context, Result, bail, ensure};

use super::codes;
use crate::archive::number_type::NumberType;

/// Real files nest about ten deep and hold some thousand tags.
pub(super) const DEEPEST: usize = 64;
pub(super) const MOST_TAGS: usize = 1 << 20;

/// Most words that describe the encoding of a tag; real files have about twenty.
const MOST_WORDS: u64 = 1 << 10;

/// Bytes of the longest text that is kept: titles and units, not logs.
const LONGEST_TEXT: u64 = 1 << 13;

/// Most bytes of names and texts that are kept.
const MOST_KEPT: usize = 64 << 20;

/// One tag.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tag {
    /// Members in stored order; those of a list have empty names.
    Group(Vec<(String, Tag)>),
    Number(f64),
    /// A structure of numbers.
    Numbers(Vec<f64>),
    Text(String),
    Array(Array),
    /// Of an unknown encoding; skipped.
    Unknown,
}

/// An array that stays in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    /// None if the elements are structures, texts or arrays.
    pub element: Option<NumberType>,
    /// Bytes from the file's start; none if the values are not one run of bytes, which only HDF5 knows.
    pub offset: Option<u64>,
    /// Never beyond the end of the file.
    pub bytes: u64,
    /// Texts are arrays of 16-bit numbers too: the short ones are read as both.
    pub(super) text: Option<String>,
}

/// A whole file except the values of its arrays.
#[derive(Debug)]
pub(crate) struct Tree {
    /// 3, 4 or 5.
    pub version: u32,
    /// Whether numbers and images are little-endian.
    pub little: bool,
    pub root: Tag,
}

impl Tree {
    /// `dm3`, `dm4` or `dm5`.
    pub fn format(&self) -> &'static str {
        match self.version {
            3 => "dm3",
            4 => "dm4",
            _ => "dm5",
        }
    }
}

impl Tag {
    /// The tag at `path`, names joined by `:` as Gatan writes them.
    pub fn get(&self, path: &str) -> Option<&Tag> {
        path.split(':').try_fold(self, |tag, name| {
            let Tag::Group(members) = tag else {
                return None;
            };
            members.iter().find_map(|(known, tag)| (known == name).then_some(tag))
        })
    }

    /// The members of the list at `path`; empty if there is none.
    pub fn list(&self, path: &str) -> &[(String, Tag)] {
        match self.get(path) {
            Some(Tag::Group(members)) => members,
            _ => &[],
        }
    }

    pub fn number(&self, path: &str) -> Option<f64> {
        match self.get(path)? {
            Tag::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// The text at `path`, trimmed; none if it is absent or empty.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.own_text()
    }

    /// The text of this tag, trimmed; none if it is something else or empty.
    pub fn own_text(&self) -> Option<&str> {
        let text = match self {
            Tag::Text(text) => text,
            Tag::Array(Array { text: Some(text), .. }) => text,
            _ => return None,
        };
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then_some(text)
    }
}

/// Reads the tags of `input`, a file of `length` bytes.
///
/// # Errors
/// No Gatan file of version 3 or 4; a file that is cut short or damaged (names the byte where that shows).
pub(crate) fn read<R: Read + Seek>(input: R, length: u64) -> Result<Tree> {
    let mut parser = Parser {
        input: BufReader::with_capacity(1 << 16, input),
        at: 0,
        length,
        wide: false,
        little: true,
        tags: 0,
        kept: 0,
    };
    let version = u32::from_be_bytes(parser.take()?);
    ensure!(matches!(version, 3 | 4), "is no Gatan file of version 3 or 4: it begins with {version}");
    parser.wide = version == 4;
    parser.word()?;
    parser.little = match u32::from_be_bytes(parser.take()?) {
        0 => false,
        1 => true,
        other => bail!("is no Gatan file: its byte order is {other}, neither 0 nor 1"),
    };
    let root = parser.group(0)?;
    Ok(Tree { version, little: parser.little, root })
}

struct Parser<R> {
    input: BufReader<R>,
    at: u64,
    length: u64,
    /// Version 4: lengths have 64 bits.
    wide: bool,
    little: bool,
    tags: usize,
    kept: usize,
}

impl<R: Read + Seek> Parser<R> {
    fn group(&mut self, depth: usize) -> Result<Tag> {
        ensure!(depth < DEEPEST, "damaged at byte {}: its tags nest more than {DEEPEST} deep; copy it again", self.at);
        // Two flags: whether it is sorted, and whether DigitalMicrograph shows it expanded.
        self.take::<2>()?;
        let count = self.word()?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(self.tag(depth)?);
        }
        Ok(Tag::Group(members))
    }

    fn tag(&mut self, depth: usize) -> Result<(String, Tag)> {
        self.tags += 1;
        ensure!(self.tags <= MOST_TAGS, "damaged: it claims more than {MOST_TAGS} tags; copy it again");
        let start = self.at;
        let [kind] = self.take()?;
        let length = u16::from_be_bytes(self.take()?);
        let name = self.bytes(u64::from(length))?;
        // Names are Latin-1: each byte is a character.
        let name: String = name.into_iter().map(char::from).collect();
        let end = if self.wide {
            let length = self.word()?;
            Some(self.at.saturating_add(length))
        } else {
            None
        };
        let tag = match kind {
            20 => self.group(depth + 1)?,
            21 => self.entry(end).with_context(|| format!("tag {name:?} at byte {start}"))?,
            kind => {
                bail!("damaged at byte {start}: a tag of kind {kind}, neither group (20) nor entry (21); copy it again")
            }
        };
        Ok((name, tag))
    }

    /// One entry. `end` is the start of the next tag, which only version 4 states.
    fn entry(&mut self, end: Option<u64>) -> Result<Tag> {
        let at = self.at;
        let mark: [u8; 4] = self.take()?;
        ensure!(mark == *b"%%%%", "damaged at byte {at}: no %%%% before its encoding; copy it again");
        let words = self.word()?;
        ensure!((1..=MOST_WORDS).contains(&words), "damaged at byte {at}: an encoding of {words} words; copy it again");
        let encoding = (0..words).map(|_| self.word()).collect::<Result<Vec<u64>>>()?;
        let size = match encoded_size(&encoding) {
            Some((size, [])) => size,
            // Version 4 can skip an encoding that is not known.
            _ => match end {
                Some(end) if end >= self.at => {
                    self.skip(end - self.at)?;
                    return Ok(Tag::Unknown);
                }
                _ => bail!("at byte {at}: an encoding that is not known ({encoding:?})"),
            },
        };
        self.require(size)?;
        match encoding[..] {
            [18, _] if size <= LONGEST_TEXT => Ok(Tag::Text(self.utf16(size)?)),
            [20, ..] => self.array(&encoding, size),
            [15, ..] => {
                let codes = encoding[3..].iter().skip(1).step_by(2);
                let numbers = codes.filter_map(|&code| codes::of_tag(code)).collect();
                self.numbers(numbers)
            }
            [code] => match codes::of_tag(code) {
                Some(number) => Ok(Tag::Number(self.number(number)?)),
                None => Ok(Tag::Unknown),
            },
            _ => {
                self.skip(size)?;
                Ok(Tag::Unknown)
            }
        }
    }

    fn numbers(&mut self, numbers: Vec<NumberType>) -> Result<Tag> {
        let values = numbers.into_iter().map(|number| self.number(number)).collect::<Result<Vec<f64>>>()?;
        self.keep(values.len() * size_of::<f64>())?;
        Ok(Tag::Numbers(values))
    }

    fn array(&mut self, encoding: &[u64], bytes: u64) -> Result<Tag> {
        let offset = Some(self.at);
        let element = match encoding {
            [20, code, _] => codes::of_tag(*code),
            _ => None,
        };
        let text = if element == Some(NumberType::U16) && bytes <= LONGEST_TEXT {
            Some(self.utf16(bytes)?)
        } else {
            self.skip(bytes)?;
            None
        };
        Ok(Tag::Array(Array { element, offset, bytes, text }))
    }

    fn utf16(&mut self, bytes: u64) -> Result<String> {
        let little = self.little;
        let bytes = self.bytes(bytes)?;
        let units: Vec<u16> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&unit| if little { u16::from_le_bytes(unit) } else { u16::from_be_bytes(unit) })
            .collect();
        Ok(String::from_utf16_lossy(&units))
    }

    fn number(&mut self, number: NumberType) -> Result<f64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes[..number.size()])?;
        Ok(number.value(&bytes, self.little))
    }

    /// A length or a word of an encoding; always big-endian.
    fn word(&mut self) -> Result<u64> {
        Ok(if self.wide { u64::from_be_bytes(self.take()?) } else { u64::from(u32::from_be_bytes(self.take()?)) })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads and keeps `count` bytes.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        self.require(count)?;
        self.keep(count as usize)?;
        let mut bytes = vec![0; count as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.require(bytes.len() as u64)?;
        self.input.read_exact(bytes).with_context(|| format!("cannot be read at byte {}", self.at))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        self.require(count)?;
        let step = i64::try_from(count).context("an array beyond all files; copy it again")?;
        self.input.seek_relative(step).with_context(|| format!("cannot be read at byte {}", self.at))?;
        self.at += count;
        Ok(())
    }

    /// Fails unless the file has `count` more bytes.
    fn require(&self, count: u64) -> Result<()> {
        let left = self.length - self.at;
        ensure!(
            count <= left,
            "cut short or damaged: at byte {} it needs {count} more, and {left} are left; copy it again",
            self.at
        );
        Ok(())
    }

    fn keep(&mut self, count: usize) -> Result<()> {
        self.kept += count;
        ensure!(
            self.kept <= MOST_KEPT,
            "damaged at byte {}: more than {MOST_KEPT} bytes of names and texts; copy it again",
            self.at
        );
        Ok(())
    }
}

/// Bytes of a value of `encoding`, and the words left over; none if the encoding is unknown.
fn encoded_size(encoding: &[u64]) -> Option<(u64, &[u64])> {
    match encoding {
        // A name length stands before the count and before each field; the names themselves are never stored.
        [15, _, count, rest @ ..] => {
            let fields = rest.get(..usize::try_from(*count).ok()?.checked_mul(2)?)?;
            let mut size = 0;
            for field in fields.chunks(2) {
                size += codes::of_tag(field[1])?.size() as u64;
            }
            Some((size, &rest[fields.len()..]))
        }
        [18, length, rest @ ..] => Some((*length, rest)),
        [20, rest @ ..] => {
            let (each, rest) = encoded_size(rest)?;
            let (count, rest) = rest.split_first()?;
            Some((each.checked_mul(*count)?, rest))
        }
        [code, rest @ ..] => Some((codes::of_tag(*code)?.size() as u64, rest)),
        [] => None,
    }
}
