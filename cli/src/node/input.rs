//! The lines of standard input, each of a bounded length.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The longest command, in bytes, without its line break.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// Reads line by line. One that is too long is skipped up to its end, and never taken for two.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    /// Whether what comes up to the next line break belongs to a line that was refused.
    skips: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R) -> Lines<R> {
        Lines { input, skips: false }
    }

    /// The next line without its break, or why it is no command; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(super) async fn next(&mut self) -> io::Result<Option<Result<String, String>>> {
        let mut line = Vec::new();
        loop {
            let bytes = self.input.fill_buf().await?;
            if bytes.is_empty() {
                // A last line may lack its break.
                return Ok((!line.is_empty()).then(|| command(line)));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            if !self.skips {
                line.extend_from_slice(part);
            }
            let read = part.len() + usize::from(end.is_some());
            self.input.consume(read);
            if end.is_some() && std::mem::take(&mut self.skips) {
                continue;
            }
            // One more byte may be the first one of a `\r\n`.
            let is_too_long = line.len() > LINE_BYTES_MAX + 1;
            if end.is_none() && is_too_long {
                self.skips = true;
            }
            if end.is_some() || is_too_long {
                return Ok(Some(command(line)));
            }
        }
    }
}

/// The text of a line.
fn command(mut line: Vec<u8>) -> Result<String, String> {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.len() > LINE_BYTES_MAX {
        return Err(format!(
            "a line of more than {LINE_BYTES_MAX} bytes is no command; all of it is skipped"
        ));
    }
    // What stands for other bytes would be counted together with them.
    String::from_utf8(line).map_err(|error| {
        let position = error.utf8_error().valid_up_to() + 1;
        format!(
            "a line that is not UTF-8 is no command; byte {position} of it is where that begins"
        )
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    /// What is read of an input that arrives in parts of this size.
    fn lines(input: &[u8], part: usize) -> Vec<Result<String, String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lines = Lines::new(BufReader::with_capacity(part, input));
            let mut read = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                read.push(line);
            }
            read
        })
    }

    /// What is read, in short: a line's first 20 characters and its length, or "too long", or "not UTF-8".
    fn read(input: &[u8]) -> Vec<String> {
        let short = |line: Result<String, String>| match line {
            Ok(line) => format!("{} {}", line.chars().take(5).collect::<String>(), line.len()),
            Err(why) if why.contains("65536 bytes") => "too long".to_owned(),
            Err(why) if why.contains("not UTF-8") => "not UTF-8".to_owned(),
            Err(why) => why,
        };
        let [one, other, whole] = [1, 4096, 1 << 20].map(|part| lines(input, part));
        assert_eq!((&one, &other), (&other, &whole));
        whole.into_iter().map(short).collect()
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error() {
        let long = |length: usize, rest: &str| format!("{}{rest}", "x".repeat(length)).into_bytes();
        for (input, expected) in [
            (long(65_535, "\nnext"), &["xxxxx 65535", "next 4"][..]),
            (long(65_536, "\nnext"), &["xxxxx 65536", "next 4"]),
            (long(65_536, "\r\nnext"), &["xxxxx 65536", "next 4"]),
            (long(65_536, ""), &["xxxxx 65536"]),
            (long(65_537, "\nnext\r\n"), &["too long", "next 4"]),
            (long(65_537, "\r\n\nnext"), &["too long", " 0", "next 4"]),
            (long(65_537, ""), &["too long"]),
            (long(65_538, ""), &["too long"]),
            (long(65_538, "\n"), &["too long"]),
            (long(65_536, "reset user=victim"), &["too long"]),
            (long(65_536, "reset user=victim\nnext\n"), &["too long", "next 4"]),
            (long(300_000, "\nnext\n"), &["too long", "next 4"]),
            ([long(70_000, "\n"), long(70_000, "\n")].concat(), &["too long", "too long"]),
        ] {
            assert_eq!(read(&input), expected, "{} bytes", input.len());
        }
    }

    #[test]
    fn a_line_that_is_not_text_is_one_error() {
        let input = b"peek session=\xff\xfe\npeek a=\x80\xc3\xa4\npeek\xc3\xa4\nlast\xff";
        assert_eq!(read(input), ["not UTF-8", "not UTF-8", "peek\u{e4} 6", "not UTF-8"]);
        let Err(why) = &lines(input, 4096)[0] else { panic!("it is not UTF-8") };
        assert!(why.contains("byte 14 of it"), "{why}");
    }

    #[test]
    fn lines_without_anything_are_lines() {
        assert_eq!(read(b""), Vec::<String>::new());
        assert_eq!(read(b"\n\r\n"), [" 0", " 0"]);
    }
}
