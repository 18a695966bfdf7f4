//! A small disk of a run's own, which can be filled: a file system in memory, where this process may mount one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The disk; gone with this value.
pub(crate) struct Disk {
    folder: TempDir,
}

impl Disk {
    /// 8 MiB, or `None` where mounting isn't allowed.
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { folder })
    }

    pub(crate) fn database(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("orders.db").display())
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("room for a name");
        let block = [0; 4096];
        while ballast.write_all(&block).is_ok() {}
    }

    /// Makes room again.
    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a member that was killed may still be on its way out.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
