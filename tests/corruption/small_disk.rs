//! A file system of a few megabytes, to be filled up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unmounted when dropped.
pub struct SmallDisk {
    mounted_at: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where mounting is refused.
    pub fn mount() -> Option<SmallDisk> {
        let mounted_at = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(mounted_at.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(SmallDisk { mounted_at }),
            refused => {
                eprintln!("skipped: no file system can be mounted: {refused:?}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.mounted_at.path()
    }

    /// Mounts it again with another option, such as `ro`.
    pub fn remount(&self, option: &str) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{option}")]).arg(self.path());
        assert!(command.status().unwrap().success());
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).unwrap();
        while filler.write_all(&[0x5a; 4096]).is_ok() {}
    }

    /// Undoes [`fill`](Self::fill).
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that failed a test may hold it still.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}
