//! Studies.
/// Runs them.
pub fn run(out: &std::path::Path, _quick: bool) -> std::io::Result<std::path::PathBuf> {
    Ok(out.to_owned())
}
