//! Answers on standard output.

use std::io;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// So many bytes are written at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Writes one line.
///
/// # Errors
/// When it cannot be written.
pub(super) async fn answer(reply: &Value) -> io::Result<()> {
    lines(std::iter::once(reply.clone())).await
}

/// Writes one line for each value.
///
/// # Errors
/// When they cannot be written.
pub(super) async fn lines(values: impl Iterator<Item = Value>) -> io::Result<()> {
    let mut out = tokio::io::stdout();
    let mut piece = String::new();
    for value in values {
        piece.push_str(&value.to_string());
        piece.push('\n');
        if piece.len() >= PIECE_BYTES {
            out.write_all(piece.as_bytes()).await?;
            piece.clear();
        }
    }
    out.write_all(piece.as_bytes()).await?;
    out.flush().await
}
