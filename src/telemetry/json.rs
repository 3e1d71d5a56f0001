//! Members of a JSON object, written straight into a line: names are constants that need no escaping, and most texts need none either.
//!
//! A line has two dozen members and is written for every request, which is why no general serialiser does it.

use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::time::Rfc3339;
use super::trace::TraceId;

/// An object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins it.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Adds a member; one that is not known is left out. The name is written as it is.
    pub(super) fn put(&mut self, name: &'static str, value: Option<impl Value>) {
        let Some(value) = value else { return };
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        value.write(self.out);
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}

/// What a member may hold.
pub(super) trait Value {
    /// Writes it as JSON.
    fn write(&self, out: &mut Vec<u8>);
}

/// A list of texts.
pub(super) struct List<I>(pub(super) I);

/// Milliseconds with three places.
pub(super) struct Millis(pub(super) Duration);

impl Value for &str {
    fn write(&self, out: &mut Vec<u8>) {
        // Without a branch for each byte, the compiler looks at many of them at once.
        let odd = self.bytes().fold(0, |odd, byte| odd | u8::from((byte < 0x20) | (byte == b'"') | (byte == b'\\')));
        if odd == 0 {
            out.push(b'"');
            out.extend_from_slice(self.as_bytes());
            out.push(b'"');
        } else {
            // Writing into memory cannot fail.
            let _ = serde_json::to_writer(out, self);
        }
    }
}

impl Value for TraceId {
    fn write(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "\"{self}\"");
    }
}

impl Value for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Value for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        digits(out, *self, 1);
    }
}

impl Value for Millis {
    fn write(&self, out: &mut Vec<u8>) {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        digits(out, micros / 1000, 1);
        out.push(b'.');
        digits(out, micros % 1000, 3);
    }
}

impl Value for IpAddr {
    fn write(&self, out: &mut Vec<u8>) {
        shown(out, self);
    }
}

impl Value for Rfc3339 {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_to(out);
        out.push(b'"');
    }
}

impl<'t, I: Iterator<Item = &'t str> + Clone> Value for List<I> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (place, text) in self.0.clone().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            text.write(out);
        }
        out.push(b']');
    }
}

/// As it is shown, in quotes; only for what shows itself without characters that JSON escapes.
fn shown(out: &mut Vec<u8>, value: impl Display) {
    let _ = write!(out, "\"{value}\"");
}

/// A number with so many digits at least.
pub(super) fn digits(out: &mut Vec<u8>, number: u64, least: usize) {
    let mut text = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(text.len() - used.max(least).min(text.len())..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &impl Value) -> String {
        let mut out = Vec::new();
        value.write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn texts_are_escaped_where_they_must_be() {
        for text in ["", "plain", "a\"b", "a\\b", "a\nb", "\u{0}", "\u{1f}", "ö", "\u{2028}", "\u{7f}"] {
            assert_eq!(written(&text), serde_json::to_string(text).expect("JSON"));
        }
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 7, 10, 999, 1000, u64::MAX] {
            assert_eq!(written(&number), number.to_string());
        }
        for (micros, shown) in [(0, "0.000"), (1, "0.001"), (2345, "2.345"), (60_000_000, "60000.000")] {
            assert_eq!(written(&Millis(Duration::from_micros(micros))), shown);
        }
    }

    #[test]
    fn an_object_is_json() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.put("a", Some("b"));
        object.put("left.out", None::<bool>);
        object.put("c", Some(List(["d", "e\""].into_iter())));
        object.put("f", Some(IpAddr::from([127, 0, 0, 1])));
        object.put("g", Some(true));
        object.end();
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value, serde_json::json!({ "a": "b", "c": ["d", "e\""], "f": "127.0.0.1", "g": true }));
    }
}
