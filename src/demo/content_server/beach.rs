//! A photograph of a beach: sky, sea and sand, drawn when it is first asked for, a baseline JPEG (ITU-T T.81) of exactly [`LENGTH`] bytes.

use std::sync::OnceLock;

/// Bytes of the photograph.
pub(super) const LENGTH: usize = 48_213;
const WIDTH: u16 = 640;
const HEIGHT: u16 = 480;
/// Rows of blocks (8 pixels each) from the top, and their colour as luminance and two chrominances.
const BANDS: [(u16, [i32; 3]); 3] = [(28, [190, 150, 104]), (16, [110, 160, 100]), (16, [200, 104, 142])];

/// The photograph.
pub(super) fn photograph() -> &'static [u8] {
    static DRAWN: OnceLock<Vec<u8>> = OnceLock::new();
    DRAWN.get_or_init(draw)
}

fn draw() -> Vec<u8> {
    let mut front = vec![0xff, 0xd8];
    segment(&mut front, 0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    // One table, 16 for every coefficient: only the flat part of a block is used.
    let mut back = Vec::new();
    segment(&mut back, 0xdb, &[&[0][..], &[16; 64]].concat());
    let [high, low] = HEIGHT.to_be_bytes();
    let [wide, narrow] = WIDTH.to_be_bytes();
    segment(&mut back, 0xc0, &[8, high, low, wide, narrow, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
    // Differences of category 0 in one bit, 1 to 7 in four; of the other coefficients only "no more", in one bit.
    segment(&mut back, 0xc4, &[0, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    segment(&mut back, 0xc4, &[0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    segment(&mut back, 0xda, &[3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
    back.extend(scan());
    back.extend([0xff, 0xd9]);
    // A comment makes up what is missing.
    let comment = LENGTH.saturating_sub(front.len() + back.len() + 4);
    let words: Vec<u8> = b"Alice's vacation. ".iter().copied().cycle().take(comment).collect();
    segment(&mut front, 0xfe, &words);
    front.extend(back);
    front
}

fn segment(into: &mut Vec<u8>, marker: u8, content: &[u8]) {
    let length = u16::try_from(content.len() + 2).unwrap_or(u16::MAX);
    into.extend([0xff, marker]);
    into.extend(length.to_be_bytes());
    into.extend(content);
}

/// The entropy-coded blocks: each component of each block says how its level differs from the block before.
fn scan() -> Vec<u8> {
    let mut bits = Bits::default();
    let mut before = [0_i32; 3];
    for (rows, colour) in BANDS {
        for _ in 0..rows * (WIDTH / 8) {
            for (level, before) in colour.iter().zip(&mut before) {
                let coefficient = (level - 128) / 2;
                bits.difference(coefficient - *before);
                *before = coefficient;
                bits.push(0, 1);
            }
        }
    }
    bits.finish()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn difference(&mut self, value: i32) {
        let category = 32 - value.unsigned_abs().leading_zeros();
        if category == 0 {
            return self.push(0, 1);
        }
        self.push(0b1000 + category - 1, 4);
        // A negative value is written as one less, in as many bits.
        let written = if value < 0 { value - 1 } else { value };
        self.push(written.cast_unsigned() & ((1 << category) - 1), category);
    }

    fn push(&mut self, value: u32, length: u32) {
        for at in (0..length).rev() {
            self.pending = self.pending << 1 | (value >> at & 1);
            self.count += 1;
            if self.count == 8 {
                let byte = u8::try_from(self.pending & 0xff).unwrap_or(0);
                self.bytes.push(byte);
                if byte == 0xff {
                    self.bytes.push(0);
                }
                (self.pending, self.count) = (0, 0);
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        while self.count != 0 {
            self.push(1, 1);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_photograph_is_a_jpeg_of_exactly_its_length() {
        let bytes = photograph();
        assert_eq!(bytes.len(), LENGTH);
        assert!(bytes.starts_with(&[0xff, 0xd8, 0xff, 0xe0]) && bytes.ends_with(&[0xff, 0xd9]));
    }

    #[test]
    fn the_bands_fill_the_picture() {
        assert_eq!(BANDS.iter().map(|(rows, _)| rows * 8).sum::<u16>(), HEIGHT);
    }
}
