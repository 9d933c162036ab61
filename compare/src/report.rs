//! What a part of the run leaves behind.

use std::fmt::Display;
use std::path::Path;
use std::{fs, io};

/// Markdown, and plots that go with it.
pub struct Report {
    /// The part.
    pub name: &'static str,
    markdown: String,
    /// Each with its file's name.
    pub plots: Vec<(String, String)>,
}

impl Report {
    /// Empty.
    pub fn new(name: &'static str) -> Report {
        Report { name, markdown: String::new(), plots: Vec::new() }
    }

    /// A paragraph, a table, or a heading.
    pub fn text(&mut self, block: &dyn Display) {
        if !self.markdown.is_empty() {
            self.markdown.push('\n');
        }
        self.markdown += block.to_string().trim_end();
        self.markdown.push('\n');
    }

    /// An SVG plot.
    pub fn plot(&mut self, svg: String) {
        let number = self.plots.len() + 1;
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        self.plots.push((format!("{}{suffix}.svg", self.name), svg));
    }

    /// All texts.
    pub fn markdown(&self) -> &str {
        &self.markdown
    }

    /// One file for the texts and one for each plot.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join(format!("{}.md", self.name)), &self.markdown)?;
        self.write_plots_to(directory)
    }

    /// Only the plots.
    pub fn write_plots_to(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        self.plots.iter().try_for_each(|(name, svg)| fs::write(directory.join(name), svg))
    }
}
