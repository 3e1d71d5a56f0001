//! Where lines go: buffered, written in large pieces, and never the reason that anything stops.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::log::append;

/// Written at once when this many bytes have come together.
const BUFFER: usize = 64 << 10;

/// An output for lines.
pub struct Sink {
    out: Box<dyn Write + Send>,
    /// Where it can be opened anew.
    path: Option<PathBuf>,
    buffer: Vec<u8>,
    lines: u64,
    torn: bool,
    trouble: Option<io::Error>,
}

impl Sink {
    /// Lines go to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, path: None, buffer: Vec::with_capacity(BUFFER), lines: 0, torn: false, trouble: None }
    }

    /// Lines go to `file`, which was opened at `path`.
    pub fn file(path: &Path, file: Box<dyn Write + Send>) -> Self {
        Self { path: Some(path.to_owned()), ..Self::new(file) }
    }

    /// Opens the file anew, where it is one; what has not been written yet goes to the new one. The old one stays when that fails.
    pub fn reopen(&mut self) -> Result<(), (&Path, io::Error)> {
        let Some(path) = &self.path else { return Ok(()) };
        self.out = append(path).map_err(|error| (path.as_path(), error))?;
        self.torn = false;
        Ok(())
    }

    /// Where lines were lost the last time that they were written, and why.
    pub fn trouble(&self) -> Option<String> {
        let path = self.path.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
        self.trouble.as_ref().map(|error| format!("{path}: {error}"))
    }

    /// Adds a line: `write` puts it into the buffer without its end. Gives the number of lines that were lost.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        self.lines = self.lines.saturating_add(1);
        if self.buffer.len() >= BUFFER { self.flush() } else { 0 }
    }

    /// Writes what has come together. Gives the number of lines that were lost: a full disk must not stop the service, nor let the buffer grow.
    pub fn flush(&mut self) -> u64 {
        if self.buffer.is_empty() {
            return 0;
        }
        // After a failure the last line may have been written in part; its rest must not run into the next one.
        let mended = if self.torn { self.out.write_all(b"\n") } else { Ok(()) };
        let written = mended.and_then(|()| self.out.write_all(&self.buffer)).and_then(|()| self.out.flush());
        self.torn = written.is_err();
        self.trouble = written.err();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        let lines = std::mem::take(&mut self.lines);
        if self.torn { lines } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
        let mut sink = Sink::new(Box::new(full));
        assert_eq!(sink.line(|line| line.extend_from_slice(b"one")), 0);
        assert_eq!(sink.line(|line| line.extend_from_slice(b"two")), 0);
        assert_eq!(sink.flush(), 2);
        assert_eq!(sink.flush(), 0);
        assert_eq!(sink.line(|line| line.resize(BUFFER, b'x')), 1);
    }

    /// Takes three bytes, then fails once, then takes everything.
    struct Stumbles(Arc<Mutex<Vec<u8>>>, u8);

    impl Write for Stumbles {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = self.1.saturating_add(1);
            let taken = match self.1 {
                1 => 3,
                2 => return Err(std::io::Error::other("full")),
                _ => bytes.len(),
            };
            self.0.lock().map_err(|_| std::io::Error::other("poisoned"))?.extend(bytes.iter().take(taken));
            Ok(taken)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let written = Arc::default();
        let mut sink = Sink::new(Box::new(Stumbles(Arc::clone(&written), 0)));
        sink.line(|line| line.extend_from_slice(b"first"));
        assert_eq!(sink.flush(), 1);
        sink.line(|line| line.extend_from_slice(b"second"));
        assert_eq!(sink.flush(), 0);
        assert_eq!(*written.lock().expect("no panic"), b"fir\nsecond\n");
    }
}
