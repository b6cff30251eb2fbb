//! Content as a milter sees it: header fields one by one, then the body in chunks. Sans I/O.
//!
//! It leaves to others whether the content is a message at all: a line that is no field begins the body.

use super::packet::MAX_CHUNK;

/// Most octets of a field that a milter is shown; the rest of a longer one is left out.
const MAX_FIELD: usize = 60_000;

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Name, and value with whatever space stands in front; lines of the value end with LF, the last without.
    Field(Vec<u8>, Vec<u8>),
    /// The header is complete.
    EndOfHeader,
    /// Some of the body, at most [`MAX_CHUNK`] octets.
    Body(Vec<u8>),
}

/// Cuts content into parts, however it comes.
#[derive(Debug, Default)]
pub struct Splitter {
    /// A field that may go on, with its line ends.
    field: Vec<u8>,
    /// The line that is not complete yet.
    line: Vec<u8>,
    in_body: bool,
    body: Vec<u8>,
}

impl Splitter {
    /// Takes some of the content; the parts that are complete now.
    pub fn push(&mut self, mut octets: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        while !self.in_body && !octets.is_empty() {
            let end = octets.iter().position(|octet| *octet == b'\n').map_or(octets.len(), |at| at + 1);
            let (line, rest) = octets.split_at(end);
            let room = MAX_FIELD.saturating_sub(self.line.len());
            let is_over = line.ends_with(b"\n");
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if is_over {
                self.end_line(&mut parts);
            }
            octets = rest;
        }
        self.body.extend_from_slice(octets);
        while self.body.len() >= MAX_CHUNK {
            let rest = self.body.split_off(MAX_CHUNK);
            parts.push(Part::Body(std::mem::replace(&mut self.body, rest)));
        }
        parts
    }

    /// The content is complete; the last parts.
    pub fn finish(mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        if !self.in_body {
            if !self.line.is_empty() {
                self.end_line(&mut parts);
            }
            self.end_header(&mut parts);
        }
        if !self.body.is_empty() {
            parts.push(Part::Body(self.body));
        }
        parts
    }

    fn end_line(&mut self, parts: &mut Vec<Part>) {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if !self.field.is_empty() && self.field.len() + line.len() <= MAX_FIELD {
                self.field.push(b'\n');
                self.field.extend_from_slice(&line);
            }
            return;
        }
        self.end_field(parts);
        if is_field(&line) {
            self.field = line;
            return;
        }
        self.end_header(parts);
        if !line.is_empty() {
            self.body = [&line[..], b"\r\n"].concat();
        }
    }

    fn end_field(&mut self, parts: &mut Vec<Part>) {
        let field = std::mem::take(&mut self.field);
        if let Some(colon) = field.iter().position(|octet| *octet == b':') {
            parts.push(Part::Field(field[..colon].trim_ascii_end().to_vec(), field[colon + 1..].to_vec()));
        }
    }

    fn end_header(&mut self, parts: &mut Vec<Part>) {
        self.end_field(parts);
        if !self.in_body {
            self.in_body = true;
            parts.push(Part::EndOfHeader);
        }
    }
}

fn is_field(line: &[u8]) -> bool {
    let name = line.split(|octet| *octet == b':').next().unwrap_or_default().trim_ascii_end();
    name.len() < line.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}
